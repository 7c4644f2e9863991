"""``estop triggers test`` and ``lint``: cases that hold, cases that fail for each reason, and files that are wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from emergency_stop.control.cases.series import parse_duration_ms, parse_series
from emergency_stop.control.cli.main import main
from emergency_stop.control.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_OK
from emergency_stop.detect.page_budget import PAGE_BYTES_MAX
from emergency_stop.domain.default_triggers import default_definitions

PACK = Path(__file__).parents[2] / "triggers" / "default-pack.yaml"
CASES = sorted(PACK.parent.glob("*.yaml"))


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("80x5 20 _ 25", ["80"] * 5 + ["20", None, "25"]),
        ("80-10x5", ["80", "70", "60", "50", "40"]),
        ("-1+0.5x3", ["-1", "-0.5", "0"]),
        ("_x3 1", [None, None, None, "1"]),
        ("failedx2 proxy-07", ["failed", "failed", "proxy-07"]),
        ("x", ["x"]),
    ],
)
def test_a_compact_series_is_one_value_per_step(text: str, steps: list[str | None]) -> None:
    assert parse_series(text) == steps


@pytest.mark.parametrize("text", ["", "   ", "1x100001", "1x99999999999 2", "1+1x100001"])
def test_a_series_is_neither_empty_nor_endless(text: str) -> None:
    with pytest.raises(ValueError, match=r"is empty|more than 100000 steps"):
        parse_series(text)


@pytest.mark.parametrize(("text", "ms"), [("500ms", 500), ("5s", 5_000), ("1.5m", 90_000), ("1h", 3_600_000), (7, 7)])
def test_durations(text: object, ms: int) -> None:
    assert parse_duration_ms(text) == ms


@pytest.mark.parametrize("text", ["5", "s", "-5s", "5 days", None, True, -1, 1.5])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration_ms(text)


def test_the_default_triggers_do_what_their_cases_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["triggers", "test", *map(str, CASES), "--json"]) == EXIT_OK
    report = json.loads(capsys.readouterr().out)
    assert report["failed"] == 0
    assert report["cases"] >= 12


def test_every_default_trigger_has_a_case() -> None:
    named = {hit["trigger"] for case in yaml.safe_load(PACK.read_text())["tests"] for hit in case.get("expect", [])}
    assert named >= {definition["trigger_id"] for definition in default_definitions()}


def tried(tmp_path: Path, *tests: dict[str, Any], triggers: Any = "default") -> int:
    file = tmp_path / "cases.yaml"
    file.write_text(yaml.safe_dump({"triggers": triggers, "tests": list(tests)}))
    return main(["triggers", "test", str(file)])


SERIES = [{"account": "a", "fields": {"risk_score": "10 90"}}]
FIRES = {"trigger": "default-suspension-risk", "account": "a", "at": "5s"}


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ({"expect": [{**FIRES, "at": "0s"}]}, "should fire for a at 0 s: it fired at 5 s"),
        ({"expect": [FIRES, {**FIRES, "account": "b"}]}, "should fire for b at 5 s: it did not fire"),
        ({"silent": ["default-suspension-risk"]}, "should be silent: fired for a at 5 s, highest risk_score 90"),
        ({"silent": ["default-health-score"]}, "default-suspension-risk was not expected"),
        ({"expect": [FIRES], "silent": ["default-proxy-cascade"]}, "was not asked: no event of its topic"),
    ],
)
def test_a_case_that_does_not_hold_says_why(
    case: dict[str, Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tried(tmp_path, {"name": "n", "series": SERIES, **case}) == EXIT_FAILED
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ({}, "tests[0].series=None: must be a list"),
        ({"series": SERIES}, "expects neither hits nor silence"),
        ({"series": SERIES, "expects": [FIRES]}, "did you mean 'expect'?"),
        ({"series": SERIES, "expect": [{**FIRES, "trigger": "default-suspension"}]}, "mean 'default-suspension-risk'?"),
        ({"series": SERIES, "expect": [{**FIRES, "at": "soon"}]}, "tests[0].expect[0].at='soon': is no duration"),
        ({"series": SERIES, "interval": "0.1"}, "tests[0].interval='0.1': is no duration"),
        ({"series": [{"fields": {"risk_scor": "1"}}]}, "no topic has the fields risk_scor"),
        ({"series": [{"fields": {"outcome": "failed"}}]}, "proxy and platform have the fields outcome"),
        ({"series": [{"topic": "helth", "fields": {"risk_score": "1"}}]}, "did you mean 'health'?"),
        ({"series": [{"topic": "health", "fields": {"risk_scor": "1"}}]}, "did you mean 'risk_score'?"),
        ({"series": [{"fields": {"risk_score": "high"}}]}, "fields.risk_score='high': could not convert"),
        ({"series": [{"topic": "proxy", "fields": {"outcome": "fialed"}}]}, "did you mean 'failed'?"),
        ({"series": [{"fields": {"risk_score": ""}}]}, "fields.risk_score='': is empty"),
        ({"series": [{"fields": 3}]}, "must name fields and their series"),
    ],
)
def test_a_wrong_file_is_refused_by_the_place_that_is_wrong(
    case: dict[str, Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tried(tmp_path, case) == EXIT_BAD_INPUT
    assert words in capsys.readouterr().err


def test_wrong_triggers_in_a_file_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = {"series": SERIES, "expect": [FIRES]}
    assert tried(tmp_path, case, triggers=[{"name": "x", "trigger_type": "health"}]) == EXIT_BAD_INPUT
    assert "triggers[0].trigger_type='health'" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[", "- 1", "tests: 3", "{triggers: default, test: []}"])
def test_what_is_no_file_of_cases(text: str, tmp_path: Path) -> None:
    file = tmp_path / "cases.yaml"
    file.write_text(text)
    assert main(["triggers", "test", str(file)]) == EXIT_BAD_INPUT


def test_the_default_pack_has_nothing_unwise(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["triggers", "lint", "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out) == {"triggers": len(default_definitions()), "findings": []}


def ruled(rule: str) -> dict[str, Any]:
    return {"trigger_type": "custom_rule_trigger", "thresholds": {}, "rule": rule}


def clock(**options: str) -> dict[str, Any]:
    return {"trigger_type": "time_based_trigger", "thresholds": {}, "options": options, "account_id": "acc-1"}


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"thresholds": {"healthScore": 0}}, "unreachable"),
        ({"thresholds": {"healthScore": 100}}, "always"),
        ({"trigger_type": "account_suspension_risk", "thresholds": {"riskScore": 100}}, "unreachable"),
        ({"trigger_type": "account_suspension_risk", "thresholds": {"riskScore": 0}}, "always"),
        ({"trigger_type": "behavioral_anomaly_severe", "thresholds": {"anomalyScore": 100}}, "unreachable"),
        ({"trigger_type": "proxy_failure_cascade", "thresholds": {"failures": 2, "distinctProxies": 3}}, "redundant"),
        ({"for_ms": 60_000}, "slow"),
        ({"cooldown_period": 1_000}, "repeats"),
        ({"clear_rule": None}, "no-clear-rule"),
        ({"min_samples": 1}, "one-sample"),
        ({"stop_level": "immediate", "mode": "shadow"}, "not-enforced"),
        (ruled('avg(health_score, "60s") < 0.0'), "unreachable"),
        (ruled('avg(health_score, "60s") < 40.0 && false'), "unreachable"),
        (ruled('count(detection, "5m") >= 0'), "always"),
        (ruled('count(detection, "10m") >= 2'), "repeats"),
        (ruled('count(detection, "60s") >= 2') | {"for_ms": 60_000}, "slow"),
        (ruled('distinct(platform.endpoint, "60s") >= 3'), "sealed"),
        (ruled('distinct(proxy.proxy_id, "60s") >= 3'), None),  # equal ones stay equal
        (ruled('distinct(proxy.proxy_id, "60s") >= 3') | {"across": "accounts"}, "sealed"),  # but not between accounts
        (clock(cron="0 0 29 2 MON"), None),  # either of the two days is enough
        (clock(cron="0 0 29 2 *"), None),
        (clock(cron="0 0 * 2 MON#5"), "unreachable"),
        (clock(quietHours="00:00-24:00"), "always"),
        (clock(quietHours="Mon-Fri 00:00-24:00, Sat-Sun 00:00-12:00, Sat-Sun 11:00-24:00"), "always"),
        (clock(quietHours="00:00-23:59"), None),
        ({"account_id": "acc-1", "overrides": "default-suspension-risc"}, "no-such-trigger"),
        ({"account_id": "acc-1", "overrides": "default-suspension-risk"}, "no-such-trigger"),
        ({"account_id": "acc-1", "overrides": "builtin-account-suspension"}, "no-such-trigger"),
        ({"account_id": "acc-1", "overrides": "default-health-score"}, None),
        ({"canary_percent": 10}, "nothing-stable"),
        ({"canary_percent": 10, "trigger_id": "default-health-score"}, None),
    ],
)
def test_what_is_valid_and_unwise_is_named(
    change: dict[str, Any], rule: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    definition = {**default_definitions()[0], "trigger_id": "mine", **change}
    definition = {name: value for name, value in definition.items() if value is not None}
    file = tmp_path / "triggers.json"
    file.write_text(json.dumps([definition]))
    assert main(["triggers", "lint", str(file), "--json"]) == (EXIT_FAILED if rule else EXIT_OK)
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert [(finding["trigger_id"], finding["rule"]) for finding in findings] == ([("mine", rule)] if rule else [])


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"stop_level": "immediate", "priority": 4, "cooldown_period": 900_000}, True),
        ({"thresholds": {"healthScore": 25}}, False),
        ({"account_id": "acc-1"}, False),
        ({"across": "accounts"}, False),
        ({"time_window": 30_000}, False),
        ({"min_samples": 9}, False),
        ({"is_active": False}, False),
    ],
)
def test_two_triggers_that_watch_the_same_are_named(
    change: dict[str, Any], same: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = default_definitions()[0]
    file = tmp_path / "triggers.json"
    file.write_text(json.dumps([first, {**first, "trigger_id": "mine", **change}]))
    assert main(["triggers", "lint", str(file), "--json"]) == (EXIT_FAILED if same else EXIT_OK)
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert [finding["text"] for finding in findings] == (
        ["watches the same as default-health-score, with the same threshold"] if same else []
    )


def test_a_definition_given_twice_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "triggers.json"
    file.write_text(json.dumps([default_definitions()[0]] * 2))
    assert main(["triggers", "lint", str(file)]) == EXIT_FAILED
    assert "2 definitions have this id" in capsys.readouterr().out


def test_triggers_that_detectors_would_have_no_room_for_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each keeps a thousand moments of every account, and three such fit."""
    counting = {
        "trigger_type": "rate_limit_violation", "thresholds": {"violations": 1_000}, "stop_level": "graceful",
        "cooldown_period": 300_000, "clear_rule": "after_operator_reset",
    }  # fmt: skip
    definitions = [
        counting | {"trigger_id": f"t{number}", "name": "t", "time_window": 60_000 + number, "priority": 1 + number % 4}
        for number in range(5)
    ]
    file = tmp_path / "triggers.json"
    file.write_text(json.dumps(definitions))
    assert main(["triggers", "lint", str(file), "--json"]) == EXIT_FAILED
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert [(finding["trigger_id"], finding["rule"]) for finding in findings] == [("t0", "no-room"), ("t4", "no-room")]
    assert f"{PAGE_BYTES_MAX} are allowed" in findings[0]["text"]
