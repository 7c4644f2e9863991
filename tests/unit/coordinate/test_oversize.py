"""What is too large for the broker in spite of all bounds: it says less, and holds no less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from emergency_stop.coordinate.oversize import (
    CAUSES_TOLD_MAX,
    INSTANCES_TOLD_MAX,
    RECORD_BYTES_MAX,
    Published,
    held_whole,
    shrunk,
)
from emergency_stop.coordinate.partition import Coordinator
from emergency_stop.coordinate.snapshot import PACKED_FROM_BYTES, SnapshotError, read_scope, scope_key, scope_record
from emergency_stop.coordinate.state import Effect, ScopeState
from emergency_stop.coordinate.step import step
from emergency_stop.coordinate.tables import Phase
from emergency_stop.domain.messages import (
    Ack,
    AuditRecord,
    Emergency,
    Hit,
    Hold,
    HoldCause,
    InstanceStop,
    Recovery,
    Request,
    Share,
)
from emergency_stop.domain.values import (
    ALL_SERVICES,
    AckState,
    Action,
    EmergencyState,
    HoldState,
    RecoveryOutcome,
    RecoveryPhase,
    StopLevel,
)
from emergency_stop.wire.codec import encode_record, to_plain
from tests.unit.coordinate.scenario import (
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
    opened,
    request,
    resume,
    world,
)

LARGE = 5_000_000
RETENTION_MS = 3_600_000
STATE_BYTES_MAX = "emergency_stop.coordinate.partition.STATE_BYTES_MAX"


def size(message: Published) -> int:
    return len(encode_record(type(message).__name__, to_plain(message), 1))


class TestShrunk:
    """Published records: what they are about stays."""

    def test_an_account_names_first_who_has_not_stopped_and_how_many_there_are(self) -> None:
        stopped = InstanceStop("x", "i", AckState.STOPPED, "w" * 1_000, 0, 1)
        owes = replace(stopped, instance_id="owes", state=AckState.UNKNOWN)
        _, effects = step(ScopeState(SCOPE), hit(), 0, world())
        (account,) = emergencies(effects)
        large = replace(account, instances=(*[stopped] * 20_000, owes))
        assert size(large) > RECORD_BYTES_MAX
        small = shrunk(large)
        assert isinstance(small, Emergency)
        assert size(small) < RECORD_BYTES_MAX
        assert (small.instances[0].instance_id, len(small.instances)) == ("owes", INSTANCES_TOLD_MAX)
        assert small.reason == f"{account.reason} ({INSTANCES_TOLD_MAX} of 20001 instances are listed)"
        assert replace(small, instances=(), reason="") == replace(account, instances=(), reason="")

    def test_a_hold_with_long_reasons_keeps_its_causes(self) -> None:
        cause = HoldCause("e", StopLevel.GRACEFUL, ("x",), "w" * 5_000, 1, "t", (Share("x", 10),))
        causes = tuple(replace(cause, epoch=number) for number in range(CAUSES_TOLD_MAX))
        large = Hold(SCOPE, CAUSES_TOLD_MAX - 1, HoldState.HELD, StopLevel.GRACEFUL, causes, "w", 1)
        small = shrunk(large)
        assert isinstance(small, Hold)
        assert size(small) < RECORD_BYTES_MAX < size(large)
        assert [replace(one, reason="") for one in small.causes] == [replace(one, reason="") for one in causes]

    def test_a_hold_with_too_many_causes_holds_everything_as_severely_as_any_of_them(self) -> None:
        cause = HoldCause("e", StopLevel.GRACEFUL, ("x",), "w" * 50, 1, "t", (Share("x", 10),))
        causes = [replace(cause, emergency_id=f"e{number}", epoch=number) for number in range(100_000)]
        causes[7] = replace(causes[7], level=StopLevel.IMMEDIATE)
        large = Hold(SCOPE, 99_999, HoldState.HELD, StopLevel.IMMEDIATE, tuple(causes), "w", 1)
        small = shrunk(large)
        assert isinstance(small, Hold)
        assert size(small) < RECORD_BYTES_MAX < size(large)
        (one,) = small.causes
        assert (one.level, one.services, one.shares, one.trigger_id) == (StopLevel.IMMEDIATE, (ALL_SERVICES,), (), None)
        assert (one.emergency_id, one.epoch) == ("e99999", small.epoch), "it shuts gates, so it goes first"
        assert replace(small, causes=()) == replace(large, causes=())

    def test_audit_and_recovery_say_less(self) -> None:
        note = AuditRecord("a", 1, "ann", "resumed", SCOPE, "r" * LARGE, "c", before="b" * LARGE, after="{}")
        small = shrunk(note)
        assert isinstance(small, AuditRecord)
        assert (len(small.reason), small.before, small.after) == (1_000, '{"too_long": 5000000}', "{}")
        recovery = Recovery(
            "r", "e", SCOPE, "c", 1, "p", ("w" * LARGE,), RecoveryPhase.VALIDATION, RecoveryOutcome.UNDER_WAY, "ann", 1,
            2, 0, (), "d" * LARGE,
        )  # fmt: skip
        assert size(shrunk(recovery)) < 3_000

    def test_a_command_has_nothing_to_leave_out(self) -> None:
        command = command_to(opened(hit()).cases[0], "x")
        assert shrunk(command) is command


class TestPacked:
    """A large record of a scope is one record still."""

    def crowded(self) -> ScopeState:
        return opened(hit(), where=world(*(instance("x", f"i{number}") for number in range(3_000))))

    def test_it_is_read_as_it_was_written(self) -> None:
        state = self.crowded()
        outbox = step(state, hit("h2", trigger_id="t2"), 1, world())[1]
        record = scope_record(state, outbox)
        assert not record.startswith(b"{")
        assert len(record) < PACKED_FROM_BYTES
        assert read_scope(scope_key(SCOPE), record) == (state, outbox)

    def test_a_small_one_is_plain(self) -> None:
        assert scope_record(opened(hit())).startswith(b'{"version":1,')

    def test_one_that_is_damaged_is_refused(self) -> None:
        record = scope_record(self.crowded())
        with pytest.raises(SnapshotError, match="not JSON"):
            read_scope(scope_key(SCOPE), record[:-9])


class TestHeldWhole:
    """One stop of everything takes the place of what cannot be kept."""

    def test_it_stops_everything_at_once_under_a_new_epoch_and_is_unproven(self) -> None:
        state = after(opened(hit()), [hit("h2", trigger_id="t2", target_services=("x",)), request("r1")])
        held, effects = held_whole(state, [], 9)
        (case,) = held.cases
        assert (case.phase, case.level, case.services) == (Phase.PARTIAL, StopLevel.IMMEDIATE, (ALL_SERVICES,))
        assert held.epoch == held.stop_epoch == case.epoch == state.epoch + 1
        assert case.reason.startswith("the account of 3 emergencies of this scope became too large to keep")
        (hold,) = holds(effects)
        assert (hold.state, hold.epoch, hold.level) == (HoldState.HELD, state.epoch + 1, StopLevel.IMMEDIATE)
        assert effects[0] is hold
        assert audits(effects) == ["emergency_partial"], "people are paged"
        first, *over = emergencies(effects)
        assert (first.emergency_id, first.state, first.success) == (case.emergency_id, EmergencyState.PARTIAL, False)
        assert {one.emergency_id for one in over} == {one.emergency_id for one in state.cases}
        assert {(one.state, one.success, one.instances) for one in over} == {(EmergencyState.RESOLVED, False, ())}
        assert {one.reason.split(":")[0] for one in over} == {f"held on as emergency {case.emergency_id}"}

    def test_no_trigger_lifts_it_and_a_person_does(self) -> None:
        held, _ = held_whole(opened(hit()), [], 9)
        assert (held.cases[0].trigger_id, held.cases[0].recover_at) == (None, None)
        held, effects = step(held, resume("r1", held.epoch), 10, world())
        assert holds(effects)[0].state is HoldState.RUNNING
        assert [one.action for one in commands(effects)] == [Action.RESUME] * 2

    def test_what_was_decided_is_not_decided_again_and_plans_stay(self) -> None:
        planned = request("r1", level=StopLevel.MAINTENANCE, starts_at=60_000)
        state = after(opened(hit()), [planned])
        held, _ = held_whole(state, [], 9)
        assert [case.phase for case in held.cases] == [Phase.SCHEDULED, Phase.PARTIAL]
        assert step(held, hit(), 10, world()) == (held, [])
        assert step(held, planned, 10, world()) == (held, [])

    def test_what_nothing_holds_is_not_held_by_it(self) -> None:
        state, outbox = step(opened(hit()), resume("r1", 1), 1, world())
        assert [case.phase for case in state.cases] == [Phase.RECOVERING]
        held, effects = held_whole(state, outbox, 9)
        assert (held.cases, held.epoch) == ((), state.epoch)
        assert [one.state for one in emergencies(effects)] == [EmergencyState.RESOLVED]
        assert [type(one) for one in effects[:2]] == [AuditRecord, Hold], "it is on record before it is lifted"
        assert holds(effects) == holds(outbox)

    def test_what_waits_to_be_put_on_record_is(self) -> None:
        state, outbox = step(opened(hit()), request("r1"), 1, world())
        _, effects = held_whole(state, outbox, 9)
        assert isinstance(effects[0], Hold)
        assert effects[0].epoch == state.epoch + 1
        assert len(holds(effects)) == 1
        assert audits(effects) == ["emergency_partial", *audits(outbox)]
        assert commands(effects) == [], "the hold stops what they would have"


class TestPartition:
    """A scope that no broker takes ends neither its coordinator nor the stops of others."""

    def given(self, core: Coordinator, message: Hit | Request | Ack) -> dict[bytes, bytes]:
        core.apply(message, 5, world())
        return self.written(core)

    def written(self, core: Coordinator) -> dict[bytes, bytes]:
        records: Sequence[tuple[bytes, bytes | None]] = core.take_dirty()
        return {key: value for key, value in records if value is not None}

    def test_it_is_held_whole_and_its_slot_is_free(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(STATE_BYTES_MAX, 10_000)
        core = Coordinator(1, RETENTION_MS)
        self.given(core, hit("h1", "account:1", reason="w" * 20_000))
        effects = core.take_effects()
        assert [hold.level for hold in holds(effects)] == [StopLevel.IMMEDIATE]
        assert [case.phase for case in core.state("account:1").cases] == [Phase.PARTIAL]
        core.apply(hit("h2", "account:2"), 6, world())
        sent = self.effects(core)
        assert {command.scope for command in commands(sent)} == {"account:2"}

    def effects(self, core: Coordinator) -> list[Effect]:
        self.written(core)
        return core.take_effects()

    def test_a_successor_goes_on_from_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(STATE_BYTES_MAX, 10_000)
        core = Coordinator(10, RETENTION_MS)
        records = self.given(core, hit(reason="w" * 20_000))
        assert all(len(value) <= 10_000 for value in records.values())
        successor = Coordinator(10, RETENTION_MS)
        successor.restore(records.items())
        assert successor.state(SCOPE) == core.state(SCOPE)
        assert successor.take_effects() == core.take_effects()

    def test_one_that_waits_for_a_slot_is_commanded_no_more(self, monkeypatch: pytest.MonkeyPatch) -> None:
        core = Coordinator(1, RETENTION_MS)
        self.given(core, hit("h1", "account:1"))
        monkeypatch.setattr(STATE_BYTES_MAX, 10_000)
        self.given(core, hit("h2", "account:2", reason="w" * 20_000))
        assert core.queue_length == 0
        for service in "xy":
            command = command_to(core.state("account:1").cases[0], service)
            core.apply(ack(command, AckState.STOPPED), 7, world())
        assert {command.scope for command in commands(self.effects(core))} == {"account:1"}
