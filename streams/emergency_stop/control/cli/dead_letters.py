"""``estop dead-letters list|show``: what was refused, and why. Read from the broker; ClickHouse need not be there."""

from __future__ import annotations

import argparse
import asyncio
import math
import textwrap
from collections.abc import Iterator
from typing import Any, Final

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.apps.dead_letters.book import Choice, LetterBook
from emergency_stop.apps.dead_letters.explain import Finding, explain
from emergency_stop.apps.dead_letters.journal import Standing, redrive_count
from emergency_stop.apps.dead_letters.letter import Letter, Place
from emergency_stop.apps.dead_letters.opened import Opened, open_letter
from emergency_stop.config import Settings
from emergency_stop.control.cli.letter_reading import choice_of, read_letters, reading_journal
from emergency_stop.control.cli.output import moment, say, show_json, show_table
from emergency_stop.control.errors import EXIT_BAD_INPUT, EXIT_OK
from emergency_stop.control.installation import Installation
from emergency_stop.wire.registry_http import build_registry

_BYTES_SHOWN_MAX: Final = 1_024
_BYTES_PER_LINE: Final = 16


def run_list(options: argparse.Namespace, settings: Settings) -> int:
    """The newest of what was chosen, the newest last; or how many there are, by reason or topic."""
    now_ms = SystemClock().now_ms()
    try:
        choice = choice_of(options, settings, now_ms)
    except ValueError as error:
        say(f"estop dead-letters list: {error}")
        return EXIT_BAD_INPUT
    book, standings = asyncio.run(_read(Installation(settings), choice, options.limit, now_ms, only_open=options.open))
    if options.count_by:
        counts = book.by_reason if options.count_by == "reason" else book.by_topic
        if options.json:
            show_json(dict(counts.most_common()))
        else:
            show_table((options.count_by.upper(), "RECORDS"), counts.most_common())
        return EXIT_OK
    shown = book.letters()
    if options.json:
        show_json([_document(one, standings[one.letter_id]) for one in shown])
    elif shown:
        rows = [(one.place, moment(one.at_ms), one.source, one.label, standings[one.letter_id].state) for one in shown]
        show_table(("LETTER", "AT", "RECORD", "REASON", "STATE"), rows)
    else:
        print("There are no such dead letters.")
    if book.count > options.limit:
        say(f"{book.count - options.limit} older ones are not shown (--limit)")
    return EXIT_OK


async def _read(
    installation: Installation, choice: Choice, limit: int, now_ms: int, *, only_open: bool = False
) -> tuple[LetterBook, dict[str, Standing]]:
    """The chosen letters, and where each stands, by its id."""
    async with reading_journal(installation) as journal:
        book = LetterBook(choice, limit, skip=lambda one: only_open and journal.is_redriven(one.letter_id))
        await read_letters(installation, book)
        return book, {one.letter_id: journal.standing(one.letter_id, now_ms) for one in book.letters()}


def run_show(options: argparse.Namespace, settings: Settings) -> int:
    """One letter: what was wrong and where, its bytes, and what to do next."""
    try:
        place = Place.parse(options.place)
    except ValueError as error:
        say(f"estop dead-letters show: {error}")
        return EXIT_BAD_INPUT
    choice = Choice(places=frozenset({place}))
    book, standings = asyncio.run(_read(Installation(settings), choice, 1, SystemClock().now_ms()))
    if not book.count:
        say(f"estop dead-letters show: no dead letter is at {place}, nor about it; 'estop dead-letters list' has them")
        return EXIT_BAD_INPUT
    (letter,) = book.letters()
    opened = open_letter(letter, build_registry(settings.registry_url), settings.services)
    finding, standing = explain(opened), standings[letter.letter_id]
    if options.json:
        show_json({**_document(letter, standing), **_opened_document(opened, finding)})
    else:
        for line in _described(opened, finding, standing):
            print(line)
    return EXIT_OK


def _document(letter: Letter, standing: Standing) -> dict[str, Any]:
    redriven = standing.redriven
    return {
        "letter": str(letter.place), "letter_id": letter.letter_id, "at": letter.at_ms, "source": str(letter.source),
        "source_timestamp": letter.source_timestamp_ms, "reason": letter.label, "message": letter.message,
        "state": standing.state, "redriven_by": redriven.by if redriven else None,
        "redriven_at": redriven.at_ms if redriven else None, "redriven_before": redrive_count(letter.headers),
    }  # fmt: skip


def _opened_document(opened: Opened, finding: Finding) -> dict[str, Any]:
    letter, parts = opened.letter, opened.dissection.parts if opened.dissection else ()
    return {
        "where": finding.where, "byte": finding.at, "found": finding.found, "expected": finding.expected,
        "next_steps": list(finding.next_steps), "schema_id": opened.schema_id, "writer": opened.writer_record or None,
        "fields": {part.path: _as_json(part.value) for part in parts}, "key": letter.key, "value": letter.value,
        "headers": [[name, value] for name, value in letter.headers],
    }  # fmt: skip


def _as_json(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _described(opened: Opened, finding: Finding, standing: Standing) -> Iterator[str]:
    letter = opened.letter
    yield f"{letter.place}  {moment(letter.at_ms)}  {standing.state}{_by(standing)}"
    yield f"record    {letter.source}"
    yield from textwrap.wrap(f"reason    {letter.label}: {letter.message}", 118, subsequent_indent=" " * 10)
    yield f"where     {finding.where}" + ("" if finding.at is None else f", byte {finding.at} of the value")
    yield f"found     {finding.found}"
    yield f"expected  {finding.expected}"
    schema = "unknown" if opened.writer is None else f"{opened.writer_record}, id {opened.schema_id}"
    yield f"schema    {schema}" + (f" ({opened.closed})" if opened.closed else "")
    for part in opened.dissection.parts if opened.dissection else ():
        at = opened.header_bytes + part.start
        yield f"  {at:>5}  {part.path}: {part.kind} = {_cut(repr(part.value))}"
    yield f"key       {_bytes_text(letter.key)}"
    yield f"value     {'none' if letter.value is None else f'{len(letter.value)} bytes'}"
    yield from _hex_lines(letter.value or b"", finding.at)
    for name, value in letter.headers:
        yield f"header    {name}: {_bytes_text(value)}"
    for number, step in enumerate(finding.next_steps):
        yield ("next      " if number == 0 else "          ") + step


def _by(standing: Standing) -> str:
    redriven = standing.redriven
    return f" at {moment(redriven.at_ms)} by {redriven.by}" if redriven else ""


def _bytes_text(data: bytes | None) -> str:
    if data is None:
        return "none"
    return f"{_cut(repr(data.decode(errors='backslashreplace')))} ({len(data)} bytes)"


def _cut(text: str) -> str:
    return text if len(text) <= 100 else text[:100] + "…"  # noqa: PLR2004  # a line of a terminal


def _hex_lines(data: bytes, marked: int | None) -> Iterator[str]:
    """Offset, hexadecimal digits and text; the line with byte ``marked`` begins with an arrow."""
    for start in range(0, min(len(data), _BYTES_SHOWN_MAX), _BYTES_PER_LINE):
        line = data[start : start + _BYTES_PER_LINE]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in line)  # noqa: PLR2004  # printable ASCII
        arrow = "→" if marked is not None and start <= marked < start + _BYTES_PER_LINE else " "
        yield f"{arrow} {start:>5}  {line.hex(' '):<47}  {text}"
    if len(data) > _BYTES_SHOWN_MAX:
        yield f"         {len(data) - _BYTES_SHOWN_MAX} more bytes (--json has all)"
