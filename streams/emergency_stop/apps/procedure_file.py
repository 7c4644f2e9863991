"""The file that ``ESTOP_PROCEDURES`` names: procedures of recovery, in YAML."""

from __future__ import annotations

import yaml

from emergency_stop.config import Settings
from emergency_stop.coordinate.recovery_definitions import InvalidProceduresError, read_procedures
from emergency_stop.coordinate.recovery_procedures import Procedure, default_procedures


class ProcedureFileError(ValueError):
    """The file cannot be used; ``problems`` has a line for everything that is wrong with it."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def load_procedures(settings: Settings) -> tuple[Procedure, ...]:
    """The procedures in force: the file's, if there is one, before the four defaults. Raises ``ProcedureFileError``."""
    defaults = default_procedures(
        settings.health_monitoring_interval_ms,
        settings.recovery_validation_timeout_ms,
        settings.post_recovery_monitoring_ms,
    )
    path = settings.procedures_file
    if path is None:
        return defaults
    try:
        return read_procedures(yaml.safe_load(path.read_text(encoding="utf-8")), defaults)
    except InvalidProceduresError as error:
        raise ProcedureFileError([f"ESTOP_PROCEDURES={path}: {problem}" for problem in error.problems]) from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ProcedureFileError([f"ESTOP_PROCEDURES={path} is not readable YAML: {error}"]) from None
