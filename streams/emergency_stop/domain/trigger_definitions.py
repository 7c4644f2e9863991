"""Reading a trigger's definition from JSON, with every error named at once."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from emergency_stop.domain.triggers import (
    ACCOUNTS,
    CHANNELS,
    COOLDOWN_MS_MAX,
    CRON,
    LIMITS,
    NAME_LENGTH_MAX,
    OPTIONS,
    PERCENT_ALL,
    QUIET_HOURS,
    RULE_LENGTH_MAX,
    TIME_ZONE,
    WINDOW_MS_MAX,
    WINDOW_MS_MIN,
    Limit,
    Trigger,
)
from emergency_stop.domain.values import ALL_SERVICES, ClearRule, Mode, OnBlind, StopLevel, TriggerType

#: What is wrong with a text that has a grammar of its own (a rule, a cron expression), by the field that holds it.
TextChecks = Mapping[str, Callable[[str], Sequence[str]]]


@dataclass(frozen=True, slots=True)
class TriggerProblem:
    """One thing wrong with a definition."""

    field: str
    value: Any
    problem: str

    def __str__(self) -> str:
        return f"{self.field}={self.value!r}: {self.problem}"


class InvalidTriggerError(ValueError):
    """A definition was refused; ``problems`` lists everything that is wrong with it."""

    def __init__(self, problems: Sequence[TriggerProblem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


_ALIASES: Final = {
    "id": "trigger_id",
    "type": "trigger_type",
    "timeWindow": "time_window",
    "cooldownPeriod": "cooldown_period",
}
_FIELDS: Final = (
    "trigger_id", "version", "trigger_type", "account_id", "name", "description", "is_active", "mode", "thresholds",
    "options", "min_samples", "for_ms", "time_window", "cooldown_period", "stop_level", "target_services",
    "notification_channels", "priority", "clear_rule", "across", "rule", "overrides", "on_blind", "canary_percent",
)  # fmt: skip
_MISSING: Final = object()


def snake_case(name: str) -> str:
    """``timeWindow`` → ``time_window``: the guide's JSON names are accepted as they stand."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda match: "_" + match.group(1).lower(), name)


class _Reader:
    """Takes fields out of a mapping, noting every problem instead of stopping at the first."""

    def __init__(self, definition: Mapping[str, Any]) -> None:
        self.problems: list[TriggerProblem] = []
        self._values: dict[str, Any] = {}
        for key, value in definition.items():
            name = _ALIASES.get(key, snake_case(str(key)))
            if name not in _FIELDS:
                self.note(str(key), value, f"is not a field of a trigger{_nearest(name, _FIELDS)}")
            elif name in self._values:
                self.note(str(key), value, "is given twice, under two spellings")
            self._values[name] = value

    def note(self, name: str, value: Any, problem: str) -> None:
        self.problems.append(TriggerProblem(name, value, problem))

    def raw(self, name: str, default: Any = _MISSING) -> Any:
        value = self._values.get(name, default)
        if value is _MISSING:
            self.note(name, None, "is missing")
        return value

    def whole(self, name: str, low: int, high: int, default: Any = _MISSING) -> int:
        value = self.raw(name, default)
        if value is _MISSING:
            return low
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.note(name, value, f"must be a whole number from {low} to {high}")
            return low
        return value

    def text(self, name: str, default: Any = _MISSING, length_max: int = NAME_LENGTH_MAX) -> str:
        value = self.raw(name, default)
        if value is _MISSING:
            return ""
        if not isinstance(value, str) or len(value) > length_max or (default is _MISSING and not value.strip()):
            self.note(name, value, f"must be a text of 1 to {length_max} characters")
            return ""
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        value = self.raw(name, default)
        if not isinstance(value, bool):
            self.note(name, value, "must be true or false")
            return default
        return value

    def choice(self, name: str, kind: Any, default: Any = _MISSING) -> Any:
        value = self.raw(name, default)
        known = tuple(member.value for member in kind)
        if value is _MISSING:
            return next(iter(kind))
        if not isinstance(value, str) or value not in known:
            self.note(name, value, f"is unknown{_nearest(value, known)}; allowed: {', '.join(known)}")
            return next(iter(kind))
        return kind(value)

    def nullable(self, name: str, null_means: str) -> str | None:
        value = self.raw(name, None)
        if value is not None and (not isinstance(value, str) or not value or len(value) > NAME_LENGTH_MAX):
            self.note(name, value, f"must be a text, or null for {null_means}")
            return None
        return value

    def names(self, name: str, default: Any, allowed: tuple[str, ...] | None) -> tuple[str, ...]:
        value = self.raw(name, default)
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, (list, tuple)) or not all(isinstance(entry, str) and entry for entry in value):
            self.note(name, value, "must be a list of names")
            return tuple(default)
        for entry in value:
            if allowed is not None and entry not in allowed:
                self.note(name, entry, f"is unknown{_nearest(entry, allowed)}; allowed: {', '.join(allowed)}")
        return tuple(dict.fromkeys(value))


def _nearest(name: Any, known: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""


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
    reader = _Reader(definition)
    before = len(reader.problems)
    trigger_type: TriggerType = reader.choice("trigger_type", TriggerType)
    type_known = len(reader.problems) == before
    targets = reader.names("target_services", (ALL_SERVICES,), (ALL_SERVICES, *services))
    if not targets:
        reader.note("target_services", [], "is empty; name services, or 'all'")
    account_id = reader.nullable("account_id", "every account")
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
        notification_channels=reader.names("notification_channels", ("system",), CHANNELS),
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
    if type_known:
        _check_scope(reader, trigger)
        _check_calendar(reader, trigger)
        _check_texts(reader, trigger, checks)
    if reader.problems:
        raise InvalidTriggerError(reader.problems)
    return trigger


def _thresholds(reader: _Reader, trigger_type: TriggerType) -> dict[str, float]:
    limits = LIMITS.get(trigger_type, {})
    given = reader.raw("thresholds", {})
    if not isinstance(given, Mapping):
        reader.note("thresholds", given, "must be an object of names and numbers")
        return {}
    values: dict[str, float] = {}
    for name, value in given.items():
        if name not in limits and trigger_type in LIMITS:
            allowed = ", ".join(limits) or "none for this type"
            reader.note(f"thresholds.{name}", value, f"is unknown{_nearest(name, tuple(limits))}; allowed: {allowed}")
        elif isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
            reader.note(f"thresholds.{name}", value, "must be a number")
        else:
            values[name] = float(value)
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


def _check_range(reader: _Reader, name: str, value: float, limit: Limit) -> None:
    if not limit.low <= value <= limit.high:
        reader.note(f"thresholds.{name}", value, f"must be from {limit.low:g} to {limit.high:g}")
    elif limit.whole and value != int(value):
        reader.note(f"thresholds.{name}", value, "must be a whole number")


def _options(reader: _Reader, trigger_type: TriggerType) -> dict[str, str]:
    known = OPTIONS.get(trigger_type, {})
    given = reader.raw("options", {})
    if not isinstance(given, Mapping):
        reader.note("options", given, "must be an object of names and texts")
        return {}
    for name, value in given.items():
        allowed = known.get(name)
        if name not in known:
            reader.note(f"options.{name}", value, f"is unknown{_nearest(name, tuple(known))}")
        elif not isinstance(value, str) or not value:
            reader.note(f"options.{name}", value, "must be a text")
        elif allowed is not None and value not in allowed:
            reader.note(
                f"options.{name}", value, f"is unknown{_nearest(value, allowed)}; allowed: {', '.join(allowed)}"
            )
    return {str(name): str(value) for name, value in given.items()}


def _default_window(reader: _Reader, trigger_type: TriggerType) -> tuple[int, ...]:
    """A rule names its own windows, and a calendar has none: then the field may be left out."""
    options = reader.raw("options", {})
    has_calendar = isinstance(options, Mapping) and (CRON in options or QUIET_HOURS in options)
    return (60_000,) if trigger_type is TriggerType.CUSTOM_RULE_TRIGGER or has_calendar else ()


def _check_scope(reader: _Reader, trigger: Trigger) -> None:
    """One account, every account on its own, or one value over all of them."""
    kind = trigger.trigger_type
    if trigger.across is not None and trigger.across != ACCOUNTS:
        near = _nearest(trigger.across, (ACCOUNTS,))
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


def _check_calendar(reader: _Reader, trigger: Trigger) -> None:
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


def _check_texts(reader: _Reader, trigger: Trigger, checks: TextChecks | None) -> None:
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
