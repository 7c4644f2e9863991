"""All scopes of a partition: slots, deadlines, restart, and what is forgotten."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emergency_stop.coordinate.partition import RESTART_GRACE_MS, WATCH_MS, Coordinator
from emergency_stop.coordinate.snapshot import SnapshotError, scope_key
from emergency_stop.coordinate.state import Effect, World
from emergency_stop.coordinate.tables import RefusedMessageError
from emergency_stop.domain.messages import Ack, ConditionQuestion, Hit, Hold, Request
from emergency_stop.domain.values import AckState, Action, ClearRule, HoldState, StopLevel
from tests.unit.coordinate.recovering import QUICK
from tests.unit.coordinate.scenario import (
    POLICY,
    SCOPE,
    ack,
    command_to,
    commands,
    hit,
    holds,
    instance,
    request,
    resume,
    world,
)

RETENTION_MS = 3_600_000


def coordinator(slots: int = 10) -> Coordinator:
    return Coordinator(slots, RETENTION_MS)


def given(core: Coordinator, message: Hit | Request | Ack, at: int, where: World) -> list[Effect]:
    """What one input leads to, once its records are written."""
    effects = core.apply(message, at, where)
    return effects + flushed(core)


def flushed(core: Coordinator) -> list[Effect]:
    core.take_dirty()
    effects = core.take_effects()
    core.take_dirty()
    return effects


def ticked(core: Coordinator, at: int, where: World) -> list[Effect]:
    core.tick(at, where)
    return flushed(core)


def restarted(former: dict[bytes, bytes | None], slots: int = 10) -> Coordinator:
    successor = coordinator(slots)
    successor.restore((key, value) for key, value in former.items() if value is not None)
    return successor


def test_a_restart_under_the_same_name_is_noticed_while_a_stop_waits_for_it() -> None:
    core = coordinator()
    given(core, hit("h1", "account:1"), 0, world())
    ticked(core, 10, world())
    anew = world(instance("x"), instance("y", started_at=500, heartbeat_at=501))
    assert [c.service for c in commands(ticked(core, WATCH_MS, anew))] == ["y"]
    assert commands(ticked(core, 2 * WATCH_MS, anew)) == []


def test_a_proven_stop_ends_with_the_tick_after_its_hold_was_read_back() -> None:
    core, unread = coordinator(), replace(world(), is_published=lambda *_: False)
    effects = given(core, hit("h1", "account:1"), 0, unread)
    for command in commands(effects):
        given(core, ack(command, AckState.STOPPED), 1, unread)
    (case,) = core.state("account:1").cases
    assert (case.phase.value, core.unrecorded, core.to_conclude(unread.is_published)) == ("stopping", 1, [])
    assert core.to_conclude(world().is_published) == ["account:1"]
    ticked(core, 2, world())
    (case,) = core.state("account:1").cases
    assert (case.phase.value, core.unrecorded, core.to_conclude(world().is_published)) == ("stopped", 0, [])


class TestSlots:
    """MAX_CONCURRENT_STOPS limits commands, never holds."""

    def test_holds_go_out_at_once_and_commands_wait(self) -> None:
        core = coordinator(slots=1)
        effects = [given(core, hit(f"h{n}", f"account:{n}"), 0, world()) for n in range(3)]
        assert [len(holds(e)) for e in effects] == [1, 1, 1]
        assert [len(commands(e)) for e in effects] == [2, 0, 0]
        assert core.queue_length == 2

    def test_the_queue_is_by_priority_then_age(self) -> None:
        core = coordinator(slots=1)
        for at, (scope, priority) in enumerate([("1", 1), ("2", 2), ("3", 4), ("4", 4)]):
            given(core, hit(f"h{scope}", f"account:{scope}", priority=priority), at, world())
        order = ["account:1"]
        for _ in range(3):
            case = core.state(order[-1]).cases[0]
            given(core, ack(command_to(case, "x"), AckState.STOPPED), 10, world())
            sent = commands(given(core, ack(command_to(case, "y"), AckState.STOPPED), 10, world()))
            order.append(sent[0].scope)
        assert order == ["account:1", "account:3", "account:4", "account:2"]

    def test_a_stop_that_waits_only_for_the_dead_keeps_no_slot(self) -> None:
        core, where = coordinator(slots=1), world(instance("x"))
        given(core, hit("h1", "account:1"), 0, where)
        given(core, hit("h2", "account:2"), 0, where)
        sent = given(core, ack(command_to(core.state("account:1").cases[0], "x"), AckState.STOPPED), 1, where)
        assert {command.scope for command in commands(sent)} == {"account:2"}

    def test_nor_does_one_past_its_first_deadline(self) -> None:
        core = coordinator(slots=1)
        given(core, hit("h1", "account:1", level=StopLevel.IMMEDIATE), 0, world())
        given(core, hit("h2", "account:2"), 0, world())
        assert {command.scope for command in commands(ticked(core, 5_000, world()))} == {"account:1", "account:2"}

    def test_nothing_begins_to_recover_by_itself_while_one_waits(self) -> None:
        core, policy = coordinator(slots=1), replace(POLICY, procedures=(QUICK,), condition_interval_ms=1_000)
        where = replace(world(), policy=policy)
        given(core, hit("h1", "account:1", clear_rule=ClearRule.WHEN_CONDITION_CLEARS), 0, where)
        first = core.state("account:1").cases[0]
        for service in "xy":
            core.apply(ack(command_to(first, service), AckState.STOPPED), 1, where)
        for name in "23":
            core.apply(hit(f"h{name}", f"account:{name}"), 1, where)
        assert core.queue_length == 1
        asked = [one for at in range(100, 1_000, 100) for one in ticked(core, at, where)]
        assert not [one for one in asked if isinstance(one, ConditionQuestion)]
        core.apply(resume("r3", core.state("account:3").epoch, scope="account:3"), 1_000, where)
        asked = [one for at in range(1_100, 3_000, 100) for one in ticked(core, at, where)]
        assert [one.scope for one in asked if isinstance(one, ConditionQuestion)][:1] == ["account:1"]

    def test_one_resumed_while_it_waits_is_never_commanded(self) -> None:
        core = coordinator(slots=1)
        core.apply(hit("h1", "account:1"), 0, world())
        core.apply(hit("h2", "account:2"), 0, world())
        core.apply(resume("r1", 1, scope="account:2"), 1, world())
        assert core.queue_length == 0


class TestDeadlines:
    def test_nothing_waits(self) -> None:
        assert coordinator().next_deadline() is None

    def test_while_a_stop_is_under_way_its_instances_are_watched(self) -> None:
        core = coordinator()
        given(core, hit(), 5_000, world())
        ticked(core, 5_010, world())
        assert core.next_deadline() == 5_010 + WATCH_MS

    def test_then_only_what_may_be_forgotten(self) -> None:
        core = coordinator()
        given(core, hit(), 5_000, world())
        case = core.state("account:a").cases[0]
        for service in "xy":
            given(core, ack(command_to(case, service), AckState.STOPPED), 5_001, world())
        assert core.next_deadline() == 5_000 + RETENTION_MS

    def test_an_instance_that_leaves_is_noticed_by_a_tick(self) -> None:
        core = coordinator()
        core.apply(hit(), 0, world())
        core.tick(1, world())
        core.tick(2, world(instance("x", "9"), instance("y")))
        assert ("x", "9") in {(t.service, t.instance_id) for t in core.state("account:a").cases[0].targets}


class TestRecoveries:
    """What a recovery waits for is what the partition wakes up for."""

    POLICY = replace(POLICY, procedures=(QUICK,))

    def where(self, at: int) -> World:
        return world(instance("x", heartbeat_at=at), instance("y", heartbeat_at=at), policy=self.POLICY)

    def stopped(self) -> Coordinator:
        core = coordinator()
        given(core, request("r1"), 0, self.where(0))
        case = core.state(SCOPE).cases[0]
        for service in "xy":
            given(core, ack(command_to(case, service), AckState.STOPPED), 1, self.where(1))
        return core

    def test_it_wakes_up_for_the_next_check_and_the_phases_end(self) -> None:
        core = self.stopped()
        given(core, request("r2", Action.RECOVER), 10_000, self.where(10_000))
        ticked(core, 10_000, self.where(10_000))
        assert core.next_deadline() == 11_000
        ticked(core, 11_000, self.where(11_000))
        case = core.state(SCOPE).cases[0]
        assert case.recovering is not None
        assert case.recovery_due_at == case.recovering.deadline_at == 14_000
        deadline = core.next_deadline()
        assert deadline is not None
        assert deadline <= 14_000
        ticked(core, 14_000, self.where(14_000))
        assert core.state(SCOPE).cases[0].phase == "stopped", "nobody answered the probe"
        assert core.next_deadline() is not None, "what is remembered is forgotten some day"

    def test_a_tick_that_finds_nothing_due_changes_nothing(self) -> None:
        core = self.stopped()
        given(core, request("r2", Action.RECOVER), 10_000, self.where(10_000))
        ticked(core, 10_000, self.where(10_000))
        core.tick(10_500, self.where(10_500))
        assert list(core.take_dirty()) == []

    def test_a_lost_instance_is_noticed_before_anything_is_due(self) -> None:
        core = self.stopped()
        given(core, request("r2", Action.RECOVER), 10_000, self.where(10_000))
        ticked(core, 11_000, self.where(11_000))
        gone = world(instance("x", heartbeat_at=11_000), instance("y", heartbeat_at=-60_000), policy=self.POLICY)
        ticked(core, 12_000, gone)
        assert core.state(SCOPE).cases[0].phase == "stopped"

    def test_a_successor_goes_on_with_it(self) -> None:
        core = self.stopped()
        core.apply(request("r2", Action.RECOVER), 10_000, self.where(10_000))
        records = dict(core.take_dirty())
        successor = restarted(records)
        assert successor.take_effects() == core.take_effects()
        ticked(successor, 11_000, self.where(11_000))
        ticked(successor, 11_000 + RESTART_GRACE_MS, self.where(11_000 + RESTART_GRACE_MS))
        case = successor.state(SCOPE).cases[0]
        assert case.recovering is not None
        assert case.recovering.checks_passed == 2


class TestRestart:
    def test_a_successor_knows_everything(self) -> None:
        core = coordinator(slots=1)
        core.apply(hit("h1", "account:1"), 0, world())
        core.apply(hit("h2", "account:2"), 0, world())
        successor = restarted(dict(core.take_dirty()), slots=1)
        assert successor.state("account:1") == core.state("account:1")
        assert (successor.queue_length, successor.census()) == (core.queue_length, core.census())
        successor.apply(hit("h1", "account:1"), 9, world())
        assert list(successor.take_dirty()) == []

    def test_nothing_is_published_before_its_record_is_given_away(self) -> None:
        core = coordinator()
        core.apply(hit(), 0, world())
        assert core.take_effects() == []
        core.take_dirty()
        assert isinstance(core.take_effects()[0], Hold)

    def test_a_successor_publishes_exactly_what_was_decided(self) -> None:
        """The records were written, then the process died, perhaps after publishing."""
        core = coordinator()
        core.apply(hit(), 0, world())
        records = dict(core.take_dirty())
        assert restarted(records).take_effects() == core.take_effects()

    def test_what_was_published_and_recorded_as_such_is_not_repeated(self) -> None:
        core = coordinator()
        core.apply(hit(), 0, world())
        records = dict(core.take_dirty())
        core.take_effects()
        records |= dict(core.take_dirty())
        assert restarted(records).take_effects() == []

    def test_deadlines_wait_until_answers_that_came_meanwhile_are_read(self) -> None:
        core = coordinator()
        core.apply(hit(), 0, world())
        case = core.state("account:a").cases[0]
        successor = restarted(dict(core.take_dirty()))
        successor.tick(60_000, world())
        assert successor.state("account:a").cases[0].phase.value == "stopping"
        for service in "xy":
            successor.apply(ack(command_to(case, service), AckState.STOPPED), 60_001, world())
        successor.tick(60_000 + RESTART_GRACE_MS, world())
        assert successor.state("account:a").cases[0].success is True

    def test_only_what_changed_is_written(self) -> None:
        core = coordinator()
        core.apply(hit("h1", "account:1"), 0, world())
        assert [key for key, _ in core.take_dirty()] == [scope_key("account:1")]
        assert list(core.take_dirty()) == []
        core.take_effects()
        assert [key for key, _ in core.take_dirty()] == [scope_key("account:1")], "its outbox is empty now"
        core.apply(hit("h1", "account:1"), 1, world())
        assert list(core.take_dirty()) == []

    def test_a_queue_without_a_running_stop_is_due_at_once(self) -> None:
        core = coordinator(slots=1)
        core.apply(hit("h1", "account:1"), 0, world())
        core.apply(hit("h2", "account:2"), 0, world())
        queued = {key: value for key, value in core.take_dirty() if key == scope_key("account:2")}
        successor = restarted(queued, slots=1)
        assert successor.next_deadline() == 0
        assert {c.scope for c in commands(ticked(successor, 1, world()))} == {"account:2"}

    @pytest.mark.parametrize(
        ("key", "value", "why"),
        [
            (scope_key("account:a"), b"{", "not JSON"),
            (scope_key("account:a"), b'{"version":2,"state":{}}', "version 2"),
            (scope_key("account:a"), b'{"version":1,"state":{}}', "does not hold a scope"),
            (scope_key("account:a"), b'{"version":1,"state":{"scope":"global"},"outbox":[]}', "another scope"),
        ],
    )
    def test_state_that_cannot_be_read_is_refused(self, key: bytes, value: bytes, why: str) -> None:
        with pytest.raises(SnapshotError, match=why):
            coordinator().restore([(key, value)])


class TestForgetting:
    """Memory is bounded, epochs are for ever."""

    def _resolved(self, core: Coordinator, at: int) -> None:
        core.apply(request("r1", scope="account:1", requested_at=at), at, world())
        core.apply(resume("r2", 1, scope="account:1"), at, world())
        case = core.state("account:1").cases[0]
        for service in "xy":
            core.apply(ack(command_to(case, service), AckState.RESUMED), at, world())
        core.take_dirty()
        core.take_effects()

    def test_a_resolved_scope_is_forgotten_after_the_retention(self) -> None:
        core = coordinator()
        self._resolved(core, at=0)
        core.tick(RETENTION_MS - 1, world())
        assert core.state("account:1").cases
        core.take_dirty()
        core.tick(RETENTION_MS, world())
        assert list(core.take_dirty()) == [(scope_key("account:1"), None)]
        assert core.next_deadline() is None

    def test_its_epoch_goes_on_from_what_was_published(self) -> None:
        where = replace(world(), published_epochs={"account:1": 7})
        (hold,) = holds(given(coordinator(), request("r9", scope="account:1"), 0, where))
        assert (hold.state, hold.epoch) == (HoldState.HELD, 8)

    def test_a_forgotten_scope_whose_hold_was_overtaken_gets_a_new_epoch_and_is_forgotten_again(self) -> None:
        core = coordinator()
        where = replace(world(), published_epochs={"account:1": 7}, overtaken={"account:1": 1})
        for _ in range(2):
            core.tick(0, where)
        core.take_dirty()
        (hold,) = holds(core.take_effects())
        assert (hold.state, hold.epoch) == (HoldState.RUNNING, 8)
        core.tick(RETENTION_MS, where)
        assert list(core.take_dirty()) == [(scope_key("account:1"), None)]

    def test_what_was_overtaken_is_said_again_under_an_epoch_that_every_gate_takes(self) -> None:
        core = coordinator()
        core.apply(hit(), 0, world())
        where = replace(world(), published_epochs={"account:a": 1}, overtaken={"account:a": 1})
        for _ in range(2):
            core.tick(0, where)
        core.take_dirty()
        *_, again = holds(core.take_effects())
        assert (again.state, again.epoch, again.causes[0].epoch) == (HoldState.HELD, 2, 1)
        assert core.state("account:a").stop_epoch == 1, "nothing was stopped anew: who saw epoch 1 may resume it"
        where = replace(where, published_epochs={"account:a": 9}, overtaken={"account:a": 2})
        core.tick(0, where)
        core.take_dirty()
        assert [hold.epoch for hold in holds(core.take_effects())] == [10]

    def test_after_a_restart_a_lifting_is_said_again_once_earlier_input_was_read_and_a_stop_at_once(self) -> None:
        first = coordinator()
        first.apply(hit(), 0, world())
        first.apply(request("r1", scope="account:1"), 0, world())
        first.apply(resume("r2", 1, scope="account:1"), 0, world())
        kept = [(key, value) for key, value in first.take_dirty() if value is not None]
        second = restarted(dict(kept))
        epochs = {"account:a": 1, "account:1": 2}
        where = replace(world(), published_epochs=epochs, overtaken={"account:a": 1, "account:1": 2})

        def said(at: int) -> list[tuple[str, int]]:
            return [(hold.scope, hold.epoch) for hold in holds(ticked(second, at, where))]

        assert ("account:a", 2) in said(5_000)
        assert ("account:1", 3) not in said(5_050)
        due = second.next_deadline()
        assert due == 5_000 + RESTART_GRACE_MS
        assert ("account:1", 3) in said(due)

    def test_what_holds_is_never_forgotten(self) -> None:
        core = coordinator()
        core.apply(hit(), 0, world())
        core.tick(100 * RETENTION_MS, world())
        assert core.state("account:a").in_force


def test_a_scope_that_is_none_is_refused_without_a_trace() -> None:
    core = coordinator()
    with pytest.raises(RefusedMessageError, match="is not one of: global, service:<name>, account:<id>"):
        core.apply(request(scope="account-123"), 0, world())
    assert list(core.take_dirty()) == []
