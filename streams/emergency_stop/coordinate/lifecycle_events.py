"""The guide's events, told from what the coordinator takes and publishes (``lifecycle`` is what makes it happen). Pure.

| event | told when | ``success`` | ``duration_ms`` |
|---|---|---|---|
| triggerEvaluated | a hit was taken, whatever its mode | true: the condition held | none |
| emergencyStarted | an emergency is first stopping | none | none |
| serviceStopAttempted | an instance proved its stop, failed, or owed its proof at the end | proven | since the start |
| emergencyCompleted | every instance proved it, or the deadlines are over | proven in time | since the start |
| recoveryCompleted | a recovery ended, well or not | completed | since its start |

An event's id is derived from what it tells of, so one that is told again after a crash is recognised. What was told of
an emergency is remembered, because its record is published with every answer; forgetting repeats, and loses nothing.
A rehearsal tells nothing: whoever acts on these events must not act on a drill.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from emergency_stop.coordinate.state import Effect
from emergency_stop.domain.ids import derived_id
from emergency_stop.domain.messages import Emergency, Hit, InstanceStop, Lifecycle, Recovery
from emergency_stop.domain.values import (
    AckState,
    EmergencyState,
    LifecycleKind,
    RecoveryOutcome,
    Scope,
    ScopeKind,
)

#: Emergencies of which it is remembered what was told; the one longest without news goes first.
EMERGENCIES_MAX: Final = 20_000
#: Hits that are remembered: two lanes of detectors publish every hit twice.
HITS_MAX: Final = 20_000
_COMPLETED: Final = frozenset({EmergencyState.STOPPED, EmergencyState.PARTIAL})
_UNDER_WAY: Final = frozenset({EmergencyState.STOPPING, *_COMPLETED})


class LifecycleTeller:
    """What was told already. One per partition; not thread-safe."""

    def __init__(self) -> None:
        self._told: OrderedDict[str, set[str]] = OrderedDict()
        self._hits: OrderedDict[str, None] = OrderedDict()

    def of_hit(self, hit: Hit) -> list[Lifecycle]:
        """That its condition came true, where it was not told lately. Its stop, if any, has events of its own."""
        if hit.hit_id in self._hits:
            return []
        self._hits[hit.hit_id] = None
        if len(self._hits) > HITS_MAX:
            self._hits.popitem(last=False)
        return [_trigger_evaluated(hit)]

    def of_effect(self, effect: Effect) -> list[Lifecycle]:
        """The events that ``effect`` is the first to tell of, in the order in which they happened."""
        if isinstance(effect, Recovery):
            return [] if effect.outcome is RecoveryOutcome.UNDER_WAY else [_recovery_completed(effect)]
        if not isinstance(effect, Emergency) or effect.drill:
            return []
        if effect.state not in _UNDER_WAY:
            if effect.state is EmergencyState.RESOLVED:
                self._told.pop(effect.emergency_id, None)
            return []
        told = self._told.setdefault(effect.emergency_id, set())
        self._told.move_to_end(effect.emergency_id)
        if len(self._told) > EMERGENCIES_MAX:
            self._told.popitem(last=False)
        return list(_new_of(effect, told))


def _trigger_evaluated(hit: Hit) -> Lifecycle:
    return Lifecycle(
        event_id=derived_id("lifecycle", LifecycleKind.TRIGGER_EVALUATED.value, hit.hit_id),
        event=LifecycleKind.TRIGGER_EVALUATED,
        at=hit.detected_at,
        scope=hit.scope,
        account_id=hit.account_id,
        correlation_id=hit.correlation_id,
        reason=f"{hit.reason} (mode {hit.mode.value})",
        trigger_id=hit.trigger_id,
        trigger_type=hit.trigger_type,
        level=hit.level,
        success=True,
    )


def _new_of(emergency: Emergency, told: set[str]) -> Iterator[Lifecycle]:
    if emergency.state is EmergencyState.STOPPING and _note(told, "started"):
        yield _event(LifecycleKind.EMERGENCY_STARTED, emergency, emergency.started_at, emergency.reason)
    is_over = emergency.state in _COMPLETED
    for one in emergency.instances:
        owes = one.state is AckState.UNKNOWN and is_over
        if one.state not in (AckState.STOPPED, AckState.FAILED) and not owes:
            continue
        if _note(told, f"{one.service}/{one.instance_id}/{one.state.value}"):
            yield _service_stop_attempted(emergency, one)
    at = emergency.completed_at
    # an instance may take its proof back, or prove late: each outcome is told, the newest stands
    if is_over and at is not None and _note(told, f"{emergency.state.value} {at}"):
        yield _event(
            LifecycleKind.EMERGENCY_COMPLETED, emergency, at, emergency.reason, str(at),
            success=bool(emergency.success), duration_ms=max(0, at - emergency.started_at),
        )  # fmt: skip


def _note(told: set[str], what: str) -> bool:
    """Whether ``what`` is new; from now on it is not."""
    is_new = what not in told
    told.add(what)
    return is_new


def _service_stop_attempted(emergency: Emergency, one: InstanceStop) -> Lifecycle:
    proven = one.state is AckState.STOPPED
    who = f"{one.service}/{one.instance_id}" if one.instance_id else f"{one.service}, of which no instance was seen"
    return _event(
        LifecycleKind.SERVICE_STOP_ATTEMPTED, emergency, one.at,
        f"{who}: {one.reason or one.state.value}", one.service, one.instance_id, one.state.value,
        service=one.service, success=proven, duration_ms=max(0, one.at - emergency.started_at),
    )  # fmt: skip


def _event(
    kind: LifecycleKind,
    emergency: Emergency,
    at: int,
    reason: str,
    *told_apart: str,
    service: str | None = None,
    success: bool | None = None,
    duration_ms: int | None = None,
) -> Lifecycle:
    return Lifecycle(
        event_id=derived_id("lifecycle", kind.value, emergency.emergency_id, *told_apart),
        event=kind,
        at=at,
        scope=emergency.scope,
        account_id=emergency.account_id,
        correlation_id=emergency.correlation_id,
        reason=reason,
        emergency_id=emergency.emergency_id,
        trigger_id=emergency.trigger_id,
        trigger_type=emergency.trigger_type,
        level=emergency.level,
        service=service,
        success=success,
        duration_ms=duration_ms,
    )


def _recovery_completed(recovery: Recovery) -> Lifecycle:
    ended_at = recovery.started_at if recovery.ended_at is None else recovery.ended_at
    scope = Scope.parse(recovery.scope)
    return Lifecycle(
        event_id=derived_id("lifecycle", LifecycleKind.RECOVERY_COMPLETED.value, recovery.recovery_id),
        event=LifecycleKind.RECOVERY_COMPLETED,
        at=ended_at,
        scope=recovery.scope,
        account_id=scope.name if scope.kind is ScopeKind.ACCOUNT else None,
        correlation_id=recovery.correlation_id,
        reason=f"{recovery.procedure}, attempt {recovery.attempt}: {recovery.outcome.value}; {recovery.detail}",
        emergency_id=recovery.emergency_id,
        success=recovery.outcome is RecoveryOutcome.COMPLETED,
        duration_ms=max(0, ended_at - recovery.started_at),
    )
