"""Trigger definitions: the guide's own examples as they stand, and everything that is refused, field by field."""

from __future__ import annotations

from typing import Any

import pytest

from emergency_stop.domain.default_triggers import builtin_triggers, default_pack
from emergency_stop.domain.trigger_definitions import InvalidTriggerError, parse_trigger
from emergency_stop.domain.triggers import CHANNELS, LIMITS
from emergency_stop.domain.values import StopLevel, TriggerType
from emergency_stop.rules.definitions import check_version, read_trigger

SERVICES = ("accountHealthMonitor", "sessionManager", "behavioralEngine")
GONE = object()
GUIDE_HEALTH: dict[str, Any] = {
    "triggerType": "health_score_critical",
    "accountId": "account-123",
    "name": "Health Score Critical",
    "description": "Triggers when health score falls below 30%",
    "isActive": True,
    "thresholds": {"healthScore": 30},
    "timeWindow": 60000,
    "cooldownPeriod": 300000,
    "stopLevel": "graceful",
    "targetServices": ["sessionManager", "behavioralEngine"],
    "notificationChannels": ["system", "email"],
    "priority": 3,
}
GUIDE_RISK: dict[str, Any] = {
    "triggerType": "account_suspension_risk",
    "accountId": "account-123",
    "name": "Suspension Risk Critical",
    "description": "Triggers when suspension risk exceeds 85%",
    "isActive": True,
    "thresholds": {"riskScore": 85},
    "timeWindow": 30000,
    "cooldownPeriod": 600000,
    "stopLevel": "immediate",
    "targetServices": ["all"],
    "priority": 4,
}


def changed(**fields: Any) -> dict[str, Any]:
    """The guide's first example with some fields changed, or left out (``GONE``)."""
    merged = {**GUIDE_HEALTH, **fields}
    return {name: value for name, value in merged.items() if value is not GONE}


def typed(trigger_type: str, thresholds: Any, **fields: Any) -> dict[str, Any]:
    return changed(triggerType=trigger_type, thresholds=thresholds, **fields)


def clock(**options: Any) -> dict[str, Any]:
    return typed("time_based_trigger", {}, options=options)


def custom(rule: str, **fields: Any) -> dict[str, Any]:
    return typed("custom_rule_trigger", {}, rule=rule, **({"accountId": None} | fields))


NAN, INFINITE = float("nan"), float("inf")
#: (what is defined, the field that each problem names, words of the problem).
MALFORMED: list[tuple[dict[str, Any], str, str]] = [
    (changed(triggerId="@common-cause"), "trigger_id", "the system's own"),
    ({}, "trigger_type", "is missing"),
    ({}, "name", "is missing"),
    ({}, "time_window", "is missing"),
    ({}, "cooldown_period", "is missing"),
    ({}, "stop_level", "is missing"),
    ({}, "priority", "is missing"),
    (changed(triggerType="health_score_critcal"), "trigger_type", "did you mean 'health_score_critical'?"),
    (changed(triggerType="HEALTH_SCORE_CRITICAL"), "trigger_type", "allowed: "),
    (changed(triggerType=None), "trigger_type", "is unknown"),
    (changed(triggerType=7), "trigger_type", "is unknown"),
    (changed(triggerType=["health_score_critical"]), "trigger_type", "is unknown"),
    (changed(accountId=""), "account_id", "or null for every account"),
    (changed(accountId=12), "account_id", "or null for every account"),
    (changed(name=""), "name", "1 to 200 characters"),
    (changed(name="   "), "name", "1 to 200 characters"),
    (changed(name="x" * 201), "name", "1 to 200 characters"),
    (changed(name=5), "name", "1 to 200 characters"),
    (changed(name=None), "name", "1 to 200 characters"),
    (changed(triggerId="x" * 201), "trigger_id", "1 to 200 characters"),
    (changed(triggerId=9), "trigger_id", "1 to 200 characters"),
    (changed(description="x" * 2_001), "description", "1 to 2000 characters"),
    (changed(description=[]), "description", "1 to 2000 characters"),
    (changed(isActive="yes"), "is_active", "true or false"),
    (changed(isActive=1), "is_active", "true or false"),
    (changed(mode="enforced"), "mode", "did you mean 'enforce'?"),
    (changed(thresholds=[]), "thresholds", "must be an object"),
    (changed(thresholds=None), "thresholds", "must be an object"),
    (changed(thresholds={}), "thresholds.healthScore", "is missing; 0 to 100"),
    (changed(thresholds={"healthscore": 30}), "thresholds.healthscore", "did you mean 'healthScore'?"),
    (changed(thresholds={"healthScore": "30"}), "thresholds.healthScore", "must be a number"),
    (changed(thresholds={"healthScore": True}), "thresholds.healthScore", "must be a number"),
    (changed(thresholds={"healthScore": None}), "thresholds.healthScore", "must be a number"),
    (changed(thresholds={"healthScore": NAN}), "thresholds.healthScore", "must be a number"),
    (changed(thresholds={"healthScore": INFINITE}), "thresholds.healthScore", "must be from 0 to 100"),
    (changed(thresholds={"healthScore": -0.1}), "thresholds.healthScore", "must be from 0 to 100"),
    (changed(thresholds={"healthScore": 100.1}), "thresholds.healthScore", "must be from 0 to 100"),
    (changed(minSamples=0), "min_samples", "from 1 to 1000000"),
    (changed(minSamples=1.5), "min_samples", "must be a whole number"),
    (changed(minSamples=1_000_001), "min_samples", "from 1 to 1000000"),
    (typed("rate_limit_violation", {"violations": 3}, minSamples=1_001), "min_samples", "from 1 to 1000 here"),
    (typed("authentication_failure", {"failures": 3}, minSamples=1_000_000), "min_samples", "from 1 to 1000 here"),
    (typed("detection_event_critical", {}, minSamples=1_001), "min_samples", "from 1 to 1000 here"),
    (typed("proxy_failure_cascade", {"failures": 2}, minSamples=1_001), "min_samples", "from 1 to 1000 here"),
    (clock(quietHours="22:00-07:00") | {"minSamples": 1_001}, "min_samples", "from 1 to 1000 here"),
    (changed(forMs=-1), "for_ms", "from 0 to 86400000"),
    (changed(forMs="60s"), "for_ms", "must be a whole number"),
    (changed(timeWindow=999), "time_window", "from 1000 to 86400000"),
    (changed(timeWindow=86_400_001), "time_window", "from 1000 to 86400000"),
    (changed(timeWindow=60_000.0), "time_window", "must be a whole number"),
    (changed(timeWindow=True), "time_window", "must be a whole number"),
    (changed(timeWindow=None), "time_window", "must be a whole number"),
    (changed(cooldownPeriod=-1), "cooldown_period", "from 0 to"),
    (changed(cooldownPeriod=2**70), "cooldown_period", "from 0 to"),
    (changed(stopLevel="gracefull"), "stop_level", "did you mean 'graceful'?"),
    (changed(stopLevel=3), "stop_level", "is unknown"),
    (changed(targetServices=[]), "target_services", "is empty"),
    (changed(targetServices=["sesionManager"]), "target_services", "did you mean 'sessionManager'?"),
    (changed(targetServices=[1]), "target_services", "must be a list of names"),
    (changed(targetServices={"all": True}), "target_services", "must be a list of names"),
    (changed(notificationChannels=["mail"]), "notification_channels", "did you mean 'email'?"),
    (changed(notificationChannels=4), "notification_channels", "must be a list of names"),
    (changed(priority=0), "priority", "from 1 to 4"),
    (changed(priority=5), "priority", "from 1 to 4"),
    (changed(priority="high"), "priority", "must be a whole number"),
    (changed(clearRule="never"), "clear_rule", "allowed: "),
    (changed(version=0), "version", "from 1 to"),
    (changed(treshold=3), "treshold", "did you mean 'thresholds'?"),
    (changed(time_window=60_000), "time_window", "given twice"),
    (changed(options=7), "options", "must be an object"),
    (changed(options={"minSeverity": "high"}), "options.minSeverity", "is unknown"),
    (typed("detection_event_critical", {"eventCount": 0}), "thresholds.eventCount", "from 1 to 1000"),
    (typed("detection_event_critical", {"eventCount": 1.5}), "thresholds.eventCount", "must be a whole number"),
    (typed("detection_event_critical", {}, options={"minSeverity": "hgh"}), "options.minSeverity", "mean 'high'?"),
    (typed("proxy_failure_cascade", {"distinctProxies": 3}), "thresholds.failures", "is missing"),
    (typed("proxy_failure_cascade", {"failures": 2, "distinctProxies": 101}), "thresholds.distinctProxies", "to 100"),
    (typed("rate_limit_violation", {"violation": 3}), "thresholds.violation", "did you mean 'violations'?"),
    (typed("authentication_failure", {"failures": 1_001}), "thresholds.failures", "from 1 to 1000"),
    (typed("external_api_failure", {"failureRate": 50}), "thresholds.failureRate", "must be from 0.001 to 1"),
    (typed("external_api_failure", {"failureRate": 0}), "thresholds.failureRate", "must be from 0.001 to 1"),
    (typed("system_resource_critical", {}), "thresholds", "needs one or more of cpuPercent, memoryBytes"),
    (typed("system_resource_critical", {"cpuPercent": -1}), "thresholds.cpuPercent", "must be from 0 to"),
    (typed("time_based_trigger", {}), "thresholds", "needs exactly one of thresholds.maxActiveMs, options.cron"),
    (typed("time_based_trigger", {"maxActiveMs": 0}), "thresholds.maxActiveMs", "must be from 1000 to"),
    (typed("time_based_trigger", {"maxActiveMs": 1_000}, options={"cron": "* * * * *"}), "thresholds", "exactly one"),
    (typed("time_based_trigger", {"maxActiveMs": 1_000}, options={"corn": "x"}), "options.corn", "mean 'cron'?"),
    (typed("time_based_trigger", {"maxActiveMs": 1_000}, options={"timeZone": "UTC"}), "options.timeZone", "beside"),
    (typed("time_based_trigger", {}, options={"cron": 5}), "options.cron", "must be a text"),
    (typed("time_based_trigger", {}, accountId=None, options={"cron": "0 2 * * *"}), "across", "is missing"),
    (typed("custom_rule_trigger", {}), "rule", "is missing; for example"),
    (typed("custom_rule_trigger", {}, rule=5), "rule", "must be a text"),
    (typed("custom_rule_trigger", {"x": 1}, rule="true"), "thresholds.x", "allowed: none for this type"),
    (changed(rule="true"), "rule", "belongs to custom_rule_trigger only"),
    (changed(across="account", accountId=None), "across", "did you mean 'accounts'?"),
    (changed(across=1), "across", "or null for every account on its own"),
    (changed(across="accounts"), "across", "contradicts account_id='account-123'"),
    (typed("manual_trigger", {}, accountId=None, across="accounts"), "across", "has no meaning here"),
    (changed(overrides="default-health-score", accountId=None), "overrides", "needs account_id"),
    (changed(triggerId="mine", overrides="mine"), "overrides", "is the trigger itself"),
    (changed(canaryPercent=101, accountId=None), "canary_percent", "from 0 to 100"),
    (changed(canaryPercent=10), "canary_percent", "it needs account_id=null"),
    (changed(onBlind="stop"), "on_blind", "allowed: alert, hold"),
    (typed("manual_trigger", {"healthScore": 3}), "thresholds.healthScore", "allowed: none for this type"),
    (changed(thresholds={"healthScore": 10**400}), "thresholds.healthScore", "must be from 0 to 100"),
    (changed(name="half a \ud83d"), "name", "must be a text"),
    (changed(accountId="\udc00"), "account_id", "must be a text"),
    (clock(cron=""), "options.cron", "must be a text"),
    (clock(cron="\ud800 * * * *"), "options.cron", "must be a text"),
    (clock(cron="0 2 * *"), "options.cron", "has 4 fields; needs five"),
    (clock(cron="0 24 * * *"), "options.cron", "hour is wrong; allowed: 0 to 23"),
    (clock(cron="0 2 * * MON#6"), "options.cron", "day-of-week is wrong"),
    (clock(cron="0 2 30 2 *"), "options.cron", "day-of-month is wrong"),
    (clock(cron="0 2 */30 2 MON#5"), "options.cron", "has no moment within 50 years"),
    (clock(quietHours="22-07"), "options.quietHours", "write 22:00-07:00"),
    (clock(quietHours="22:00-22:00"), "options.quietHours", "the whole day is 00:00-24:00"),
    (clock(quietHours="Mon-Fry 22:00-07:00"), "options.quietHours", "cannot be read"),
    (clock(quietHours="22:00-24:30"), "options.quietHours", "has 24:30; allowed: 00:00 to 24:00"),
    (clock(cron="0 2 * * *", quietHours="22:00-07:00"), "thresholds", "exactly one"),
    (clock(cron="0 2 * * *", timeZone="Europe/Berln"), "options.timeZone", "mean 'Europe/Berlin'?"),
    (clock(quietHours="22:00-07:00", timeZone="+01:00"), "options.timeZone", "allowed: IANA names"),
    (clock(quietHours="22:00-07:00", timeZone=1), "options.timeZone", "must be a text"),
    (clock(timeZone="UTC"), "thresholds", "needs exactly one of"),
    (custom(""), "rule", "is missing; for example"),
    (custom('avg(health_score, "60s"'), "rule", "1:24"),
    (custom('avg(helth_score, "60s") < 40.0'), "rule", "did you mean health_score"),
    (custom('avg(health_score, "60s")'), "rule", "1:1"),
    (custom("true"), "rule", "reads no telemetry"),
    (custom("x" * 4_001), "rule", "1 to 4000 characters"),
    (custom('avg(health_score, "60s") < 40.0', across="everyone"), "across", "allowed: accounts"),
    (clock(cron="0 24 * * *", timeZone="Mars"), "options.cron", "hour is wrong"),
    (clock(cron="0 24 * * *", timeZone="Mars"), "options.timeZone", "is unknown"),
]
#: What a detector must refuse though no definition says it: the topic may hold it all the same.
DAMAGED_STABLE = ("{", "[]", "null", "{}", '{"trigger_id": "mine"}', "\x00")


@pytest.mark.parametrize(("definition", "field", "words"), MALFORMED)
def test_a_malformed_definition_is_refused_by_the_field_that_is_wrong(
    definition: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(InvalidTriggerError) as refused:
        read_trigger(definition, services=SERVICES)
    told = [problem for problem in refused.value.problems if problem.field == field]
    assert told, f"{field} is not named: {refused.value}"
    assert any(words in problem.problem for problem in told), told


def test_the_table_is_long_enough_to_mean_something() -> None:
    assert len(MALFORMED) >= 60


def test_all_problems_are_told_at_once() -> None:
    definition = changed(priority=9, stopLevel="soon", timeWindow=1, thresholds={"healthScore": 300}, colour="red")
    with pytest.raises(InvalidTriggerError) as refused:
        read_trigger(definition, services=SERVICES)
    fields = {problem.field for problem in refused.value.problems}
    assert fields == {"priority", "stop_level", "time_window", "thresholds.healthScore", "colour"}


def test_all_problems_of_calendar_rule_and_fields_are_told_together() -> None:
    definition = clock(cron="0 24 * * *", timeZone="Mars") | {"priority": 9, "rule": "true", "overrides": "x"}
    definition["accountId"] = None
    with pytest.raises(InvalidTriggerError) as refused:
        read_trigger(definition, services=SERVICES)
    fields = [problem.field for problem in refused.value.problems]
    assert sorted(fields) == ["across", "options.cron", "options.timeZone", "overrides", "priority", "rule"]
    with pytest.raises(InvalidTriggerError) as refused:
        read_trigger(custom('avg(helth_score, "60s") < 1.0 && count(detction, "5m") > 2'), services=SERVICES)
    assert len([problem for problem in refused.value.problems if problem.field == "rule"]) > 1


@pytest.mark.parametrize(
    "definition",
    [
        clock(cron="0 2 * * MON-FRI", timeZone="America/New_York"),
        clock(quietHours="Mon-Fri 22:00-07:00, Sat-Sun 00:00-24:00", timeZone="Asia/Kathmandu"),
        clock(cron="*/5 * * * *") | {"accountId": None, "across": "accounts"},
        custom('avg(health_score, "60s") < 40.0 && count(detection, "5m") >= 2'),
    ],
)
def test_calendars_and_rules_that_are_right_are_taken(definition: dict[str, Any]) -> None:
    trigger = read_trigger(definition, services=SERVICES)
    assert trigger.options == definition.get("options", {})
    assert trigger.rule == definition.get("rule", "")
    check_version(trigger)


@pytest.mark.parametrize("example", [GUIDE_HEALTH, GUIDE_RISK])
def test_the_guides_examples_are_taken_as_they_stand(example: dict[str, Any]) -> None:
    trigger = parse_trigger(example, services=SERVICES)
    assert trigger.name == example["name"]
    assert trigger.account_id == "account-123"
    assert trigger.thresholds == example["thresholds"]
    assert (trigger.time_window, trigger.cooldown_period) == (example["timeWindow"], example["cooldownPeriod"])
    assert (trigger.stop_level.value, trigger.priority) == (example["stopLevel"], example["priority"])
    assert trigger.target_services == tuple(example["targetServices"])


def test_an_average_may_ask_for_a_million_samples() -> None:
    assert parse_trigger(changed(minSamples=1_000_000), services=SERVICES).min_samples == 1_000_000


def test_names_in_snake_case_mean_the_same() -> None:
    snake = {
        "trigger_type": "account_suspension_risk", "account_id": "account-123", "name": "Suspension Risk Critical",
        "description": "Triggers when suspension risk exceeds 85%", "thresholds": {"riskScore": 85},
        "time_window": 30_000, "cooldown_period": 600_000, "stop_level": "immediate", "priority": 4,
    }  # fmt: skip
    assert parse_trigger(snake, services=SERVICES) == parse_trigger(GUIDE_RISK, services=SERVICES)


def test_every_type_that_telemetry_decides_is_in_the_default_pack() -> None:
    packed = {trigger.trigger_type for trigger in default_pack(0)}
    assert packed == set(LIMITS) - {TriggerType.MANUAL_TRIGGER, TriggerType.CUSTOM_RULE_TRIGGER}
    assert len({trigger.trigger_id for trigger in (*default_pack(0), *builtin_triggers(StopLevel.GRACEFUL))}) == 12


def test_what_names_no_channel_is_told_on_all_and_so_is_the_default_pack() -> None:
    def told(example: dict[str, Any]) -> tuple[str, ...]:
        return parse_trigger(example, services=SERVICES).notification_channels

    assert (told(GUIDE_HEALTH), told(GUIDE_RISK)) == (("system", "email"), CHANNELS)
    named = {trigger.notification_channels for trigger in (*default_pack(0), *builtin_triggers(StopLevel.GRACEFUL))}
    assert named == {CHANNELS}
