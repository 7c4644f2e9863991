"""A cascading stop goes tier by tier, dependents first, and never forgets the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emergency_stop.coordinate.lifecycle import Admit, Tick
from emergency_stop.coordinate.services import Services
from emergency_stop.coordinate.snapshot import read_scope, scope_key, scope_record
from emergency_stop.coordinate.state import Effect, ScopeState, World
from emergency_stop.coordinate.step import step
from emergency_stop.domain.messages import Hold, ServiceInstance
from emergency_stop.domain.values import AckState, Action, EmergencyState, InstanceState, StopLevel
from tests.unit.coordinate.scenario import (
    POLICY,
    SCOPE,
    ack,
    after,
    audits,
    command_to,
    commands,
    emergencies,
    hit,
    holds,
    instance,
    on_record,
    request,
    resume,
)

D = AckState.STOPPED
SERVICES = ("api", "worker", "store")
NEEDS = {"api": ("worker",), "worker": ("store",)}


def where(at: int = 0, *more: ServiceInstance, absent: tuple[str, ...] = ()) -> World:
    """The service api needs worker, and worker needs store; one live instance of each."""
    live = [
        replace(instance(name, heartbeat_at=at), depends_on=NEEDS.get(name, ()))
        for name in SERVICES
        if name not in absent
    ]
    return World(POLICY, Services(SERVICES, [*live, *more]), on_record)


def cascading(world: World | None = None) -> ScopeState:
    """Its first tier is held and commanded."""
    state, _ = step(ScopeState(SCOPE), hit(level=StopLevel.CASCADING), 0, world or where())
    state, _ = step(state, Admit(SCOPE, state.cases[0].emergency_id), 0, world or where())
    return state


def proof(state: ScopeState, service: str, at: int, instance_id: str = "1") -> tuple[ScopeState, list[Effect]]:
    return step(state, ack(command_to(state.cases[0], service), D, instance_id, at=at), at, where(at))


def held(hold: Hold) -> tuple[str, ...]:
    (cause,) = hold.causes
    return cause.services


def test_tiers_are_held_and_commanded_one_after_the_other() -> None:
    """::

    hold      api          api worker       all
    command   api          worker           store
    proven         api ─┘       worker ─┘       store ─ STOPPED
    epoch     1            2                3
    """
    state, effects = step(ScopeState(SCOPE), hit(level=StopLevel.CASCADING), 0, where())
    assert [(held(h), h.epoch, h.level) for h in holds(effects)] == [(("api",), 1, StopLevel.CASCADING)]
    state, effects = step(state, Admit(SCOPE, state.cases[0].emergency_id), 0, where())
    assert [(c.service, c.epoch, c.level) for c in commands(effects)] == [("api", 1, StopLevel.CASCADING)]

    state, effects = proof(state, "api", 10)
    assert [(held(h), h.epoch) for h in holds(effects)] == [(("api", "worker"), 2)]
    assert effects.index(holds(effects)[0]) < effects.index(commands(effects)[0]), "the hold is what stops"
    assert [(c.service, c.epoch, c.deadline_at) for c in commands(effects)] == [("worker", 2, 60_010)]
    assert audits(effects) == ["tier_begun"]

    state, effects = proof(state, "worker", 20)
    assert [(held(h), h.epoch) for h in holds(effects)] == [(("all",), 3)]
    assert [(c.service, c.epoch) for c in commands(effects)] == [("store", 3)]
    assert state.cases[0].phase.value == "stopping", "two of three tiers are no stop"

    state, effects = proof(state, "store", 30)
    (emergency,) = emergencies(effects)
    assert (emergency.state, emergency.success, emergency.time_to_stop_ms) == (EmergencyState.STOPPED, True, 30)
    assert (emergency.level, emergency.asked_level) == (StopLevel.CASCADING, StopLevel.CASCADING)
    assert [i.service for i in emergency.instances] == sorted(SERVICES)


def test_a_tier_that_is_late_holds_nobody_up_and_is_commanded_again_at_once() -> None:
    """Tier api: 0 ──── 60 000: worker begins; api once more, immediate ──── then proof of all ends it"""
    state = cascading()
    state, effects = step(state, Tick(SCOPE), 59_999, where(59_999))
    assert effects == []
    state, effects = step(state, Tick(SCOPE), 60_000, where(60_000))
    assert [held(h) for h in holds(effects)] == [("api", "worker")]
    assert [(c.service, c.level, c.epoch, c.deadline_at) for c in commands(effects)] == [
        ("api", StopLevel.IMMEDIATE, 2, 65_000),
        ("worker", StopLevel.CASCADING, 2, 120_000),
    ]
    late = {t.service: t.standing.value for t in state.cases[0].targets}
    assert late == {"api": "unknown", "worker": "pending"}, "a slot is not kept by those whose time is over"
    again = commands(effects)[0]
    state = after(state, [ack(again, D, at=60_100)], at=60_100, where=where(60_100))
    state, _ = proof(state, "worker", 60_200)
    state, _ = proof(state, "store", 60_300)
    assert (state.cases[0].phase.value, state.cases[0].success) == ("stopped", True)


def test_the_last_deadline_escalates_and_then_ends_partial() -> None:
    state = cascading()
    for at in (60_000, 120_000):
        state = after(state, [Tick(SCOPE)], at=at, where=where(at))
    assert held(holds(step(state, Tick(SCOPE), 180_000, where(180_000))[1])[0]) == ("all",)
    state = after(state, [Tick(SCOPE)], at=180_000, where=where(180_000))
    case = state.cases[0]
    assert (case.level, case.asked_level, case.epoch) == (StopLevel.IMMEDIATE, StopLevel.CASCADING, 4)
    state, effects = step(state, Tick(SCOPE), 185_000, where(185_000))
    assert emergencies(effects)[0].state is EmergencyState.PARTIAL


def test_services_in_a_circle_share_a_tier() -> None:
    circle = [replace(instance(name), depends_on=(other,)) for name, other in (("x", "y"), ("y", "x"))]
    ends = World(POLICY, Services(("x", "y", "z"), [*circle, replace(instance("z"), depends_on=("x",))]), on_record)
    assert cascading(ends).cases[0].tiers == (("z",), ("x", "y"))


def test_what_is_declared_orders_beside_what_is_announced() -> None:
    declared = replace(POLICY, dependencies={"store": ("vault",)})
    world = replace(where(0, instance("vault")), policy=declared)
    assert cascading(world).cases[0].tiers == (("api",), ("worker",), ("store",), ("vault",))


def test_a_tier_of_which_nothing_was_ever_seen_is_not_waited_for() -> None:
    """No instance of worker is there; what it announces nobody knows, so store's order is declared."""
    policy = replace(POLICY, dependencies=NEEDS)
    world = replace(where(0, absent=("worker",)), policy=policy)
    state = cascading(world)
    state, effects = step(state, ack(command_to(state.cases[0], "api"), D, at=5), 5, world)
    assert [held(h) for h in holds(effects)] == [("api", "worker"), ("all",)]
    assert [c.service for c in commands(effects)] == ["worker", "store"]


def test_while_it_waits_for_a_slot_its_tiers_go_on_by_their_deadlines() -> None:
    """A queue must not keep a tier running."""
    state, _ = step(ScopeState(SCOPE), hit(level=StopLevel.CASCADING), 0, where())
    state, effects = step(state, Tick(SCOPE), 60_000, where(60_000))
    assert [held(h) for h in holds(effects)] == [("api", "worker")]
    assert commands(effects) == []
    _, effects = step(state, Admit(SCOPE, state.cases[0].emergency_id), 60_001, where(60_001))
    assert [c.service for c in commands(effects)] == ["api", "worker"]


def test_one_that_comes_up_in_a_tier_that_was_over_is_asked_before_the_next_begins() -> None:
    state = cascading()
    second = replace(instance("api", "2", heartbeat_at=10), depends_on=("worker",))
    state, effects = step(state, ack(command_to(state.cases[0], "api"), D, at=10), 10, where(10, second))
    assert holds(effects) == []
    assert [c.service for c in commands(effects)] == ["api"]
    assert state.cases[0].tiers_begun == 1


def test_a_graceful_hit_does_not_join_what_a_cascade_does_not_hold_yet() -> None:
    state, effects = step(cascading(), hit("h2", level=StopLevel.GRACEFUL), 5, where())
    assert {cause.services for cause in holds(effects)[0].causes} == {("api",), ("all",)}
    _, effects = step(cascading(), hit("h2", level=StopLevel.CASCADING), 5, where())
    assert audits(effects) == ["hit_joined"]
    assert state.cases[1].level is StopLevel.GRACEFUL


def test_a_resume_amid_the_cascade_ends_it_and_tells_those_that_were_held() -> None:
    state, _ = proof(cascading(), "api", 10)
    _, effects = step(state, resume("r0", 1), 11, where())
    assert audits(effects) == ["resume_refused"], "each tier is a newer stop"
    state, effects = step(state, resume("r1", 2), 12, where())
    assert [(c.service, c.action) for c in commands(effects)] == [("api", Action.RESUME), ("worker", Action.RESUME)]
    assert step(state, Tick(SCOPE), 4_000, where(4_000))[1] == []


@pytest.mark.parametrize("proven", [0, 1, 2])
def test_a_restart_amid_the_cascade_goes_on_where_it_was(proven: int) -> None:
    state = cascading()
    for at, service in enumerate(SERVICES[:proven], start=10):
        state, _ = proof(state, service, at)
    again, outbox = read_scope(scope_key(SCOPE), scope_record(state))
    assert (again, outbox) == (state, [])
    for at, service in enumerate(SERVICES[proven:], start=20):
        again, _ = proof(again, service, at)
    assert (again.cases[0].phase.value, again.cases[0].success) == ("stopped", True)


def test_a_stop_of_one_service_has_one_tier() -> None:
    state, effects = step(
        ScopeState("service:worker"), request(scope="service:worker", level=StopLevel.CASCADING), 0, where()
    )
    assert state.cases[0].is_whole
    assert held(holds(effects)[0]) == ("all",)


def test_a_first_tier_that_left_lets_the_next_begin_at_once_and_its_commands_go_out() -> None:
    """What admission leads to is not lost: api is gone, so worker is held and commanded in the same moment."""
    gone = replace(instance("api", state=InstanceState.LEFT), depends_on=NEEDS["api"])
    world = where(0, gone, absent=("api",))
    state, _ = step(ScopeState(SCOPE), hit(level=StopLevel.CASCADING), 0, world)
    state, effects = step(state, Admit(SCOPE, state.cases[0].emergency_id), 0, world)
    assert [command.service for command in commands(effects)][-1] == "worker"
    assert held(holds(effects)[-1]) == ("api", "worker")
