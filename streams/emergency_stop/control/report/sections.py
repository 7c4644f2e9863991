"""What a report consists of: per section a view, how its columns read, and what is drawn of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

Row = Mapping[str, Any]
#: Runs one reading statement; the answer in ClickHouse's JSONCompact.
Select = Callable[[str], dict[str, Any]]
NO_VALUE: Final = "-"
_ROWS_MAX: Final = 20


class Unit(StrEnum):
    TEXT = "text"
    COUNT = "count"
    MS = "ms"
    PERCENT = "percent"
    NUMBER = "number"

    @property
    def is_number(self) -> bool:
        return self is not Unit.TEXT


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    heading: str
    unit: Unit = Unit.COUNT


@dataclass(frozen=True, slots=True)
class Plot:
    """Bars, one per row, or a line per value over rows that are in order of time."""

    label: str
    values: tuple[str, ...]
    unit: Unit
    over_time: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """``call``: the view with its parameters, to be formatted with those of ``Period``."""

    key: str
    title: str
    meaning: str
    call: str
    columns: tuple[Column, ...]
    plot: Plot | None = None


@dataclass(frozen=True, slots=True)
class Period:
    """How far back, and after how long a detector or a service counts as away."""

    days: int
    blind_after_ms: int
    lost_after_ms: int

    def parameters(self) -> dict[str, int]:
        return {"days": self.days, "blind_after_ms": self.blind_after_ms, "lost_after_ms": self.lost_after_ms}


@dataclass(frozen=True, slots=True)
class Answer:
    """``rows`` are at most ``_ROWS_MAX`` where not over time; ``found`` counts all."""

    section: Section
    rows: Sequence[Row]
    found: int
    rows_read: int
    bytes_read: int
    elapsed_ms: float = field(compare=False)


def ask(select: Select, section: Section, period: Period) -> Answer:
    """One section's rows; blocking. Raises whatever ``select`` raises."""
    call = section.call.format(**period.parameters())
    # The call is a constant of this module, its parameters are integers.
    answer = select(f"SELECT * FROM {call}")  # noqa: S608
    names = [column["name"] for column in answer["meta"]]
    rows = [dict(zip(names, row, strict=True)) for row in answer["data"]]
    told = answer["statistics"]
    over_time = section.plot is not None and section.plot.over_time
    return Answer(
        section,
        rows if over_time else rows[:_ROWS_MAX],
        len(rows),
        int(told["rows_read"]),
        int(told["bytes_read"]),
        1000 * float(told["elapsed"]),
    )


def shown(value: Any, unit: Unit) -> str:
    """A value as people read it."""
    if value is None:
        return NO_VALUE
    match unit:
        case Unit.TEXT:
            return str(value) or NO_VALUE
        case Unit.COUNT:
            return f"{int(value):,}"
        case Unit.MS:
            return _duration(float(value))
        case Unit.PERCENT:
            return f"{_floor(float(value)):.2f} %"
        case Unit.NUMBER:
            return f"{float(value):g}"


def _floor(percent: float) -> float:
    """What is not whole must not be rounded up to 100."""
    return min(percent, 99.99) if percent < 100 else percent  # noqa: PLR2004  # per cent


def _duration(ms: float) -> str:
    if ms < 10_000:  # noqa: PLR2004  (below it, milliseconds matter)
        return f"{ms:,.0f} ms"
    for unit, size_ms in (("s", 1_000), ("min", 60_000), ("h", 3_600_000)):
        if ms < size_ms * 120:
            return f"{ms / size_ms:.1f} {unit}"
    return f"{ms / 86_400_000:.1f} d"


_P50, _P99 = Column("p50_ms", "p50", Unit.MS), Column("p99_ms", "p99", Unit.MS)
_MAX = Column("max_ms", "maximum", Unit.MS)
SECTIONS: Final = (
    Section(
        "time-to-stop-by-day", "Time to stop by day",
        "From the moment of the event that caused a stop to the last service's proof that nothing runs.",
        "time_to_stop_by_day(days = {days})",
        (Column("day", "day", Unit.TEXT), Column("stops", "stops"), Column("proven", "proven"), _P50, _P99),
        Plot("day", ("p50_ms", "p99_ms"), Unit.MS, over_time=True),
    ),
    Section(
        "time-to-stop-by-level", "Time to stop by level",
        "By the level that was asked for. A partial stop is one that not every instance has proven.",
        "time_to_stop_by_level(days = {days})",
        (
            Column("level", "level", Unit.TEXT), Column("stops", "stops"), Column("proven", "proven"),
            Column("partial", "partial"), _P50, _P99, _MAX,
        ),
        Plot("level", ("p99_ms",), Unit.MS),
    ),
    Section(
        "time-to-stop-by-service", "Time to stop by service",
        "To the last instance's proof, by service and level.",
        "time_to_stop_by_service(days = {days})",
        (
            Column("service", "service", Unit.TEXT), Column("level", "level", Unit.TEXT), Column("stops", "stops"),
            Column("proven_stops", "proven"), _P50, _P99, _MAX,
        ),
    ),
    Section(
        "service-reliability", "Coordination of services",
        "In how many of its stops every instance of a service proved within the deadline that nothing runs.",
        "service_reliability(days = {days})",
        (
            Column("service", "service", Unit.TEXT), Column("stops", "stops"), Column("in_time", "in time"),
            Column("late", "late"), Column("not_proven", "not proven"),
            Column("coordinated_percent", "coordinated", Unit.PERCENT),
        ),
        Plot("service", ("coordinated_percent",), Unit.PERCENT),
    ),
    Section(
        "hit-outcomes", "Hits, and whether they were right",
        "By people's marks (estop hits mark). Suppressed hits were held back by a cooldown.",
        "hit_outcomes(days = {days})",
        (
            Column("trigger_id", "trigger", Unit.TEXT), Column("hits", "hits"), Column("suppressed", "suppressed"),
            Column("true_positives", "right"), Column("false_positives", "wrong"), Column("unmarked", "unmarked"),
            Column("precision_percent", "precision", Unit.PERCENT),
        ),
        Plot("trigger_id", ("hits",), Unit.COUNT),
    ),
    Section(
        "near-misses", "Near misses",
        "Hours in which an account's score came within a tenth of a trigger's threshold, or beyond, without a hit.",
        "near_misses(days = {days})",
        (
            Column("account_id", "account", Unit.TEXT), Column("trigger_id", "trigger", Unit.TEXT),
            Column("hour", "hour (UTC)", Unit.TEXT), Column("nearest", "nearest", Unit.NUMBER),
            Column("threshold", "threshold", Unit.NUMBER), Column("approach_percent", "approach", Unit.NUMBER),
            Column("samples", "samples"),
        ),
    ),
    Section(
        "recovery-success", "Recoveries",
        "Of those that ended by themselves, how many completed; abandoned ones were overtaken by a stop or a person.",
        "recovery_success(days = {days})",
        (
            Column("procedure", "procedure", Unit.TEXT), Column("recoveries", "recoveries"),
            Column("completed", "completed"), Column("rolled_back", "rolled back"), Column("abandoned", "abandoned"),
            Column("under_way", "under way"), Column("success_percent", "success", Unit.PERCENT), _P50,
        ),
        Plot("procedure", ("success_percent",), Unit.PERCENT),
    ),
    Section(
        "detector-availability", "Detection by partition",
        "How long nobody had evaluated what a partition held, beyond the time that is allowed.",
        "detector_availability(days = {days}, blind_after_ms = {blind_after_ms})",
        (
            Column("partition", "partition", Unit.TEXT), Column("observed_ms", "observed", Unit.MS),
            Column("blind_ms", "blind", Unit.MS), Column("blind_times", "times"),
            Column("longest_blind_ms", "longest", Unit.MS), Column("available_percent", "available", Unit.PERCENT),
        ),
        Plot("partition", ("available_percent",), Unit.PERCENT),
    ),
    Section(
        "service-availability", "Availability of services",
        "How long no instance of a service was up, healthy and in possession of a lease, beyond the time allowed.",
        "service_availability(days = {days}, lost_after_ms = {lost_after_ms})",
        (
            Column("service", "service", Unit.TEXT), Column("instances", "instances"),
            Column("observed_ms", "observed", Unit.MS), Column("down_ms", "down", Unit.MS),
            Column("down_times", "times"), Column("longest_down_ms", "longest", Unit.MS),
            Column("available_percent", "available", Unit.PERCENT),
        ),
        Plot("service", ("available_percent",), Unit.PERCENT),
    ),
)  # fmt: skip
