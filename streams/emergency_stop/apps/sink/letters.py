"""Dead letters on their way to their topic."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from aiokafka.errors import MessageSizeTooLargeError

from emergency_stop.apps.sink.dead_letter import DeadLetter
from emergency_stop.ports import Publisher

log = logging.getLogger(__name__)

#: So many are made records of at once: what waits in the producer is memory too.
SLICE: Final = 500


async def publish_letters(publisher: Publisher, letters: Sequence[DeadLetter]) -> None:
    """Returns when the broker has all of them. One that it does not take whole is cut, for else nothing would pass it.

    A letter may be published twice, as after a crash: readers know it by what it is about.
    """
    for start in range(0, len(letters), SLICE):
        some = letters[start : start + SLICE]
        try:
            await publisher.publish_all([one.as_record() for one in some])
        except MessageSizeTooLargeError:
            for one in some:
                await _publish(publisher, one)


async def _publish(publisher: Publisher, letter: DeadLetter) -> None:
    try:
        await publisher.publish_all([letter.as_record()])
    except MessageSizeTooLargeError as error:
        log.warning(
            "the dead letter of %s-%d@%d is cut: its %d bytes are too many for its topic (%s)",
            letter.topic, letter.partition, letter.offset, letter.size, error,
        )  # fmt: skip
        await publisher.publish_all([letter.as_cut_record()])
