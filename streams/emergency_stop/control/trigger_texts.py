"""Triggers in words: whom they watch, and what for."""

from __future__ import annotations

from emergency_stop.domain.triggers import CRON, QUIET_HOURS, TIME_ZONE, Trigger
from emergency_stop.rules.definitions import UTC, stable_version
from emergency_stop.rules.versions import is_canary

_RULE_WIDTH = 60


def watched(trigger: Trigger) -> str:
    """``every account``, ``10% of accounts, the others version 3``, ``all accounts as one``, ``acc-1, not x``."""
    if trigger.account_id:
        return trigger.account_id + (f", instead of {trigger.overrides}" if trigger.overrides else "")
    if trigger.across:
        return f"all {trigger.across} as one"
    return f"{trigger.canary_percent}% of accounts, {_others(trigger)}" if is_canary(trigger) else "every account"


def _others(canary: Trigger) -> str:
    try:
        stable = stable_version(canary)
    except ValueError:
        return "the others unreadable"
    return f"the others version {stable.version}" if stable else "the others nothing"


def condition(trigger: Trigger) -> str:
    """What makes it fire, in a line."""
    zone = trigger.options.get(TIME_ZONE, UTC)
    if trigger.rule:
        text = " ".join(trigger.rule.split())
        return text if len(text) <= _RULE_WIDTH else text[: _RULE_WIDTH - 1] + "…"
    if CRON in trigger.options:
        return f"at {trigger.options[CRON]} ({zone})"
    if QUIET_HOURS in trigger.options:
        return f"active within {trigger.options[QUIET_HOURS]} ({zone})"
    limits = " ".join(f"{name}={value:g}" for name, value in sorted(trigger.thresholds.items()))
    return f"{trigger.trigger_type.value} {limits} within {trigger.time_window / 1000:g} s"
