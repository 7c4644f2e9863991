"""What the cores' shells need from the outside world."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from emergency_stop.columnar.fetched import FetchedBatch


class Clock(Protocol):
    def now_ms(self) -> int:
        """Wall time, milliseconds since the epoch."""
        ...


@dataclass(frozen=True, slots=True)
class Publish:
    """An effect: one record for the broker. ``key`` decides the partition unless ``partition`` is given.

    ``timestamp_ms`` is the record's; ``None``: when it is sent.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp_ms: int | None = None


class Publisher(Protocol):
    """Writes to the broker. Every awaited send is acknowledged by all in-sync replicas (``acks=all``)."""

    def publish(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        partition: int | None = None,
        headers: Sequence[tuple[str, bytes | None]] = (),
    ) -> Awaitable[None]:
        """Enqueue in order; the awaitable ends when the broker has acknowledged, or raises."""
        return self.publish_all([Publish(topic, key, value, partition, tuple(headers))])

    def publish_all(self, records: Sequence[Publish]) -> Awaitable[None]:
        """As ``publish`` for each of ``records``, in their order, at a fraction of the cost: they travel together."""
        ...

    def append(self, records: Sequence[Publish]) -> Awaitable[Sequence[int]]:
        """As ``publish_all``; the awaitable gives the offset of each record, in their order.

        Where the broker does not tell an offset, some other number stands for it: who relies on offsets must bear that.
        """
        ...


class PartitionCore(Protocol):
    """The state of one partition number over all input topics of a worker, without any I/O.

    The shell (`apps/lane_worker.py`) calls from one thread, in this order at start: ``restore``,
    then ``on_batch`` and ``on_tick`` as things arrive. At a checkpoint it makes the effects
    durable, then ``take_dirty``'s records, then the positions, then acknowledges the input.
    A crash between any two repeats effects with the same ids and loses none.
    """

    def restore(self, records: Iterable[tuple[bytes, bytes]], positions: Mapping[str, int]) -> None:
        """Load state records as written by ``take_dirty`` and, per topic, the next offset to apply.

        A record may be ahead of ``positions``: what it already contains must be skipped on replay.
        """
        ...

    def on_batch(self, batch: FetchedBatch, now_ms: int) -> Sequence[Publish]:
        """Apply all of ``batch`` that is not yet applied. May be long; must not block on I/O."""
        ...

    def on_tick(self, now_ms: int) -> Sequence[Publish]:
        """Apply the passing of time: deadlines, absence, heartbeats."""
        ...

    def next_deadline(self) -> int | None:
        """When ``on_tick`` is next due, milliseconds since the epoch; ``None`` when nothing waits."""
        ...

    def take_dirty(self) -> Iterator[Sequence[tuple[bytes, bytes | None]]]:
        """State records changed since the last call, in slices; ``None`` removes one.

        Which records there are is fixed by the first slice. Each slice holds its records as they are when it is
        asked for, so input may be applied between two slices: such records are ahead of the positions that were
        read before the first slice, and their effects must be durable before the slice is.
        """
        ...


@runtime_checkable
class RecordingCore(PartitionCore, Protocol):
    """A core whose decisions must be on record before anything of them is published.

    Its records carry what is still to be published, so a successor repeats it exactly. Within a
    checkpoint the shell calls ``on_durable`` once the records of ``take_dirty`` are durable, makes sure that the
    partition was still its own when they were written, and makes the effects durable before the positions; behind
    these goes ``on_settled``. A tick is always followed by a checkpoint; the core asks for one where records are to
    be written that no input will bring up.
    """

    def on_durable(self) -> Sequence[Publish]:
        """Effects of everything that the records taken last contain. Empty where nothing waited."""
        ...

    def on_published(self) -> Sequence[Publish]:
        """What follows from the effects of the last ``on_durable`` and may not delay them: they are acknowledged.

        The shell makes it durable, or puts on record that it is owed, before it writes records again.
        """
        ...

    def on_settled(self) -> Sequence[Publish]:
        """What vouches that everything which the records taken last contain has reached the broker, as it now has.

        It was made ready before those records were taken, rests on no state, and nobody waits for it.
        """
        ...


class DeliveryError(Exception):
    """Something that was to be told did not arrive, and is worth trying again. Names the place and its answer."""
