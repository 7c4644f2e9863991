"""One partition number on one worker: its core, its positions, and the order in which things become durable."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from emergency_stop.adapters.state_log import RestoredState, StateCopy, StateLog, looking
from emergency_stop.adapters.state_seed import StateSource, read_seeded
from emergency_stop.apps import lane_afterwards
from emergency_stop.apps.lane_afterwards import Afterwards
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.ports import PartitionCore, Publish, Publisher, RecordingCore

log = logging.getLogger(__name__)

_PAUSE_S: Final = 0.25
#: A few megabytes under way at once.
_SEED_RECORDS: Final = 100
#: Records that vouch, on their way at once; where the broker does not take them, later ones are as good.
_VOUCHING_MAX: Final = 16


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
    #: Times that somebody else turned out to have taken a partition over.
    lost_partitions: int = 0


@dataclass(slots=True)
class LanePartition:
    """A core with its log. Single-threaded; ``checkpoint`` may run while further batches are applied.

    The order within a checkpoint is effects, state, position, acknowledgement. Every other order
    loses something in a crash; this one at worst repeats an effect, which carries the same id. What a
    ``RecordingCore`` decided goes out behind its state, and only once the log proves that this was written by the
    partition's owner: whoever was cut off meanwhile learns it there, whatever it was told before.
    """

    number: int
    core: PartitionCore
    publisher: Publisher
    state_log: StateLog
    positions: dict[str, int]
    counters: LaneCounters
    #: What nobody waits for.
    afterwards: Afterwards
    _superseded: list[bytes] = field(default_factory=list)
    #: What the own log lacks: another lane's records, or what was restored and is not the newest owner's.
    _seed: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    _effects: list[asyncio.Future[None]] = field(default_factory=list)
    _events: list[Any] = field(default_factory=list)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _touched: bool = False
    _vouching: set[asyncio.Future[None]] = field(default_factory=set)
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
        afterwards: Afterwards,
        alive: Callable[[], Awaitable[None]],
        copy: StateCopy | None = None,
    ) -> LanePartition:
        """Read the partition's log, or what ``copy`` lacks of it, and load the core.

        For a ``RecordingCore`` the log is marked first, when ``alive`` has returned, and read up to the mark: whatever
        a predecessor publishes from then on is restored here. For others nothing is written. Raises ``KafkaError``
        when the broker is away, ``LostPartitionError`` where somebody else took the partition over meanwhile.
        """
        loop = asyncio.get_running_loop()
        started, copy = loop.time(), copy or StateCopy()
        known = copy.next_offset
        found = await read_seeded(source, number, now_ms, copy)
        look = looking(source.brokers, source.topic, number, f"estop-look-{source.topic}")
        state_log = StateLog(publisher, source.topic, number, generation, found.own, look)
        if isinstance(core, RecordingCore):
            await alive()
            mark = await state_log.mark()
            found = await read_seeded(source, number, now_ms, copy, up_to=mark)
            state_log.begin(found.own, mark)
        restored = found.state
        # Two who were cut off may both have written of one thing: what was restored must outlast the other's record.
        seed = found.changes() or list(found.own.late.items())
        _restore_afterwards(afterwards, restored)
        core.restore(restored.records.items(), restored.positions)
        counters.restores += 1
        counters.restore_ms_last = int((loop.time() - started) * 1000)
        if found.state is not found.own:
            log.info("partition %d begins from %s, which is further on", number, source.sibling_topic)
        log.info(
            "partition %d restored in %d ms (standby copy to offset %d): %d state records, positions %s",
            number, counters.restore_ms_last, known, len(restored.records), restored.positions,
        )  # fmt: skip
        positions = dict(restored.positions)
        return cls(number, core, publisher, state_log, positions, counters, afterwards, found.own.superseded, seed)

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

    async def _publish_recorded(self, *, is_written: bool) -> None:
        """Effects that had to wait for their records; a crash here repeats them from those records.

        ``is_written``: something was written since the cut, which tells whose the log is. What may go behind the
        effects is not waited for here, but before the next records are written, which repeat no more.
        """
        if isinstance(self.core, RecordingCore):
            if recorded := self.core.on_durable():
                if not is_written:  # what a predecessor left to be published
                    await self.state_log.mark()
                await self.state_log.prove()
                await asyncio.gather(*self._sends(self.afterwards.split(recorded)))
            self._start(self.core.on_published())

    async def _vouch(self) -> None:
        """Say that all up to the cut is out. The position that was written for it tells whose the log is."""
        if isinstance(self.core, RecordingCore) and (settled := self.core.on_settled()):
            await self.state_log.prove()
            self._vouching = {one for one in self._vouching if not one.done()}
            if len(self._vouching) < _VOUCHING_MAX:
                for sending in self._sends(settled):
                    self._vouching.add(sending)
                    sending.add_done_callback(_note_failure)

    async def _effects_durable(self) -> None:
        """Wait for the effects of everything that was applied so far."""
        effects, self._effects = self._effects, []
        await asyncio.gather(*effects)

    def _start(self, effects: Sequence[Publish]) -> None:
        self._effects += self._sends(self.afterwards.split(effects))

    def _sends(self, effects: Sequence[Publish]) -> list[asyncio.Future[None]]:
        self.counters.effects += len(effects)
        return [asyncio.ensure_future(self.publisher.publish_all(effects))] if effects else []

    @property
    def needs_checkpoint(self) -> bool:
        return self._touched or bool(self._events)

    def checkpoint_is_due(self, now: float, due_at: float) -> bool:
        """At its time; and in a pause, when few pages are dirty or nothing else needs the CPU."""
        return self.needs_checkpoint and (now >= due_at or now - self.applied_at >= _PAUSE_S)

    async def checkpoint(self, still_ours: Callable[[], Awaitable[bool]]) -> None:
        """Make all that was applied so far durable, then acknowledge it; nothing where it is not ``still_ours``.

        Raises what publishing raises, and ``LostPartitionError``: then the partition must be restored anew.
        """
        async with self._lock:
            # a former checkpoint may have waited for the broker for as long as somebody else needs to take over
            if not self.needs_checkpoint or not await still_ours():
                return
            loop = asyncio.get_running_loop()
            started = loop.time()
            await self.afterwards.wait()
            # One consistent cut: nothing is awaited between these lines.
            events, self._events = self._events, []
            positions, touched, self._touched = dict(self.positions), self._touched, False
            written, owed = self.state_log.written, self.afterwards.records() if touched else []
            if touched:
                for dirty in self.core.take_dirty():
                    # What a slice contains beyond the cut would not be repeated, so its effects come first.
                    await self._effects_durable()
                    self.counters.state_bytes += await self.state_log.write_records([*owed, *dirty])
                    owed = []
            await self._effects_durable()
            if touched:
                await self._publish_recorded(is_written=self.state_log.written > written)
                await self.state_log.write_positions(positions)
                await self._vouch()
            for event in events:
                event.ack()
            self.counters.checkpoints += 1
            self.counters.checkpoint_ms_last = int((loop.time() - started) * 1000)


def _restore_afterwards(afterwards: Afterwards, restored: RestoredState) -> None:
    """Take what is owed to people out of the state; what of it cannot be read keeps nobody from stopping."""
    value = restored.records.pop(lane_afterwards.KEY, None)
    if value is not None:
        try:
            afterwards.restore(value)
        except (TypeError, ValueError):
            log.exception("what a predecessor owed to people and subscribers cannot be read, and is lost")


def _note_failure(sending: asyncio.Future[None]) -> None:
    error = None if sending.cancelled() else sending.exception()
    if error is not None:
        log.warning("the coordinator's word to its services did not reach the broker: %r", error)
