"""Reading dead letters, and what is on record about them, from the broker alone."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import AsyncIterator

from emergency_stop.adapters.kafka_tail import TailRecord
from emergency_stop.apps.dead_letters.book import Choice, LetterBook
from emergency_stop.apps.dead_letters.journal import Journal
from emergency_stop.apps.dead_letters.letter import Place, read_letter
from emergency_stop.config import Settings, did_you_mean
from emergency_stop.control.installation import Installation
from emergency_stop.domain.messages import AuditRecord
from emergency_stop.domain.topics import AUDIT, DEAD_LETTER, all_topics
from emergency_stop.wire.codec import WireError
from emergency_stop.wire.registry import UnknownSchemaError


def choice_of(options: argparse.Namespace, settings: Settings, now_ms: int) -> Choice:
    """What ``options`` choose. Raises ``ValueError`` that names a wrong place or topic."""
    places = frozenset(Place.parse(text) for text in getattr(options, "places", ()))
    known = tuple(spec.name for spec in all_topics(settings.services))
    if options.topic and options.topic not in known:
        hint = did_you_mean(options.topic, known)
        raise ValueError(f"--topic has unknown name {options.topic!r}{hint}; allowed: {', '.join(known)}")
    kind, moment_ms = options.since or ("at", 0)
    return Choice(places, options.reason or "", options.topic, now_ms - moment_ms if kind == "ago" else moment_ms)


async def read_letters(installation: Installation, book: LetterBook) -> None:
    """Hand every dead letter that the broker has to ``book``. Raises ``UnavailableError``."""

    def take(record: TailRecord) -> None:
        place = Place(DEAD_LETTER, record.partition, record.offset)
        book.take(read_letter(place, record.timestamp_ms, record.key, record.value, record.headers))

    await installation.scan(DEAD_LETTER, take)


@contextlib.asynccontextmanager
async def reading_journal(installation: Installation) -> AsyncIterator[Journal]:
    """What the audit says about redrives; within this context it stays up to date. Raises ``UnavailableError``."""
    journal = Journal()

    def take(record: TailRecord) -> None:
        try:
            journal.take(installation.codec.decode(AuditRecord, record.value))
        except (WireError, UnknownSchemaError):
            installation.unreadable += 1

    async with installation.reading(AUDIT, take):
        yield journal
