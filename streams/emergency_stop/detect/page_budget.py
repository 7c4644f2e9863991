"""Whether what a plan keeps fits into records of state: one that is too large for the broker would end every detector.

A page is one record, and holds ``PAGE_SLOTS`` accounts of one topic (see ``pages``). What it may take at the most is
known from the plan alone: every row full, every key as long as keys may be, and nothing compressed. A page is not split
into several records, because a crash between two of them would leave one that is partly of now and partly of before.
Values over all accounts have a record too, with every partition's part of each (see ``overall``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from emergency_stop.detect.accounts import PAGE_SLOTS
from emergency_stop.detect.compile import Compiler, StableVersion
from emergency_stop.detect.conditions import watched
from emergency_stop.detect.judge_kernels import STATE_CELLS, TRUTH_CELLS
from emergency_stop.detect.plan import Plan, Shape, TopicPlan
from emergency_stop.detect.series import PANED, Series
from emergency_stop.detect.unwatched_parts import UNWATCHED_BYTES_MAX
from emergency_stop.detect.window_kernels import WIDE_CELLS
from emergency_stop.detect.windows import cells_of
from emergency_stop.domain.default_triggers import BUILTIN_KINDS
from emergency_stop.domain.topics import PARTIALS
from emergency_stop.domain.triggers import Trigger

#: What brokers and producers take as one record here (``max.message.bytes``, ``max_request_size``).
RECORD_BYTES_MAX: Final = 8 * 1024 * 1024
#: A record before it is compressed: LZ4 makes at worst 1/255 more of it, and it has a key and a frame.
PAGE_BYTES_MAX: Final = (RECORD_BYTES_MAX - 4_096) * 255 // 256
#: So many partitions' parts of a value over all accounts are reckoned with.
PARTS_MAX: Final = 64
_CELL_BYTES: Final = 8
#: Of 248 code points; with its length and hash.
_ACCOUNT_BYTES_MAX: Final = 992 + 4 + 8
_PAGE_BASE: Final = PAGE_SLOTS * _ACCOUNT_BYTES_MAX
#: An array's type and shape in a page's header, besides its name; the prefixes of a group's arrays too.
_LAYOUT_BYTES: Final = 64
#: Members of a group keep state under its name, and what is known to be true; of a silence, what was told besides.
_GROUP_ARRAYS: Final = 3
_GROUP_CELLS: Final = STATE_CELLS + TRUTH_CELLS + 1
#: A cell as JSON, with a comma.
_CELL_TEXT_BYTES: Final = 22
#: Parts of series that nobody watches yet are in the record too, as Base64.
_OVERALL_BASE: Final = 2 * UNWATCHED_BYTES_MAX


class NoRoomError(ValueError):
    """What triggers keep does not fit into a record of state; the text says what would help."""


def series_bytes(series: Series) -> int:
    """What a record keeps of one series, at the most: a page's accounts, or every partition's part."""
    row = (WIDE_CELLS if series.aggregate in PANED else cells_of(series)) * _CELL_BYTES
    if series.across:
        return PARTS_MAX * (-(-row // 3) * 4 + _header_bytes(series.name) + len(series.topic))
    return PAGE_SLOTS * row + _header_bytes(series.name)


def group_bytes(name: str, *, across: bool = False) -> int:
    """What a record keeps of one group of triggers, at the most."""
    rows = _GROUP_CELLS * _CELL_TEXT_BYTES if across else PAGE_SLOTS * _GROUP_CELLS * _CELL_BYTES
    return rows + _GROUP_ARRAYS * _header_bytes(name)


def page_bytes(topic: TopicPlan) -> int:
    """What a page of the topic takes at the most, not compressed."""
    groups = sum(group_bytes(group.name) for group in topic.groups if group.shape.home == topic.topic)
    return _PAGE_BASE + sum(map(series_bytes, topic.series)) + groups


def overall_bytes(plan: Plan) -> int:
    """What the record of values over all accounts takes at the most."""
    series = {one for group in plan.across for one in group.shape.series}
    groups = sum(group_bytes(group.name, across=True) for group in plan.across)
    return _OVERALL_BASE + sum(map(series_bytes, series)) + groups


def page_problem(plan: Plan) -> str:
    """Why the plan cannot be kept, in words; empty where it can."""
    for topic in plan.topics.values():
        if page_bytes(topic) > PAGE_BYTES_MAX:
            kept = f"of {PAGE_SLOTS} accounts"
            return _too_much(topic.topic, topic.series, page_bytes(topic), kept)
    if overall_bytes(plan) > PAGE_BYTES_MAX:
        series = tuple(dict.fromkeys(one for group in plan.across for one in group.shape.series))
        return _too_much("across=accounts", series, overall_bytes(plan), f"of {PARTS_MAX} partitions")
    return ""


def _too_much(where: str, series: Sequence[Series], size: int, kept: str) -> str:
    widest = max(series, key=series_bytes)
    return (
        f"{where}: {len(series)} windows, and the triggers on them, keep up to {size} bytes {kept}; {PAGE_BYTES_MAX}"
        f" are allowed, what a record of state holds. The largest, {series_bytes(widest)} bytes, is {widest.name}:"
        " lower counts (each event that is counted takes 8 bytes), or let triggers share windows and counts"
    )


@dataclass(slots=True)
class PageBudget:
    """What is left of each record while triggers are taken one by one."""

    _series: set[Series] = field(default_factory=set)
    _groups: set[tuple[str, str]] = field(default_factory=set)
    #: By topic; values over all accounts under that of their parts.
    _bytes: dict[str, int] = field(default_factory=lambda: {PARTIALS: _OVERALL_BASE})
    #: How many triggers of a shape an account has: so many groups of theirs there are.
    _deep: dict[tuple[str, str], int] = field(default_factory=dict)

    def take(self, trigger: Trigger, stable_version: StableVersion) -> bool:
        """Whether there is room for ``trigger`` and for what a canary leaves the other accounts; it is taken then.

        Errs on the side of caution: an override may take no group of its own.
        """
        shapes = _shapes_of(trigger, stable_version)
        series = {one for shape in shapes for one in shape.series} - self._series
        groups = self._group_names(trigger, shapes) - self._groups
        more: dict[str, int] = {}
        for one in series:
            where = PARTIALS if one.across else one.topic
            more[where] = more.get(where, 0) + series_bytes(one)
        for where, name in groups:
            more[where] = more.get(where, 0) + group_bytes(name, across=where == PARTIALS)
        after = {where: self._bytes.get(where, _PAGE_BASE) + size for where, size in more.items()}
        if any(size > PAGE_BYTES_MAX for size in after.values()):
            return False
        self._series |= series
        self._groups |= groups
        self._bytes |= after
        if shapes and trigger.account_id is not None:
            deep = (shapes[0].name, trigger.account_id)
            self._deep[deep] = self._deep.get(deep, 0) + 1
        return True

    def _group_names(self, trigger: Trigger, shapes: Sequence[Shape]) -> set[tuple[str, str]]:
        """(where it is kept, name) of the groups that it may need, as ``compile`` names them."""
        if trigger.across:
            return {(PARTIALS, f"across:{trigger.trigger_id}") for _ in shapes}
        if trigger.account_id is None:
            kinds = ("trigger", "stable")
            return {(shape.home, f"{kind}:{trigger.trigger_id}") for kind, shape in zip(kinds, shapes, strict=False)}
        return {
            (shape.home, f"accounts:{shape.name}#{self._deep.get((shape.name, trigger.account_id), 0)}")
            for shape in shapes
        }


def _shapes_of(trigger: Trigger, stable_version: StableVersion) -> list[Shape]:
    """What it watches, and what a canary's stable version does; nothing where no telemetry decides."""
    stable = stable_version(trigger) if trigger.account_id is None and not trigger.across else None
    shapes = [found[0] for one in (trigger, stable) if one is not None and (found := watched(one)) is not None]
    if trigger.across:
        return [replace(one, series=tuple(replace(each, across=True) for each in one.series)) for one in shapes]
    return shapes


def that_fit(triggers: Iterable[Trigger], stable_version: StableVersion) -> list[Trigger]:
    """Those for which there is room, built-in and urgent ones first. What they say alone decides which they are: so
    every detector watches for the same.
    """
    budget = PageBudget()
    ranked = sorted(triggers, key=lambda one: (one.trigger_id not in BUILTIN_KINDS, -one.priority, one.trigger_id))
    return [one for one in ranked if not one.is_active or one.removed or budget.take(one, stable_version)]


def check_fits(triggers: Iterable[Trigger], stable_version: StableVersion) -> None:
    """Raise ``NoRoomError`` where detectors could not keep what all of ``triggers`` need."""
    problem = page_problem(Compiler(stable_version).compile(triggers))
    if problem:
        raise NoRoomError(problem)


def _header_bytes(name: str) -> int:
    return len(json.dumps(name)) + _LAYOUT_BYTES
