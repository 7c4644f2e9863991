"""Letters reach their topic whole where it takes them, and cut where it does not; none stops those behind it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Sequence

from aiokafka.errors import MessageSizeTooLargeError

from emergency_stop.apps.sink.dead_letter import CUT_BYTES, DeadLetter
from emergency_stop.apps.sink.letter_headers import BYTES_BEFORE_CUT, SHA256_BEFORE_CUT
from emergency_stop.apps.sink.letters import SLICE, publish_letters
from emergency_stop.columnar.records import Headers
from emergency_stop.domain import topics
from emergency_stop.domain.reasons import Reject
from emergency_stop.ports import Publish, Publisher

LIMIT = 1_000_000


class Broker(Publisher):
    """Takes no record above ``LIMIT`` bytes, nor any other that came with it."""

    def __init__(self) -> None:
        self.records: list[Publish] = []

    async def _take(self, records: Sequence[Publish]) -> list[int]:
        await asyncio.sleep(0)
        if any(_size(one) > LIMIT for one in records):
            raise MessageSizeTooLargeError("too large")
        self.records += records
        return list(range(len(self.records) - len(records), len(self.records)))

    async def _published(self, records: Sequence[Publish]) -> None:
        await self._take(records)

    def publish_all(self, records: Sequence[Publish]) -> Awaitable[None]:
        return self._published(records)

    def append(self, records: Sequence[Publish]) -> Awaitable[Sequence[int]]:
        return self._take(records)


def _size(record: Publish) -> int:
    headers = sum(len(name) + len(value or b"") for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers


def letter(offset: int, value: bytes | None, key: bytes | None = b"acc-1", headers: Headers = ()) -> DeadLetter:
    return DeadLetter("telemetry.health", 1, offset, key, value, headers, Reject.BAD_MAGIC, "", 5)


def published(letters: Sequence[DeadLetter]) -> list[Publish]:
    broker = Broker()
    asyncio.run(publish_letters(broker, letters))
    assert all(one.topic == topics.DEAD_LETTER for one in broker.records)
    return broker.records


def test_they_go_as_they_came_in_their_order() -> None:
    letters = [letter(offset, b"%d" % offset, headers=(("own", None),)) for offset in range(2 * SLICE + 3)]
    found = published(letters)
    assert [one.value for one in found] == [one.value for one in letters]
    assert all(one.headers[0] == ("own", None) and one.key == b"acc-1" for one in found)
    assert all(name not in {BYTES_BEFORE_CUT, SHA256_BEFORE_CUT} for one in found for name, _ in one.headers)


def test_one_that_is_too_large_is_cut_and_the_others_are_whole() -> None:
    value = bytes(LIMIT + 1)
    found = published([letter(0, b"before"), letter(1, value), letter(2, b"behind")])
    assert [one.value for one in found] == [b"before", value[:CUT_BYTES], b"behind"]
    told = dict(found[1].headers)
    assert told[BYTES_BEFORE_CUT] == str(len(value)).encode()
    assert told[SHA256_BEFORE_CUT] == hashlib.sha256(value).hexdigest().encode()
    assert told["__connect.errors.offset"] == b"1"


def test_whatever_part_of_it_is_too_large() -> None:
    large = bytes(LIMIT + 1)
    found = published([letter(0, b"v", key=large), letter(1, b"v", headers=(("own", large),)), letter(2, None, large)])
    assert [len(one.key or b"") for one in found] == [CUT_BYTES, 5, CUT_BYTES]
    assert [name for name, _ in found[1].headers].count("own") == 0
    assert all(_size(one) <= LIMIT for one in found)
