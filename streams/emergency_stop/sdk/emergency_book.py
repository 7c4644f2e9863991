"""What emergencies and recoveries came to: the newest account of each, and their sums. Pure; the topics' records in.

Emergencies that are over are kept by the newest ``OVER_MAX``; their share in the sums stays when they go.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from emergency_stop.domain.messages import Emergency, InstanceStop, Recovery
from emergency_stop.domain.values import AckState, EmergencyState, RecoveryOutcome, StopLevel, TriggerType

OVER_MAX: Final = 10_000
RECOVERIES_MAX: Final = 10_000
UNDER_WAY: Final = frozenset({EmergencyState.SCHEDULED, EmergencyState.STOPPING})
#: A service stands where its worst instance does.
_BADNESS: Final = (
    AckState.RESUMED, AckState.STOPPED, AckState.READY, AckState.REFUSED, AckState.STOPPING, AckState.RECEIVED,
    AckState.UNKNOWN, AckState.FAILED,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class EmergencyEvent:
    """One emergency as the guide shows it. ``services``: where each target service's worst instance stands."""

    emergency_id: str
    state: EmergencyState
    scope: str
    account_id: str | None
    trigger_id: str | None
    trigger_type: TriggerType
    level: StopLevel
    reason: str
    correlation_id: str
    started_at: int
    completed_at: int | None
    #: From its start to the last proof, or to when it was given up, milliseconds; ``None`` while under way.
    execution_duration: int | None
    #: Whether everything was proven in time; ``None`` while under way.
    success: bool | None
    services: Mapping[str, AckState]
    instances: tuple[InstanceStop, ...]


@dataclass(frozen=True, slots=True)
class SystemMetrics:
    """Sums over all emergencies and recoveries on record, drills left out."""

    #: Emergencies that a trigger caused.
    total_triggers: int
    successful_stops: int
    #: From the causing event to the last proof, mean of the successful stops, milliseconds; ``None`` without any.
    average_stop_time: float | None
    successful_recoveries: int
    failed_recoveries: int


@dataclass(frozen=True, slots=True)
class _Share:
    """What one emergency adds to the sums."""

    triggered: int = 0
    stopped: int = 0
    time_to_stop_ms: int = 0


class EmergencyBook:
    """Changes in place; the newest record per id stands."""

    def __init__(self) -> None:
        self._active: dict[str, Emergency] = {}
        self._over: OrderedDict[str, Emergency] = OrderedDict()
        self._triggered = self._stopped = self._time_to_stop_ms = 0
        self._recoveries: OrderedDict[str, Recovery] = OrderedDict()
        self._recovered = self._failed = 0

    def take(self, emergency: Emergency) -> None:
        """The next record of ``estop.emergencies``."""
        known_as = emergency.emergency_id
        before = self._active.pop(known_as, None) or self._over.pop(known_as, None)
        self._count(_share(before), -1)
        self._count(_share(emergency), 1)
        if emergency.state is EmergencyState.RESOLVED:
            self._over[known_as] = emergency
            if len(self._over) > OVER_MAX:
                self._over.popitem(last=False)
        else:
            self._active[known_as] = emergency

    def take_recovery(self, recovery: Recovery) -> None:
        """The next record of ``estop.recoveries``."""
        before = self._recoveries.pop(recovery.recovery_id, None)
        for one, sign in ((before, -1), (recovery, 1)):
            self._recovered += sign * (one is not None and one.outcome is RecoveryOutcome.COMPLETED)
            self._failed += sign * (one is not None and one.outcome is RecoveryOutcome.ROLLED_BACK)
        self._recoveries[recovery.recovery_id] = recovery
        if len(self._recoveries) > RECOVERIES_MAX:
            self._recoveries.popitem(last=False)

    def emergency(self, emergency_id: str) -> Emergency | None:
        return self._active.get(emergency_id) or self._over.get(emergency_id)

    def event(self, emergency_id: str) -> EmergencyEvent | None:
        found = self.emergency(emergency_id)
        return None if found is None else event_of(found)

    def active(self) -> list[EmergencyEvent]:
        """Emergencies that hold something, from oldest to newest; neither drills nor what is only planned."""
        found = [one for one in self._active.values() if not one.drill and one.state is not EmergencyState.SCHEDULED]
        return [event_of(one) for one in sorted(found, key=lambda one: (one.started_at, one.emergency_id))]

    def ended_recoveries(self, emergency_id: str) -> list[Recovery]:
        """Recoveries of the emergency that ended, well or not, in the order in which they were heard of."""
        return [
            one
            for one in self._recoveries.values()
            if one.emergency_id == emergency_id and one.outcome is not RecoveryOutcome.UNDER_WAY
        ]

    def metrics(self) -> SystemMetrics:
        average = self._time_to_stop_ms / self._stopped if self._stopped else None
        return SystemMetrics(self._triggered, self._stopped, average, self._recovered, self._failed)

    def _count(self, share: _Share, sign: int) -> None:
        self._triggered += sign * share.triggered
        self._stopped += sign * share.stopped
        self._time_to_stop_ms += sign * share.time_to_stop_ms


def event_of(emergency: Emergency) -> EmergencyEvent:
    """The account that the guide gives of it."""
    completed_at = emergency.completed_at
    services: dict[str, AckState] = {}
    for one in emergency.instances:
        services[one.service] = max(services.get(one.service, one.state), one.state, key=_BADNESS.index)
    return EmergencyEvent(
        emergency_id=emergency.emergency_id,
        state=emergency.state,
        scope=emergency.scope,
        account_id=emergency.account_id,
        trigger_id=emergency.trigger_id,
        trigger_type=emergency.trigger_type,
        level=emergency.level,
        reason=emergency.reason,
        correlation_id=emergency.correlation_id,
        started_at=emergency.started_at,
        completed_at=completed_at,
        execution_duration=None if completed_at is None else max(0, completed_at - emergency.started_at),
        success=emergency.success,
        services=services,
        instances=emergency.instances,
    )


def _share(emergency: Emergency | None) -> _Share:
    if emergency is None or emergency.drill:
        return _Share()
    stopped = emergency.success is True
    return _Share(
        triggered=int(emergency.trigger_id is not None),
        stopped=int(stopped),
        time_to_stop_ms=(emergency.time_to_stop_ms or 0) if stopped else 0,
    )
