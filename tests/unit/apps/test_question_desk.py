"""Questions wait until what was there is evaluated, never hold up telemetry, and always get an answer.

```
read ──── telemetry of before it is applied ──► answered in the next pause
read ──── it is not, for five seconds ────────► unknown
```
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from emergency_stop.apps.detector_core import DetectorCore
from emergency_stop.apps.question_desk import AGE_MS_MAX, ANSWERS_MAX, PATIENCE_MS, WAITING_MAX, QuestionDesk
from emergency_stop.columnar.batches import Scratch
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.detect.compile import compile_plan
from emergency_stop.detect.condition_answers import ConditionBook
from emergency_stop.domain import topics
from emergency_stop.domain.messages import ConditionAnswer, ConditionQuestion
from emergency_stop.domain.trigger_definitions import parse_trigger
from emergency_stop.domain.values import ConditionState
from emergency_stop.ports import Publish
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from tests.oracle.naive import Event
from tests.oracle.streams import columns_of

NOW = 1_700_000_000_000
CODEC = Codec(LocalRegistry())
LOW = parse_trigger(
    {
        "trigger_id": "low", "name": "low", "trigger_type": "health_score_critical", "thresholds": {"healthScore": 30},
        "time_window": 60_000, "cooldown_period": 0, "stop_level": "immediate", "priority": 1,
    },
    services=(),
)  # fmt: skip


@dataclass
class Sight:
    """A worker whose progress the test decides."""

    fresh: int = 0
    looks: int = 0

    def fresh_at(self, partition: int) -> int:
        assert partition == 0
        return self.fresh

    def look_soon(self) -> None:
        self.looks += 1


def question(question_id: str = "q", **changes: Any) -> ConditionQuestion:
    fields = {"trigger_id": "low", "scope": "account:acc", "emergency_id": "e", "asked_at": NOW}
    return ConditionQuestion(question_id, **{**fields, **changes})


class Bench:
    """One core with a desk."""

    def __init__(self) -> None:
        self.sight = Sight()
        desk = QuestionDesk(0, ConditionBook(10), self.sight)
        plan = compile_plan([LOW])
        self.core = DetectorCore(LocalRegistry(), CODEC, lambda: plan, Scratch(), enforcing=True, desk=desk)
        self._end = 0

    def health(self, score: float, at: int = NOW) -> None:
        event = Event(self._end, "acc", at, {"health_score": score, "risk_score": 0.0})
        self._end += 1
        self.core.detector.on_batch(columns_of(topics.TELEMETRY_HEALTH, [event], event.offset), at)

    def read(self, *values: bytes, now_ms: int = NOW) -> None:
        builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 10_000_000)
        for number, value in enumerate(values):
            builder.append(number, now_ms, b"acc", value, [])
        batch = FetchedBatch(topics.QUESTIONS, 0, 0, len(values), (bytes(builder.build()),))
        assert self.core.on_batch(batch, now_ms) == [], "what is read is not held up by an answer"

    def ask(self, *questions: ConditionQuestion, now_ms: int = NOW) -> None:
        self.read(*(CODEC.encode(one, topics.QUESTIONS) for one in questions), now_ms=now_ms)

    def published(self, now_ms: int = NOW) -> list[Publish]:
        return [one for one in self.core.on_tick(now_ms) if one.topic == topics.ANSWERS]

    def answers(self, now_ms: int = NOW) -> list[ConditionAnswer]:
        return [CODEC.decode(ConditionAnswer, one.value) for one in self.published(now_ms)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_an_answer_goes_to_the_coordinator_of_the_scope_and_says_what_was_asked(bench: Bench) -> None:
    bench.health(80)
    bench.ask(question())
    bench.sight.fresh = NOW
    (record,) = bench.published(NOW + 7)
    assert record.key == b"account:acc"
    assert CODEC.decode(ConditionAnswer, record.value) == ConditionAnswer(
        "q", "low", "account:acc", "e", ConditionState.CLEAR,
        "avg(health_score,60000ms,0) = 80 of 1 samples, clear from 33", NOW + 7, subjects=1,
    )  # fmt: skip
    assert bench.answers(NOW + 60) == []
    assert bench.core.next_deadline() is None


def test_a_question_waits_for_telemetry_that_was_there_before_it(bench: Bench) -> None:
    bench.health(40)
    bench.ask(question())
    bench.sight.fresh = NOW - 1
    assert bench.answers(NOW + 50) == []
    assert (bench.core.next_deadline(), bench.sight.looks >= 2) == (0, True)
    bench.health(24)  # on average 32: it does not fire, and is not clear
    bench.sight.fresh = NOW
    (answer,) = bench.answers(NOW + 100)
    assert answer.state is ConditionState.HOLDS


@pytest.mark.parametrize(("fresh", "words"), [(0, "was not evaluated"), (NOW - 3, "is 3 ms behind")])
def test_where_telemetry_stays_behind_nobody_knows(bench: Bench, fresh: int, words: str) -> None:
    bench.health(80)
    bench.ask(question())
    bench.sight.fresh = fresh
    assert bench.answers(NOW + PATIENCE_MS - 1) == []
    (answer,) = bench.answers(NOW + PATIENCE_MS)
    assert answer.state is ConditionState.UNKNOWN
    assert words in answer.detail


def test_a_repeated_question_waits_once_and_one_of_long_ago_is_nobodys(bench: Bench) -> None:
    bench.sight.fresh = NOW
    bench.ask(question(), question(), question("old", asked_at=NOW - AGE_MS_MAX - 1), question("none", scope="what?"))
    assert [answer.question_id for answer in bench.answers()] == ["q"]


def test_a_record_that_is_no_question_disturbs_no_other(bench: Bench) -> None:
    bench.sight.fresh = NOW
    bench.read(b"noise", CODEC.encode(question(), topics.QUESTIONS))
    assert [answer.question_id for answer in bench.answers()] == ["q"]
    assert bench.core.undecodable == 1


def test_of_a_flood_a_few_are_answered_at_a_time_and_the_rest_is_told_that_nobody_knows(bench: Bench) -> None:
    bench.health(80)
    bench.ask(*(question(str(number)) for number in range(WAITING_MAX + 5)))
    bench.sight.fresh = NOW
    first = bench.answers()
    assert [answer.state for answer in first[:5]] == [ConditionState.UNKNOWN] * 5
    assert len(first) == 5 + ANSWERS_MAX
    given = {answer.question_id for answer in first}
    while more := bench.answers():
        assert len(more) <= ANSWERS_MAX
        given |= {answer.question_id for answer in more}
    assert len(given) == WAITING_MAX + 5
    assert bench.core.desk is not None
    assert bench.core.desk.given == {"unknown": 5, "clear": WAITING_MAX}
