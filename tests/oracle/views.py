"""The analysts' views once more, from docs/analytics.md, in plain Python over the tables' rows.

Each function takes what it needs as rows, and the moment from which on things count (``since_ms``), and gives the rows
that the view has to give, as dictionaries. Times are integer milliseconds.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

HOUR_MS: Final = 3_600_000
#: Trigger type → the name of its threshold, and whether low values are the bad ones.
SCORED: Final = {
    "account_suspension_risk": ("riskScore", False),
    "health_score_critical": ("healthScore", True),
    "behavioral_anomaly_severe": ("anomalyScore", False),
}


@dataclass(frozen=True)
class Stop:
    """The last record of an emergency that says how its stop ended."""

    emergency_id: str
    occurred_at: int
    level: str
    state: str
    time_to_stop_ms: int | None
    deadline_at: int
    #: (service, state, at)
    instances: tuple[tuple[str, str, int], ...]


def quantile(values: Iterable[int], level: float) -> int | None:
    """The value at position ``floor(level * n)``, from 0; ``None`` of nothing."""
    found = sorted(values)
    return found[int(level * len(found))] if found else None


def by_level(stops: Sequence[Stop], since_ms: int) -> list[dict[str, Any]]:
    groups = _grouped([stop for stop in stops if stop.occurred_at >= since_ms], lambda stop: stop.level)
    return [
        {
            "level": level, "stops": len(group), "proven": sum(stop.state == "stopped" for stop in group),
            "partial": sum(stop.state == "partial" for stop in group), **_times(_proven_ms(group)),
        }
        for level, group in sorted(groups.items())
    ]  # fmt: skip


def _proven_ms(group: Iterable[Stop]) -> list[int]:
    return [stop.time_to_stop_ms for stop in group if stop.state == "stopped" and stop.time_to_stop_ms is not None]


def _times(took_ms: Sequence[int]) -> dict[str, int | None]:
    return {"p50_ms": quantile(took_ms, 0.5), "p99_ms": quantile(took_ms, 0.99), "max_ms": max(took_ms, default=None)}


def _service_stops(stops: Iterable[Stop], since_ms: int) -> list[tuple[str, str, int, bool, bool]]:
    """(service, level, ms to its last word, every instance stopped, and by the deadline)."""
    found = []
    for stop in stops:
        if stop.occurred_at < since_ms:
            continue
        for service, group in _grouped(stop.instances, lambda instance: instance[0]).items():
            last = max(at for _, _, at in group)
            proven = all(state == "stopped" for _, state, _ in group)
            coordinated = proven and last <= stop.deadline_at
            found.append((service, stop.level, last - stop.occurred_at, proven, coordinated))
    return found


def by_service(stops: Sequence[Stop], since_ms: int) -> list[dict[str, Any]]:
    groups = _grouped(_service_stops(stops, since_ms), lambda one: one[:2])
    return [
        {
            "service": service, "level": level, "stops": len(group), "proven_stops": sum(one[3] for one in group),
            **_times([one[2] for one in group if one[3]]),
        }
        for (service, level), group in sorted(groups.items())
    ]  # fmt: skip


def reliability(stops: Sequence[Stop], since_ms: int) -> list[dict[str, Any]]:
    rows = []
    for service, group in _grouped(_service_stops(stops, since_ms), lambda one: one[0]).items():
        proven, in_time = sum(one[3] for one in group), sum(one[4] for one in group)
        rows.append(
            {
                "service": service,
                "stops": len(group),
                "in_time": in_time,
                "late": proven - in_time,
                "not_proven": len(group) - proven,
                "coordinated_percent": 100 * in_time / len(group),
            }
        )
    return sorted(rows, key=lambda row: (row["coordinated_percent"], row["service"]))


def outcomes(
    hits: Iterable[tuple[str, str, int, int]], marks: Iterable[tuple[str, str, int]], since_ms: int
) -> list[dict[str, Any]]:
    """``hits``: (id, trigger, occurred at, suppressed before it); ``marks``: (hit id, mark, at) in order of time."""
    newest = {hit_id: mark for hit_id, mark, _ in marks}
    once = {hit_id: (trigger, suppressed) for hit_id, trigger, at, suppressed in hits if at >= since_ms}
    rows = []
    for trigger, group in _grouped(once.items(), lambda item: item[1][0]).items():
        right = sum(newest.get(hit_id) == "true_positive" for hit_id, _ in group)
        wrong = sum(newest.get(hit_id) == "false_positive" for hit_id, _ in group)
        rows.append(
            {
                "trigger_id": trigger,
                "hits": len(group),
                "suppressed": sum(hit[1] for _, hit in group),
                "true_positives": right,
                "false_positives": wrong,
                "unmarked": len(group) - right - wrong,
                "precision_percent": 100 * right / (right + wrong) if right + wrong else None,
            }
        )
    return sorted(rows, key=lambda row: (-row["hits"], row["trigger_id"]))


def near_misses(
    triggers: Sequence[Mapping[str, Any]],
    samples: Mapping[str, Iterable[tuple[str, int, float]]],
    hits: Iterable[tuple[str, str, int]],
    since_ms: int,
) -> dict[tuple[str, str, int], tuple[float, int]]:
    """(trigger, account, hour) → (the nearest value, samples that came near).

    ``samples`` by trigger type: (account, at, value); ``hits``: (trigger, account, at). ``triggers`` are in force and
    of one kind of ``SCORED`` each.
    """
    quiet_ms = {one["trigger_id"]: one["time_window"] + one["cooldown_period"] for one in triggers}
    fired = {
        (trigger, account, hour)
        for trigger, account, at in hits
        if trigger in quiet_ms
        for hour in range(at // HOUR_MS, (at + quiet_ms[trigger]) // HOUR_MS + 1)
    }
    near: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for trigger in triggers:
        name, low = SCORED[trigger["trigger_type"]]
        limit, only = trigger["thresholds"][name], trigger["account_id"]
        for account, at, value in samples[trigger["trigger_type"]]:
            approaches = value <= limit / 0.9 if low else value >= 0.9 * limit
            key = (trigger["trigger_id"], account, at // HOUR_MS)
            if at >= since_ms and approaches and only in {None, account} and key not in fired:
                near[key].append(-value if low else value)
    return {key: (abs(max(values)), len(values)) for key, values in near.items()}


#: (id, trigger, scope, outcome, evaluations, approach or none, observed, threshold, at)
Evaluated = tuple[str, str, str, str, int, float | None, float | None, float | None, int]


def evaluated_once(
    rows: Iterable[Evaluated], hits: Iterable[tuple[str, str, str, int]], since_ms: int
) -> list[Evaluated]:
    """Of each id the row that stands for most, and the hits; ``hits``: (id, trigger, scope, at)."""
    once: dict[str, Evaluated] = {}
    for row in rows:
        if row[8] >= since_ms and (row[0] not in once or row[4] > once[row[0]][4]):
            once[row[0]] = row
    fired = {hit_id: (hit_id, trigger, scope, "hit", 1, None, None, None, at) for hit_id, trigger, scope, at in hits}
    return [*once.values(), *(row for row in fired.values() if row[8] >= since_ms)]


def trigger_evaluations(found: Iterable[Evaluated]) -> list[dict[str, Any]]:
    rows = []
    for trigger, group in sorted(_grouped(found, lambda row: row[1]).items()):
        count = {name: sum(row[3] == name for row in group) for name in ("suppressed", "became_true", "cleared")}
        rows.append(
            {
                "trigger_id": trigger,
                "evaluations": sum(row[4] for row in group if row[3] in {"unchanged", "others"}),
                "hits": sum(row[3] == "hit" for row in group),
                **count,
                "nearest_percent": max((row[5] for row in group if row[5] is not None), default=None),
            }
        )
    return rows


def approaches(
    found: Iterable[Evaluated], hits: Iterable[tuple[str, str, str, int]], trigger: str
) -> list[dict[str, Any]]:
    """Of each scope the nearest evaluation of ``trigger``, the earliest of equally near ones, nearest scopes first."""
    rows = []
    for (name, scope), group in _without_hits(found, hits).items():
        if name == trigger:
            nearest = min(group, key=lambda row: (-row[5], row[8]))
            rows.append(
                {
                    "scope": scope,
                    "threshold": nearest[7],
                    "nearest": nearest[6],
                    "approach_percent": nearest[5],
                    "nearest_at": nearest[8],
                    "hours": len({row[8] // HOUR_MS for row in group}),
                    "evaluations": sum(row[4] for row in group),
                    "last_at": max(row[8] for row in group),
                }
            )
    return sorted(rows, key=lambda row: (-row["approach_percent"], -row["last_at"], row["scope"]))


def approaches_by_trigger(
    found: Iterable[Evaluated], hits: Iterable[tuple[str, str, str, int]]
) -> list[dict[str, Any]]:
    """Scopes, and their evaluations, by the five points of the way in which their nearest evaluation is."""
    bands: dict[tuple[str, int], list[list[Any]]] = defaultdict(list)
    for (trigger, _), group in _without_hits(found, hits).items():
        bands[trigger, int(max(row[5] for row in group)) // 5 * 5].append(group)
    return [
        {
            "trigger_id": trigger,
            "from_percent": percent,
            "scopes": len(groups),
            "evaluations": sum(row[4] for group in groups for row in group),
        }
        for (trigger, percent), groups in sorted(bands.items(), key=lambda band: (band[0][0], -band[0][1]))
    ]


def _without_hits(
    found: Iterable[Evaluated], hits: Iterable[tuple[str, str, str, int]]
) -> dict[tuple[str, str], list[Any]]:
    """(trigger, scope) → what changed nothing, but of hours in which the trigger hit the scope."""
    fired = {(trigger, scope, at // HOUR_MS) for _, trigger, scope, at in hits}
    quiet = (row for row in found if row[3] == "unchanged" and (row[1], row[2], row[8] // HOUR_MS) not in fired)
    return _grouped(quiet, lambda row: (row[1], row[2]))


def recovery_success(
    recoveries: Iterable[tuple[str, str, str, int, int | None]], since_ms: int
) -> list[dict[str, Any]]:
    """``recoveries``: (id, procedure, outcome, started at, ended at), in the order in which they were written."""
    newest = {one[0]: one for one in recoveries if one[3] >= since_ms}
    rows = []
    for procedure, group in sorted(_grouped(newest.values(), lambda one: one[1]).items()):
        count = {name: sum(one[2] == name for one in group) for name in _OUTCOMES}
        ended = count["completed"] + count["rolled_back"]
        took = [one[4] - one[3] for one in group if one[2] == "completed" and one[4] is not None]
        share = 100 * count["completed"] / ended if ended else None
        rows.append(
            {
                "procedure": procedure,
                "recoveries": len(group),
                **count,
                "success_percent": share,
                "p50_ms": quantile(took, 0.5),
            }
        )
    return rows


_OUTCOMES: Final = ("completed", "rolled_back", "abandoned", "under_way")


def absences(signs: Iterable[int], allowed_ms: int, now_ms: int) -> tuple[int, int, int]:
    """(ms, how often, the longest) that a sign of life was overdue by, until ``now_ms``."""
    ordered = [*sorted(signs), now_ms]
    over = [after - before - allowed_ms for before, after in itertools.pairwise(ordered)]
    over = [ms for ms in over if ms > 0]
    return sum(over), len(over), max(over, default=0)


def _grouped(items: Iterable[Any], key: Any) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return dict(groups)
