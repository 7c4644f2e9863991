"""Triggers → plan: triggers of one shape become one group, and every topic gets the series that groups read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from emergency_stop.detect.conditions import watched
from emergency_stop.detect.plan import Canary, Group, Member, Plan, Shape, TopicPlan
from emergency_stop.detect.series import Series
from emergency_stop.domain.default_triggers import BUILTIN_KINDS
from emergency_stop.domain.triggers import CRON, PERCENT_ALL, Trigger

StableVersion = Callable[[Trigger], Trigger | None]
Watched = tuple[Shape, Member]


@dataclass(slots=True)
class _Draft:
    """A group while it is put together."""

    name: str
    shape: Shape
    members: list[Member] = field(default_factory=list)
    base: int = -1
    by_account: dict[bytes, int] = field(default_factory=dict)
    canary: Canary | None = None

    def add(self, member: Member) -> None:
        self.by_account[(member.trigger.account_id or "").encode()] = len(self.members)
        self.members.append(member)

    def group(self) -> Group:
        return Group(self.name, self.shape, tuple(self.members), self.base, self.by_account, self.canary)


class Compiler:
    """Compiles all triggers anew at every change, and remembers what each one watches: a change of one among a hundred
    thousand costs what a look at each costs. ``stable_version`` reads the version that a canary's other accounts keep.
    """

    def __init__(self, stable_version: StableVersion = lambda _trigger: None) -> None:
        self._stable_version = stable_version
        self._known: dict[str, tuple[Trigger, Watched | None]] = {}

    def compile(self, triggers: Iterable[Trigger]) -> Plan:
        """Active triggers → plan. Order is by trigger id, so equal triggers make equal plans."""
        active = sorted((t for t in triggers if t.is_active and not t.removed), key=lambda trigger: trigger.trigger_id)
        known = {trigger.trigger_id: (trigger, self._watched(trigger)) for trigger in active}
        self._known = known
        found = [one for _, one in known.values() if one is not None]
        across = tuple(_across_group(*one) for one in found if one[1].trigger.across)
        own = [one for one in found if not one[1].trigger.across]
        drafts = self._bases(own)
        _place_accounts(drafts, own)
        groups = tuple(draft.group() for draft in sorted(drafts.values(), key=lambda draft: draft.name))
        schedules = tuple(trigger for trigger in active if CRON in trigger.options)
        return Plan(_topics(groups, across), groups, across, schedules)

    def _watched(self, trigger: Trigger) -> Watched | None:
        before = self._known.get(trigger.trigger_id)
        if before is not None and before[0] is trigger:
            return before[1]
        return _watched(trigger)

    def _bases(self, own: Sequence[Watched]) -> dict[str, _Draft]:
        """A group for each trigger that watches every account; two where a canary leaves some to a stable version."""
        drafts: dict[str, _Draft] = {}
        for shape, member in own:
            trigger = member.trigger
            if trigger.account_id is not None:
                continue
            name = f"trigger:{trigger.trigger_id}"
            canary = Canary(trigger.trigger_id, trigger.canary_percent, inside=True)
            draft = _Draft(name, shape, [member], 0, {}, None if canary.percent == PERCENT_ALL else canary)
            drafts[name] = draft
            stable = None if draft.canary is None else self._stable_version(trigger)
            rest = None if stable is None or not stable.is_active else _watched(stable)
            if rest is not None:
                name = f"stable:{trigger.trigger_id}"
                drafts[name] = _Draft(name, rest[0], [rest[1]], 0, {}, replace(canary, inside=False))
        return drafts


def compile_plan(triggers: Iterable[Trigger]) -> Plan:
    """Active triggers → plan, once."""
    return Compiler().compile(triggers)


def _watched(trigger: Trigger) -> Watched | None:
    found = watched(trigger)
    return None if found is None else (found[0], Member(trigger, found[1]))


def _place_accounts(drafts: dict[str, _Draft], own: Sequence[Watched]) -> None:
    """Triggers of one account: beside those of the same shape, as many groups deep as an account has of them."""
    for shape, member in own:
        trigger = member.trigger
        if trigger.account_id is None:
            continue
        account = trigger.account_id.encode()
        replaced = [drafts.get(f"{kind}:{trigger.overrides}") for kind in ("trigger", "stable")]
        bases = [draft for draft in replaced if draft is not None and _may_replace(draft, trigger)]
        for draft in bases:
            draft.by_account.setdefault(account, -1)
        home = next((draft for draft in bases if draft.shape == shape and draft.by_account[account] == -1), None)
        depth = 0
        while home is None:
            name = f"accounts:{shape.name}#{depth}"
            draft = drafts.setdefault(name, _Draft(name, shape))
            home, depth = (None if account in draft.by_account else draft), depth + 1
        home.add(member)


def _may_replace(draft: _Draft, trigger: Trigger) -> bool:
    """An override of another type, or of what is built in, replaces nothing: in doubt, both watch."""
    base = draft.members[0].trigger
    return base.trigger_type is trigger.trigger_type and base.trigger_id not in BUILTIN_KINDS


def _across_group(shape: Shape, member: Member) -> Group:
    series = tuple(replace(one, across=True) for one in shape.series)
    return Group(f"across:{member.trigger.trigger_id}", replace(shape, series=series), (member,), 0)


def _topics(groups: Sequence[Group], across: Sequence[Group]) -> dict[str, TopicPlan]:
    names = dict.fromkeys(topic for group in (*groups, *across) for topic in group.shape.topics)
    return {name: _topic_plan(name, groups, across) for name in names}


def _topic_plan(topic: str, groups: Sequence[Group], across: Sequence[Group]) -> TopicPlan:
    mine = tuple(group for group in groups if topic in group.shape.topics)
    series = _series_of(topic, mine)
    over_all = _series_of(topic, across)
    read = frozenset(one for group in mine if group.shape.rule is not None for one in group.shape.series)
    columns = dict.fromkeys(column for one in (*series, *over_all) for column in one.columns)
    return TopicPlan(topic, tuple(columns), series, read, over_all, mine)


def _series_of(topic: str, groups: Sequence[Group]) -> tuple[Series, ...]:
    return tuple(dict.fromkeys(one for group in groups for one in group.shape.series if one.topic == topic))
