"""``estop check``: settings, then broker, topics, schemas, ClickHouse and keys; each tried once its base stands."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import urllib.request
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Final

from aiokafka.errors import KafkaError

from emergency_stop.adapters.kafka_sign_in import KafkaSignInError
from emergency_stop.adapters.kafka_topics import TopicReport, describe_topics
from emergency_stop.apps.procedure_file import ProcedureFileError, load_procedures
from emergency_stop.config import EXIT_CONFIG, Settings
from emergency_stop.control.cli.output import show_json
from emergency_stop.control.errors import EXIT_OK, EXIT_UNAVAILABLE
from emergency_stop.domain.topics import TopicSpec, all_topics
from emergency_stop.wire.privacy_keys import PrivacyKeys
from emergency_stop.wire.registry_http import RegistryError, build_registry
from emergency_stop.wire.signing import Signer, Verifier

_WITHIN_S: Final = 10.0


class Verdict(StrEnum):
    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Layer:
    """What one layer is found to be. ``exit_code`` counts where it failed."""

    name: str
    verdict: Verdict
    summary: str
    problems: list[str] = field(default_factory=list)
    exit_code: int = EXIT_UNAVAILABLE


def run_check(options: argparse.Namespace, settings: Settings) -> int:
    """Report every layer; the exit code is that of the first one that failed."""
    described, broker = _broker(settings)
    layers = [
        _settings(settings),
        broker,
        _topics(settings, described),
        _schemas(settings),
        _clickhouse(settings),
        _keys(settings),
    ]
    return report(layers, as_json=options.json)


def settings_failed(problems: Iterable[str], *, as_json: bool) -> int:
    """The report of an installation whose settings are wrong: nothing else is tried."""
    first = Layer("settings", Verdict.FAILED, "wrong settings", list(problems), EXIT_CONFIG)
    rest = [
        Layer(name, Verdict.SKIPPED, "needs the settings")
        for name in ("broker", "topics", "schemas", "clickhouse", "keys")
    ]
    return report([first, *rest], as_json=as_json)


def report(layers: list[Layer], *, as_json: bool) -> int:
    failed = [layer for layer in layers if layer.verdict is Verdict.FAILED]
    if as_json:
        show_json({"ok": not failed, "layers": [asdict(layer) for layer in layers]})
    else:
        for layer in layers:
            print(f"{layer.name:<11} {layer.verdict.value:<8} {layer.summary}")
            for problem in layer.problems:
                print(f"{'':<20} {problem}")
    return failed[0].exit_code if failed else EXIT_OK


def _settings(settings: Settings) -> Layer:
    try:
        load_procedures(settings)
    except ProcedureFileError as error:
        return Layer("settings", Verdict.FAILED, "wrong procedures of recovery", error.problems, EXIT_CONFIG)
    return Layer("settings", Verdict.OK, "every variable is within its range")


def _broker(settings: Settings) -> tuple[dict[str, TopicReport] | None, Layer]:
    names = [spec.name for spec in settings.topics()]
    try:
        described = asyncio.run(asyncio.wait_for(describe_topics(settings.kafka, names), _WITHIN_S))
    except KafkaSignInError as error:
        return None, Layer("broker", Verdict.FAILED, "refuses the sign-in", [str(error)], EXIT_CONFIG)
    except (KafkaError, OSError, TimeoutError) as error:
        text = str(error) or f"no answer within {_WITHIN_S:g} s"
        problem = f"ESTOP_BROKERS={settings.brokers}: {text}; is the broker up, and its advertised address reachable?"
        return None, Layer("broker", Verdict.FAILED, "not reachable", [problem])
    return described, Layer("broker", Verdict.OK, f"{settings.brokers} answers{_signed_in(settings)}")


def _signed_in(settings: Settings) -> str:
    security = settings.kafka.security
    user = f" to {security.user}" if security.signs_in else ""
    return f"{user}{'' if security.encrypts else ', in the clear'}"


def _topics(settings: Settings, described: dict[str, TopicReport] | None) -> Layer:
    if described is None:
        return Layer("topics", Verdict.SKIPPED, "needs the broker")
    specs = settings.topics()
    problems = [problem for spec in specs if (problem := _difference(spec, described.get(spec.name)))]
    if problems:
        summary = f"{len(problems)} of {len(specs)} are not as needed"
        return Layer("topics", Verdict.FAILED, summary, problems, EXIT_CONFIG)
    return Layer("topics", Verdict.OK, f"all {len(specs)} as needed")


def _difference(spec: TopicSpec, found: TopicReport | None) -> str | None:
    if found is None:
        return f"{spec.name} is missing; create it with {spec.partitions} partitions"
    if found.partitions != spec.partitions:
        return (
            f"{spec.name} has {found.partitions} partitions, needed are {spec.partitions}: keys would move and"
            " co-partitioned topics part; create it anew, or set ESTOP_TELEMETRY_PARTITIONS or ESTOP_CONTROL_PARTITIONS"
        )
    if spec.compacted and found.cleanup_policy is not None and "compact" not in found.cleanup_policy:
        return f"{spec.name} has cleanup.policy={found.cleanup_policy}, needed is compact: state would be deleted"
    if not spec.compacted and found.cleanup_policy is not None and "compact" in found.cleanup_policy:
        return f"{spec.name} has cleanup.policy={found.cleanup_policy}, needed is delete: events would vanish"
    return None


def _schemas(settings: Settings) -> Layer:
    if settings.registry_url is None:
        return Layer("schemas", Verdict.OK, "the committed ones (no ESTOP_REGISTRY_URL)")
    registry, problems = build_registry(settings.registry_url), []
    specs = [spec for spec in all_topics(settings.services) if spec.record is not None]
    for spec in specs:
        try:
            registry.schema_id(spec.record or "", spec.name)
        except RegistryError as error:
            problems.append(str(error))
    if problems:
        return Layer("schemas", Verdict.FAILED, f"{len(problems)} of {len(specs)} subjects fail", problems)
    return Layer("schemas", Verdict.OK, f"{len(specs)} subjects at {settings.registry_url}")


def _clickhouse(settings: Settings) -> Layer:
    url = settings.clickhouse_url
    if url is None:
        if importlib.util.find_spec("chdb") is None:
            problem = "chDB is not installed; install emergency-stop[embedded], or set ESTOP_CLICKHOUSE_URL"
            return Layer("clickhouse", Verdict.FAILED, "no database", [problem], EXIT_CONFIG)
        folder = settings.data_dir if settings.data_dir.exists() else settings.data_dir.absolute().parent
        if not os.access(folder, os.W_OK):
            problem = f"ESTOP_DATA_DIR={settings.data_dir}: {folder} is not writable"
            return Layer("clickhouse", Verdict.FAILED, "nowhere to write", [problem], EXIT_CONFIG)
        return Layer("clickhouse", Verdict.OK, f"embedded, in {settings.data_dir}")
    address = url.split("@")[-1]
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/ping", timeout=_WITHIN_S):  # noqa: S310  (checked: http or https)
            return Layer("clickhouse", Verdict.OK, f"{address} answers")
    except (OSError, ValueError) as error:
        problem = f"ESTOP_CLICKHOUSE_URL at {address}: {error}; stops work without it, rows wait in Kafka"
        return Layer("clickhouse", Verdict.FAILED, "not reachable", [problem])


def _keys(settings: Settings) -> Layer:
    problems = []
    readers = {"ESTOP_SIGNING_KEY_FILE": (settings.signing_key_file, Signer.load),
               "ESTOP_VERIFY_KEYS_FILE": (settings.verify_keys_file, Verifier.load),
               "ESTOP_PRIVACY_KEYS": (settings.privacy_keys_file, PrivacyKeys.load)}  # fmt: skip
    for variable, (path, load) in readers.items():
        try:
            if path is not None:
                load(path)
        except (OSError, ValueError) as error:
            problems.append(f"{variable}={path}: {error}")
    if problems:
        return Layer("keys", Verdict.FAILED, "cannot be used", problems, EXIT_CONFIG)
    if settings.verify_keys_file is None:
        return Layer("keys", Verdict.OK, "no ESTOP_VERIFY_KEYS_FILE: services here do not verify signatures")
    return Layer("keys", Verdict.OK, "readable")
