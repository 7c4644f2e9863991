"""The file of one's own procedures: read at start, and a wrong one keeps the coordinator from starting."""

from __future__ import annotations

from pathlib import Path

import pytest

from emergency_stop.apps.coordinator import run
from emergency_stop.apps.coordinator_cores import policy_of
from emergency_stop.apps.procedure_file import ProcedureFileError, load_procedures
from emergency_stop.config import EXIT_CONFIG, Settings


def settings(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "procedures.yaml"
    path.write_text(text)
    return Settings.from_env({"ESTOP_PROCEDURES": str(path), "ESTOP_DATA_DIR": str(tmp_path)})


def test_without_a_file_the_settings_make_the_defaults() -> None:
    chosen = Settings.from_env(
        {
            "RECOVERY_VALIDATION_TIMEOUT": "8000",
            "POST_RECOVERY_MONITORING_DURATION": "9000",
            "HEALTH_MONITORING_INTERVAL": "1000",
            "AUTO_RECOVERY_ENABLED": "false",
        }
    )
    policy = policy_of(chosen)
    standard = policy.procedures[-1]
    assert (standard.name, standard.validation_timeout_ms, standard.monitoring_ms) == ("standard_recovery", 8000, 9000)
    assert (standard.interval_ms, policy.automatic_recovery, policy.condition_interval_ms) == (1000, False, 1000)


def test_a_file_adds_to_them(tmp_path: Path) -> None:
    found = load_procedures(settings(tmp_path, "procedures:\n- name: mine\n  shares: [1, 100]\n"))
    assert found[0].name == "mine"
    assert len(found) == 5


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("procedures: [", 1),
        ("procedures:\n- name: mine\n  checks: 0\n  shares: [1]\n", 2),
        ("&a [*a]", 1),
        ("- 1", 1),
        ("", 1),
    ],
)
def test_a_wrong_file_is_refused_with_every_problem(tmp_path: Path, text: str, problems: int) -> None:
    with pytest.raises(ProcedureFileError) as wrong:
        load_procedures(settings(tmp_path, text))
    assert len(wrong.value.problems) == problems
    assert all(line.startswith("ESTOP_PROCEDURES=") for line in wrong.value.problems)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProcedureFileError, match="No such file"):
        load_procedures(Settings.from_env({"ESTOP_PROCEDURES": str(tmp_path / "none.yaml")}))


def test_the_coordinator_does_not_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert run(settings(tmp_path, "procedures:\n- name: mine\n  checks: 0\n")) == EXIT_CONFIG
    assert "checks=0 must be a whole number from 1 to 100" in caplog.text


def test_the_file_in_the_documentation_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "recovery.md").read_text()
    example = page.split("```yaml\n")[1].split("```")[0]
    weekend, *_ = load_procedures(settings(tmp_path, example))
    assert (weekend.name, weekend.shares, len(weekend.when)) == ("weekend", (2, 20, 100), 2)
