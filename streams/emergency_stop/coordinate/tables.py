"""The machines of an emergency stop, as data.

* **Instance**: where one instance of one target service stands in one emergency.
* **Emergency**: from its cause to its end.
* **Hold**: whether a scope may act. What is published as its state follows from the emergencies that
  are in force; the table says which changes exist at all.
* **Recovery**: one attempt to undo an emergency, from its validation to its end.

A pair that is not in a table is illegal: ``Machine.next`` raises and nothing changes. The diagrams in
``docs/state-machines`` are generated from here (``coordinate/diagrams.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, TypeVar

from emergency_stop.domain.values import HoldState

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


class RefusedMessageError(ValueError):
    """A message does not fit what the coordinator knows. Nothing was changed; the text says why."""


class IllegalTransitionError(RefusedMessageError):
    """An event that the machine does not know in its present state. Nothing was changed."""

    def __init__(self, machine: str, state: str, event: str) -> None:
        super().__init__(f"{machine} in state {state!r} has no transition for {event!r}; the message was ignored")
        self.machine, self.state, self.event = machine, state, event


class InvariantViolationError(RuntimeError):
    """The core contradicts itself: a bug. The new state must not be kept nor its effects published."""


@dataclass(frozen=True, slots=True)
class Machine(Generic[S, E]):
    """One machine: its name, its first state, and every legal (state, event) with the state that follows."""

    name: str
    initial: S
    table: Mapping[tuple[S, E], S]
    #: Where it may begin otherwise.
    other_initials: tuple[S, ...] = ()

    def next(self, state: S, event: E) -> S:
        """The state that follows. Raises ``IllegalTransitionError``."""
        following = self.table.get((state, event))
        if following is None:
            raise IllegalTransitionError(self.name, state.value, event.value)
        return following


class Standing(StrEnum):
    """Where an instance stands. The first six belong to the stop, the last three to the resume."""

    PENDING = "pending"
    RECEIVED = "received"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    UNKNOWN = "unknown"
    RESUMING = "resuming"
    RESUMED = "resumed"
    REFUSED = "refused"


class InstanceEvent(StrEnum):
    #: Acknowledgements of the instance.
    RECEIVED = "received"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    RESUMED = "resumed"
    REFUSED = "refused"
    #: Seen by the coordinator: it left in good order, its heartbeat stopped, the last deadline passed.
    LEFT = "left"
    LOST = "lost"
    SILENT = "silent"
    #: It was started anew under its name: what it proved before binds nobody who runs now.
    ANEW = "anew"
    #: An operator's resume was accepted.
    RESUME = "resume"


def _instance_table() -> dict[tuple[Standing, InstanceEvent], Standing]:
    s, e = Standing, InstanceEvent
    table: dict[tuple[Standing, InstanceEvent], Standing] = {}
    for waiting in (s.PENDING, s.RECEIVED, s.STOPPING, s.UNKNOWN):
        # an acknowledgement that overtook another one never takes the instance back
        table[waiting, e.RECEIVED] = s.STOPPING if waiting is s.STOPPING else s.RECEIVED
        table[waiting, e.STOPPING] = s.STOPPING
        table[waiting, e.STOPPED] = s.STOPPED
        table[waiting, e.FAILED] = s.FAILED
        table[waiting, e.LEFT] = s.STOPPED
        table[waiting, e.LOST] = s.UNKNOWN
        table[waiting, e.SILENT] = s.UNKNOWN
        table[waiting, e.ANEW] = s.PENDING
    table[s.STOPPED, e.ANEW] = s.PENDING
    for verdict in (s.STOPPED, s.FAILED):
        for kept in (e.RECEIVED, e.STOPPING, e.LOST, e.SILENT):
            table[verdict, kept] = verdict
        table[verdict, e.STOPPED] = s.STOPPED
        table[verdict, e.FAILED] = s.FAILED
        table[verdict, e.LEFT] = s.STOPPED
    for stop_side in (s.PENDING, s.RECEIVED, s.STOPPING, s.UNKNOWN, s.STOPPED, s.FAILED):
        table[stop_side, e.RESUME] = s.RESUMING
    for resume_side in (s.RESUMING, s.RESUMED, s.REFUSED):
        # acknowledgements of the stop that were on their way when the resume was accepted
        for crossing in (e.RECEIVED, e.STOPPING, e.STOPPED, e.FAILED, e.LEFT, e.LOST, e.SILENT):
            table[resume_side, crossing] = resume_side
        table[resume_side, e.RESUMED] = s.RESUMED
        table[resume_side, e.REFUSED] = s.RESUMED if resume_side is s.RESUMED else s.REFUSED
    return table


INSTANCE: Final[Machine[Standing, InstanceEvent]] = Machine("instance", Standing.PENDING, _instance_table())


class Phase(StrEnum):
    """Where an emergency stands. ``QUEUED``: its hold is in force, its commands wait for a free slot.

    ``SCHEDULED``: it is planned, and holds nothing yet.
    """

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    STOPPING = "stopping"
    ESCALATED = "escalated"
    STOPPED = "stopped"
    PARTIAL = "partial"
    #: A recovery is under way and the hold is still in force, though it may admit a share.
    RESTORING = "restoring"
    RECOVERING = "recovering"
    RESOLVED = "resolved"


class EmergencyEvent(StrEnum):
    BEGIN = "begin"
    CANCEL = "cancel"
    ADMIT = "admit"
    PROVEN = "proven"
    DEADLINE = "deadline"
    DOUBT = "doubt"
    RECOVER = "recover"
    ROLL_BACK = "roll_back"
    RESUME = "resume"
    RELEASE = "release"
    CONFIRMED = "confirmed"
    SUPERSEDED = "superseded"


def _emergency_table() -> dict[tuple[Phase, EmergencyEvent], Phase]:
    p, e = Phase, EmergencyEvent
    table = {
        (p.SCHEDULED, e.BEGIN): p.QUEUED,
        (p.SCHEDULED, e.CANCEL): p.RESOLVED,
        (p.QUEUED, e.ADMIT): p.STOPPING,
        (p.STOPPING, e.PROVEN): p.STOPPED,
        (p.STOPPING, e.DEADLINE): p.ESCALATED,
        (p.ESCALATED, e.PROVEN): p.STOPPED,
        (p.ESCALATED, e.DEADLINE): p.PARTIAL,
        # proven after all, though late: recorded, and still not a success
        (p.PARTIAL, e.PROVEN): p.STOPPED,
        # an instance takes its proof back: an emergency never claims a stop that is not
        (p.STOPPED, e.DOUBT): p.PARTIAL,
        (p.STOPPED, e.RECOVER): p.RESTORING,
        (p.PARTIAL, e.RECOVER): p.RESTORING,
        # a recovery failed before it admitted anything: as proven as its instances are
        (p.RESTORING, e.PROVEN): p.STOPPED,
        (p.RESTORING, e.DOUBT): p.PARTIAL,
        # it failed after that: stopped anew, and every instance owes its proof again
        (p.RESTORING, e.ROLL_BACK): p.STOPPING,
        (p.RECOVERING, e.ROLL_BACK): p.STOPPING,
        (p.RECOVERING, e.CONFIRMED): p.RESOLVED,
        (p.RECOVERING, e.DEADLINE): p.RESOLVED,
        (p.RECOVERING, e.SUPERSEDED): p.RESOLVED,
    }
    for in_force in (p.QUEUED, p.STOPPING, p.ESCALATED, p.STOPPED, p.PARTIAL, p.RESTORING):
        table[in_force, e.RESUME] = p.RECOVERING
        # its hold is lifted, but others still hold all its services: there is nothing to resume;
        # or it was a drill, which held nothing
        table[in_force, e.RELEASE] = p.RESOLVED
    return table


EMERGENCY: Final[Machine[Phase, EmergencyEvent]] = Machine(
    "emergency", Phase.QUEUED, _emergency_table(), (Phase.SCHEDULED,)
)

#: The phases in which an emergency holds its scope, unless it is a drill.
IN_FORCE: Final = frozenset(
    {Phase.QUEUED, Phase.STOPPING, Phase.ESCALATED, Phase.STOPPED, Phase.PARTIAL, Phase.RESTORING}
)
#: The phases in which commands are out and a deadline runs.
UNDER_WAY: Final = frozenset({Phase.STOPPING, Phase.ESCALATED})
#: The phases in which a proof would end the stop.
UNPROVEN: Final = frozenset({*UNDER_WAY, Phase.PARTIAL})
#: The phases in which answers are waited for, until a deadline.
TIMED: Final = frozenset({*UNDER_WAY, Phase.RECOVERING})


class HoldEvent(StrEnum):
    CAUSE_ADDED = "cause_added"
    CAUSE_RAISED = "cause_raised"
    CAUSE_EASED = "cause_eased"
    CAUSE_CLEARED = "cause_cleared"
    LAST_CAUSE_CLEARED = "last_cause_cleared"


HOLD: Final[Machine[HoldState, HoldEvent]] = Machine(
    "hold",
    HoldState.RUNNING,
    {
        (HoldState.RUNNING, HoldEvent.CAUSE_ADDED): HoldState.HELD,
        (HoldState.HELD, HoldEvent.CAUSE_ADDED): HoldState.HELD,
        (HoldState.HELD, HoldEvent.CAUSE_RAISED): HoldState.HELD,
        (HoldState.HELD, HoldEvent.CAUSE_EASED): HoldState.HELD,
        (HoldState.HELD, HoldEvent.CAUSE_CLEARED): HoldState.HELD,
        (HoldState.HELD, HoldEvent.LAST_CAUSE_CLEARED): HoldState.RUNNING,
    },
)


class Stage(StrEnum):
    """Where a recovery stands: its phases, as they are called on the wire, and its ends."""

    VALIDATION = "validation"
    PREPARATION = "preparation"
    GRADUAL_RESTORE = "gradual_restore"
    FULL_RESTORE = "full_restore"
    MONITORING = "monitoring"
    COMPLETED = "completed"
    ROLLED_BACK = "rolled_back"
    ABANDONED = "abandoned"


class RecoveryEvent(StrEnum):
    #: So many checks in a row passed.
    VALIDATED = "validated"
    #: A share, or a larger one, is admitted: every instance is prepared, or the gate let it through.
    ADMIT = "admit"
    #: The cause is cleared: after the last step, or where others hold all that it holds.
    CLEAR = "clear"
    CONFIRMED = "confirmed"
    #: Others hold all that it held: there is nothing to watch.
    RELEASED = "released"
    ENDURED = "endured"
    FAIL = "fail"
    #: A newer stop of the scope, or a person's resume, overtook it.
    ABANDON = "abandon"


def _recovery_table() -> dict[tuple[Stage, RecoveryEvent], Stage]:
    s, e = Stage, RecoveryEvent
    table = {
        (s.VALIDATION, e.VALIDATED): s.PREPARATION,
        (s.PREPARATION, e.ADMIT): s.GRADUAL_RESTORE,
        (s.PREPARATION, e.CLEAR): s.FULL_RESTORE,
        (s.GRADUAL_RESTORE, e.ADMIT): s.GRADUAL_RESTORE,
        (s.GRADUAL_RESTORE, e.CLEAR): s.FULL_RESTORE,
        (s.FULL_RESTORE, e.CONFIRMED): s.MONITORING,
        (s.FULL_RESTORE, e.RELEASED): s.COMPLETED,
        (s.MONITORING, e.ENDURED): s.COMPLETED,
    }
    for under_way in (s.VALIDATION, s.PREPARATION, s.GRADUAL_RESTORE, s.FULL_RESTORE, s.MONITORING):
        table[under_way, e.FAIL] = s.ROLLED_BACK
        table[under_way, e.ABANDON] = s.ABANDONED
    return table


RECOVERY: Final[Machine[Stage, RecoveryEvent]] = Machine("recovery", Stage.VALIDATION, _recovery_table())
