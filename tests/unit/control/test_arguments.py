"""The command line: what it takes, what it refuses and with which exit code, and what it never imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from emergency_stop.config import EXIT_CONFIG
from emergency_stop.control.cli.main import main, parser
from emergency_stop.control.cli.silence_arguments import duration_ms
from emergency_stop.control.errors import EXIT_BAD_INPUT, EXIT_UNAVAILABLE
from emergency_stop.control.trigger_files import read_definitions
from emergency_stop.domain.default_triggers import BUILTIN_SUSPENSION_ID
from emergency_stop.rules.versions import Author

EXIT_USAGE = 2
NOWHERE = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def _no_installation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No command here may reach a broker: the address answers to nobody."""
    monkeypatch.setenv("ESTOP_BROKERS", NOWHERE)
    monkeypatch.setenv("ESTOP_DATA_DIR", str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "COMMAND"),
        (["stopp", "global", "--reason", "x"], "stopp"),
        (["stop"], "SCOPE"),
        (["stop", "global"], "--reason"),
        (["stop", "everything", "--reason", "x"], "everything"),
        (["stop", "account:", "--reason", "x"], "account:"),
        (["stop", "global", "--reason", "x", "--level", "soon"], "soon"),
        (["stop", "global", "--reason", "x", "--wait", "--timeout", "0"], "3600"),
        (["stop", "global", "--reason", "x", "--wait", "--timeout", "nan"], "3600"),
        (["stop", "global", "--reason", "x", "--level", "service_specific", "--carries", "cascading"], "cascading"),
        (["stop", "global", "--reason", "x", "--level", "maintenance", "--at", "tonight"], "'tonight' is no time with"),
        (["stop", "global", "--reason", "x", "--level", "maintenance", "--at", "2026-12-01T22:00"], "no time with"),
        (["reset", "global"], "--reason"),
        (["drill"], "SCOPE"),
        (["drill", "global", "--level", "soon"], "soon"),
        (["resume", "global"], "--reason"),
        (["resume", "global", "--reason", "x", "--epoch", "new"], "new"),
        (["condition", "t"], "SCOPE"),
        (["condition", "t", "everything"], "everything"),
        (["triggers"], "VERB"),
        (["triggers", "remove"], "ID"),
        (["triggers", "history"], "ID"),
        (["triggers", "rollback", "t", "--to", "last"], "last"),
        (["triggers", "add", "f.json", "--canary", "half"], "half"),
        (["silence"], "VERB"),
        (["silence", "add", "--for", "2h", "--scope", "global"], "--reason"),
        (["silence", "add", "--reason", "x", "--scope", "global"], "--for"),
        (["silence", "add", "--reason", " ", "--for", "2h"], "say why"),
        (["silence", "add", "--reason", "x", "--for", "2 hours"], "as in 2h"),
        (["silence", "add", "--reason", "x", "--for", "8d"], "allowed: 1m to 7d"),
        (["silence", "add", "--reason", "x", "--for", "2h", "--scope", "everything"], "account:<id>"),
        (["silence", "remove"], "ID"),
        (["hits"], "VERB"),
        (["hits", "mark", "h", "--reason", "x"], "--true-positive"),
        (["hits", "mark", "h", "--reason", "x", "--true-positive", "--false-positive"], "not allowed with"),
        (["hits", "mark", "h", "--reason", " ", "--true-positive"], "say why"),
        (["report", "--since", "7h"], "allowed: 1d to 3650d"),
        (["report", "--since", "0d"], "allowed: 1d to 3650d"),
        (["migrate", "--roles", "--dry-run"], "not allowed with"),
        (["notices", "--limit", "0"], "allowed: 1 to 10000"),
        (["dead-letters"], "VERB"),
        (["dead-letters", "show"], "TOPIC-PARTITION@OFFSET"),
        (["dead-letters", "list", "--reason", "unknown_shema"], "did you mean 'unknown_schema'"),
        (["dead-letters", "list", "--since", "yesterday"], "90s, 30m, 2h, 1d"),
        (["dead-letters", "list", "--since", "2026-12-01T22:00"], "a time with an offset"),
        (["dead-letters", "list", "--limit", "0"], "allowed: 1 to 10000"),
        (["dead-letters", "list", "--count-by", "account"], "account"),
        (["dead-letters", "redrive", "a-1@1", "--schema-id", "-1"], "--schema-id"),
        (["dead-letters", "redrive", "a-1@1", "--schema-id", "2147483648"], "allowed: 0 to 2147483647"),
        (["notices", "--kind", "alarm"], "alarm"),
    ],
)
def test_a_wrong_command_is_refused_by_the_name_of_what_is_wrong(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == EXIT_USAGE
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "--everything is needed for a silence without them"),
        (["--everything", "--service", "sessionManager"], "--everything excludes --scope"),
        (["--service", "sesionManager"], "did you mean 'sessionManager'?"),
    ],
)
def test_a_silence_names_what_it_hides(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["silence", "add", "--reason", "x", "--for", "2h", *arguments]) == EXIT_BAD_INPUT
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"), [("90s", 90_000), ("30m", 1_800_000), ("2h", 7_200_000), ("7d", 604_800_000)]
)
def test_a_duration_is_read_with_its_unit(text: str, expected: int) -> None:
    assert duration_ms(text) == expected


def test_every_command_has_a_help_and_names_what_runs_it() -> None:
    top = parser()
    for command in ("stop global --reason r", "resume global --reason r", "reset global --reason r",
                    "drill global --level cascading", "drills", "status", "emergencies", "triggers list",
                    "triggers add f.json", "triggers remove t", "triggers history t",
                    "triggers rollback t --to 3 --reason r", "triggers promote t", "triggers lint",
                    "hits mark h --true-positive --reason r", "report", "privacy status", "privacy generate f",
                    "privacy export a", "privacy erase a --reason r", "privacy rotate-account a --reason r",
                    "privacy rotate-master --step add",
                    "check", "service alpha", "produce", "condition t global"):  # fmt: skip
        module, _, function = top.parse_args(command.split()).run.partition(":")
        assert module.startswith("emergency_stop.control.cli."), command
        assert function.startswith("run_"), command


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--level", "graceful", "--at", "2026-12-01T22:00:00Z"], "--at is for --level maintenance"),
        (["--level", "immediate", "--carries", "graceful"], "--carries is for --level service_specific"),
        (["--services", "sesionManager"], "did you mean 'sessionManager'?"),
    ],
)
def test_a_stop_that_contradicts_itself_is_refused_before_it_is_sent(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stop", "global", "--reason", "x", *arguments]) == EXIT_BAD_INPUT
    assert complaint in capsys.readouterr().err


def test_a_time_is_read_with_its_offset() -> None:
    options = parser().parse_args(["stop", "global", "--reason", "x", "--at", "1970-01-01T02:00:00.250+02:00"])
    assert options.at == 250


def test_wrong_settings_end_every_command_with_78_and_all_problems(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IMMEDIATE_STOP_TIMEOUT", "fast")
    monkeypatch.setenv("ESTOP_BROKER", "127.0.0.1:9092")
    for command in ("detector", "status"):
        assert main([command]) == EXIT_CONFIG
        said = capsys.readouterr().err
        assert "IMMEDIATE_STOP_TIMEOUT='fast' is not a whole number; allowed: 100 to 60000" in said
        assert "did you mean 'ESTOP_BROKERS'?" in said
    assert main(["check", "--json"]) == EXIT_CONFIG
    report = json.loads(capsys.readouterr().out)
    assert [layer["verdict"] for layer in report["layers"]] == ["failed", *["skipped"] * 5]
    assert len(report["layers"][0]["problems"]) == 2


def test_a_service_that_no_installation_has_is_named_with_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stop", "global", "--reason", "x", "--services", "sessionManger"]) == EXIT_BAD_INPUT
    assert "did you mean 'sessionManager'?" in capsys.readouterr().err


def test_without_a_broker_a_stop_says_that_nothing_is_known_to_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stop", "global", "--reason", "x"]) == EXIT_UNAVAILABLE
    said = capsys.readouterr()
    assert NOWHERE in said.err
    assert "nothing is known to have been written" in said.err
    assert said.out == ""


def test_check_tries_each_layer_once_its_base_stands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--json"]) == EXIT_UNAVAILABLE
    verdicts = {layer["name"]: layer["verdict"] for layer in json.loads(capsys.readouterr().out)["layers"]}
    assert verdicts == {
        "settings": "ok",
        "broker": "failed",
        "topics": "skipped",
        "schemas": "ok",
        "clickhouse": "ok",
        "keys": "ok",
    }


def test_check_names_a_key_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key.pem").write_text("not a key")
    monkeypatch.setenv("ESTOP_SIGNING_KEY_FILE", str(tmp_path / "key.pem"))
    main(["check"])
    said = capsys.readouterr().out
    assert "keys        failed" in said
    assert "ESTOP_SIGNING_KEY_FILE=" in said


@pytest.mark.parametrize(
    ("text", "complaints"),
    [
        ("{", ["is not readable JSON"]),
        ("a: [", ["is not readable: "]),
        ("[1]", ["a definition must be a JSON object"]),
        (
            json.dumps(
                [{"trigger_id": "a", "trigger_type": "health_score_critcal"}, {"trigger_id": BUILTIN_SUSPENSION_ID}]
            ),
            ["definition 1: ", "health_score_critical", "definition 2: "],
        ),
    ],
)
def test_definitions_are_refused_together_before_anything_is_published(
    text: str, complaints: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "triggers.json"
    file.write_text(text)
    assert main(["triggers", "add", str(file)]) == EXIT_BAD_INPUT
    said = capsys.readouterr().err
    for complaint in complaints:
        assert complaint in said


DEFINITION = {
    "name": "Low health", "trigger_type": "health_score_critical", "thresholds": {"healthScore": 30}, "priority": 1,
    "time_window": 60_000, "cooldown_period": 60_000, "stop_level": "immediate",
}  # fmt: skip


@pytest.mark.parametrize(
    ("definition", "canary", "complaint"),
    [
        (DEFINITION, "101", "canary_percent=101: must be a whole number from 0 to 100"),
        (DEFINITION | {"account_id": "acc-1"}, "10", "canary_percent=10: is a share of accounts"),
    ],
)
def test_a_share_of_accounts_is_checked_before_anything_is_published(
    definition: dict[str, object], canary: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "trigger.json"
    file.write_text(json.dumps(definition))
    assert main(["triggers", "add", str(file), "--canary", canary]) == EXIT_BAD_INPUT
    assert complaint in capsys.readouterr().err


def test_the_share_of_the_command_line_stands_above_that_of_the_definition() -> None:
    definition = DEFINITION | {"canaryPercent": 900}
    assert read_definitions([definition], (), Author("ann", 1), canary=5)[0].canary_percent == 5


def test_definitions_may_be_yaml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "triggers.yaml"
    file.write_text("- {name: Nightly, trigger_type: time_based_trigger, options: {cron: 0 25 * * *}}\n- [1]\n")
    assert main(["triggers", "add", str(file)]) == EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert "definition 1: options.cron='0 25 * * *': hour is wrong; allowed: 0 to 23" in said
    assert "definition 2: a definition must be a JSON object" in said


def test_help_costs_no_import_of_weight() -> None:
    program = (
        "import sys; from emergency_stop.control.cli.main import parser; parser();"
        "heavy = {'numba', 'numpy', 'faust', 'aiokafka', 'clickhouse_connect', 'chdb'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
