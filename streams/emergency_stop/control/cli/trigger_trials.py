"""``estop triggers test`` and ``estop triggers lint``: triggers tried before they are trusted, without a broker."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.config import Settings
from emergency_stop.control.cases.case import Case, CaseError, read_cases, read_triggers
from emergency_stop.control.cases.play import Outcome, play
from emergency_stop.control.cli.output import say, show_json
from emergency_stop.control.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_OK
from emergency_stop.control.trigger_lint import lint
from emergency_stop.domain.default_triggers import builtin_triggers, default_definitions
from emergency_stop.domain.triggers import Trigger

DEFAULT = "default"


def run_test(options: argparse.Namespace, settings: Settings) -> int:
    """Play every case of the files. 0 where all hold, 1 where one does not, 65 where a file is wrong."""
    outcomes: list[tuple[Path, Outcome]] = []
    for path in options.files:
        try:
            triggers, cases = _cases(path, settings)
        except CaseError as error:
            say(f"estop triggers test: {path}: no case was run\n  " + str(error).replace("\n", "\n  "))
            return EXIT_BAD_INPUT
        outcomes += [(path, play(case, triggers)) for case in cases]
    failed = sum(bool(outcome.problems) for _, outcome in outcomes)
    if options.json:
        cases_told = [
            {"file": str(path), "name": one.case.name, "hits": len(one.hits), "problems": one.problems}
            for path, one in outcomes
        ]
        show_json({"cases": len(outcomes), "failed": failed, "results": cases_told})
    else:
        for path, one in outcomes:
            print(f"{'FAILED' if one.problems else 'ok':<7} {path}: {one.case.name}")
            for problem in one.problems:
                print(f"{'':<8}{problem}")
        say(f"{len(outcomes)} cases, {failed} failed")
    return EXIT_FAILED if failed else EXIT_OK


def run_lint(options: argparse.Namespace, settings: Settings) -> int:
    """Name what is valid and still unwise. 0 where nothing is, 1 where something is, 65 where a file is wrong."""
    definitions: list[Mapping[str, Any]] = list(default_definitions()) if not options.files else []
    try:
        for path in options.files:
            document = _load(path)
            given = document.get("triggers", document) if isinstance(document, Mapping) else document
            definitions += default_definitions() if given == DEFAULT else given if isinstance(given, list) else [given]
        triggers = read_triggers(definitions, settings.services)
    except CaseError as error:
        say("estop triggers lint: not even valid\n  " + str(error).replace("\n", "\n  "))
        return EXIT_BAD_INPUT
    findings = lint(triggers, definitions, SystemClock().now_ms())
    if options.json:
        show_json({"triggers": len(triggers), "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            print(f"{finding.trigger_id}: {finding.rule}: {finding.text}")
        say(f"{len(triggers)} triggers, {len(findings)} findings")
    return EXIT_FAILED if findings else EXIT_OK


def _load(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text())  # JSON is YAML too
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CaseError(f"is not readable YAML: {error}") from None


def _cases(path: Path, settings: Settings) -> tuple[Sequence[Trigger], list[Case]]:
    document = _load(path)
    if not isinstance(document, Mapping) or set(document) - {"triggers", "tests"}:
        raise CaseError("must be an object with 'triggers' and 'tests', and nothing else")
    given = document.get("triggers", DEFAULT)
    definitions = default_definitions() if given == DEFAULT else given
    triggers = (*read_triggers(definitions, settings.services), *builtin_triggers(settings.preventive_stop_level))
    return triggers, read_cases(document.get("tests"), [trigger.trigger_id for trigger in triggers])
