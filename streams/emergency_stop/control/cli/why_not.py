"""``estop why-not``: how far an account, or all of them together, is from a hit, and what speaks against one."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from aiokafka.errors import KafkaError

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.adapters.state_log import read_state
from emergency_stop.apps.detector_core import DetectorCore
from emergency_stop.columnar.batches import Scratch
from emergency_stop.config import Settings, did_you_mean
from emergency_stop.control.cli.output import moment, plain, say, show_json
from emergency_stop.control.cli.triggers import standing_triggers
from emergency_stop.control.errors import EXIT_BAD_INPUT, EXIT_OK, UnavailableError
from emergency_stop.control.installation import Installation
from emergency_stop.detect.compile import Compiler
from emergency_stop.detect.detector import PartitionDetector
from emergency_stop.detect.standing import Standing, reasons_against, reasons_without_effect
from emergency_stop.domain import topics
from emergency_stop.domain.triggers import PERCENT_ALL, Trigger
from emergency_stop.rules.definitions import schedule_of, stable_version
from emergency_stop.wire.registry_http import build_registry


def run_why_not(options: argparse.Namespace, settings: Settings) -> int:
    """Compare the account's windows, as they last became durable, with the trigger in force."""
    installation = Installation(settings)
    triggers = {trigger.trigger_id: trigger for trigger in asyncio.run(standing_triggers(installation))}
    trigger = triggers.get(options.trigger_id)
    if trigger is None:
        hint = did_you_mean(options.trigger_id, tuple(triggers))
        say(f"estop why-not: no trigger {options.trigger_id!r}{hint}")
        return EXIT_BAD_INPUT
    schedule = schedule_of(trigger)
    if options.account is None and schedule is None and not trigger.across:
        say(f"estop why-not: {trigger.trigger_id} watches every account on its own: name an ACCOUNT")
        return EXIT_BAD_INPUT
    standing: Standing | None = None
    if schedule is not None:
        reasons = [f"its schedule is next due {moment(schedule.next_after(SystemClock().now_ms()))}"]
    elif trigger.account_id not in (None, options.account):
        reasons = [f"the trigger is for {trigger.account_id} only"]
    else:
        standing = asyncio.run(_standing(settings, installation, triggers, trigger, options.account))
        reasons = reasons_against(standing) if standing else _absence(trigger, triggers, options.account)
    reasons = reasons_without_effect(trigger) + reasons
    if options.json:
        show_json({"trigger": plain(trigger), "account": options.account, "reasons": reasons, **_terms(standing)})
    else:
        _show_standing(options, trigger, standing, reasons)
    return EXIT_OK


def _absence(trigger: Trigger, triggers: Mapping[str, Trigger], account: str) -> list[str]:
    """Why no window of the account belongs to the trigger."""
    others = [one.trigger_id for one in triggers.values() if one.overrides == trigger.trigger_id]
    mine = [name for name in others if triggers[name].account_id == account]
    if mine:
        return [f"{name} overrides it for {account}: ask 'estop why-not {name} {account}'" for name in mine]
    if trigger.canary_percent < PERCENT_ALL:
        return [f"the account has no event yet, or is not among the {trigger.canary_percent} % of its canary"]
    return ["no event of the account was applied yet"]


async def _standing(
    settings: Settings, installation: Installation, triggers: Mapping[str, Trigger], trigger: Trigger, account: str
) -> Standing | None:
    """From the state log of the partition that has the account; the newest one where a producer's partitioner erred."""
    plan = Compiler(stable_version).compile(triggers.values())
    registry, scratch = build_registry(settings.registry_url), Scratch()
    found: list[Standing] = []
    topic = topics.detector_state(settings.detector_lane)
    for partition in range(settings.telemetry_partitions):
        try:
            state = await read_state(settings.kafka, topic, partition, client_id="estop-cli")
        except (KafkaError, OSError) as error:
            raise UnavailableError(f"{topic} could not be read: {error}") from error
        core = DetectorCore(registry, installation.codec, lambda: plan, scratch, partition=partition, enforcing=True)
        core.restore(state.records.items(), state.positions)
        found += _of_trigger(core.detector, trigger, account)
    return max(found, key=lambda one: one.newest_at, default=None)


def _of_trigger(detector: PartitionDetector, trigger: Trigger, account: str) -> Iterator[Standing]:
    """A stable version stands for its canary where that does not watch the account."""
    if trigger.across:
        overall = detector.overall_standing(trigger.trigger_id)
        if overall is not None:
            yield overall
        return
    for one in detector.standing(account.encode()):
        if one.trigger.trigger_id == trigger.trigger_id:
            yield one


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
    version = standing.trigger.version if standing else trigger.version
    print(f"{trigger.trigger_id} version {version} and {'all accounts' if trigger.across else options.account}")
    for one in standing.terms if standing else ():
        value = "-" if one.window.value is None else f"{one.window.value:g}"
        newest = "-" if one.window.newest_at is None else moment(one.window.newest_at)
        print(f"  {one.series.name} = {value} of {one.window.samples} samples, newest {newest}")
    for reason in reasons or ["nothing speaks against it: its newest event fired it, or the next one will"]:
        print(f"  {reason}")
