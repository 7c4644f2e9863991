"""``estop explain``: a hit in its own words."""

from __future__ import annotations

import argparse
import asyncio
import json

from emergency_stop.config import Settings
from emergency_stop.control.cli.output import moment, plain, say, show_json
from emergency_stop.control.errors import EXIT_BAD_INPUT, EXIT_OK
from emergency_stop.control.hit_lookup import find_hit
from emergency_stop.control.installation import Installation
from emergency_stop.domain.ids import emergency_id, hit_cause
from emergency_stop.domain.messages import Hit


def run_explain(options: argparse.Namespace, settings: Settings) -> int:
    """Print everything that the hit says of itself."""
    found = asyncio.run(find_hit(Installation(settings), options.hit))
    if isinstance(found, str):
        say(f"estop explain: {found}")
        return EXIT_BAD_INPUT
    _show_hit(options, found)
    return EXIT_OK


def _show_hit(options: argparse.Namespace, hit: Hit) -> None:
    caused = emergency_id(hit_cause(hit.hit_id))
    contents = json.loads(hit.window_contents)
    if options.json:
        show_json(plain(hit) | {"emergency_id": caused, "window_contents": contents})
        return
    effect = f"{hit.level.value} stop of {', '.join(hit.target_services)}"
    rows = [
        ("hit", hit.hit_id),
        (
            "trigger",
            f"{hit.trigger_id} version {hit.trigger_version} ({hit.trigger_type.value}, priority {hit.priority})",
        ),
        ("effect", effect if hit.mode.value == "enforce" else f"none: mode={hit.mode.value}"),
        ("emergency", caused if hit.mode.value == "enforce" else "-"),
        ("scope", hit.scope),
        ("reason", hit.reason),
        ("margin", f"{hit.margin:g} beyond the threshold {hit.threshold:g}"),
        ("event", f"{hit.source_topic} partition {hit.source_partition} offset {hit.source_offset}"),
        ("occurred", f"{moment(hit.occurred_at)}{' (late)' if hit.late else ''}, detected {moment(hit.detected_at)}"),
        ("suppressed", f"{hit.suppressed_before} hits by the cooldown before it"),
        ("correlation", hit.correlation_id),
    ]
    for name, value in rows:
        print(f"{name:<12} {value}")
    for term in contents["terms"]:
        value = "no value" if term["value"] is None else f"{term['value']:g} of {term['samples']} samples"
        limit = f", threshold {term['threshold']:g}" if "threshold" in term else ""
        print(f"{'window':<12} {term['series']} = {value}{limit}")
    for topic, offset in contents.get("seen", {}).items():
        print(f"{'read':<12} {topic} up to offset {offset}, exclusive")
