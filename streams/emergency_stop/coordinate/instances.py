"""Who must prove a stop, and what each instance has said so far.

Answers may come late, twice, or out of order. They are folded so that their order does not matter:
progress (received, stopping) only moves forward, and of two verdicts (stopped, failed) the one that
answers the newer order wins, then the one that the instance wrote later, then the failure.
"""

from __future__ import annotations

import difflib

from emergency_stop.coordinate.services import Liveness, Services
from emergency_stop.coordinate.state import Case, Order, Target, World
from emergency_stop.coordinate.tables import (
    INSTANCE,
    IllegalTransitionError,
    InstanceEvent,
    Phase,
    RefusedMessageError,
    Standing,
)
from emergency_stop.domain.frozen import replace
from emergency_stop.domain.ids import command_id
from emergency_stop.domain.messages import Ack, InstanceStop, ServiceInstance
from emergency_stop.domain.values import AckState, Action, Scope, StopLevel

_VERDICTS = frozenset({Standing.STOPPED, Standing.FAILED})
_PROGRESS = frozenset({AckState.RECEIVED, AckState.STOPPING})
_RESUME_SIDE = frozenset({Standing.RESUMING, Standing.RESUMED, Standing.REFUSED})
#: Standings of an instance that is alive and still owes its proof.
OWING = frozenset({Standing.PENDING, Standing.RECEIVED, Standing.STOPPING})
LEFT_IN_GOOD_ORDER = "left in good order"
BEGAN_ANEW = "started anew during the stop, commanded again"
_UNTOLD = frozenset({Standing.PENDING, Standing.RESUMING})
_WIRE = {standing: AckState.UNKNOWN if standing in _UNTOLD else AckState(standing.value) for standing in Standing}
_STOP_EVENTS = {
    AckState.RECEIVED: InstanceEvent.RECEIVED,
    AckState.STOPPING: InstanceEvent.STOPPING,
    AckState.STOPPED: InstanceEvent.STOPPED,
    AckState.FAILED: InstanceEvent.FAILED,
    # an instance that refuses a stop, or cannot tell, has not stopped
    AckState.REFUSED: InstanceEvent.FAILED,
    AckState.UNKNOWN: InstanceEvent.FAILED,
}


class UnknownAckError(RefusedMessageError):
    """An acknowledgement of a command that was never given to that service. Nothing was changed."""


def to_wire(target: Target) -> InstanceStop:
    return InstanceStop(
        target.service, target.instance_id, _WIRE[target.standing], target.reason, target.in_flight, target.at
    )


def all_proved(case: Case) -> bool:
    """Every instance of every target service has proven the stop, and there is at least one."""
    return case.is_whole and bool(case.targets) and all(target.standing is Standing.STOPPED for target in case.targets)


def proven(case: Case, world: World) -> bool:
    """All have proven the stop, and its hold is on record: whoever starts from here on reads it before it acts."""
    return all_proved(case) and (case.drill or world.is_published(case.scope, case.epoch))


def recovered(case: Case) -> bool:
    """Every instance that was asked to resume has done so."""
    return not any(target.standing in (Standing.RESUMING, Standing.REFUSED) for target in case.targets)


def _concluded(target: Target, event: InstanceEvent, reason: str, at: int, order: int = 0) -> Target:
    """The target after something the coordinator saw itself; unchanged where that tells nothing new."""
    standing = INSTANCE.next(target.standing, event)
    if standing is target.standing:
        return target
    return replace(target, standing=standing, reason=reason, at=at, order=order)


def _absent(service: str, services: Services, now_ms: int) -> Target:
    if service in services.known:
        reason = "no instance of it was ever seen alive"
    else:
        near = difflib.get_close_matches(service, services.known, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(services.known)}"
        reason = f"not one of the configured services (ESTOP_SERVICES), so it gets no commands{hint}"
    return Target(service, "", Standing.UNKNOWN, reason, 0, now_ms)


def _new(service: str, instance_id: str, now_ms: int, started_at: int | None = None) -> Target:
    text = "commanded, no answer yet"
    return Target(service, instance_id, INSTANCE.initial, text, 0, now_ms, started_at=started_at)


def _enlisted(instance: ServiceInstance, liveness: Liveness, now_ms: int) -> Target:
    target = _new(instance.service, instance.instance_id, now_ms, instance.started_at)
    if liveness is Liveness.LOST:
        return _concluded(target, InstanceEvent.LOST, "heartbeat lost", now_ms)
    return target


def enlist(case: Case, world: World, now_ms: int) -> tuple[Target, ...]:
    """The targets of a stop whose commands go out now: every instance that lives or was lost.

    A service whose instances all left in good order counts as stopped; one of which nothing is known
    is UNKNOWN from the start.
    """
    targets: list[Target] = []
    for service in world.services.named(case.held_services, Scope.parse(case.scope)):
        found = world.services.instances(service, now_ms, world.policy.heartbeat_lost_ms)
        present = [(one, liveness) for one, liveness in found.values() if liveness is not Liveness.LEFT]
        targets.extend(_enlisted(one, liveness, now_ms) for one, liveness in present)
        if not present and found:
            newest = max((instance for instance, _ in found.values()), key=lambda one: one.heartbeat_at)
            left = _new(service, newest.instance_id, now_ms, newest.started_at)
            targets.append(_concluded(left, InstanceEvent.LEFT, LEFT_IN_GOOD_ORDER, newest.heartbeat_at))
        elif not present:
            targets.append(_absent(service, world.services, now_ms))
    return tuple(targets)


def refresh(case: Case, world: World, now_ms: int) -> tuple[tuple[Target, ...], frozenset[str]]:
    """(targets as the services' announcements now have them, services with instances that came up).

    An instance that comes up during a stop is a target too, and its service's command is sent again; also to one
    that comes up again under its name, which reads commands from when it began. So is one that came up and was lost
    before anybody looked: it may run all the same. What the process before it proved, or that it left, binds only
    itself: its successor may have read the holds before this stop's was there.
    """
    targets: list[Target] = []
    newcomers: set[str] = set()
    for service in dict.fromkeys(target.service for target in case.targets):
        found = world.services.instances(service, now_ms, world.policy.heartbeat_lost_ms)
        present = {target.instance_id: target for target in case.targets if target.service == service}
        for instance_id in found.keys() & present.keys():
            instance, liveness = found[instance_id]
            target = present[instance_id]
            if liveness is Liveness.LEFT:
                target = _left(case, target, instance)
            elif _began_anew(target, instance):
                target = _anew(target, instance)
                newcomers.add(service)
            if liveness is Liveness.LOST:
                target = _concluded(target, InstanceEvent.LOST, "heartbeat lost", now_ms)
            present[instance_id] = target
        fresh = [one for key, one in found.items() if key not in present]
        came = [_enlisted(*one, now_ms) for one in fresh if one[1] is not Liveness.LEFT]
        if came:
            present.pop("", None)
        if any(liveness is Liveness.LIVE for _, liveness in fresh):
            newcomers.add(service)
        targets.extend((*present.values(), *came))
    return tuple(targets), frozenset(newcomers)


def _left(case: Case, target: Target, instance: ServiceInstance) -> Target:
    """Nothing of it runs any more; but nobody knows whether its state was saved, where the stop is for maintenance."""
    if case.level is StopLevel.MAINTENANCE and not case.drill and target.standing is not Standing.STOPPED:
        return _concluded(target, InstanceEvent.FAILED, "left without a saved state", instance.heartbeat_at)
    left = _concluded(target, InstanceEvent.LEFT, LEFT_IN_GOOD_ORDER, instance.heartbeat_at, len(case.orders))
    return target if left is target else replace(left, started_at=instance.started_at)


def _began_anew(target: Target, instance: ServiceInstance) -> bool:
    """Whether another process has its id now than what is last known is of: that one never saw its command.

    When it was started is a name here, compared for nothing but equality: no clocks need agree. Of one whose library
    does not tell, the times must do. One that failed to stop is commanded again by the escalation, and keeps its reason
    until then.
    """
    if target.standing is Standing.FAILED or target.standing in _RESUME_SIDE or not target.instance_id:
        return False
    if target.started_at is None:
        return instance.started_at > target.at
    return instance.started_at != target.started_at


def _anew(target: Target, instance: ServiceInstance) -> Target:
    standing = INSTANCE.next(target.standing, InstanceEvent.ANEW)
    at = instance.started_at
    return replace(target, standing=standing, reason=BEGAN_ANEW, in_flight=0, at=at, order=0, started_at=at)


def silence(targets: tuple[Target, ...], now_ms: int) -> tuple[Target, ...]:
    """The last deadline passed: whoever still owes its proof is UNKNOWN, with the reason."""

    def reason(target: Target) -> str:
        if target.standing is Standing.PENDING:
            return "no answer by the deadline"
        return f"{target.standing.value}, but no proof of the stop by the deadline"

    return tuple(_concluded(target, InstanceEvent.SILENT, reason(target), now_ms) for target in targets)


def ask_to_resume(case: Case, services: frozenset[str], world: World, now_ms: int) -> tuple[Target, ...]:
    """Targets after a resume was accepted: every live instance of ``services`` is to confirm it."""
    targets = {(target.service, target.instance_id): target for target in case.targets}
    for service in sorted(services):
        found = world.services.instances(service, now_ms, world.policy.heartbeat_lost_ms)
        for instance_id, (_, liveness) in found.items():
            if liveness is Liveness.LIVE:
                target = targets.get((service, instance_id)) or _new(service, instance_id, now_ms)
                asked = _concluded(target, InstanceEvent.RESUME, "asked to resume, no answer yet", now_ms)
                targets[service, instance_id] = asked
    return tuple(targets.values())


def fold_ack(case: Case, ack: Ack, now_ms: int) -> Case:
    """The case after one acknowledgement; the same object where it tells nothing new.

    Raises ``UnknownAckError`` for a command never given, ``IllegalTransitionError`` for an answer that
    does not fit (``resumed`` to a stop).
    """
    number, order = _answered(case, ack)
    former = next((t for t in case.targets if (t.service, t.instance_id) == (ack.service, ack.instance_id)), None)
    if (
        former is not None
        and _is_of_another(former, ack)
        and ack.state in _PROGRESS
        and order.action is not Action.RESUME
    ):
        # a former process, or the next one before it is announced: then it is asked anew, and answers again
        return case
    target = former or _new(ack.service, ack.instance_id, now_ms, ack.started_at)
    if order.action is Action.RESUME and target.standing not in _RESUME_SIDE:
        # it was not seen alive when the resume went out, but it got the command all the same
        target = replace(target, standing=INSTANCE.next(target.standing, InstanceEvent.RESUME))
    event, reason = _event(order, ack)
    standing = INSTANCE.next(target.standing, event)
    done = case.phase in (Phase.STOPPED, Phase.PARTIAL, Phase.RESTORING)
    if case.phase is Phase.RESOLVED or (done and standing not in _VERDICTS) or _stale(target, standing, number, ack):
        return case
    if former is not None and standing is former.standing and standing not in _VERDICTS:
        return case
    told = replace(
        target, standing=standing, reason=reason, in_flight=ack.in_flight, at=ack.acked_at, order=number,
        started_at=ack.started_at,
    )  # fmt: skip
    kept = [told if t is former else t for t in case.targets if (t.service, t.instance_id) != (ack.service, "")]
    if former is None:
        kept = sorted([*kept, told], key=lambda t: (t.service, t.instance_id))
    return replace(case, targets=tuple(kept))


def _is_of_another(target: Target, ack: Ack) -> bool:
    """Whether another process with its id says so than the one that is known of."""
    return None not in (target.started_at, ack.started_at) and target.started_at != ack.started_at


def _answered(case: Case, ack: Ack) -> tuple[int, Order]:
    if any(target.service == ack.service for target in case.targets):
        for number, order in enumerate(case.orders, start=1):
            wanted = command_id(case.emergency_id, ack.service, order.epoch, order.action, order.attempt)
            if wanted == ack.command_id:
                return number, order
    raise UnknownAckError(
        f"{ack.service}/{ack.instance_id} acknowledges command {ack.command_id}, which emergency"
        f" {case.emergency_id} never gave to that service; the acknowledgement was ignored"
    )


def _event(order: Order, ack: Ack) -> tuple[InstanceEvent, str]:
    """What an acknowledgement means. A proof that proves something else is a failure, with the reason."""
    if order.action is Action.RESUME:
        if ack.state in (AckState.RECEIVED, AckState.RESUMED):
            return InstanceEvent(ack.state.value), ack.reason
        return InstanceEvent.REFUSED, ack.reason or f"answered {ack.state.value} to a resume"
    if ack.state is AckState.RESUMED:  # whatever has come since: it confirms no resume
        raise IllegalTransitionError("command", order.action.value, ack.state.value)
    event = _STOP_EVENTS[ack.state]
    if ack.state is not AckState.STOPPED or order.action is Action.DRILL:
        # a drill stops nothing: that it was answered is its proof
        return event, ack.reason
    if ack.in_flight > 0:
        return InstanceEvent.FAILED, f"claims stopped with {ack.in_flight} operations in flight"
    if ack.epoch < order.epoch:
        return InstanceEvent.FAILED, f"claims stopped at epoch {ack.epoch}, but the stop is epoch {order.epoch}"
    if order.level is not StopLevel.MAINTENANCE:
        return event, ack.reason
    if not ack.saved_state:
        return InstanceEvent.FAILED, "claims stopped without a saved state, which a maintenance stop needs"
    return event, "; ".join(filter(None, (ack.reason, f"saved state: {ack.saved_state}")))


def _stale(target: Target, standing: Standing, number: int, ack: Ack) -> bool:
    """Whether a newer or equal verdict of the instance is known already."""
    if target.standing not in _VERDICTS:
        return False
    if standing not in _VERDICTS or ack.state in _PROGRESS:
        return True
    known = (target.order, target.at, target.standing is Standing.FAILED)
    return (number, ack.acked_at, standing is Standing.FAILED) <= known
