"""The last resort: for emergencies without proof, until the endpoint accepts it, and never twice."""

from __future__ import annotations

import json
import os
import random
from dataclasses import replace

import pytest

from emergency_stop.apps.notifier.last_resort import (
    AT_ONCE_MAX,
    REMEMBERED_MS,
    LastResort,
    Outcome,
    Standing,
    audit_of,
    body_of,
    notice_of,
)
from emergency_stop.apps.notifier.telling import StateError
from emergency_stop.domain.messages import Emergency, InstanceStop
from emergency_stop.domain.values import AckState, EmergencyState, NoticeKind, StopLevel, TriggerType

PATIENCE_MS = 60_000
PARTIAL, STOPPED, RESOLVED = EmergencyState.PARTIAL, EmergencyState.STOPPED, EmergencyState.RESOLVED


def emergency(emergency_id: str = "e1", state: EmergencyState = PARTIAL, *, drill: bool = False) -> Emergency:
    proven = InstanceStop("x", "1", AckState.STOPPED, "", 0, 5)
    silent = InstanceStop("y", "2", AckState.UNKNOWN, "no answer", 3, 6)
    return Emergency(
        emergency_id, state, "account:a", "a", StopLevel.IMMEDIATE, 1, 3, "12 < 30", "hit:h", "t1",
        TriggerType.HEALTH_SCORE_CRITICAL, ("all",), (proven, silent), "corr", 0, 1, 5_000, completed_at=10_000,
        drill=drill,
    )  # fmt: skip


def saved(core: LastResort) -> list[tuple[bytes, bytes]]:
    return [(key, value) for key, value in core.take_dirty() if value is not None]


def test_an_emergency_without_proof_is_posted_once_and_its_success_is_a_page_on_record() -> None:
    core = LastResort(PATIENCE_MS)
    assert core.observe(emergency(), 10) is None
    assert core.due(10) == [emergency()]
    assert core.due(10) == [], "it is on its way"
    outcome = core.succeeded(emergency(), "answered 200", 20)
    assert outcome is not None
    assert outcome.standing is Standing.DONE
    page, record = notice_of(outcome), audit_of(outcome)
    assert page is not None
    assert (page.kind, page.emergency_id, page.scope) == (NoticeKind.PAGE, "e1", "account:a")
    assert "carried out" in page.subject
    assert (record.action, record.subject, record.actor) == ("last_resort_done", "e1", "notifier")
    core.observe(emergency(), 30)
    core.observe(emergency(state=STOPPED), 40)
    core.observe(emergency(), 50)
    assert core.due(100_000) == [], "never again for this emergency"


def test_the_body_names_who_did_not_prove_it() -> None:
    body = body_of(emergency())
    assert (body["emergency_id"], body["account_id"], body["correlation_id"]) == ("e1", "a", "corr")
    assert body["services_unproven"] == ["y"]
    assert body["instances_unproven"] == [
        {"service": "y", "instance_id": "2", "state": "unknown", "reason": "no answer"}
    ]


@pytest.mark.parametrize("state", [state for state in EmergencyState if state is not PARTIAL])
def test_other_states_and_drills_are_left_alone(state: EmergencyState) -> None:
    core = LastResort(PATIENCE_MS)
    core.observe(emergency(state=state), 0)
    core.observe(emergency("d", drill=True), 0)
    assert core.due(0) == []


def test_it_is_tried_until_the_patience_is_over_and_its_failure_is_a_page() -> None:
    core, now_ms, times = LastResort(PATIENCE_MS), 0, []
    core.observe(emergency(), 0)
    outcome = None
    while outcome is None:
        for one in core.due(now_ms):
            times.append(now_ms)
            outcome = core.failed(one, "answered 503", now_ms)
        now_ms += 1_000
    assert times == [0, 1_000, 3_000, 8_000, 18_000, 48_000, 78_000]
    assert (outcome.standing, outcome.attempts) == (Standing.FAILED, 7)
    page = notice_of(outcome)
    assert page is not None
    assert "FAILED" in page.subject
    assert "answered 503 (7 attempts)" in page.text
    assert core.due(now_ms + 1_000_000) == []


@pytest.mark.parametrize("state", [STOPPED, EmergencyState.RECOVERING, RESOLVED])
def test_it_is_withdrawn_when_the_proof_comes_or_a_person_resumes(state: EmergencyState) -> None:
    core = LastResort(PATIENCE_MS)
    core.observe(emergency(), 0)
    core.failed(core.due(0)[0], "no answer", 5)
    outcome = core.observe(emergency(state=state), 10)
    assert outcome is not None
    assert (outcome.standing, notice_of(outcome)) == (Standing.WITHDRAWN, None)
    assert audit_of(outcome).action == "last_resort_withdrawn"
    assert core.due(1_000_000) == []
    core.observe(emergency(), 2_000_000)
    assert core.due(2_000_000) == [emergency()], "in doubt again: it was never carried out"


def test_what_was_carried_out_is_on_record_though_it_was_withdrawn_meanwhile() -> None:
    core = LastResort(PATIENCE_MS)
    core.observe(emergency(), 0)
    (posted,) = core.due(0)
    core.observe(emergency(state=STOPPED), 1)
    outcome = core.succeeded(posted, "answered 200", 2)
    assert outcome is not None
    assert outcome.standing is Standing.DONE


def test_few_at_once() -> None:
    core = LastResort(PATIENCE_MS)
    for number in range(10):
        core.observe(emergency(f"e{number}"), 0)
    first = core.due(0)
    assert len(first) == AT_ONCE_MAX
    core.succeeded(first[0], "", 1)
    assert len(core.due(1)) == 1


def test_after_a_restart_what_is_done_is_not_repeated_and_what_waits_is() -> None:
    core = LastResort(PATIENCE_MS)
    core.observe(emergency("done"), 0)
    core.observe(emergency("waits"), 0)
    by_id = {one.emergency_id: one for one in core.due(0)}
    outcome = core.succeeded(by_id["done"], "", 1)
    assert outcome is not None
    core.recorded(outcome)
    again = LastResort(PATIENCE_MS)
    again.restore(saved(core))
    assert again.due(2) == [], "their records have not been read yet"
    for one in ("done", "waits"):
        again.observe(emergency(one), 3)
    assert [one.emergency_id for one in again.due(3)] == ["waits"]


def test_what_ended_while_nobody_looked_is_dropped() -> None:
    core = LastResort(PATIENCE_MS)
    core.observe(emergency(), 0)
    again = LastResort(PATIENCE_MS)
    again.restore(saved(core))
    assert again.missing({"other"}) == ["e1"]
    assert again.missing({"e1"}) == []
    again.drop("e1", 5)
    assert again.missing({"other"}) == []


def test_memory_is_given_back_a_week_after_the_end() -> None:
    core = LastResort(PATIENCE_MS)
    core.observe(emergency(), 0)
    outcome = core.succeeded(core.due(0)[0], "", 1)
    assert outcome is not None
    core.recorded(outcome)
    core.observe(emergency(state=RESOLVED), 2)
    core.due(REMEMBERED_MS + 1)
    assert saved(core) != []
    core.due(REMEMBERED_MS + 2)
    assert core.take_dirty() == [(b"last-resort:e1", None)]


@pytest.mark.parametrize("value", [b"", b"{}", b'{"version":1,"emergency_id":"e"}', b'{"version":9}'])
def test_a_record_that_is_none_is_refused(value: bytes) -> None:
    with pytest.raises(StateError, match="last-resort:e"):
        LastResort(PATIENCE_MS).restore([(b"last-resort:e", value)])


def test_through_crashes_each_is_carried_out_and_only_what_is_not_on_record_is_asked_for_again() -> None:
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 30)))
    print(f"seed {seed} (set SEED to repeat)")
    for number in range(60):
        life = Life(random.Random(seed + number))
        for turn in range(300):
            life.turn(turn * 10_000, may_crash=turn < 200)
        assert set(life.accepted) == {one.emergency_id for one in life.wanted}
        assert len(life.accepted) == len(life.wanted) + life.repeatable


class Life:
    """Six emergencies, an endpoint that answers half the time, a broker that is slow to take outcomes, and crashes."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.wanted = [emergency(f"e{n}") for n in range(6)]
        self.core = LastResort(10**9)
        self.state: dict[bytes, bytes] = {}
        self.accepted: list[str] = []
        #: Those of them since the last crash.
        self.answered: list[str] = []
        self.on_record: set[str] = set()
        self.outcomes: list[Outcome] = []
        #: Answers that a crash made unknown: each may be asked for once more.
        self.repeatable = 0

    def turn(self, now_ms: int, *, may_crash: bool) -> None:
        for one in self.rng.sample(self.wanted, 3):
            self.core.observe(replace(one), now_ms)
        for one in self.core.due(now_ms):
            if self.rng.random() < 0.5:
                self.core.failed(one, "", now_ms)
                continue
            self.accepted.append(one.emergency_id)
            self.answered.append(one.emergency_id)
            outcome = self.core.succeeded(one, "", now_ms)
            assert outcome is not None
            self.outcomes.append(outcome)
        while self.outcomes and self.rng.random() < 0.5:
            outcome = self.outcomes.pop()
            self.on_record.add(outcome.emergency.emergency_id)
            self.core.recorded(outcome)
        dirty = self.core.take_dirty()
        if may_crash and self.rng.random() < 0.1:
            self._crash()
        else:
            self.state.update({key: value for key, value in dirty if value is not None})

    def _crash(self) -> None:
        done = {json.loads(value)["emergency_id"] for value in self.state.values() if b'"done"' in value}
        assert done <= self.on_record, "the state never says so before the record does"
        self.repeatable += len({*self.answered} - done)
        self.answered = []
        self.outcomes = []
        self.core = LastResort(10**9)
        self.core.restore(self.state.items())
