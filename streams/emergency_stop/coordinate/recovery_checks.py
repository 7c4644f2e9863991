"""Whether anything speaks against letting a scope run. Every doubt is an answer: what is not known to be well, is not.

Each function returns why not, for people; empty beyond doubt.
"""

from __future__ import annotations

from collections.abc import Iterable

from emergency_stop.coordinate.dependencies import tiers
from emergency_stop.coordinate.recovery_procedures import PERCENT_ALL, Gate
from emergency_stop.coordinate.recovery_state import Count, Probe, RecoveryState
from emergency_stop.coordinate.services import Liveness
from emergency_stop.coordinate.state import Case, ScopeState, World
from emergency_stop.coordinate.tables import Standing
from emergency_stop.domain.messages import ServiceInstance
from emergency_stop.domain.values import GLOBAL_SCOPE, Scope, ScopeKind

_UNPROVEN = frozenset({Standing.UNKNOWN, Standing.FAILED})


def targets_of(case: Case, world: World) -> tuple[str, ...]:
    """The services that the emergency holds."""
    return world.services.named(case.services, Scope.parse(case.scope))


def doubt(state: ScopeState, case: Case, world: World, now_ms: int) -> str:
    """The first thing that speaks against it, dependencies before what depends on them."""
    targets = targets_of(case, world)
    ordered = _needed(targets, world)
    found = [_overtaken(state, case), _wider(case, ordered, targets, world)]
    found += [_ailing(service, world, now_ms) for service in ordered]
    found += [_unreachable(service, world) for service in targets]
    found.append(_unproven(case, world, now_ms))
    return next(filter(None, found), "")


def unhealthy(case: Case, world: World, now_ms: int) -> str:
    """An instance of a target that says it is not well, or is lost. That it left, or was started anew, is no matter."""
    for service in targets_of(case, world):
        found = world.services.instances(service, now_ms, world.policy.heartbeat_lost_ms)
        for instance, liveness in found.values():
            if liveness is Liveness.LOST:
                return f"{service}/{instance.instance_id}: heartbeat lost"
            if liveness is Liveness.LIVE and not instance.healthy:
                return _said(instance)
    return ""


def _needed(targets: Iterable[str], world: World) -> list[str]:
    """The targets and all that they depend on, dependencies first."""
    depends_on = world.services.depends_on({})
    found = list(targets)
    for service in found:
        found += sorted(other for other in depends_on.get(service, ()) if other not in found)
    return [service for tier in tiers(found, depends_on) for service in tier]


def _overtaken(state: ScopeState, case: Case) -> str:
    newer = [other for other in state.in_force if other is not case and other.epoch > case.epoch]
    return f"a newer stop holds the scope: emergency {newer[0].emergency_id}, epoch {newer[0].epoch}" if newer else ""


def _wider(case: Case, needed: Iterable[str], targets: Iterable[str], world: World) -> str:
    scope = Scope.parse(case.scope)
    if scope.kind is ScopeKind.GLOBAL:
        return ""
    inner = targets if scope.kind is ScopeKind.SERVICE else ()
    wider = [str(GLOBAL_SCOPE), *(str(Scope.service(service)) for service in needed if service not in inner)]
    held = next((world.wide_holds[name] for name in wider if name in world.wide_holds), None)
    return f"{held.scope} is held at epoch {held.epoch}" if held else ""


def _live(service: str, world: World, now_ms: int) -> list[ServiceInstance]:
    found = world.services.instances(service, now_ms, world.policy.heartbeat_lost_ms)
    return [instance for instance, liveness in found.values() if liveness is Liveness.LIVE]


def _ailing(service: str, world: World, now_ms: int) -> str:
    found = world.services.instances(service, now_ms, world.policy.heartbeat_lost_ms)
    lost = [key for key, (_, liveness) in found.items() if liveness is Liveness.LOST]
    if lost:
        return f"{service}/{lost[0]}: heartbeat lost"
    live = _live(service, world, now_ms)
    if not live:
        return f"{service}: no instance of it is alive"
    return next((_said(instance) for instance in live if not instance.healthy), "")


def _said(instance: ServiceInstance) -> str:
    return f"{instance.service}/{instance.instance_id} is not healthy: {instance.problem or 'it does not say why'}"


def _unreachable(service: str, world: World) -> str:
    if service in world.services.known:
        return ""
    return f"{service} is not one of the configured services (ESTOP_SERVICES), so it cannot be asked"


def _unproven(case: Case, world: World, now_ms: int) -> str:
    """An instance that may run still and never showed that it stopped."""
    for target in case.targets:
        found = world.services.instances(target.service, now_ms, world.policy.heartbeat_lost_ms)
        _, liveness = found.get(target.instance_id, (None, Liveness.LEFT))
        if target.standing in _UNPROVEN and liveness is not Liveness.LEFT:
            return f"{target.service}/{target.instance_id} never proved its stop: {target.reason}"
    return ""


def probes_for(services: Iterable[str], world: World, now_ms: int) -> tuple[Probe, ...]:
    """The instances that are to say whether they are well: those that live."""
    return tuple(
        Probe(service, instance.instance_id, instance.started_at)
        for service in services
        for instance in _live(service, world, now_ms)
    )


def still_asked(probes: tuple[Probe, ...], world: World, now_ms: int) -> tuple[Probe, ...]:
    """Without those that left in good order."""
    return tuple(
        probe for probe in probes if _found(probe.service, probe.instance_id, world, now_ms)[1] is not Liveness.LEFT
    )


def counted(services: Iterable[str], world: World, now_ms: int, known: tuple[Count, ...] = ()) -> tuple[Count, ...]:
    """``known`` and the counters of every live instance of ``services`` that it lacks."""
    have = {(one.service, one.instance_id) for one in known}
    return known + tuple(
        Count(service, one.instance_id, one.started_at, one.actions, one.failed_actions)
        for service in services
        for one in _live(service, world, now_ms)
        if (service, one.instance_id) not in have
    )


def began_anew(recovery: RecoveryState, world: World, now_ms: int) -> str:
    """An instance that was let run, or was asked, and was started again since."""
    known = {(one.service, one.instance_id): one.started_at for one in recovery.probes}
    known |= {(one.service, one.instance_id): one.started_at for one in recovery.baseline}
    for (service, instance_id), started_at in known.items():
        instance, _ = _found(service, instance_id, world, now_ms)
        if instance is not None and instance.started_at != started_at:
            return f"{service}/{instance_id} was started anew meanwhile"
    return ""


def failing(recovery: RecoveryState, world: World, now_ms: int) -> str:
    """Too many actions that failed since the first were admitted, over all that run again."""
    procedure = recovery.procedure
    if Gate.FAILED_ACTIONS not in procedure.gates:
        return ""
    actions = failed = 0
    for one in recovery.baseline:
        instance, _ = _found(one.service, one.instance_id, world, now_ms)
        if instance is not None:
            anew = instance.started_at != one.started_at
            actions += instance.actions - (0 if anew else one.actions)
            failed += instance.failed_actions - (0 if anew else one.failed_actions)
    if failed < procedure.failed_actions_min or failed * PERCENT_ALL <= procedure.failed_actions_percent_max * actions:
        return ""
    return f"{failed} of {actions} actions failed, more than {procedure.failed_actions_percent_max} %"


def _found(service: str, instance_id: str, world: World, now_ms: int) -> tuple[ServiceInstance | None, Liveness]:
    found = world.services.instances(service, now_ms, world.policy.heartbeat_lost_ms)
    return found.get(instance_id, (None, Liveness.LEFT))
