"""What a redrive does about one letter: it sends, or refuses and says why. Pure but for the registry's answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from emergency_stop.apps.dead_letters.barred import barred
from emergency_stop.apps.dead_letters.book import LetterBook, frame_head
from emergency_stop.apps.dead_letters.examine import Examiner
from emergency_stop.apps.dead_letters.fix import Candidate, Fix, UnfixableError, mended
from emergency_stop.apps.dead_letters.journal import Standing
from emergency_stop.apps.dead_letters.letter import Letter
from emergency_stop.domain.reasons import Reject
from emergency_stop.wire.registry import Registry
from emergency_stop.wire.registry_http import UNKNOWN_FOR_MS

#: Of a sink that flushes, and of clocks that differ, beyond the time for which an unknown id stays unknown.
_SLACK_MS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Refused:
    """``kind`` is a word for programs, ``why`` a sentence for people."""

    kind: str
    why: str


def plan(
    letter: Letter, standing: Standing, fix: Fix, now_ms: int, examiner: Examiner, registry: Registry
) -> Candidate | Refused:
    """The record to send for ``letter``, or why none is sent. Raises ``RegistryError`` where nobody can tell."""
    refused = refused_by(standing) or _refused_for_ever(letter)
    if refused is not None:
        return refused
    try:
        candidate = mended(letter, fix, registry)
    except UnfixableError as error:
        return Refused("unfixable", str(error))
    verdict = examiner.accepted(letter.source.topic, candidate, now_ms)
    if isinstance(verdict, Candidate):
        return verdict
    reason, detail = verdict
    more = f" ({detail})" if detail else ""
    return Refused(reason.label, f"it would be refused again: {reason.explanation}{more}{_when(reason)}")


def refused_by(standing: Standing) -> Refused | None:
    """What is on record forbids it."""
    if standing.redriven is not None:
        return Refused("already_redriven", f"{standing.redriven.by} has redriven it; it is not sent twice")
    if standing.busy is not None:
        return Refused("in_progress", f"{standing.busy.by} is redriving it; look again in a minute")
    return None


def _refused_for_ever(letter: Letter) -> Refused | None:
    why = barred(letter)
    return Refused("barred", why) if why else None


def _when(reason: Reject) -> str:
    return "; it can be redriven once that time has come" if reason is Reject.FUTURE_TIMESTAMP else ""


def forgotten_at_ms(book: LetterBook, candidates: list[Candidate]) -> int:
    """When no reader can still believe that a schema of ``candidates`` is unknown; 0: none was.

    Every reader asks the registry about an unknown id again only after a while. Sent earlier, a record would be refused
    by those that have not asked yet, although the registry knows its schema.
    """
    heads = (frame_head(one.value) for one in candidates if one.value)
    times = [book.unknown_schema_at_ms[head] for head in heads if head in book.unknown_schema_at_ms]
    return max(times, default=-UNKNOWN_FOR_MS - _SLACK_MS) + UNKNOWN_FOR_MS + _SLACK_MS
