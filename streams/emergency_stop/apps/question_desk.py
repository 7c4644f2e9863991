"""Questions that wait until a partition's telemetry is evaluated up to them, and their answers.

Nothing waits for a question. It is answered in the worker's next pause after everything that the broker had when the
question was read is applied; where that takes too long, with *unknown*. What waits is in memory: if the detector dies,
the question is asked again.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Protocol

from emergency_stop.apps.lane_worker import LaneWorker
from emergency_stop.detect.clearance import UNKNOWN, Clearance
from emergency_stop.detect.condition_answers import ConditionBook
from emergency_stop.detect.detector import PartitionDetector
from emergency_stop.domain.messages import ConditionAnswer, ConditionQuestion
from emergency_stop.domain.topics import PARTIALS, TELEMETRY
from emergency_stop.domain.values import Scope, is_scope

log = logging.getLogger(__name__)

#: How long telemetry that was there may take to be evaluated.
PATIENCE_MS: Final = 5_000
#: Nobody waits any more for the answer to an older question.
AGE_MS_MAX: Final = 300_000
#: Questions that wait; past it they are answered with "unknown" at once.
WAITING_MAX: Final = 1_000
#: Per pause, so that a flood of questions delays no hit: about two milliseconds of work.
ANSWERS_MAX: Final = 10
#: What answers are made of.
_EVIDENCE: Final = (*(spec.name for spec in TELEMETRY), PARTIALS)


class Sight(Protocol):
    """What the worker knows of its progress."""

    def fresh_at(self, partition: int) -> int:
        """Everything that the broker had at this moment is applied, milliseconds since the epoch; 0: not known."""
        ...

    def look_soon(self) -> None:
        """Somebody waits for that to be known."""
        ...


@dataclass(slots=True)
class WorkerSight:
    """The sight of a lane worker, which needs cores, and so desks, before it can be made."""

    worker: LaneWorker | None = None

    def fresh_at(self, partition: int) -> int:
        return self.worker.progress.fresh_at(partition, _EVIDENCE) if self.worker is not None else 0

    def look_soon(self) -> None:
        if self.worker is not None:
            self.worker.look_soon()


@dataclass(slots=True)
class QuestionDesk:
    """Of one partition. ``take`` what was read, and ask for ``answers`` in every pause while ``is_waiting``."""

    partition: int
    book: ConditionBook
    sight: Sight
    #: By question id: the question, and when it was read.
    _waiting: dict[str, tuple[ConditionQuestion, int]] = field(default_factory=dict)
    _refused: list[ConditionQuestion] = field(default_factory=list)
    #: Answers since start, by state.
    given: Counter[str] = field(default_factory=Counter)

    @property
    def is_waiting(self) -> bool:
        return bool(self._waiting or self._refused)

    def take(self, question: ConditionQuestion, now_ms: int) -> None:
        """A question that was read. A repeated one waits once."""
        if now_ms - question.asked_at > AGE_MS_MAX or not is_scope(question.scope):
            log.info("question %s of %d about %.80r is not answered", question.question_id, question.asked_at,
                     question.scope)  # fmt: skip
            return
        if len(self._waiting) >= WAITING_MAX:
            self._refused += [question] if len(self._refused) < WAITING_MAX else []
            return
        self._waiting.setdefault(question.question_id, (question, now_ms))
        self.sight.look_soon()

    def answers(self, detector: PartitionDetector, now_ms: int) -> list[ConditionAnswer]:
        """Those that can be given by now, a few at a time."""
        given = [_answer(one, Clearance(UNKNOWN, "too many questions wait", 0), now_ms) for one in self._refused]
        self._refused = []
        fresh_at = self.sight.fresh_at(self.partition)
        due = [
            one for one, read_at in self._waiting.values() if fresh_at >= read_at or now_ms - read_at >= PATIENCE_MS
        ][:ANSWERS_MAX]
        for question in due:
            _, read_at = self._waiting.pop(question.question_id)
            given.append(_answer(question, self._clearance(detector, question, read_at, fresh_at, now_ms), now_ms))
        if self._waiting:
            self.sight.look_soon()
        self.given.update(one.state.value for one in given)
        return given

    def _clearance(
        self, detector: PartitionDetector, question: ConditionQuestion, read_at: int, fresh_at: int, now_ms: int
    ) -> Clearance:
        if fresh_at >= read_at:
            return self.book.clearance(detector, question.trigger_id, Scope.parse(question.scope), now_ms)
        behind = f"is {read_at - fresh_at} ms behind" if fresh_at else "was not evaluated to its end yet"
        return Clearance(UNKNOWN, f"telemetry of partition {self.partition} {behind}", 0)


def _answer(question: ConditionQuestion, found: Clearance, now_ms: int) -> ConditionAnswer:
    return ConditionAnswer(
        question_id=question.question_id,
        trigger_id=question.trigger_id,
        scope=question.scope,
        emergency_id=question.emergency_id,
        state=found.state,
        detail=found.detail,
        answered_at=now_ms,
        subjects=found.subjects,
    )
