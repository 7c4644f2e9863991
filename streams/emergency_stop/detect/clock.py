"""What only the passing of time brings about: schedules, and silence. Driven by ticks that are on record in a topic.

A tick is a record of ``estop.ticks``, so a replay asks at the same moments. Nothing here reads a clock.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from emergency_stop.domain.triggers import CRON, TIME_ZONE, Trigger
from emergency_stop.rules.definitions import UTC, schedule_of


@dataclass(frozen=True, slots=True)
class Due:
    """A schedule's time has come. ``suppressed`` hits were held back by its cooldown before it."""

    trigger: Trigger
    at_ms: int
    late: bool
    suppressed: int


@dataclass(slots=True)
class ClockState:
    """The newest tick, the schedules' cooldowns by trigger id: (until, suppressed), and which calendars it saw last."""

    last_ms: int | None = None
    cooldowns: dict[str, tuple[int, int]] = field(default_factory=dict)
    calendars: dict[str, str] = field(default_factory=dict)

    def advance(self, at_ms: int) -> bool:
        """Whether a tick is news. Two lanes write the same ticks, and a replay repeats them."""
        return self.last_ms is None or at_ms > self.last_ms

    def due(self, schedules: Sequence[Trigger], at_ms: int, interval_ms: int) -> Iterator[Due]:
        """Schedules whose time lies after the newest tick and not after this one; of several times the last.

        The first tick ever makes nothing due: there is no telling what was missed before it. A calendar that no tick
        saw before makes nothing due that lies before it was written: while nothing waits for the clock, none ticks.
        """
        known, self.calendars = self.calendars, {one.trigger_id: _calendar(one) for one in schedules}
        if self.last_ms is None:
            return
        for trigger in schedules:
            is_known = known.get(trigger.trigger_id) == _calendar(trigger)
            after_ms = self.last_ms if is_known else max(self.last_ms, trigger.updated_at)
            schedule = schedule_of(trigger)
            due_ms = None if schedule is None else schedule.latest(after_ms, at_ms)
            if due_ms is None:
                continue
            until, suppressed = self.cooldowns.get(trigger.trigger_id, (due_ms, 0))
            if due_ms < until:
                self.cooldowns[trigger.trigger_id] = (until, suppressed + 1)
                continue
            self.cooldowns[trigger.trigger_id] = (due_ms + trigger.cooldown_period, 0)
            yield Due(trigger, due_ms, late=at_ms - due_ms > interval_ms, suppressed=suppressed)

    def encode(self) -> bytes:
        found = {"last_ms": self.last_ms, "cooldowns": self.cooldowns, "calendars": self.calendars}
        return json.dumps(found, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> ClockState:
        found = json.loads(data)
        cooldowns = {name: (until, count) for name, (until, count) in found["cooldowns"].items()}
        return cls(found["last_ms"], cooldowns, found.get("calendars", {}))


def _calendar(trigger: Trigger) -> str:
    return f"{trigger.options[CRON]} {trigger.options.get(TIME_ZONE, UTC)}"
