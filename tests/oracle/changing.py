"""Random triggers of one topic that change: added, edited, removed, with canaries that begin, move and end."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Final

from emergency_stop.domain.trigger_definitions import parse_trigger
from emergency_stop.domain.triggers import Trigger
from emergency_stop.rules.definitions import stable_text, stable_version

Triggers = tuple[Trigger, ...]
ACCOUNTS: Final = 6
WINDOWS: Final = (5_000, 30_001, 60_000)
#: Of overrides of triggers that may have canaries: which half of those they lie beside is not the twin's to know.
OTHER_WINDOWS: Final = (7_000, 45_000)
#: How the ids of triggers that never have canaries begin.
PLAIN: Final = "plain"


class Changing:
    """A random set of triggers that changes; ``change`` makes the next one."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._made = 0
        self.triggers: dict[str, Trigger] = {}
        for _ in range(rng.randrange(1, 4)):
            self._add()

    def change(self) -> Triggers:
        kinds = (self._add, self._edit, self._edit, self._canary, self._canary, self._remove)
        self._rng.choice(kinds)()
        return tuple(self.triggers.values())

    def _add(self) -> None:
        """For everybody, or for one account, which may so be replaced for it."""
        self._made += 1
        kind = self._rng.choice((PLAIN, "moving"))
        name, bases = f"{kind}-{self._rng.randrange(100):02}-{self._made}", self._bases()
        overridden = self._rng.choice(bases) if bases and self._rng.random() < 0.4 else None
        own = overridden is not None or self._rng.random() < 0.4
        definition = {
            "triggerId": name, "name": name, "triggerType": "health_score_critical",
            "accountId": f"account-{self._rng.randrange(ACCOUNTS)}" if own else None, "overrides": overridden,
            "stopLevel": "graceful", "priority": 1, **self._content(overridden),
        }  # fmt: skip
        self.triggers[name] = parse_trigger(definition, services=())

    def _content(self, overridden: str | None) -> dict[str, object]:
        rng = self._rng
        windows = WINDOWS if overridden is None or overridden.startswith(PLAIN) else OTHER_WINDOWS
        return {
            "thresholds": {"healthScore": rng.randrange(20, 80)}, "timeWindow": rng.choice(windows),
            "cooldownPeriod": rng.choice((0, 2_000, 60_000)), "forMs": rng.choice((0, 0, 3_000)),
            "minSamples": rng.choice((1, 2)),
        }  # fmt: skip

    def _bases(self) -> list[str]:
        return [name for name, one in self.triggers.items() if one.account_id is None]

    def _edit(self) -> None:
        name = self._rng.choice(sorted(self.triggers))
        before = self.triggers[name]
        self.triggers[name] = replace(self._next(before), canary_percent=100, stable="")

    def _next(self, before: Trigger) -> Trigger:
        """Another version; often only one thing differs."""
        fields = {"timeWindow": "time_window", "cooldownPeriod": "cooldown_period", "forMs": "for_ms"}
        fields |= {"minSamples": "min_samples", "thresholds": "thresholds"}
        content = {fields[name]: value for name, value in self._content(before.overrides).items()}
        if self._rng.random() < 0.5:
            name = self._rng.choice(sorted(content))
            content = {name: content[name]}
        return replace(before, version=before.version + 1, **content)  # type: ignore[arg-type]

    def _canary(self) -> None:
        """It begins; or moves, is promoted or rolled back where there is one."""
        bases = [name for name in self._bases() if not name.startswith(PLAIN)]
        if not bases:
            return
        before = self.triggers[self._rng.choice(bases)]
        stable = stable_version(before)
        share = self._rng.choice((0, 30, 70))
        if stable is None:
            began = replace(self._next(before), canary_percent=share, stable=stable_text(before))
        else:
            kept = self._rng.choice((before, stable))
            ended = replace(kept, version=before.version + 1, canary_percent=100, stable="")
            began = self._rng.choice((ended, replace(before, version=before.version + 1, canary_percent=share)))
        self.triggers[before.trigger_id] = began

    def _remove(self) -> None:
        if len(self.triggers) > 1:
            del self.triggers[self._rng.choice(sorted(self.triggers))]
