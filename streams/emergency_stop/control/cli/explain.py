"""``estop explain`` and ``estop why-not``: a hit in its own words, and how far an account is from one."""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any, Final

from aiokafka.errors import KafkaError

from emergency_stop.adapters.kafka_tail import TailRecord
from emergency_stop.adapters.state_log import read_state
from emergency_stop.apps.detector_core import DetectorCore
from emergency_stop.columnar.batches import Scratch
from emergency_stop.config import Settings, did_you_mean
from emergency_stop.control.cli.output import moment, plain, say, show_json
from emergency_stop.control.cli.triggers import standing_triggers
from emergency_stop.control.errors import EXIT_BAD_INPUT, EXIT_OK, UnavailableError
from emergency_stop.control.installation import Installation
from emergency_stop.detect.compile import compile_plan
from emergency_stop.detect.standing import Standing, reasons_against, reasons_without_effect
from emergency_stop.domain import topics
from emergency_stop.domain.ids import emergency_id, hit_cause
from emergency_stop.domain.messages import Hit
from emergency_stop.domain.triggers import Trigger
from emergency_stop.wire.codec import WireError
from emergency_stop.wire.registry import UnknownSchemaError
from emergency_stop.wire.registry_http import build_registry

_PREFIX_MIN: Final = 6


def run_explain(options: argparse.Namespace, settings: Settings) -> int:
    """Print everything that the hit says of itself."""
    if len(options.hit) < _PREFIX_MIN:
        say(f"estop explain: HIT={options.hit!r}: is too short; give {_PREFIX_MIN} characters or more")
        return EXIT_BAD_INPUT
    installation = Installation(settings)
    found: dict[str, Hit] = {}

    def take(record: TailRecord) -> None:
        try:
            hit = installation.codec.decode(Hit, record.value)
        except (WireError, UnknownSchemaError):
            return
        names = (hit.hit_id, emergency_id(hit_cause(hit.hit_id)))
        if any(name.startswith(options.hit) for name in names):
            found[hit.hit_id] = hit

    asyncio.run(installation.scan(topics.HITS, take))
    if len(found) != 1:
        listed = f": {', '.join(sorted(found))}" if found else "; a stop by hand has no hit ('estop emergencies')"
        say(f"estop explain: {len(found) or 'no'} hits begin with {options.hit!r}{listed}")
        return EXIT_BAD_INPUT
    _show_hit(options, next(iter(found.values())))
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


def run_why_not(options: argparse.Namespace, settings: Settings) -> int:
    """Compare the account's windows, as they last became durable, with the trigger in force."""
    installation = Installation(settings)
    triggers = {trigger.trigger_id: trigger for trigger in asyncio.run(standing_triggers(installation))}
    trigger = triggers.get(options.trigger_id)
    if trigger is None:
        hint = did_you_mean(options.trigger_id, tuple(triggers))
        say(f"estop why-not: no trigger {options.trigger_id!r}{hint}")
        return EXIT_BAD_INPUT
    if trigger.account_id not in (None, options.account):
        reasons, standing = [f"the trigger is for {trigger.account_id} only"], None
    else:
        standing = asyncio.run(_standing(settings, installation, trigger, options.account))
        reasons = reasons_without_effect(trigger)
        reasons += reasons_against(standing) if standing else ["no event of the account was applied yet"]
    if options.json:
        show_json({"trigger": plain(trigger), "account": options.account, "reasons": reasons, **_terms(standing)})
    else:
        _show_standing(options, trigger, standing, reasons)
    return EXIT_OK


async def _standing(settings: Settings, installation: Installation, trigger: Trigger, account: str) -> Standing | None:
    """From the state log of the partition that has the account; the newest one where a producer's partitioner erred."""
    plan, registry, scratch = compile_plan([trigger]), build_registry(settings.registry_url), Scratch()
    found: list[Standing] = []
    topic = topics.detector_state(settings.detector_lane)
    for partition in range(settings.telemetry_partitions):
        try:
            state = await read_state(settings.brokers, topic, partition, client_id="estop-cli")
        except (KafkaError, OSError) as error:
            raise UnavailableError(f"{topic} could not be read: {error}") from error
        core = DetectorCore(registry, installation.codec, lambda: plan, scratch, enforcing=True)
        core.restore(state.records.items(), state.positions)
        found += core.detector.standing(account.encode())
    return max(found, key=lambda one: one.newest_at, default=None)


def _terms(standing: Standing | None) -> dict[str, Any]:
    if standing is None:
        return {"terms": [], "cooldown_until": None, "suppressed": 0}
    terms = [
        {
            "series": one.series.name,
            "value": one.window.value,
            "samples": one.window.samples,
            "newest_at": one.window.newest_at,
            "threshold": one.threshold,
            "holds": one.holds,
            "margin": one.margin,
        }
        for one in standing.terms
    ]
    return {"terms": terms, "cooldown_until": standing.cooldown_until, "suppressed": standing.suppressed}


def _show_standing(
    options: argparse.Namespace, trigger: Trigger, standing: Standing | None, reasons: list[str]
) -> None:
    print(f"{trigger.trigger_id} version {trigger.version} and {options.account}")
    for one in standing.terms if standing else ():
        value = "-" if one.window.value is None else f"{one.window.value:g}"
        newest = "-" if one.window.newest_at is None else moment(one.window.newest_at)
        print(f"  {one.series.name} = {value} of {one.window.samples} samples, newest {newest}")
    for reason in reasons or ["nothing speaks against it: its newest event fired it, or the next one will"]:
        print(f"  {reason}")
