"""``estop dead-letters redrive``: refused records to their topics again, each once, if they are accepted now.

Intents are on record before anything is sent, and what was sent is afterwards: see ``apps.dead_letters.journal``.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka.errors import KafkaError

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_ranges import KafkaRanges, ranges
from emergency_stop.apps.dead_letters.barred import REDRIVABLE
from emergency_stop.apps.dead_letters.book import Choice, LetterBook
from emergency_stop.apps.dead_letters.examine import Examiner
from emergency_stop.apps.dead_letters.fix import Candidate, Fix
from emergency_stop.apps.dead_letters.journal import (
    ID_HEADER,
    SEND_WITHIN_MS,
    Journal,
    Order,
    Standing,
    done,
    intent,
    redrive_headers,
)
from emergency_stop.apps.dead_letters.letter import Letter, Place
from emergency_stop.apps.dead_letters.plan import Refused, forgotten_at_ms, plan, refused_by
from emergency_stop.config import Settings
from emergency_stop.control.cli.letter_reading import choice_of, read_letters, reading_journal
from emergency_stop.control.cli.output import say, show_json, show_table
from emergency_stop.control.errors import EXIT_BAD_INPUT, EXIT_OK, EXIT_REFUSED, UnavailableError
from emergency_stop.control.installation import READ_WITHIN_S, SCAN_WITHIN_S, Installation
from emergency_stop.domain.messages import AuditRecord
from emergency_stop.domain.topics import AUDIT
from emergency_stop.ports import Publish
from emergency_stop.wire.registry_http import RegistryError, build_registry

#: So few that each is sent well within ``SEND_WITHIN_MS`` of its intent.
_AT_ONCE: Final = 100
_DONE: Final = frozenset({"sent", "found", "would_send"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """``kind`` is sent, found (an interrupted attempt had sent it), would_send, or why not."""

    letter: Letter
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Ready:
    """A letter's record, and where it goes."""

    letter: Letter
    candidate: Candidate
    target: Place
    #: Interrupted attempts that have sent nothing, as was found out.
    examined: frozenset[str]


def run_redrive(options: argparse.Namespace, settings: Settings) -> int:
    """0: everything chosen was sent, or would be; 77: something was refused, and the output says why."""
    if not (options.places or options.reason or options.topic or options.since):
        say("estop dead-letters redrive: name letters, or choose them by --reason, --topic or --since")
        return EXIT_BAD_INPUT
    try:
        choice = choice_of(options, settings, SystemClock().now_ms())
    except ValueError as error:
        say(f"estop dead-letters redrive: {error}")
        return EXIT_BAD_INPUT
    try:
        book, outcomes = asyncio.run(_redrive(options, Installation(settings), choice))
    except RegistryError as error:
        raise UnavailableError(f"{error}; whether a record is accepted cannot be told, so no more was sent") from None
    except (KafkaError, OSError) as error:
        raise UnavailableError(
            f"ESTOP_BROKERS={settings.brokers}: {str(error) or type(error).__name__}; the same command again, in a"
            " minute, finishes what was begun and sends nothing twice"
        ) from None
    missing = book.missing()
    for place in missing:
        say(f"estop dead-letters redrive: no dead letter is at {place}, nor about it; see 'estop dead-letters list'")
    if book.count > options.limit:
        say(f"{book.count - options.limit} older ones are left (--limit)")
    _show(options, outcomes)
    if missing:
        return EXIT_BAD_INPUT
    return EXIT_OK if all(one.kind in _DONE for one in outcomes) else EXIT_REFUSED


async def _redrive(
    options: argparse.Namespace, installation: Installation, choice: Choice
) -> tuple[LetterBook, list[Outcome]]:
    """A letter that is named is told of though it was redriven; of others, those that were are left out."""
    fix = Fix(options.fix_key, options.trim_account_id, options.schema_id)
    by = options.by.strip() or f"cli:{getpass.getuser()}"
    order = Order(str(uuid.uuid4()), by, options.note, 0)
    async with (
        reading_journal(installation) as journal,
        ranges(installation.settings.kafka, "estop-redrive") as places,
    ):
        book = LetterBook(choice, options.limit, lambda one: not choice.places and journal.is_redriven(one.letter_id))
        await read_letters(installation, book)
        letters = book.letters()
        work = _Redrive(installation, journal, places, fix, order)
        for start in range(0, len(letters), _AT_ONCE):
            await work.run(letters[start : start + _AT_ONCE], book, dry=options.dry_run)
        return book, work.outcomes


@dataclass(slots=True)
class _Redrive:
    """One command's work, some letters at a time."""

    installation: Installation
    journal: Journal
    places: KafkaRanges
    fix: Fix
    order: Order
    outcomes: list[Outcome] = field(default_factory=list)

    async def run(self, letters: list[Letter], book: LetterBook, *, dry: bool) -> None:
        ready = await self._planned(letters, dry=dry)
        if dry:
            self.outcomes += [Outcome(one.letter, "would_send", f"to {_where(one.target)}") for one in ready]
            return
        await self._wait_for_readers(book, ready)
        self.order = Order(self.order.attempt_id, self.order.by, self.order.reason, SystemClock().now_ms())
        publisher = KafkaPublisher(self.installation.settings.kafka, client_id="estop-redrive")
        try:
            await publisher.start()
            await self._send(publisher, ready)
        finally:
            await publisher.stop()

    async def _planned(self, letters: list[Letter], *, dry: bool) -> list[Ready]:
        """Those that may be sent; outcomes of the others are noted."""
        registry, now_ms = build_registry(self.installation.settings.registry_url), SystemClock().now_ms()
        examiner, ready = Examiner(registry), []
        sent = await self._sent_before(self.journal.standing(one.letter_id, now_ms) for one in letters)
        for letter in letters:
            standing = self.journal.standing(letter.letter_id, now_ms)
            if letter.letter_id in sent and refused_by(standing) is None:
                await self._finish(letter, sent[letter.letter_id], dry=dry)
                continue
            verdict = plan(letter, standing, self.fix, now_ms, examiner, registry)
            if isinstance(verdict, Refused):
                self._refuse(letter, verdict)
                continue
            examined = frozenset(one.attempt_id for one in standing.unsettled)
            ready.append(Ready(letter, verdict, await self._target(letter, verdict), examined))
        return ready

    def _refuse(self, letter: Letter, refused: Refused) -> None:
        self.outcomes.append(Outcome(letter, refused.kind, refused.why))

    async def _target(self, letter: Letter, candidate: Candidate) -> Place:
        """The record's own partition, where its producer had put it; by its key where the key is another now."""
        topic, _, _ = letter.source
        wanted = letter.source.partition if candidate.key == letter.key else None
        partition = await self.places.partition_for(topic, candidate.key, wanted)
        return Place(topic, partition, await self.places.end(topic, partition))

    async def _sent_before(self, standings: Iterable[Standing]) -> dict[str, Place]:
        """Where records of interrupted attempts lie, by letter; each partition is read once."""
        starts: dict[tuple[str, int], int] = {}
        for topic, partition, offset in (one.target for standing in standings for one in standing.unsettled):
            if topic in REDRIVABLE:
                starts[topic, partition] = min(offset, starts.get((topic, partition), offset))
        found: dict[str, Place] = {}

        def take(record: Any) -> None:
            for name, value in record.headers:
                if name == ID_HEADER:
                    found.setdefault((value or b"").decode(), Place(record.topic, record.partition, record.offset))

        for (topic, partition), offset in starts.items():
            await self.places.read(topic, partition, offset, take, within_s=SCAN_WITHIN_S)
        return found

    async def _finish(self, letter: Letter, found: Place, *, dry: bool) -> None:
        """Put on record what an interrupted attempt did not come to."""
        self.outcomes.append(Outcome(letter, "found", f"an interrupted redrive had sent it: {found}"))
        if dry:
            return
        order = Order(self.order.attempt_id, self.order.by, self.order.reason, SystemClock().now_ms())
        record = done(letter, order, found, "found")
        await self.installation.publish(AUDIT, letter.letter_id, record)

    async def _wait_for_readers(self, book: LetterBook, ready: list[Ready]) -> None:
        wait_ms = forgotten_at_ms(book, [one.candidate for one in ready]) - SystemClock().now_ms()
        if wait_ms > 0:
            say(f"waiting {wait_ms / 1000:.0f} s: until then readers may still take the schema for unknown")
            await asyncio.sleep(wait_ms / 1000)

    async def _send(self, publisher: KafkaPublisher, ready: list[Ready]) -> None:
        """Intents; read them back; records; what was sent. In this order, each acknowledged before the next."""
        fixes, own = self.fix.described(), self.order.attempt_id
        await self._write(publisher, [intent(one.letter, self.order, one.target, fixes) for one in ready])
        seen = await self.installation.until(
            lambda: all(self.journal.has(one.letter.letter_id, own) for one in ready), READ_WITHIN_S
        )
        now_ms = SystemClock().now_ms()
        if not seen or now_ms - self.order.at_ms > SEND_WITHIN_MS:
            raise UnavailableError(
                "the audit could not be read back in time, so nothing was sent; try again in a minute"
            )
        first = []
        for one in ready:
            lost = refused_by(self.journal.standing_of_attempt(one.letter.letter_id, own, one.examined))
            if lost is None:
                first.append(one)
            else:
                self._refuse(one.letter, lost)
        records = [
            Publish(
                one.target.topic, one.candidate.key, one.candidate.value, one.target.partition,
                redrive_headers(one.letter, self.order), one.candidate.timestamp_ms,
            )
            for one in first
        ]  # fmt: skip
        await publisher.publish_all(records)
        await self._write(publisher, [done(one.letter, self.order, one.target, fixes) for one in first])
        self.outcomes += [Outcome(one.letter, "sent", f"to {_where(one.target)}") for one in first]

    async def _write(self, publisher: KafkaPublisher, records: list[AuditRecord]) -> None:
        codec = self.installation.codec
        await publisher.publish_all([Publish(AUDIT, one.subject.encode(), codec.encode(one, AUDIT)) for one in records])


def _where(target: Place) -> str:
    return f"{target.topic}, partition {target.partition}"


def _show(options: argparse.Namespace, outcomes: list[Outcome]) -> None:
    if options.json:
        show_json([_document(one) for one in outcomes])
    elif outcomes:
        rows = [(one.letter.place, one.letter.source, one.kind, one.text) for one in outcomes]
        show_table(("LETTER", "RECORD", "OUTCOME", "WHAT"), rows)
    else:
        print("There are no such dead letters.")


def _document(one: Outcome) -> dict[str, Any]:
    return {
        "letter": str(one.letter.place), "letter_id": one.letter.letter_id, "source": str(one.letter.source),
        "outcome": one.kind, "text": one.text,
    }  # fmt: skip
