"""Messages and worlds for tests of the coordinator, with only what a test is about in sight."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from emergency_stop.coordinate.lifecycle import Admit
from emergency_stop.coordinate.services import Services
from emergency_stop.coordinate.state import Case, Effect, Policy, ScopeState, World
from emergency_stop.coordinate.step import step
from emergency_stop.domain.ids import ack_id, command_id
from emergency_stop.domain.messages import Ack, AuditRecord, Command, Emergency, Hit, Hold, Request, ServiceInstance
from emergency_stop.domain.values import AckState, Action, InstanceState, Mode, Scope, StopLevel, TriggerType

SCOPE = "account:a"
POLICY = Policy(issued_by="coordinator-test")


def instance(
    service: str,
    instance_id: str = "1",
    *,
    heartbeat_at: int = 0,
    state: InstanceState = InstanceState.UP,
    started_at: int = 0,
) -> ServiceInstance:
    return ServiceInstance(
        service, instance_id, state, started_at, heartbeat_at=heartbeat_at, in_flight=0, held_scopes=0
    )


def world(*instances: ServiceInstance, known: tuple[str, ...] = ("x", "y"), policy: Policy = POLICY) -> World:
    """Two services, x and y, each with one live instance named 1, unless told otherwise."""
    return World(policy, Services(known, instances or tuple(instance(name) for name in known)), on_record)


def on_record(scope: str, epoch: int) -> bool:
    """Every hold is readable as soon as it was decided."""
    del scope, epoch
    return True


def hit(hit_id: str = "h1", scope: str = SCOPE, **changes: Any) -> Hit:
    fields: dict[str, Any] = {
        "trigger_id": "t1", "trigger_version": 1, "trigger_type": TriggerType.HEALTH_SCORE_CRITICAL,
        "trigger_name": "low health", "mode": Mode.ENFORCE, "scope": scope, "account_id": Scope.parse(scope).name,
        "level": StopLevel.GRACEFUL, "target_services": ("all",), "priority": 3, "reason": "12 < 30",
        "occurred_at": 0, "detected_at": 0, "source_topic": "telemetry.health", "source_partition": 0,
        "source_offset": 1, "observed": 12.0, "threshold": 30.0, "margin": 18.0, "window_ms": 60_000,
        "window_samples": 5, "window_contents": "{}", "late": False, "suppressed_before": 0,
        "correlation_id": f"corr-{hit_id}",
    }  # fmt: skip
    return Hit(hit_id, **{**fields, **changes})


def request(request_id: str = "r1", action: Action = Action.STOP, scope: str = SCOPE, **changes: Any) -> Request:
    fields: dict[str, Any] = {
        "level": StopLevel.IMMEDIATE, "services": ("all",), "reason": "looks wrong", "requested_by": "ann",
        "requested_at": 0, "correlation_id": f"corr-{request_id}",
    }  # fmt: skip
    return Request(request_id, action, scope, **{**fields, **changes})


def resume(request_id: str, epoch: int | None, emergency_id: str | None = None, scope: str = SCOPE) -> Request:
    return request(request_id, Action.RESUME, scope, epoch=epoch, emergency_id=emergency_id)


def ack(command: Command, state: AckState, instance_id: str = "1", *, at: int = 1, **changes: Any) -> Ack:
    fields: dict[str, Any] = {
        "emergency_id": command.emergency_id, "correlation_id": command.correlation_id, "scope": command.scope,
        "epoch": command.epoch, "service": command.service, "reason": "", "in_flight": 0,
        "last_side_effect_at": None, "saved_state": None, "acked_at": at,
    }  # fmt: skip
    return Ack(
        ack_id(command.command_id, instance_id, state),
        command.command_id,
        instance_id=instance_id,
        state=state,
        **{**fields, **changes},
    )


def command_to(case: Case, service: str, order: int = -1) -> Command:
    """The command that ``service`` got with an order of ``case`` (the newest unless told)."""
    given = case.orders[order]
    return Command(
        command_id(case.emergency_id, service, given.epoch, given.action, given.attempt), case.emergency_id,
        case.correlation_id, service, case.scope, given.epoch, given.action, given.level, case.reason, "test",
        given.issued_at, given.deadline_at, given.attempt,
    )  # fmt: skip


def opened(message: Hit | Request, at: int = 0, where: World | None = None) -> ScopeState:
    """A scope whose first emergency is under way: its commands are out."""
    where = where or world()
    state, _ = step(ScopeState(message.scope), message, at, where)
    state, _ = step(state, Admit(state.scope, state.cases[0].emergency_id), at, where)
    return state


def after(state: ScopeState, messages: Iterable[Any], at: int = 1, where: World | None = None) -> ScopeState:
    for message in messages:
        state, _ = step(state, message, at, where or world())
    return state


def holds(effects: Sequence[Effect]) -> list[Hold]:
    return [effect for effect in effects if isinstance(effect, Hold)]


def commands(effects: Sequence[Effect]) -> list[Command]:
    return [effect for effect in effects if isinstance(effect, Command)]


def emergencies(effects: Sequence[Effect]) -> list[Emergency]:
    return [effect for effect in effects if isinstance(effect, Emergency)]


def audits(effects: Sequence[Effect]) -> list[str]:
    return [effect.action for effect in effects if isinstance(effect, AuditRecord)]
