"""What may go wrong with a recovery, and when."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from emergency_stop.coordinate.tables import Phase
from emergency_stop.domain.messages import Command, Recovery
from emergency_stop.domain.values import AckState, Action, ConditionState, RecoveryOutcome, RecoveryPhase

if TYPE_CHECKING:
    import random

    from tests.simulation.recovery_world import RecoveryWorld


class Fault(StrEnum):
    NONE = "none"
    REFUSED_PROBE = "refused_probe"
    SILENT_PROBE = "silent_probe"
    UNHEALTHY = "unhealthy"
    LOST = "lost"
    ANEW = "started_anew"
    HIT = "hit"
    NEWER_STOP = "newer_stop"
    FAILING = "failing_actions"
    HOLDS = "condition_holds"
    NO_DETECTOR = "no_detector"
    REFUSED_RESUME = "refused_resume"
    SILENT_RESUME = "silent_resume"
    WIDER_HOLD = "wider_hold"

    @property
    def needs_hit(self) -> bool:
        """Whether it concerns only what a trigger stopped."""
        return self in (Fault.HIT, Fault.HOLDS, Fault.NO_DETECTOR)


_P: Final = RecoveryPhase
#: In which phases each fault may strike, of those that strike a phase.
_STRIKES: Final = {
    Fault.UNHEALTHY: tuple(_P),
    Fault.LOST: (_P.VALIDATION, _P.PREPARATION, _P.GRADUAL_RESTORE, _P.FULL_RESTORE, _P.MONITORING),
    Fault.ANEW: (_P.GRADUAL_RESTORE,),
    Fault.HIT: tuple(_P),
    Fault.NEWER_STOP: tuple(_P),
    Fault.WIDER_HOLD: (_P.VALIDATION, _P.PREPARATION, _P.GRADUAL_RESTORE),
}
#: A probe of the first few: every procedure has as many.
_PROBES: Final = 2


@dataclass(slots=True)
class Plan:
    """One fault, and how often the coordinator dies. ``number`` tells which probe fails."""

    fault: Fault
    phase: RecoveryPhase = RecoveryPhase.VALIDATION
    number: int = 0
    death_share: float = 0.0
    struck: bool = False
    #: Commands by the order in which they were first seen, of the instance that fails.
    victim: tuple[str, str] | None = None

    @classmethod
    def drawn(cls, drawn: random.Random, fault: Fault) -> Plan:
        phase = drawn.choice(_STRIKES.get(fault, (RecoveryPhase.VALIDATION,)))
        return cls(fault, phase, drawn.randrange(_PROBES), drawn.choice((0.0, 0.0, 0.1, 0.3)))

    def on_recovery(self, world: RecoveryWorld, told: Recovery) -> None:
        """The fault strikes a little after its phase began, once."""
        if self.struck or told.phase is not self.phase or told.outcome is not RecoveryOutcome.UNDER_WAY:
            return
        if self.fault in _STRIKES:
            self.struck = True
            # one that is started anew while it is still held whole does no harm
            among = {share.service for share in told.shares} if self.fault is Fault.ANEW else None
            world.later(lambda: self._strike(world, among))

    def _strike(self, world: RecoveryWorld, among: set[str] | None) -> None:
        self.victim = key = world.any_target(among)
        if self.fault is Fault.UNHEALTHY:
            world.beat(key, healthy=False, problem="planned")
        elif self.fault is Fault.LOST:
            world.silent.add(key)
        elif self.fault is Fault.ANEW:
            world.beat(key, started_at=world.now)
        elif self.fault is Fault.HIT:
            world.hit_again("again")
        elif self.fault is Fault.NEWER_STOP:
            world.stop_anew()
        elif self.fault is Fault.WIDER_HOLD:
            world.hold_widely()

    def answer(self, world: RecoveryWorld, command: Command, instance_id: str, usual: AckState) -> AckState | None:
        """What the instance says to a command; ``None``: nothing."""
        probe = self.fault in (Fault.REFUSED_PROBE, Fault.SILENT_PROBE) and command.action is Action.PROBE
        resume = self.fault in (Fault.REFUSED_RESUME, Fault.SILENT_RESUME) and command.action is Action.RESUME
        if probe and not self.struck:
            # the first is the preparation's, the second that of the first share
            self.struck = (command.share_percent > 0) == (self.number > 0)
            self.victim = (command.service, instance_id) if self.struck else None
        elif resume and not self.struck:
            self.struck, self.victim = True, (command.service, instance_id)
        if (probe or resume) and self.victim == (command.service, instance_id):
            return AckState.REFUSED if self.fault in (Fault.REFUSED_PROBE, Fault.REFUSED_RESUME) else None
        return usual

    def condition(self, world: RecoveryWorld) -> ConditionState | None:
        """How the trigger's condition stands once a recovery is under way; before, it clears sooner or later."""
        case = world.case()
        validating = case is not None and case.phase is Phase.RESTORING
        if self.fault is Fault.HOLDS and validating:
            return ConditionState.HOLDS
        if self.fault is Fault.NO_DETECTOR and validating:
            return None
        if validating:
            return ConditionState.CLEAR
        return world.drawn.choice((ConditionState.HOLDS, ConditionState.UNKNOWN, None, ConditionState.CLEAR))

    def failures(self, world: RecoveryWorld) -> int:
        """Failed actions of an instance from one heartbeat to the next."""
        hold = world.published.hold
        admits = hold is not None and (not hold.causes or bool(hold.causes[0].shares))
        return 25 if self.fault is Fault.FAILING and admits else 0
