"""What is watched, compiled: which series each topic keeps, and which groups of triggers read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from emergency_stop.detect.series import Series
from emergency_stop.domain.triggers import Trigger
from emergency_stop.rules.language import Function, Rule


class Comparison(IntEnum):
    BELOW = 0
    ABOVE = 1
    AT_LEAST = 2


def compares(comparison: Comparison, value: float, threshold: float) -> bool:
    if comparison is Comparison.BELOW:
        return value < threshold
    return value > threshold if comparison is Comparison.ABOVE else value >= threshold


@dataclass(frozen=True, slots=True)
class Shape:
    """A condition without its thresholds. Accounts with thresholds of their own share it.

    Either one or two ``series`` with a comparison each, of which all must hold or with ``any_of`` one; or a
    ``rule``, whose aggregates are ``series`` in its order.
    """

    series: tuple[Series, ...]
    comparisons: tuple[Comparison, ...] = ()
    any_of: bool = False
    rule: Rule | None = None

    @property
    def home(self) -> str:
        """The topic with whose accounts cooldowns are kept; for a rule that asks for absence, whose silence it is."""
        calls = () if self.rule is None else self.rule.aggregates
        return next((call.topic for call in calls if call.function is Function.ABSENT), self.series[0].topic)

    @property
    def topics(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.topic for one in self.series))

    @property
    def name(self) -> str:
        if self.rule is not None:
            return self.rule.text
        parts = [f"{one.name}{how.name}" for one, how in zip(self.series, self.comparisons, strict=True)]
        return ("|" if self.any_of else "&").join(parts)


@dataclass(frozen=True, slots=True)
class Member:
    """A trigger in a group; one threshold for each of the shape's comparisons."""

    trigger: Trigger
    thresholds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Canary:
    """The accounts in (or outside of) a share of ``percent``, which a trigger's id shuffles."""

    trigger_id: str
    percent: int
    inside: bool


@dataclass(frozen=True, slots=True)
class Group:
    """Triggers of one shape, at most one for each account.

    ``base`` is the member that watches every account which ``by_account`` does not name, within ``canary``; -1 for
    none. ``by_account`` is the member of one account, -1 where a trigger of another group replaces the base.

    """

    name: str
    shape: Shape
    members: tuple[Member, ...]
    base: int = -1
    by_account: Mapping[bytes, int] = field(default_factory=dict)
    canary: Canary | None = None

    @property
    def is_silence(self) -> bool:
        """Whether its rule asks for absence, which no event brings about."""
        rule = self.shape.rule
        return rule is not None and any(call.function is Function.ABSENT for call in rule.aggregates)

    @property
    def watches_all(self) -> bool:
        return self.base == 0 and not self.by_account and self.canary is None


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """What one topic feeds. ``columns`` are what the decoder must bring.

    ``read`` are series whose value is asked for on rows that are no sample of theirs, because a rule reads them.
    """

    topic: str
    columns: tuple[str, ...] = ()
    series: tuple[Series, ...] = ()
    read: frozenset[Series] = frozenset()
    across: tuple[Series, ...] = ()
    groups: tuple[Group, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Everything that one partition watches; compared by identity.

    ``across`` groups watch one value over all accounts, ``schedules`` fire by the clock alone.
    """

    topics: Mapping[str, TopicPlan]
    groups: tuple[Group, ...]
    across: tuple[Group, ...]
    schedules: tuple[Trigger, ...]

    @property
    def needs_clock(self) -> bool:
        return bool(self.schedules or any(one.is_silence for one in self.groups))

    def topic(self, name: str) -> TopicPlan:
        return self.topics.get(name) or TopicPlan(name)
