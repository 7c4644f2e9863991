"""``estop condition``: whether a trigger's condition has cleared for a scope, as the running detectors say."""

from __future__ import annotations

import argparse
import asyncio
import uuid
from typing import Final

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.adapters.kafka_tail import CompactedTail, TailRecord
from emergency_stop.config import Settings, did_you_mean
from emergency_stop.control.cli.output import moment, plain, say, show_json
from emergency_stop.control.cli.triggers import standing_triggers
from emergency_stop.control.errors import (
    EXIT_BAD_INPUT,
    EXIT_FAILED,
    EXIT_NOT_PROVEN,
    EXIT_OK,
    UnavailableError,
)
from emergency_stop.control.installation import READ_WITHIN_S, Installation, caught_up
from emergency_stop.coordinate.part_answers import PartAnswers
from emergency_stop.domain.messages import ConditionAnswer, ConditionQuestion
from emergency_stop.domain.questions import question_part
from emergency_stop.domain.topics import ANSWERS
from emergency_stop.domain.values import ConditionState
from emergency_stop.wire.codec import WireError
from emergency_stop.wire.registry import UnknownSchemaError

#: A detector that is behind says so after five seconds.
_ANSWERED_WITHIN_S: Final = 10.0
_CODES: Final = {
    ConditionState.CLEAR: EXIT_OK,
    ConditionState.HOLDS: EXIT_FAILED,
    ConditionState.UNKNOWN: EXIT_NOT_PROVEN,
}


def run_condition(options: argparse.Namespace, settings: Settings) -> int:
    """Ask, as a coordinator does; 0 only for a condition that has cleared."""
    return asyncio.run(_run(options, Installation(settings)))


async def _run(options: argparse.Namespace, installation: Installation) -> int:
    known = tuple(trigger.trigger_id for trigger in await standing_triggers(installation))
    if options.trigger_id not in known:
        say(f"estop condition: no trigger {options.trigger_id!r}{did_you_mean(options.trigger_id, known)}")
        return EXIT_BAD_INPUT
    now_ms = SystemClock().now_ms()
    question = ConditionQuestion(f"cli-{uuid.uuid4()}", options.trigger_id, str(options.scope), "", now_ms)
    answer = await _answer(installation, question, options.timeout or _ANSWERED_WITHIN_S)
    if answer is None:
        say(f"estop condition: no detector answered for {question.scope}; 'estop status' shows how far they are")
        return EXIT_NOT_PROVEN
    if options.json:
        show_json(plain(answer))
    else:
        print(f"{answer.trigger_id} and {answer.scope}: {answer.state.value} at {moment(answer.answered_at)}")
        print(f"  {answer.detail}")
    return _CODES[answer.state]


async def _answer(installation: Installation, question: ConditionQuestion, within_s: float) -> ConditionAnswer | None:
    """The first whole answer, of whichever lane; ``None`` where none came in time. Raises ``UnavailableError``."""
    parts, found = PartAnswers(), list[ConditionAnswer]()

    def take(record: TailRecord) -> None:
        try:
            answer = installation.codec.decode(ConditionAnswer, record.value)
        except (WireError, UnknownSchemaError):
            return
        part = question_part(answer.question_id)
        if question.question_id != (answer.question_id if part is None else part.question_id):
            return
        whole = parts.take(answer)
        if whole is not None:
            found.append(whole)

    tail = CompactedTail(installation.settings.kafka, ANSWERS, take, client_id="estop-cli", from_end=True)
    await tail.start()
    try:
        await caught_up([tail], READ_WITHIN_S)
        await installation.ask(question)
        await installation.until(lambda: bool(found), within_s)
    except TimeoutError:
        raise UnavailableError(
            f"{ANSWERS} could not be read from ESTOP_BROKERS={installation.settings.brokers} within"
            f" {READ_WITHIN_S:g} s; 'estop check' says what is missing"
        ) from None
    finally:
        await tail.stop()
    return found[0] if found else None
