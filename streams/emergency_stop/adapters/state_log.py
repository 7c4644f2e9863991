"""A partition's state as a compacted log of its own, fenced by the group's generation.

A record's key is ``fence (8 bytes, big-endian) + kind + core key``. Compaction keeps the last writer of a
key, and the last writer can be a zombie: a worker that was paused past its session and goes on. Its keys
carry its old fence, so they can never replace its successor's; a reader takes, per core key, the record of
the highest fence. Superseded keys are tombstoned by the new owner.

A fence is ``epoch << 32 | generation``. The generation grows with every rebalance, but starts over when the
broker forgets the group, and stays the same when a static member restarts; then the epoch grows instead.

A new owner first writes a mark under its fence, then reads the log up to that; so a predecessor's record is either
restored or void, and ``state_tenure`` tells the predecessor which.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from emergency_stop.adapters.kafka import stop_consumer
from emergency_stop.adapters.kafka_security import client_arguments
from emergency_stop.adapters.state_tenure import Glance, Look, Tenure, lost_to
from emergency_stop.config.kafka import Brokers
from emergency_stop.ports import Publish, Publisher

log = logging.getLogger(__name__)

_FENCE_BYTES: Final = 8
_GENERATION_BITS: Final = 32
_POSITION: Final = b"P"
_STATE: Final = b"S"
_MARK: Final = b"M"
_FETCH_BYTES_MAX: Final = 8 * 1024 * 1024
#: What Python keeps beside the bytes of a key and a value.
_ENTRY_OVERHEAD_BYTES: Final = 170


def state_key(fence: int, core_key: bytes) -> bytes:
    return fence.to_bytes(_FENCE_BYTES, "big") + _STATE + core_key


def position_key(fence: int) -> bytes:
    return fence.to_bytes(_FENCE_BYTES, "big") + _POSITION


def mark_key(fence: int) -> bytes:
    """Of a record without a value: it says nothing but that the owner of ``fence`` is there."""
    return fence.to_bytes(_FENCE_BYTES, "big") + _MARK


def next_fence(newest: int, generation: int) -> int:
    """The fence of an owner at ``generation`` after a log whose newest fence is ``newest`` (-1: empty)."""
    if newest < 0:
        return generation
    epoch, last = newest >> _GENERATION_BITS, newest & ((1 << _GENERATION_BITS) - 1)
    return (epoch if generation > last else epoch + 1) << _GENERATION_BITS | generation


@dataclass(slots=True)
class RestoredState:
    """What the log says: live records by core key, positions (next offset by topic), and under which fence."""

    records: dict[bytes, bytes] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)
    fences: dict[bytes, int] = field(default_factory=dict)
    position_fence: int = -1
    newest_fence: int = -1
    superseded: list[bytes] = field(default_factory=list)
    #: Records, and removals, that were written after a newer owner had begun, and that it never wrote itself.
    late: dict[bytes, bytes | None] = field(default_factory=dict, compare=False)
    #: When the position was written, by its record's timestamp; 0 where that is not known.
    position_at_ms: int = 0


class StateCopy:
    """A partition's log up to ``next_offset`` as compaction would leave it: the newest value of every raw key.

    Folding it gives what folding every record up to there gives, so a reader may go on from any copy.
    """

    __slots__ = ("_entries", "_late", "_newest_fence", "_position_at_ms", "next_offset", "size_bytes")

    def __init__(self) -> None:
        self.restart(0)

    def restart(self, offset: int) -> None:
        """Forget everything and begin at ``offset``."""
        self._entries: dict[bytes, bytes] = {}
        self._late: set[bytes] = set()
        self._newest_fence = -1
        self._position_at_ms: dict[bytes, int] = {}
        self.next_offset = offset
        self.size_bytes = 0

    @property
    def newest_fence(self) -> int:
        """The highest fence under which anything was written; -1: nothing was."""
        return self._newest_fence

    def take(self, key: bytes, value: bytes | None, offset: int, timestamp_ms: int = 0) -> None:
        """The log's record at ``offset``; one that was taken before changes nothing."""
        if offset < self.next_offset:
            return
        self.next_offset = offset + 1
        fence = int.from_bytes(key[:_FENCE_BYTES], "big")
        self._late.discard(key)
        if fence < self._newest_fence and value is not None:
            self._late.add(key)
        self._newest_fence = max(self._newest_fence, fence)
        former = self._entries.pop(key, None)
        if former is not None:
            self._position_at_ms.pop(key, None)
            self.size_bytes -= len(key) + len(former) + _ENTRY_OVERHEAD_BYTES
        if value is not None:
            self._entries[key] = value
            if key[_FENCE_BYTES : _FENCE_BYTES + 1] == _POSITION:
                self._position_at_ms[key] = timestamp_ms
            self.size_bytes += len(key) + len(value) + _ENTRY_OVERHEAD_BYTES

    def restored(self) -> RestoredState:
        """The state that the log up to here says. A tombstone has removed its own fence's record only."""
        state = RestoredState(newest_fence=self._newest_fence)
        for key in sorted(self._entries):  # fences ascend, so a later one replaces an earlier
            _fold_into(state, key, self._entries[key])
        state.position_at_ms = self._position_at_ms.get(position_key(state.position_fence), 0) if state.positions else 0
        state.late = {
            core_key: state.records[core_key] or None
            for core_key, fence in state.fences.items()
            if state_key(fence, core_key) in self._late
        }
        # An empty value is a removal that older fences' records must not undo.
        for core_key in [core_key for core_key, value in state.records.items() if value == b""]:
            del state.records[core_key]
        return state


def _fold_into(state: RestoredState, key: bytes, value: bytes) -> None:
    fence = int.from_bytes(key[:_FENCE_BYTES], "big")
    kind = key[_FENCE_BYTES : _FENCE_BYTES + 1]
    core_key = key[_FENCE_BYTES + 1 :]
    if kind == _POSITION:
        if state.position_fence >= 0:
            state.superseded.append(position_key(state.position_fence))
        state.position_fence, state.positions = fence, json.loads(value)
        return
    if core_key in state.fences:
        state.superseded.append(state_key(state.fences[core_key], core_key))
    state.fences[core_key] = fence
    state.records[core_key] = value


def fold(entries: Iterable[tuple[bytes, bytes | None]]) -> RestoredState:
    """Log entries in offset order → the state. Pure."""
    copy = StateCopy()
    for offset, (key, value) in enumerate(entries):
        copy.take(key, value, offset)
    return copy.restored()


async def read_state(
    brokers: str | Brokers, topic: str, partition: int, *, client_id: str, copy: StateCopy | None = None, up_to: int = 0
) -> RestoredState:
    """Read the partition of the state topic to its end as of now: the whole of it, or what ``copy`` lacks.

    ``copy`` is brought up to date in place. ``up_to``: an offset before which everything is known to be there, whatever
    the broker says of its end. Raises ``KafkaError``.
    """
    where, copy = TopicPartition(topic, partition), copy or StateCopy()
    consumer = AIOKafkaConsumer(
        **client_arguments(brokers),
        client_id=client_id,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=_FETCH_BYTES_MAX,
        fetch_max_wait_ms=50,
    )
    await consumer.start()
    try:
        consumer.assign([where])
        first = (await consumer.beginning_offsets([where]))[where]
        goal = max((await consumer.end_offsets([where]))[where], up_to)
        if not first <= copy.next_offset <= goal:
            copy.restart(first)  # new, or of a log that was created anew since
        consumer.seek(where, copy.next_offset)
        while await consumer.position(where) < goal:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    if record.key is not None:
                        copy.take(record.key, record.value, record.offset, record.timestamp)
    finally:
        await stop_consumer(consumer)
    return copy.restored()


def looking(brokers: str | Brokers, topic: str, partition: int, client_id: str) -> Look:
    """How a ``Tenure`` looks at the broker's log."""

    async def look(first: int, up_to: int) -> Glance:
        copy = StateCopy()
        copy.restart(first)
        await read_state(brokers, topic, partition, client_id=client_id, copy=copy, up_to=up_to)
        return Glance(copy.newest_fence, max(copy.next_offset, up_to))

    return look


class StateLog:
    """Writes one partition's state under the fence of one owner. Every write is awaited before the next step."""

    def __init__(
        self,
        publisher: Publisher,
        topic: str,
        partition: int,
        generation: int,
        restored: RestoredState,
        look: Look | None = None,
    ) -> None:
        """``look``: how to see who else wrote; see ``Tenure``."""
        self._publisher = publisher
        self._topic = topic
        self._partition = partition
        self.fence = next_fence(restored.newest_fence, generation)
        self._fences = restored.fences
        self._position_fence = restored.position_fence
        self._name = f"{topic}-{partition}"
        self._tenure = Tenure(self._name, look)
        #: Records written so far.
        self.written = 0

    async def mark(self) -> int:
        """Write a record that says nothing but that we are there; returns its offset.

        The first one takes the log over: what another owner wrote before it is to be restored, all else is void.
        """
        (offset,) = await self._append([self._record(mark_key(self.fence), None)])
        return offset

    def begin(self, restored: RestoredState, mark: int) -> None:
        """``restored`` is what the log says up to ``mark``. Raises ``LostPartitionError``: a newer owner is in it."""
        if restored.newest_fence > self.fence:
            raise lost_to(self._name, restored.newest_fence, self.fence)
        self._fences = restored.fences
        self._position_fence = restored.position_fence
        self._tenure.begin(mark + 1)

    async def prove(self) -> None:
        """Return only if nobody had taken the log over when our newest record was written; see ``Tenure.prove``."""
        await self._tenure.prove(self.fence)

    async def _append(self, records: Sequence[Publish]) -> Sequence[int]:
        offsets = await self._publisher.append(records)
        self._tenure.note(offsets)
        self.written += len(offsets)
        return offsets

    def move_to(self, generation: int) -> None:
        """Go on as the owner under the group's next generation, without having lost the partition."""
        self.fence = next_fence(self.fence, generation)

    async def write_records(self, records: Iterable[tuple[bytes, bytes | None]]) -> int:
        """Make core records durable; ``None`` removes. Returns the bytes written."""
        superseded, puts, size = list[bytes](), list[Publish](), 0
        for core_key, value in records:
            earlier = self._fences.get(core_key)
            if earlier is not None and earlier != self.fence:
                superseded.append(state_key(earlier, core_key))
            self._fences[core_key] = self.fence
            size += len(value or b"")
            puts.append(self._record(state_key(self.fence, core_key), value or b""))
        if puts:
            await self._append(puts)
        await self.remove(superseded)
        return size

    async def write_positions(self, positions: Mapping[str, int]) -> None:
        """Make the positions durable: from here on a restart goes on after them."""
        record = self._record(position_key(self.fence), json.dumps(dict(positions)).encode())
        await self._append([record])
        if self._position_fence not in (-1, self.fence):
            await self.remove([position_key(self._position_fence)])
        self._position_fence = self.fence

    async def remove(self, keys: Iterable[bytes]) -> None:
        """Tombstone keys that a higher fence has replaced."""
        if gone := [self._record(key, None) for key in keys]:
            await self._append(gone)

    def _record(self, key: bytes, value: bytes | None) -> Publish:
        return Publish(self._topic, key, value, self._partition)
