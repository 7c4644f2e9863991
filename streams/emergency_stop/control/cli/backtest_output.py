"""What a backtest tells: tables for people, one document for programs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from emergency_stop.apps.backtest.difference import Difference, hangs_on_order, worst
from emergency_stop.apps.backtest.outcomes import Judge, Score
from emergency_stop.apps.backtest.run import Outcome
from emergency_stop.apps.backtest.span import Span
from emergency_stop.apps.backtest.sweep import Variant
from emergency_stop.control.cli.output import moment, plain, say, show_table
from emergency_stop.domain.messages import Hit
from emergency_stop.domain.triggers import Trigger

_SHOWN_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Told:
    span: Span
    outcome: Outcome
    triggers: Sequence[Trigger]
    variants: Sequence[Variant]
    judge: Judge
    difference: Difference | None


@dataclass(frozen=True, slots=True)
class Row:
    """A trigger, or a variant of one with the values that it has instead."""

    trigger_id: str
    values: dict[str, float]
    hits: int
    scopes: int
    suppressed: int
    score: Score


def rows_of(told: Told) -> list[Row]:
    """One per trigger that is active or fired, or, in a sweep, one per variant."""
    hits: dict[str, list[Hit]] = defaultdict(list)
    for hit in told.outcome.hits:
        hits[hit.trigger_id].append(hit)
    suppressed: Counter[str] = Counter()
    for (trigger_id, _), count in told.outcome.suppressed.items():
        suppressed[trigger_id] += count
    if told.variants:
        asked = [(one.base_id, dict(one.values), one.trigger.trigger_id) for one in told.variants]
    else:
        names = {one.trigger_id for one in told.triggers if one.is_active} | set(hits)
        asked = [(name, {}, name) for name in sorted(names)]
    return [
        Row(
            base_id,
            values,
            len(hits[name]),
            len({hit.scope for hit in hits[name]}),
            suppressed[name] + sum(hit.suppressed_before for hit in hits[name]),
            told.judge.score(hits[name], base_id),
        )
        for base_id, values, name in asked
    ]


def as_document(told: Told, *, with_hits: bool) -> dict[str, Any]:
    """The one JSON document."""
    outcome = told.outcome
    found: dict[str, Any] = {
        "since": moment(told.span.since_ms),
        "until": moment(told.span.until_ms),
        "events": outcome.events,
        "warm_up_events": outcome.warm_up_events,
        "elapsed_s": round(outcome.elapsed_s, 3),
        "events_per_s": round(outcome.events / outcome.elapsed_s) if outcome.elapsed_s else 0,
        "cpu_seconds": round(outcome.cpu_s, 3),
        "hits": sum(row.hits for row in rows_of(told)),
        "made_ticks": outcome.made_ticks,
        "made_parts": outcome.made_parts,
        "triggers": [_row(row) for row in rows_of(told)],
        "accounts": _accounts(told),
    }
    if told.difference is not None:
        one = told.difference
        found["compare"] = {
            "is_equal": one.is_none,
            "equal": one.equal,
            "missing": [plain(hit) for hit in one.missing],
            "extra": [plain(hit) for hit in one.extra],
            "changed": [{"hit_id": each.recorded.hit_id, "fields": each.fields} for each in one.changed],
        }
    if with_hits:
        found["all_hits"] = [plain(hit) for hit in outcome.hits]
    return found


def _row(row: Row) -> dict[str, Any]:
    score = row.score
    return {
        "trigger_id": row.trigger_id, **({"values": row.values} if row.values else {}),
        "hits": row.hits, "scopes": row.scopes, "suppressed": row.suppressed,
        "true_positives": score.right, "false_positives": score.wrong, "unmarked": score.unknown,
        "precision_percent": score.precision_percent, "incidents": score.real, "incidents_found": score.found,
    }  # fmt: skip


def _accounts(told: Told) -> list[dict[str, Any]]:
    """Hits and suppressed ones per trigger and scope."""
    hits: Counter[tuple[str, str]] = Counter()
    suppressed: Counter[tuple[str, str]] = Counter(told.outcome.suppressed)
    for hit in told.outcome.hits:
        hits[hit.trigger_id, hit.scope] += 1
        suppressed[hit.trigger_id, hit.scope] += hit.suppressed_before
    return [
        {"trigger_id": trigger, "scope": scope, "hits": hits[trigger, scope], "suppressed": suppressed[trigger, scope]}
        for trigger, scope in sorted(hits.keys() | suppressed.keys())
    ]


def show(told: Told, *, with_hits: bool) -> None:
    """Tables on standard output; what qualifies them on standard error."""
    rows = rows_of(told)
    names = list(rows[0].values) if rows else []
    header = ("TRIGGER", *names, "HITS", "SCOPES", "SUPPRESSED", "RIGHT", "WRONG", "UNMARKED", "PRECISION", "FOUND")
    cells = [
        (
            row.trigger_id, *(f"{value:g}" for value in row.values.values()), row.hits, row.scopes, row.suppressed,
            row.score.right, row.score.wrong, row.score.unknown, _percent(row.score.precision_percent),
            f"{row.score.found} of {row.score.real}" if row.score.real else None,
        )
        for row in rows
    ]  # fmt: skip
    show_table(header, cells)
    if with_hits:
        print()
        show_table(
            ("OCCURRED", "TRIGGER", "VERSION", "SCOPE", "REASON"),
            [
                (moment(hit.occurred_at), hit.trigger_id, hit.trigger_version, hit.scope, hit.reason)
                for hit in sorted(told.outcome.hits, key=lambda hit: (hit.occurred_at, hit.trigger_id, hit.scope))
            ],
        )
    if told.difference is not None:
        print()
        _show_difference(told.difference)
    _say_how(told)


def _show_difference(found: Difference) -> None:
    print(
        f"{found.equal} hits are those on record; missing {len(found.missing)}, extra {len(found.extra)},"
        f" changed {len(found.changed)}"
    )
    for line in worst(found, _SHOWN_MAX):
        print(f"  {line}")
    differing = [*found.missing, *found.extra]
    uncertain = sum(hangs_on_order(hit) for hit in differing)
    if uncertain:
        print(f"  {uncertain} of {len(differing)} hang on the order between topics, which is not on record")


def _say_how(told: Told) -> None:
    outcome = told.outcome
    speed = outcome.events / outcome.elapsed_s if outcome.elapsed_s else 0
    say(
        f"{outcome.events:,} events in {outcome.elapsed_s:.1f} s ({speed:,.0f} a second);"
        f" {outcome.warm_up_events:,} of them only filled windows"
    )
    if outcome.events == outcome.warm_up_events:
        say("no telemetry is stored of that time; look at --since, and at RETAIN_EVENT_HISTORY")
    if outcome.made_ticks:
        say("no ticks were taken from the record: schedules and silence go by the clock's own multiples")
    if outcome.made_parts:
        say("values over all accounts are put together every second, as no parts are on record for them")


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:.0f} %"
