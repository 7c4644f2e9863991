"""``estop check``: settings, then broker, topics, schemas, ClickHouse and keys; each tried once its base stands."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Final

from aiokafka.errors import KafkaError

from emergency_stop.adapters.kafka_sign_in import KafkaSignInError
from emergency_stop.adapters.kafka_topics import (
    FUTURE_CONFIG,
    LOG_APPEND_TIME,
    TIMESTAMP_CONFIG,
    TopicReport,
    describe_topics,
    topic_config,
)
from emergency_stop.apps.procedure_file import ProcedureFileError, load_procedures
from emergency_stop.config import EXIT_CONFIG, Settings
from emergency_stop.config.values import without_secrets
from emergency_stop.control.cli.output import show_json
from emergency_stop.control.errors import EXIT_OK, EXIT_UNAVAILABLE
from emergency_stop.domain.reasons import FUTURE_MS_MAX
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
    return _bounded(spec, found) if spec.kept else _future_problem(spec, found)


def _bounded(spec: TopicSpec, found: TopicReport) -> str | None:
    """What deletes evidence. A topic that was made before it was kept has the broker's defaults still."""
    bounds = {"retention.ms": found.retention_ms, "retention.bytes": found.retention_bytes}
    given = [f"{name}={value}" for name, value in bounds.items() if value is not None and value >= 0]
    if not given:
        return None
    return (
        f"{spec.name} has {', '.join(given)}, needed is -1: the audit would be deleted; set it with"
        f" kafka-configs.sh --bootstrap-server … --alter --entity-type topics --entity-name {spec.name}"
        " --add-config retention.ms=-1,retention.bytes=-1"
    )


def _future_problem(spec: TopicSpec, found: TopicReport) -> str | None:
    """Telemetry whose timestamps may lie in the future, where the broker tells."""
    if FUTURE_CONFIG not in topic_config(spec) or found.timestamp_type in (None, LOG_APPEND_TIME):
        return None
    if found.future_ms_max is not None and found.future_ms_max <= FUTURE_MS_MAX:
        return None
    has = "lacks" if found.future_ms_max is None else f"has a maximum of {found.future_ms_max} ms, needed is"
    return (
        f"{spec.name} {has} {FUTURE_CONFIG}={FUTURE_MS_MAX}: one producer with a wrong clock would make all later"
        f" events of its accounts late; set it with kafka-configs, or {TIMESTAMP_CONFIG}={LOG_APPEND_TIME}"
    )


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
    return Layer("schemas", Verdict.OK, f"{len(specs)} subjects at {without_secrets(settings.registry_url)}")


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
    return _server(url, settings)


def _server(url: str, settings: Settings) -> Layer:
    """A statement by the client that the sink uses, so that user, password and database are tried too."""
    address = without_secrets(url)
    try:
        from emergency_stop.adapters.clickhouse import ClickHouse

        with contextlib.closing(ClickHouse(url, settings.data_dir, int(_WITHIN_S))) as database:
            database.rows("SELECT 1")
    except Exception as error:  # noqa: BLE001  (the driver raises many types; all mean the same here)
        said = " ".join(str(error).split()) or type(error).__name__
        problem = (
            f"ESTOP_CLICKHOUSE_URL: {said}; check its host, port, user, password and database. Stops work without"
            " ClickHouse, rows wait in Kafka"
        )
        return Layer("clickhouse", Verdict.FAILED, "cannot be used", [problem])
    return Layer("clickhouse", Verdict.OK, f"{address} answers")


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
