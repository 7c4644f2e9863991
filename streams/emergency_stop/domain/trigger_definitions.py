"""Reading a trigger's definition from JSON, with every error named at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from emergency_stop.domain.definition_reader import DefinitionReader, InvalidTriggerError, is_text, nearest, snake_case
from emergency_stop.domain.triggers import (
    ACCOUNTS,
    CHANNELS,
    COOLDOWN_MS_MAX,
    COUNT_MAX,
    COUNTING_TYPES,
    CRON,
    LIMITS,
    OPTIONS,
    PERCENT_ALL,
    QUIET_HOURS,
    RESERVED_PREFIX,
    RULE_LENGTH_MAX,
    TIME_ZONE,
    WINDOW_MS_MAX,
    WINDOW_MS_MIN,
    Limit,
    Trigger,
)
from emergency_stop.domain.values import ALL_SERVICES, ClearRule, Mode, OnBlind, StopLevel, TriggerType

__all__ = ["InvalidTriggerError", "TextChecks", "parse_trigger"]

#: What is wrong with a text that has a grammar of its own (a rule, a cron expression), by the field that holds it.
TextChecks = Mapping[str, Callable[[str], Sequence[str]]]


def parse_trigger(
    definition: Mapping[str, Any],
    *,
    services: Sequence[str],
    updated_by: str = "",
    updated_at: int = 0,
    checks: TextChecks | None = None,
) -> Trigger:
    """JSON object → trigger; names in camelCase or snake_case. Raises ``InvalidTriggerError``.

    ``services`` are the names that ``target_services`` may use beside ``all``. Without ``checks`` (see
    ``rules.definitions``) no trigger is taken whose rule or calendar would have to be checked.
    """
    reader = DefinitionReader(definition)
    before = len(reader.problems)
    trigger_type: TriggerType = reader.choice("trigger_type", TriggerType)
    type_known = len(reader.problems) == before
    targets = reader.names("target_services", (ALL_SERVICES,), (ALL_SERVICES, *services))
    if not targets:
        reader.note("target_services", [], "is empty; name services, or 'all'")
    account_id = reader.account("account_id", "every account")
    name = reader.text("name")
    trigger = Trigger(
        trigger_id=reader.text("trigger_id", snake_case(name.replace(" ", "-")).lower() or "unnamed"),
        version=reader.whole("version", 1, 2**31 - 1, 1),
        trigger_type=trigger_type,
        account_id=account_id,
        name=name,
        description=reader.text("description", "", 2_000),
        is_active=reader.flag("is_active", default=True),
        mode=reader.choice("mode", Mode, "enforce"),
        thresholds=_thresholds(reader, trigger_type) if type_known else {},
        options=_options(reader, trigger_type) if type_known else {},
        min_samples=reader.whole("min_samples", 1, 1_000_000, 1),
        for_ms=reader.whole("for_ms", 0, WINDOW_MS_MAX, 0),
        time_window=reader.whole("time_window", WINDOW_MS_MIN, WINDOW_MS_MAX, *_default_window(reader, trigger_type)),
        cooldown_period=reader.whole("cooldown_period", 0, COOLDOWN_MS_MAX),
        stop_level=reader.choice("stop_level", StopLevel),
        target_services=targets,
        notification_channels=reader.names("notification_channels", CHANNELS, CHANNELS),
        priority=reader.whole("priority", 1, 4),
        clear_rule=reader.choice("clear_rule", ClearRule, "never_automatically"),
        updated_by=updated_by,
        updated_at=updated_at,
        across=reader.nullable("across", "every account on its own"),
        rule=reader.text("rule", "", RULE_LENGTH_MAX),
        overrides=reader.nullable("overrides", "none"),
        on_blind=reader.choice("on_blind", OnBlind, "alert"),
        canary_percent=reader.whole("canary_percent", 0, PERCENT_ALL, PERCENT_ALL),
    )
    if trigger.trigger_id.startswith(RESERVED_PREFIX):
        reader.note("trigger_id", trigger.trigger_id, f"begins with {RESERVED_PREFIX!r}, which is the system's own")
    if type_known:
        _check_scope(reader, trigger)
        _check_samples(reader, trigger)
        _check_calendar(reader, trigger)
        _check_texts(reader, trigger, checks)
    if reader.problems:
        raise InvalidTriggerError(reader.problems)
    return trigger


def _thresholds(reader: DefinitionReader, trigger_type: TriggerType) -> dict[str, float]:
    limits = LIMITS.get(trigger_type, {})
    given = reader.raw("thresholds", {})
    if not isinstance(given, Mapping):
        reader.note("thresholds", given, "must be an object of names and numbers")
        return {}
    values: dict[str, float] = {}
    for name, value in given.items():
        if name not in limits and trigger_type in LIMITS:
            allowed = ", ".join(limits) or "none for this type"
            reader.note(f"thresholds.{name}", value, f"is unknown{nearest(name, tuple(limits))}; allowed: {allowed}")
        elif isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(_as_float(value)):
            reader.note(f"thresholds.{name}", value, "must be a number")
        else:
            values[name] = _as_float(value)
    choices = [name for name, limit in limits.items() if limit.one_of]
    calendar = trigger_type is TriggerType.TIME_BASED_TRIGGER  # it may have a calendar instead
    if choices and not calendar and not any(name in given for name in choices):
        reader.note("thresholds", dict(given), f"needs one or more of {', '.join(choices)}")
    for name, limit in limits.items():
        if name in values:
            _check_range(reader, name, values[name], limit)
        elif name not in given and limit.default is not None:
            values[name] = limit.default
        elif name not in given and not limit.one_of:
            reader.note(f"thresholds.{name}", None, f"is missing; {limit.low:g} to {limit.high:g}")
    return values


def _as_float(value: float) -> float:
    """A whole number beyond all floats is infinite, and so out of every range."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _check_range(reader: DefinitionReader, name: str, value: float, limit: Limit) -> None:
    if not limit.low <= value <= limit.high:
        reader.note(f"thresholds.{name}", value, f"must be from {limit.low:g} to {limit.high:g}")
    elif limit.whole and value != int(value):
        reader.note(f"thresholds.{name}", value, "must be a whole number")


def _options(reader: DefinitionReader, trigger_type: TriggerType) -> dict[str, str]:
    known = OPTIONS.get(trigger_type, {})
    given = reader.raw("options", {})
    if not isinstance(given, Mapping):
        reader.note("options", given, "must be an object of names and texts")
        return {}
    for name, value in given.items():
        allowed = known.get(name)
        if name not in known:
            reader.note(f"options.{name}", value, f"is unknown{nearest(name, tuple(known))}")
        elif not is_text(value) or not value:
            reader.note(f"options.{name}", value, "must be a text")
        elif allowed is not None and value not in allowed:
            reader.note(f"options.{name}", value, f"is unknown{nearest(value, allowed)}; allowed: {', '.join(allowed)}")
    return {str(name): value for name, value in given.items() if is_text(value)}


def _default_window(reader: DefinitionReader, trigger_type: TriggerType) -> tuple[int, ...]:
    """A rule names its own windows, and a calendar has none: then the field may be left out."""
    options = reader.raw("options", {})
    has_calendar = isinstance(options, Mapping) and (CRON in options or QUIET_HOURS in options)
    return (60_000,) if trigger_type is TriggerType.CUSTOM_RULE_TRIGGER or has_calendar else ()


def _check_scope(reader: DefinitionReader, trigger: Trigger) -> None:
    """One account, every account on its own, or one value over all of them."""
    kind = trigger.trigger_type
    if trigger.across is not None and trigger.across != ACCOUNTS:
        near = nearest(trigger.across, (ACCOUNTS,))
        reader.note("across", trigger.across, f"is unknown{near}; allowed: {ACCOUNTS}, or null")
    elif trigger.across and trigger.account_id:
        reader.note("across", trigger.across, f"contradicts account_id={trigger.account_id!r}; give one of the two")
    elif trigger.across and (kind is TriggerType.MANUAL_TRIGGER or "maxActiveMs" in trigger.thresholds):
        reader.note("across", trigger.across, "has no meaning here: this is about one account at a time")
    if trigger.overrides and not trigger.account_id:
        reader.note("overrides", trigger.overrides, "needs account_id: the account for which the other is replaced")
    elif trigger.overrides == trigger.trigger_id:
        reader.note("overrides", trigger.overrides, "is the trigger itself")
    if trigger.canary_percent != PERCENT_ALL and (trigger.account_id or trigger.across):
        reader.note("canary_percent", trigger.canary_percent, "is a share of accounts; it needs account_id=null")


def _check_samples(reader: DefinitionReader, trigger: Trigger) -> None:
    """What is counted exactly is remembered event by event, so no more than so many."""
    counts = trigger.trigger_type in COUNTING_TYPES or QUIET_HOURS in trigger.options
    if counts and trigger.min_samples > COUNT_MAX:
        text = f"must be from 1 to {COUNT_MAX} here: every event that is counted is remembered, per account"
        reader.note("min_samples", trigger.min_samples, text)


def _check_calendar(reader: DefinitionReader, trigger: Trigger) -> None:
    """A time-based trigger has one clock: how long an account is active, quiet hours, or a schedule."""
    if trigger.trigger_type is not TriggerType.TIME_BASED_TRIGGER:
        return
    given = [name for name in (CRON, QUIET_HOURS) if name in trigger.options]
    given += [name for name in trigger.thresholds if name == "maxActiveMs"]
    if len(given) != 1:
        reader.note("thresholds", given, f"needs exactly one of thresholds.maxActiveMs, options.{CRON},"
                    f" options.{QUIET_HOURS}")  # fmt: skip
    if TIME_ZONE in trigger.options and given == ["maxActiveMs"]:
        reader.note(f"options.{TIME_ZONE}", trigger.options[TIME_ZONE], "has no meaning beside maxActiveMs")
    if given == [CRON] and not trigger.account_id and not trigger.across:
        reader.note("across", None, f"is missing: a schedule fires for one account_id, or across={ACCOUNTS!r} for all")


def _check_texts(reader: DefinitionReader, trigger: Trigger, checks: TextChecks | None) -> None:
    """What has a grammar of its own: the rule, and the calendar."""
    is_rule = trigger.trigger_type is TriggerType.CUSTOM_RULE_TRIGGER
    if is_rule and not trigger.rule:
        reader.note("rule", "", 'is missing; for example avg(health_score, "60s") < 40.0')
    elif not is_rule and trigger.rule:
        reader.note("rule", trigger.rule, f"belongs to {TriggerType.CUSTOM_RULE_TRIGGER.value} only")
    texts = {f"options.{name}": trigger.options.get(name, "") for name in (CRON, QUIET_HOURS, TIME_ZONE)}
    if is_rule:
        texts["rule"] = trigger.rule
    for name, text in texts.items():
        if text and checks is None:
            reader.note(name, text, "cannot be checked here")
        elif text and checks is not None:
            for problem in checks[name](text):
                reader.note(name, text, problem)
