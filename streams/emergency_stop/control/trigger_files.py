"""Definitions of triggers in files: JSON, or YAML where a file is written by hand."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from emergency_stop.domain.default_triggers import BUILTIN_KINDS
from emergency_stop.domain.trigger_definitions import InvalidTriggerError
from emergency_stop.domain.triggers import Trigger
from emergency_stop.rules.definitions import read_trigger
from emergency_stop.rules.versions import Author

_CANARY_NAMES = ("canary_percent", "canaryPercent")


class BadDefinitionError(ValueError):
    """The definitions cannot be taken; the text has a line per problem."""


def load_definitions(path: Path | None) -> list[Any]:
    """What a file holds: a list of definitions, or one; ``-`` is standard input. Raises ``BadDefinitionError``.

    JSON is YAML too, but its own reader is a thousand times as fast, which counts with 100,000 overrides.
    """
    if path is None:
        raise BadDefinitionError("name a FILE with definitions, - for standard input, or --default-pack")
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
        document = json.loads(text) if text.lstrip()[:1] in ("{", "[") else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadDefinitionError(f"{path} is not readable JSON: {error}") from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise BadDefinitionError(f"{path} is not readable: {error}") from None
    return document if isinstance(document, list) else [document]


def read_definitions(
    definitions: Sequence[Any], services: Sequence[str], author: Author, canary: int | None = None
) -> list[Trigger]:
    """Definitions → triggers; ``canary`` is the percentage of accounts that each is to watch.

    Raises ``BadDefinitionError`` with every problem of every one.
    """
    triggers, problems = [], []
    for number, definition in enumerate(definitions):
        try:
            triggers.append(_read(definition, services, author, canary))
        except (InvalidTriggerError, BadDefinitionError) as error:
            where = f"definition {number + 1}: " if len(definitions) > 1 else ""
            problems += [f"{where}{problem}" for problem in getattr(error, "problems", (error,))]
    if problems:
        raise BadDefinitionError("nothing was added\n  " + "\n  ".join(problems))
    return triggers


def _read(definition: Any, services: Sequence[str], author: Author, canary: int | None) -> Trigger:
    if not isinstance(definition, Mapping):
        raise BadDefinitionError("a definition must be a JSON object")
    if canary is not None:
        others = {name: value for name, value in definition.items() if name not in _CANARY_NAMES}
        definition = others | {"canary_percent": canary}
    trigger = read_trigger(definition, services=services, updated_by=author.name, updated_at=author.at_ms)
    if trigger.trigger_id in BUILTIN_KINDS:
        raise BadDefinitionError(f"trigger_id={trigger.trigger_id!r}: is built in and cannot be changed")
    return trigger
