"""What people know of incidents, and how right hits are by it: marks of hits on record, or a file."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from emergency_stop.apps.backtest.reading import Reader, messages
from emergency_stop.apps.sink.tables import TABLES
from emergency_stop.config import did_you_mean
from emergency_stop.domain.messages import Hit
from emergency_stop.domain.triggers import Trigger
from emergency_stop.domain.values import Scope

RIGHT, WRONG = "true_positive", "false_positive"
_COLUMNS: Final = ("account", "from", "to", "outcome")
_PROBLEMS_MAX: Final = 20


class OutcomesError(ValueError):
    """A file of outcomes is wrong; the text has a line per problem."""


@dataclass(frozen=True, slots=True)
class Known:
    """A hit on ``scope`` from ``from_ms`` to ``until_ms`` (included) is right, or wrong; of ``trigger_id``, or any."""

    scope: str
    from_ms: int
    until_ms: int
    right: bool
    trigger_id: str | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """``found`` of ``real`` incidents had a hit."""

    right: int
    wrong: int
    unknown: int
    found: int
    real: int

    @property
    def precision_percent(self) -> float | None:
        judged = self.right + self.wrong
        return 100 * self.right / judged if judged else None

    @property
    def found_percent(self) -> float | None:
        return 100 * self.found / self.real if self.real else None


class Judge:
    """Hits judged by what is known. A trigger's variants are judged as the trigger itself."""

    def __init__(self, known: Iterable[Known]) -> None:
        self._by_scope: dict[str, list[Known]] = defaultdict(list)
        for one in known:
            self._by_scope[one.scope].append(one)

    def score(self, hits: Iterable[Hit], trigger_id: str) -> Score:
        """How right ``hits`` are, which all are of ``trigger_id`` or of a variant of it."""
        counts, found = {True: 0, False: 0, None: 0}, set()
        for hit in hits:
            touched = self._touched(hit, trigger_id)
            # Where several are known, the one that began last: it is about this hit, the others about former ones.
            judged = max(touched, key=lambda one: one.from_ms, default=None)
            counts[None if judged is None else judged.right] += 1
            found |= {one for one in touched if one.right}
        real = [one for many in self._by_scope.values() for one in many if one.right and _concerns(one, trigger_id)]
        return Score(counts[True], counts[False], counts[None], len(found), len(real))

    def _touched(self, hit: Hit, trigger_id: str) -> list[Known]:
        known = self._by_scope.get(hit.scope, ())
        return [one for one in known if one.from_ms <= hit.occurred_at <= one.until_ms and _concerns(one, trigger_id)]


def _concerns(known: Known, trigger_id: str) -> bool:
    return known.trigger_id is None or known.trigger_id == trigger_id


def marked(reader: Reader, triggers: Mapping[str, Trigger], since_ms: int, until_ms: int) -> list[Known]:
    """What marks of hits tell (``estop hits mark``): of the hit's window before it and its cooldown behind it.

    Blocking.
    """
    marks = dict(reader.select("SELECT hit_id, mark FROM hit_marks")["data"])
    rest = (
        "WHERE hit_id IN (SELECT hit_id FROM hit_marks)"
        " ORDER BY hit_id, _timestamp, _partition, _offset LIMIT 1 BY hit_id"
    )
    found = []
    for _, hit in messages(reader, Hit, TABLES["Hit"], rest):
        if not since_ms <= hit.occurred_at <= until_ms:
            continue
        trigger = triggers.get(hit.trigger_id)
        behind_ms = max(hit.window_ms, trigger.cooldown_period if trigger else 0)
        first, last = hit.occurred_at - hit.window_ms, hit.occurred_at + behind_ms
        found.append(Known(hit.scope, first, last, marks[hit.hit_id] == RIGHT, hit.trigger_id))
    return found


def read_outcomes(lines: Iterable[str]) -> list[Known]:
    """CSV with a header: account, from, to, outcome; see docs/triggers.md. Raises ``OutcomesError``."""
    rows = csv.reader(lines)
    header = [name.strip() for name in next(rows, [])]
    problems = [
        f"line 1: column {name!r} is missing; the header must be {','.join(_COLUMNS)}"
        for name in _COLUMNS
        if name not in header
    ]
    problems += [
        f"line 1: {name!r} is no column{did_you_mean(name, _COLUMNS)}" for name in header if name not in _COLUMNS
    ]
    found = []
    for row in rows if not problems else ():
        if not row:
            continue
        try:
            found.append(_known(header, row))
        except ValueError as error:
            problems.append(f"line {rows.line_num}: {error}")
    if problems:
        more = [f"and {len(problems) - _PROBLEMS_MAX} more"] if len(problems) > _PROBLEMS_MAX else []
        raise OutcomesError("\n".join([*problems[:_PROBLEMS_MAX], *more]))
    return found


def _known(header: Sequence[str], row: Sequence[str]) -> Known:
    if len(row) != len(header):
        raise ValueError(f"has {len(row)} values for {len(header)} columns")
    values = {name: value.strip() for name, value in zip(header, row, strict=True)}
    outcome = values["outcome"]
    if outcome not in (RIGHT, WRONG):
        raise ValueError(f"outcome={outcome!r}: must be {RIGHT} or {WRONG}{did_you_mean(outcome, (RIGHT, WRONG))}")
    first, last = (_moment_ms(name, values[name]) for name in ("from", "to"))
    if last < first:
        raise ValueError(f"to={values['to']}: lies before from={values['from']}")
    named = values["account"]
    scope = Scope.parse(named if ":" in named or named == "global" else f"account:{named}")
    return Known(str(scope), first, last, outcome == RIGHT)


def _moment_ms(name: str, text: str) -> int:
    """Milliseconds since the epoch, or ISO 8601, in UTC where no zone is said."""
    if text.isdigit():
        return int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{name}={text!r}: is no time; write 2026-12-01T22:00:00Z, or milliseconds since the epoch"
        ) from None
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
