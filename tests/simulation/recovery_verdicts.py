"""One emergency and its recovery, played to the end and judged by what was published, and by what gates admit."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Final

from emergency_stop.coordinate.state import Effect
from emergency_stop.coordinate.tables import Phase
from emergency_stop.domain.messages import AuditRecord, Hold
from emergency_stop.domain.values import HoldState, RecoveryOutcome
from tests.simulation.recovery_faults import Fault, Plan
from tests.simulation.recovery_with_sdk import SdkWorld
from tests.simulation.recovery_world import RecoveryWorld

#: What ends a recovery without success: what had run is held again.
BAD: Final = frozenset({RecoveryOutcome.ROLLED_BACK, RecoveryOutcome.ABANDONED})
_OPENS: Final = frozenset({"recovery_eased", "recovery_full_restore"})
#: These reach an instance by other ways than its handlers, or leave nothing to answer for it: the SDK answers itself.
_NOT_WITH_SDK: Final = frozenset({Fault.REFUSED_RESUME, Fault.SILENT_RESUME, Fault.WIDER_HOLD})
#: In the order in which seeds try them.
FAULTS: Final = tuple(fault for fault in Fault if fault is not Fault.NONE)
SDK_FAULTS: Final = tuple(fault for fault in FAULTS if fault not in _NOT_WITH_SDK)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one emergency. ``problem`` is empty where all is as it must be."""

    seed: int
    fault: Fault
    outcome: RecoveryOutcome | None
    half_open: bool
    problem: str

    @property
    def is_bad(self) -> bool:
        """Whether a promise was broken."""
        return bool(self.problem) or self.half_open


def play(seed: int, fault: Fault) -> Verdict:
    """One emergency with services that answer by the plan, from its stop to the end of its recovery."""
    world = RecoveryWorld(seed, _plan(seed, fault))
    if fault is Fault.WIDER_HOLD:
        world.scope = "account:a"
    world.run()
    return _judged(world, seed, fault)


def play_with_sdk(seed: int, fault: Fault) -> Verdict:
    """One emergency whose services are the SDK's; in the end their gates admit what the recovery came to."""
    world = SdkWorld(seed, _plan(seed, fault))
    world.run()
    world.settle()
    verdict = _judged(world, seed, fault)
    return verdict if verdict.problem else replace(verdict, problem=_gates(world, verdict.outcome))


def _plan(seed: int, fault: Fault) -> Plan:
    return Plan.drawn(random.Random(f"plan {seed} {fault}"), fault)


def _judged(world: RecoveryWorld, seed: int, fault: Fault) -> Verdict:
    hold, told, case = world.published.hold, world.published.recovery, world.case()
    outcome = told.outcome if told else None
    shares = [share for cause in hold.causes for share in cause.shares] if hold else []
    running = hold is None or hold.state is HoldState.RUNNING
    half_open = bool(shares) or (outcome in BAD and running)
    expected = RecoveryOutcome.COMPLETED if fault is Fault.NONE else _expected(fault)
    problem = _unrecorded(world.published.effects)
    if outcome is not expected:
        problem = f"{outcome} instead of {expected}: {told.detail if told else 'no recovery'}"
    elif outcome is RecoveryOutcome.COMPLETED and not (running and case and case.phase is Phase.RESOLVED):
        problem = "completed, and still held"
    return Verdict(seed, fault, outcome, half_open, problem)


def _expected(fault: Fault) -> RecoveryOutcome:
    return RecoveryOutcome.ABANDONED if fault is Fault.NEWER_STOP else RecoveryOutcome.ROLLED_BACK


def _unrecorded(effects: list[Effect]) -> str:
    """A hold that lets something run, published before its audit record."""
    eased = 0
    for effect in effects:
        if isinstance(effect, AuditRecord) and effect.action in _OPENS:
            eased += 1
        elif isinstance(effect, Hold):
            opens = effect.state is HoldState.RUNNING or any(cause.shares for cause in effect.causes)
            if opens and not eased:
                return f"epoch {effect.epoch} lets something run and is not on record"
    return ""


def _gates(world: SdkWorld, outcome: RecoveryOutcome | None) -> str:
    """What a gate admits against the holds, on the way or in the end; empty where none does."""
    if world.oddities:
        return world.oddities[0]
    concerned = [
        guard
        for guard in world.guards
        if not world.scope.startswith("service:") or world.scope == f"service:{guard.service}"
    ]
    wanted = 100 if outcome is RecoveryOutcome.COMPLETED else 0
    wrong = [guard for guard in concerned if guard.gate.percent_of(world.scope) != wanted]
    return f"{outcome}, and {wrong[0].service} admits {wrong[0].gate.percent_of(world.scope)} %" if wrong else ""
