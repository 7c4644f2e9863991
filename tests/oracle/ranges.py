"""Who watches which account: random overrides, triggers of one account, and canaries, against rules that name accounts.

The naive side has one rule for each trigger and decides for each account anew, from the definitions alone.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from emergency_stop.detect.compile import Compiler
from emergency_stop.domain import topics
from emergency_stop.domain.trigger_definitions import parse_trigger
from emergency_stop.domain.triggers import Trigger
from tests.oracle.naive import Event, NaiveHit, Rule
from tests.oracle.streams import CrashingRun, naive_hits, random_events, summaries

TOPIC = topics.TELEMETRY_HEALTH
ACCOUNTS = 12


class Ranges:
    """A random set of triggers of one topic, and the rules that the twin follows."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.triggers: list[Trigger] = []
        self.rules: list[Rule] = []
        self.stable: dict[str, Trigger] = {}
        self._replaced: dict[str, set[str]] = {}
        bases = [self._base(f"base-{number}") for number in range(rng.randrange(1, 3))]
        for number in range(rng.randrange(6)):
            self._of_one_account(f"own-{number}", rng.choice([*bases, None]))
        if rng.random() < 0.5:
            self._canary("canary")

    def _base(self, name: str) -> Trigger:
        trigger, rule = self._made(name, self._window(), None)
        self._replaced[name] = set()
        rule.watches = lambda account: account not in self._replaced[name]
        return trigger

    def _of_one_account(self, name: str, base: Trigger | None) -> None:
        account = f"account-{self._rng.randrange(ACCOUNTS)}"
        window = base.time_window if base is not None and self._rng.random() < 0.6 else self._window()
        overrides = None if base is None else base.trigger_id
        _, rule = self._made(name, window, account, overrides=overrides)
        if overrides is not None:
            self._replaced[overrides].add(account)
        rule.watches = account.__eq__

    def _canary(self, name: str) -> None:
        """A new version for some accounts; its stable version, if there is one, for the others."""
        percent = self._rng.choice((0, 30, 100))
        _, rule = self._made(name, self._window(), None, canaryPercent=percent)
        inside = _in_share(name, percent)
        rule.watches = inside
        if self._rng.random() < 0.7 and percent < 100:
            self.stable[name] = self._defined(name, self._window(), None, version=1)
            other = self._rule(self.stable[name])
            other.watches = lambda account: not inside(account)
            self.rules.append(other)

    def _made(self, name: str, window_ms: int, account: str | None, **more: Any) -> tuple[Trigger, Rule]:
        trigger = self._defined(name, window_ms, account, version=2, **more)
        rule = self._rule(trigger)
        self.triggers.append(trigger)
        self.rules.append(rule)
        return trigger, rule

    def _defined(self, name: str, window_ms: int, account: str | None, **more: Any) -> Trigger:
        definition = {
            "triggerId": name, "name": name, "triggerType": "health_score_critical", "accountId": account,
            "thresholds": {"healthScore": self._rng.randrange(20, 80)}, "timeWindow": window_ms,
            "cooldownPeriod": self._rng.choice((0, 2_000, 60_000)), "forMs": self._rng.choice((0, 0, 3_000)),
            "minSamples": self._rng.choice((1, 2)), "stopLevel": "graceful", "priority": 1, **more,
        }  # fmt: skip
        return parse_trigger(definition, services=())

    def _rule(self, trigger: Trigger) -> Rule:
        return Rule(
            trigger.trigger_id, "avg", "health_score", "<", trigger.thresholds["healthScore"], trigger.time_window,
            trigger.cooldown_period, trigger.min_samples, trigger.for_ms,
        )  # fmt: skip

    def _window(self) -> int:
        return self._rng.choice((5_000, 30_001, 60_000))


def _in_share(name: str, percent: int) -> Callable[[str], bool]:
    return lambda account: zlib.crc32(f"{name}/{account}".encode()) % 100 < percent


def difference(seed: int, events: int) -> tuple[int, str | None]:
    """(how many hits were compared, what differs) for one random set of triggers over one random stream."""
    rng = random.Random(seed)
    ranges = Ranges(rng)
    stream = [
        replace(event, account=f"account-{rng.randrange(ACCOUNTS)}") for event in random_events(rng, TOPIC, events)
    ]
    plan = Compiler(lambda trigger: ranges.stable.get(trigger.trigger_id)).compile(ranges.triggers)
    found = CrashingRun(rng, TOPIC, plan).run(stream)
    wanted = _naive(ranges.rules, stream)
    told = _unordered(summaries(found)), _unordered(wanted)
    return len(wanted), None if told[0] == told[1] else f"{len(found)} hits, twin has {len(wanted)}"


def _naive(rules: Sequence[Rule], stream: Sequence[Event]) -> list[NaiveHit]:
    """Two rules of one id (a canary and its stable version) have cooldowns of their own accounts: they run apart."""
    return [hit for rule in rules for hit in naive_hits([rule], stream)]


def _unordered(hits: Sequence[NaiveHit]) -> list[NaiveHit]:
    return sorted(hits, key=lambda hit: (hit.offset, hit.rule_id, hit.account))
