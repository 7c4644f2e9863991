"""One partition number on one worker: its core, its positions, and the order in which things become durable."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from emergency_stop.adapters.state_log import StateCopy, StateLog
from emergency_stop.adapters.state_seed import StateSource, read_seeded
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.ports import PartitionCore, Publish, Publisher, RecordingCore

log = logging.getLogger(__name__)

_PAUSE_S: Final = 0.25
#: A few megabytes under way at once.
_SEED_RECORDS: Final = 100


@dataclass(slots=True)
class LaneCounters:
    """What a worker has seen; metrics read it, tests too."""

    batches: int = 0
    skipped_batches: int = 0
    mended_positions: int = 0
    lost_offsets: int = 0
    checkpoints: int = 0
    checkpoint_ms_last: int = 0
    state_bytes: int = 0
    restores: int = 0
    restore_ms_last: int = 0
    effects: int = 0


@dataclass(slots=True)
class LanePartition:
    """A core with its log. Single-threaded; ``checkpoint`` may run while further batches are applied.

    The order within a checkpoint is effects, state, position, acknowledgement. Every other order
    loses something in a crash; this one at worst repeats an effect, which carries the same id.
    """

    number: int
    core: PartitionCore
    publisher: Publisher
    state_log: StateLog
    positions: dict[str, int]
    counters: LaneCounters
    _superseded: list[bytes] = field(default_factory=list)
    #: Records of another lane that the own log lacks.
    _seed: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    _effects: list[asyncio.Future[None]] = field(default_factory=list)
    _events: list[Any] = field(default_factory=list)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _touched: bool = False
    #: When the last batch was applied, on the loop's clock in seconds.
    applied_at: float = 0.0

    @classmethod
    async def restore(
        cls,
        number: int,
        core: PartitionCore,
        publisher: Publisher,
        counters: LaneCounters,
        *,
        source: StateSource,
        generation: int,
        now_ms: int,
        copy: StateCopy | None = None,
    ) -> LanePartition:
        """Read the partition's log, or what ``copy`` lacks of it, and load the core; writes nothing.

        Raises ``KafkaError`` when the broker is away.
        """
        loop = asyncio.get_running_loop()
        started, known = loop.time(), copy.next_offset if copy else 0
        found = await read_seeded(source, number, now_ms, copy)
        restored, seed = found.state, found.changes()
        core.restore(restored.records.items(), restored.positions)
        state_log = StateLog(publisher, source.topic, number, generation, found.own)
        counters.restores += 1
        counters.restore_ms_last = int((loop.time() - started) * 1000)
        if seed:
            log.info("partition %d begins from %s, which is further on", number, source.sibling_topic)
        log.info(
            "partition %d restored in %d ms (standby copy to offset %d): %d state records, positions %s",
            number, counters.restore_ms_last, known, len(restored.records), restored.positions,
        )  # fmt: skip
        positions = dict(restored.positions)
        return cls(number, core, publisher, state_log, positions, counters, found.own.superseded, seed)

    async def claim(self) -> None:
        """Write the restored position under our fence, before anything is applied; only while the group knows us.

        From here on a predecessor that still writes cannot advance the position: else its later position could
        be restored together with our earlier state, and what lies between would be lost.
        """
        for first in range(0, len(self._seed), _SEED_RECORDS):
            await self.state_log.write_records(self._seed[first : first + _SEED_RECORDS])
        self._seed = []
        await self.state_log.write_positions(self.positions)
        superseded, self._superseded = self._superseded, []
        await self.state_log.remove(superseded)

    def expected(self, topic: str) -> int:
        """The next offset of ``topic`` to apply; 0 where nothing was ever applied."""
        return self.positions.get(topic, 0)

    def apply(self, batch: FetchedBatch, event: Any, now_ms: int) -> None:
        """Apply a batch that starts at or before the expected offset. The event is acknowledged later."""
        self._events.append(event)
        if batch.next_offset <= self.expected(batch.topic):
            self.counters.skipped_batches += 1
            return
        if batch.batches:  # else only its offsets are to be passed: control records, or an aborted transaction
            self._start(self.core.on_batch(batch, now_ms))
        self.applied_at = asyncio.get_running_loop().time()
        self.positions[batch.topic] = batch.next_offset
        self.counters.batches += 1
        self._touched = True

    def tick(self, now_ms: int) -> None:
        """Let time pass in the core."""
        effects = self.core.on_tick(now_ms)
        self._start(effects)
        self._touched = self._touched or bool(effects) or isinstance(self.core, RecordingCore)

    async def _publish_recorded(self) -> None:
        """Effects that had to wait for their records; a crash here repeats them from those records.

        What may go behind them is not waited for here, but before the next records are written, which repeat no more.
        """
        if isinstance(self.core, RecordingCore):
            if recorded := self.core.on_durable():
                await asyncio.gather(*self._sends(recorded))
            self._start(self.core.on_published())

    async def _effects_durable(self) -> None:
        """Wait for the effects of everything that was applied so far."""
        effects, self._effects = self._effects, []
        await asyncio.gather(*effects)

    def _start(self, effects: Sequence[Publish]) -> None:
        self._effects += self._sends(effects)

    def _sends(self, effects: Sequence[Publish]) -> list[asyncio.Future[None]]:
        self.counters.effects += len(effects)
        return [asyncio.ensure_future(self.publisher.publish_all(effects))] if effects else []

    @property
    def needs_checkpoint(self) -> bool:
        return self._touched or bool(self._events)

    def checkpoint_is_due(self, now: float, due_at: float) -> bool:
        """At its time; and in a pause, when few pages are dirty or nothing else needs the CPU."""
        return self.needs_checkpoint and (now >= due_at or now - self.applied_at >= _PAUSE_S)

    async def checkpoint(self) -> None:
        """Make all that was applied so far durable, then acknowledge it. Raises what publishing raises."""
        async with self._lock:
            if not self.needs_checkpoint:
                return
            loop = asyncio.get_running_loop()
            started = loop.time()
            # One consistent cut: nothing is awaited between these lines.
            events, self._events = self._events, []
            positions, touched, self._touched = dict(self.positions), self._touched, False
            if touched:
                for dirty in self.core.take_dirty():
                    # What a slice contains beyond the cut would not be repeated, so its effects come first.
                    await self._effects_durable()
                    self.counters.state_bytes += await self.state_log.write_records(dirty)
            await self._effects_durable()
            if touched:
                await self._publish_recorded()
                await self.state_log.write_positions(positions)
            for event in events:
                event.ack()
            self.counters.checkpoints += 1
            self.counters.checkpoint_ms_last = int((loop.time() - started) * 1000)
