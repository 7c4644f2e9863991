"""Emergencies, one account each, from the event that causes them to the end."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from emergency_stop.domain.messages import Emergency
from emergency_stop.domain.values import EmergencyState
from emergency_stop.integrations.run import account_names
from tests.bench.stop.causes import event
from tests.bench.stop.figures import percentiles
from tests.bench.stop.installation import Installation
from tests.bench.stop.witness import now_ms, until

ANSWER_S: Final = 180.0


@dataclass(slots=True)
class Probe:
    """One causing event; ``accepted_ms`` is when the broker acknowledged it."""

    account: str
    level: str
    sent_ms: int
    accepted_ms: int = 0

    @property
    def scope(self) -> str:
        return f"account:{self.account}"


@dataclass
class Probes:
    """Sends events and awaits their emergencies. Every account is used once, so that no cooldown interferes."""

    installation: Installation
    levels: Sequence[str]
    _names: Iterator[str] = field(init=False)

    def __post_init__(self) -> None:
        self._names = iter(account_names(self.installation.accounts))

    def take_names_from(self, others: Probes) -> None:
        """Share the accounts that are left, so that none is used twice."""
        self._names = others._names

    async def run(self, count: int, gap_s: float) -> list[Probe]:
        """``count`` events, one each ``gap_s``, through the levels in turn; returns when all emergencies have ended."""
        started, sending, sent = time.monotonic(), list[asyncio.Task[None]](), list[Probe]()
        for number, level in zip(range(count), itertools.cycle(self.levels), strict=False):
            await asyncio.sleep(max(0.0, started + number * gap_s - time.monotonic()))
            probe = self.next(level)
            sent.append(probe)
            sending.append(asyncio.create_task(self.send(probe)))
        await asyncio.gather(*sending)
        await self.ended(sent)
        return sent

    def next(self, level: str) -> Probe:
        """An event of now, for an account that had none."""
        return Probe(next(self._names), level, now_ms())

    async def send(self, probe: Probe) -> None:
        """Produce its event; returns when the broker has it."""
        topic, key, value = event(probe.level, probe.account, probe.sent_ms)
        await self.installation.publisher.publish(topic, key, value)
        probe.accepted_ms = now_ms()

    async def ended(self, probes: Sequence[Probe], within_s: float = ANSWER_S) -> None:
        """Wait until each has its emergency, and that is over. Raises ``TimeoutError``."""
        witness, left = self.installation.witness, [probe.scope for probe in reversed(probes)]

        def are_over() -> bool:
            while left and witness.has_ended(left[-1]):
                left.pop()
            return not left

        def missing() -> str:
            missed = [scope for scope in left if not witness.has_ended(scope)]
            return f"{len(missed)} of {len(probes)} emergencies have not ended, the first of {missed[:3]}"

        await until(are_over, missing, within_s)

    def emergency(self, probe: Probe) -> Emergency:
        return self.installation.witness.by_scope[probe.scope].account

    def outcome(self, probe: Probe) -> str:
        """What became of the level that its trigger asks for: how it ended, and the level in force where another is."""
        found = self.emergency(probe)
        asked, in_force = (found.asked_level or found.level).value, found.level.value
        if asked != probe.level:
            return f"{found.state.value}, taken for {asked}"
        return found.state.value if in_force == asked else f"{found.state.value}, in force: {in_force}"

    def report(self, probes: Sequence[Probe]) -> dict[str, Any]:
        """Times to stop by level: the coordinator's word, and what the witness's clock says."""
        found: dict[str, Any] = {}
        for level in self.levels:
            chosen = [probe for probe in probes if probe.level == level]
            found[f"{level}_ms"] = percentiles(self._times(chosen))
        witness = self.installation.witness
        seen = [(witness.by_scope[probe.scope], probe) for probe in probes]
        return found | {
            "last_stopped_read_ms": percentiles(one.last_stopped_seen_ms - probe.sent_ms for one, probe in seen),
            "emergency_ended_read_ms": percentiles(one.ended_seen_ms - probe.sent_ms for one, probe in seen),
            "emergencies": len(probes),
            "partial": sum(one.account.state is EmergencyState.PARTIAL for one, _ in seen),
        }

    def _times(self, probes: Sequence[Probe]) -> list[int]:
        times = (self.emergency(probe).time_to_stop_ms for probe in probes)
        return [time_ms for time_ms in times if time_ms is not None]
