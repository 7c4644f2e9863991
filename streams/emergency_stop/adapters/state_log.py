"""A partition's state as a compacted log of its own, fenced by the group's generation.

A record's key is ``generation (8 bytes, big-endian) + kind + core key``. Compaction keeps the last writer
of a key, and the last writer can be a zombie: a worker that was paused past its session and goes on. Its
keys carry its old generation, so they can never replace its successor's; a reader takes, per core key, the
record of the highest generation. Superseded keys are tombstoned by the new owner.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from emergency_stop.ports import Publisher

log = logging.getLogger(__name__)

_GENERATION_BYTES: Final = 8
_POSITION: Final = b"P"
_STATE: Final = b"S"
_FETCH_BYTES_MAX: Final = 8 * 1024 * 1024


def state_key(generation: int, core_key: bytes) -> bytes:
    return generation.to_bytes(_GENERATION_BYTES, "big") + _STATE + core_key


def position_key(generation: int) -> bytes:
    return generation.to_bytes(_GENERATION_BYTES, "big") + _POSITION


@dataclass(slots=True)
class RestoredState:
    """What the log says: live records by core key, positions (next offset by topic), and who wrote what."""

    records: dict[bytes, bytes] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)
    generations: dict[bytes, int] = field(default_factory=dict)
    position_generation: int = -1
    superseded: list[bytes] = field(default_factory=list)


def fold(entries: Iterable[tuple[bytes, bytes | None]]) -> RestoredState:
    """Log entries in offset order → the state. Pure; a tombstone removes its own generation's record only."""
    newest: dict[bytes, bytes | None] = {}
    for key, value in entries:
        newest[key] = value
    state = RestoredState()
    for key in sorted(newest):  # generations ascend, so a later one replaces an earlier
        value = newest[key]
        if value is None:
            continue
        generation, kind = int.from_bytes(key[:_GENERATION_BYTES], "big"), key[_GENERATION_BYTES : _GENERATION_BYTES + 1]
        core_key = key[_GENERATION_BYTES + 1 :]
        if kind == _POSITION:
            if state.position_generation >= 0:
                state.superseded.append(position_key(state.position_generation))
            state.position_generation, state.positions = generation, json.loads(value)
            continue
        if core_key in state.generations:
            state.superseded.append(state_key(state.generations[core_key], core_key))
        state.generations[core_key] = generation
        state.records[core_key] = value
    # An empty value is a removal that older generations' records must not undo.
    for core_key in [core_key for core_key, value in state.records.items() if value == b""]:
        del state.records[core_key]
    return state


async def read_state(brokers: str, topic: str, partition: int, *, client_id: str) -> RestoredState:
    """Read the whole partition of the state topic, to its end as of now. Raises ``KafkaError``."""
    where = TopicPartition(topic, partition)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=brokers,
        client_id=client_id,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=_FETCH_BYTES_MAX,
        fetch_max_wait_ms=50,
    )
    await consumer.start()
    entries: list[tuple[bytes, bytes | None]] = []
    try:
        consumer.assign([where])
        await consumer.seek_to_beginning(where)
        goal = (await consumer.end_offsets([where]))[where]
        while await consumer.position(where) < goal:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                entries.extend((record.key, record.value) for record in records if record.key is not None)
    finally:
        await consumer.stop()
    return fold(entries)


class StateLog:
    """Writes one partition's state under one generation. Every write is awaited before the next step."""

    def __init__(self, publisher: Publisher, topic: str, partition: int, generation: int, restored: RestoredState) -> None:
        self._publisher = publisher
        self._topic = topic
        self._partition = partition
        self.generation = generation
        self._generations = restored.generations
        self._position_generation = restored.position_generation

    def move_to(self, generation: int) -> None:
        """Go on as the owner under a newer generation of the same group."""
        self.generation = generation

    async def write_records(self, records: Iterable[tuple[bytes, bytes | None]]) -> int:
        """Make core records durable; ``None`` removes. Returns the bytes written."""
        superseded, sends, size = [], [], 0
        for core_key, value in records:
            earlier = self._generations.get(core_key)
            if earlier is not None and earlier != self.generation:
                superseded.append(state_key(earlier, core_key))
            self._generations[core_key] = self.generation
            size += len(value or b"")
            sends.append(self._put(state_key(self.generation, core_key), value or b""))
        await asyncio.gather(*sends)
        await self.remove(superseded)
        return size

    async def write_positions(self, positions: Mapping[str, int]) -> None:
        """Make the positions durable: from here on a restart goes on after them."""
        await self._put(position_key(self.generation), json.dumps(dict(positions)).encode())
        if self._position_generation not in (-1, self.generation):
            await self.remove([position_key(self._position_generation)])
        self._position_generation = self.generation

    async def remove(self, keys: Iterable[bytes]) -> None:
        """Tombstone keys that a higher generation has replaced."""
        await asyncio.gather(*(self._put(key, None) for key in keys))

    async def _put(self, key: bytes, value: bytes | None) -> None:
        await self._publisher.publish(self._topic, key, value, partition=self._partition)
