"""Triggers with all that has a grammar of its own: rules and calendars are checked as a definition is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from emergency_stop.domain.definition_reader import DEFINITION_FIELDS, InvalidTriggerError, TriggerProblem
from emergency_stop.domain.trigger_definitions import TextChecks, parse_trigger
from emergency_stop.domain.triggers import CRON, PERCENT_ALL, QUIET_HOURS, TIME_ZONE, Trigger
from emergency_stop.rules.calendar import QuietHours, Schedule, parse_quiet_hours, parse_schedule
from emergency_stop.rules.language import RuleError, compile_rule
from emergency_stop.rules.zones import CalendarError, read_zone
from emergency_stop.wire.codec import from_plain, to_plain

UTC: Final = "UTC"


def read_trigger(
    definition: Mapping[str, Any], *, services: Sequence[str], updated_by: str = "", updated_at: int = 0
) -> Trigger:
    """JSON object → trigger; raises ``InvalidTriggerError`` with every problem, those of rule and calendar too."""
    trigger = parse_trigger(
        definition, services=services, updated_by=updated_by, updated_at=updated_at, checks=TEXT_CHECKS
    )
    try:  # each was read by itself; what counts is both together
        schedule_of(trigger)
        quiet_hours_of(trigger)
    except CalendarError as error:
        raise InvalidTriggerError([TriggerProblem("options", trigger.options, error.problem)]) from None
    return trigger


def check_version(trigger: Trigger) -> None:
    """Raise ``ValueError`` unless ``read_trigger`` could have made this version, and what is stable beside it.

    Whoever takes triggers from elsewhere than a definition must ask: a topic holds what anybody wrote to it.
    """
    plain = to_plain(trigger)
    read_trigger({name: plain[name] for name in DEFINITION_FIELDS}, services=trigger.target_services)
    stable = stable_version(trigger)
    if stable is not None:
        check_version(stable)


def schedule_of(trigger: Trigger) -> Schedule | None:
    """The schedule by which a trigger fires; ``None`` where it has none. Raises ``CalendarError``."""
    cron = trigger.options.get(CRON)
    return None if cron is None else parse_schedule(cron, trigger.options.get(TIME_ZONE, UTC))


def quiet_hours_of(trigger: Trigger) -> QuietHours | None:
    """The hours in which a trigger's accounts should rest; ``None`` where it has none. Raises ``CalendarError``."""
    hours = trigger.options.get(QUIET_HOURS)
    return None if hours is None else parse_quiet_hours(hours, trigger.options.get(TIME_ZONE, UTC))


def stable_text(trigger: Trigger) -> str:
    """A version as the ``stable`` field of its canaries carries it: JSON, for every account, nothing nested."""
    return json.dumps(to_plain(trigger) | {"stable": "", "canary_percent": PERCENT_ALL}, ensure_ascii=False)


def stable_version(trigger: Trigger) -> Trigger | None:
    """The version that accounts outside the canary keep; ``None`` where they keep nothing.

    Raises ``ValueError`` for a text that is no version of this trigger.
    """
    if not trigger.stable:
        return None
    try:
        stable = from_plain(Trigger, json.loads(trigger.stable))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"stable={trigger.stable[:80]!r}: is no version of a trigger: {error}") from error
    if stable.trigger_id != trigger.trigger_id or stable.stable:
        raise ValueError(f"stable={trigger.stable[:80]!r}: is no version of {trigger.trigger_id!r} itself")
    return stable


def _calendar_problems(parse: Callable[[str], object]) -> Callable[[str], Sequence[str]]:
    def problems(text: str) -> Sequence[str]:
        try:
            parse(text)
        except CalendarError as error:
            return (error.problem,)
        return ()

    return problems


def _rule_problems(rule: str) -> Sequence[str]:
    try:
        compile_rule(rule)
    except RuleError as error:
        return error.problems
    return ()


TEXT_CHECKS: Final[TextChecks] = {
    f"options.{CRON}": _calendar_problems(parse_schedule),
    f"options.{QUIET_HOURS}": _calendar_problems(parse_quiet_hours),
    f"options.{TIME_ZONE}": _calendar_problems(read_zone),
    "rule": _rule_problems,
}
