"""Write the tables of a trigger's fields in docs/triggers.md anew: defaults and limits as their reader has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from docs.tables import filled
from emergency_stop.domain.definition_reader import DEFINITION_FIELDS, InvalidTriggerError
from emergency_stop.domain.triggers import LIMITS, Limit, Trigger
from emergency_stop.rules.definitions import read_trigger
from emergency_stop.wire.codec import to_plain

PAGE = Path(__file__).with_name("triggers.md")
GIVEN: Final = "to be given"
#: The least that a definition must say.
LEAST: Final[Mapping[str, Any]] = {
    "name": "x", "trigger_type": "health_score_critical", "thresholds": {"healthScore": 30}, "time_window": 60_000,
    "cooldown_period": 0, "stop_level": "graceful", "priority": 1,
}  # fmt: skip
#: What no field takes; what is then said tells what it takes instead.
WRONG: Final[Mapping[str, Any]] = {"target_services": ["?"], "notification_channels": ["?"]}
#: Where the reader's words alone do not say it.
DEFAULTS: Final = {"trigger_id": "made of `name`", "thresholds": "by type, [below](#thresholds)"}
ALLOWED: Final = {"trigger_type": "one of the types above", "across": "`accounts`, or null"}
MEANINGS: Final = {
    "trigger_id": "its name for good: a definition under the same id is its next version; does not begin with `@`",
    "version": "grows with every change; `estop triggers add` goes beyond the one in force by itself",
    "trigger_type": "what it watches",
    "account_id": "the only account that it watches; `null`: every account, each on its own",
    "name": "for people",
    "description": "for people",
    "is_active": "`false` switches it off without losing it",
    "mode": "what a hit does: `shadow` records it, `warn` tells people too, `enforce` stops",
    "thresholds": "limits by name, in the unit of the field",
    "options": "what is no number, by type: `minSeverity`; `quietHours`, `cron`, `timeZone` ([calendars](#calendars))",
    "min_samples": "with fewer events in the window it never fires",
    "for_ms": "how long its condition must hold before it fires, ms of event time",
    "time_window": "the window, ms of event time; 60000 where a rule or a calendar decides and nothing is given",
    "cooldown_period": "from a hit, how long further ones are counted and not published, ms of event time",
    "stop_level": "how to stop ([cli.md](cli.md#stopping))",
    "target_services": "whom to stop",
    "notification_channels": "where its warnings and infos are told ([notifications.md](notifications.md#where))",
    "priority": "1 low, 4 critical: of hits that wait, the higher goes first; 1 opens with an info, not a warning",
    "clear_rule": "how what it stopped may be undone, [below](#how-its-stops-end)",
    "across": "`accounts`: one value over all accounts; `null`: every account on its own",
    "rule": "a rule's text ([rules.md](rules.md)), for `custom_rule_trigger` alone, which needs it",
    "overrides": "the trigger that this one replaces for its `account_id`",
    "on_blind": "what it wants while its detector cannot see",
    "canary_percent": "the share of accounts that this version watches ([below](#versions-canaries-rollback))",
}


def page() -> str:
    """The page with its tables as they should be."""
    return filled(PAGE, {"fields": _fields(), "thresholds": _thresholds()})


def _fields() -> str:
    if tuple(MEANINGS) != DEFINITION_FIELDS:
        raise ValueError(f"MEANINGS must have exactly these, in this order: {', '.join(DEFINITION_FIELDS)}")
    rows = (f"| `{name}` | {MEANINGS[name]} | {_default(name)} | {_allowed(name)} |\n" for name in DEFINITION_FIELDS)
    return "| field | meaning | default | allowed |\n|---|---|---|---|\n" + "".join(rows)


def _default(name: str) -> str:
    """What the trigger has of it where the definition says nothing."""
    if name in DEFAULTS:
        return DEFAULTS[name]
    try:
        trigger = _read({field: value for field, value in LEAST.items() if field != name})
    except InvalidTriggerError as error:
        if [one.problem for one in error.problems if one.field == name] != ["is missing"]:
            raise
        return GIVEN
    return f"`{json.dumps(to_plain(trigger)[name])}`"


def _allowed(name: str) -> str:
    """What is allowed, in the words in which anything else is refused."""
    if name in ALLOWED:
        return ALLOWED[name]
    try:
        _read({**LEAST, name: WRONG.get(name, 0.5)})
    except InvalidTriggerError as error:
        said = next(one.problem for one in error.problems if one.field == name)
        _, listed, names = said.partition("allowed: ")
        return ", ".join(f"`{one}`" for one in names.split(", ")) if listed else said.removeprefix("must be ")
    raise ValueError(f"{name} takes everything: say in ALLOWED what is meant")


def _read(definition: Mapping[str, Any]) -> Trigger:
    return read_trigger(definition, services=("names of ESTOP_SERVICES",))


def _thresholds() -> str:
    rows = (_threshold(name, kind.value, limit) for kind, limits in LIMITS.items() for name, limit in limits.items())
    return "| threshold | of | allowed | default |\n|---|---|---|---|\n" + "".join(rows)


def _threshold(name: str, kind: str, limit: Limit) -> str:
    whole = ", whole" if limit.whole else ""
    return f"| `{name}` | `{kind}` | {_number(limit.low)} to {_number(limit.high)}{whole} | {_default_of(limit)} |\n"


def _default_of(limit: Limit) -> str:
    if limit.default is not None:
        return f"`{_number(limit.default)}`"
    return "one of its type, [above](#triggers)" if limit.one_of else GIVEN


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"wrote {PAGE.name}")
