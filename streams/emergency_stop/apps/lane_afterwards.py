"""What goes out behind a partition's decisions, and what no decision may wait for: notices, events for subscribers.

Theory of operation. Such records follow from decisions that are on record, and are made once. A crash must not
lose them, and a topic of theirs that is gone, or that has no leader, must not hold up the next stop. So before
the partition writes records again, which no longer say what led to them, it waits for them a moment; what is
not acknowledged by then goes on record itself, and is published by whoever reads that record. While something
is stuck nobody waits a second time.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from emergency_stop.ports import Publish, Publisher

log = logging.getLogger(__name__)

#: Of the state record that says what is owed; no core's record begins so.
KEY: Final = b"afterwards"
#: How long records of state wait for what goes behind former ones, once in an outage.
WAIT_S: Final = 0.1
#: How soon what the broker refused is tried again.
RETRY_S: Final = 5.0
#: What may be owed, bytes of keys and values; past it the oldest is lost, and counted.
OWED_BYTES_MAX: Final = 256 * 1024
#: What the producer may have at once; past it records count as refused.
UNDER_WAY_MAX: Final = 20_000


@dataclass(slots=True)
class _UnderWay:
    records: Sequence[Publish]
    sending: asyncio.Future[None]


class Afterwards:
    """Of one partition; ``topics`` are those whose records nobody waits for. Belongs to one event loop."""

    def __init__(
        self, publisher: Publisher, topics: Collection[str], steady_s: Callable[[], float] = time.monotonic
    ) -> None:
        """``publisher``: not the one by which stops go out, which a topic that is gone would hold up."""
        self._publisher = publisher
        self._topics = frozenset(topics)
        self._steady_s = steady_s
        self._under_way: list[_UnderWay] = []
        #: Refused by the broker, or read from a predecessor's record; to be sent again.
        self._refused: list[Publish] = []
        self._retry_at = 0.0
        self._is_stuck = False
        self._recorded: bytes | None = None
        #: Records that were given up, because too much was owed.
        self.lost = 0

    def split(self, records: Sequence[Publish]) -> Sequence[Publish]:
        """Start sending those of its topics, and return the others."""
        if not self._topics:
            return records
        behind = [one for one in records if one.topic in self._topics]
        if not behind:
            return records
        self._send(behind)
        return [one for one in records if one.topic not in self._topics]

    async def wait(self) -> None:
        """Give what is under way a moment, so that nothing of it need be put on record."""
        pending = {one.sending for one in self._under_way if not one.sending.done()}
        if pending and not self._is_stuck:
            await asyncio.wait(pending, timeout=WAIT_S)

    def records(self) -> list[tuple[bytes, bytes | None]]:
        """What to write before other records of state, so that nothing of what was started is lost; mostly nothing."""
        self._collect()
        self._is_stuck = bool(self._under_way)
        owed = self._bounded([*self._refused, *(record for one in self._under_way for record in one.records)])
        value = _dump(owed) if owed else None
        self._retry()
        if value == self._recorded:
            return []
        self._recorded = value
        return [(KEY, value)]

    def restore(self, value: bytes) -> None:
        """Load what ``records`` gave a predecessor; it goes out with the next records. Raises ``ValueError``.

        Of topics that are gone nothing is owed any more.
        """
        self._recorded = value
        owed = _load(value)
        self._refused = [one for one in owed if one.topic in self._topics]
        self.lost += len(owed) - len(self._refused)

    def _send(self, records: Sequence[Publish]) -> None:
        if sum(len(one.records) for one in self._under_way) + len(records) > UNDER_WAY_MAX:
            self._refused += records
            return
        self._under_way.append(_UnderWay(records, asyncio.ensure_future(self._publisher.publish_all(records))))

    def _collect(self) -> None:
        """Let go of what is acknowledged, and keep what was refused for another time."""
        ended = [one for one in self._under_way if one.sending.done()]
        self._under_way = [one for one in self._under_way if not one.sending.done()]
        for one in ended:
            error = None if one.sending.cancelled() else one.sending.exception()
            if one.sending.cancelled() or error is not None:
                log.error(
                    "%d records of %s were not written (%r), and are tried again in %d s; stops do not wait for them",
                    len(one.records), ", ".join(sorted({record.topic for record in one.records})), error, RETRY_S,
                )  # fmt: skip
                self._refused += one.records
                self._retry_at = self._steady_s() + RETRY_S

    def _retry(self) -> None:
        if self._refused and self._steady_s() >= self._retry_at:
            refused, self._refused = self._refused, []
            self._send(refused)

    def _bounded(self, owed: Sequence[Publish]) -> Sequence[Publish]:
        """The newest of ``owed`` that fit; the others are given up where they were refused, else only not recorded."""
        kept, size = list[Publish](), 0
        for record in reversed(owed):
            size += len(record.key or b"") + len(record.value or b"")
            if size > OWED_BYTES_MAX:
                break
            kept.append(record)
        given_up = len(owed) - len(kept)
        if given_up and self._refused:
            lost = min(given_up, len(self._refused))
            self._refused = self._refused[lost:]
            self.lost += lost
            log.error("%d records that were owed to people and subscribers are given up: too many are owed", lost)
        return kept[::-1]


def _dump(records: Sequence[Publish]) -> bytes:
    return json.dumps([[r.topic, _text(r.key), _text(r.value), r.partition] for r in records]).encode()


def _load(value: bytes) -> list[Publish]:
    content: list[Any] = json.loads(value)
    return [Publish(topic, _bytes(key), _bytes(text), partition) for topic, key, text, partition in content]


def _text(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(content).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
