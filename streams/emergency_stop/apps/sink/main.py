"""Wiring of the sink's process."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any, Final, TypeVar

from emergency_stop.adapters import clickhouse_migrations
from emergency_stop.adapters.clickhouse import ClickHouse, ClickHouseUnavailableError
from emergency_stop.adapters.http_health import HealthServer
from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_sign_in import KafkaSignInError
from emergency_stop.adapters.usage_watch import UsageWatch, watched
from emergency_stop.apps.process import run_until_signal
from emergency_stop.apps.sink.audit_key import load_audit_signer
from emergency_stop.apps.sink.heads import HeadKeeper, HeadSpec
from emergency_stop.apps.sink.metrics import SinkMetrics
from emergency_stop.apps.sink.query import QueryServer
from emergency_stop.apps.sink.worker import SinkSpec, SinkWorker
from emergency_stop.config import EXIT_CONFIG, Settings
from emergency_stop.domain import topics
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry_http import build_registry
from emergency_stop.wire.signing import KeyFileError, Signer

log = logging.getLogger(__name__)
T = TypeVar("T")

GROUP: Final = "estop-sink"
EXIT_UNAVAILABLE: Final = 69
#: State is nobody's business, heads of the audit are stored before they are published, a lease renews what the
#: services' own records tell, and what the history of triggers has comes with ``estop.triggers`` too. Keys of accounts
#: must not get into the backups of what they seal.
_NOT_STORED: Final = frozenset(
    {
        topics.DETECTOR_STATE,
        topics.COORDINATOR_STATE,
        topics.NOTIFIER_STATE,
        topics.TRIGGER_HISTORY,
        topics.LEASES,
        topics.AUDIT_HEADS,
        topics.ACCOUNT_KEYS,
    }
)


def stored_topics(services: tuple[str, ...]) -> dict[str, str | None]:
    """Avro record by topic, for everything that is stored; ``None`` where values are anything."""
    return {spec.name: spec.record for spec in topics.all_topics(services) if spec.name not in _NOT_STORED}


def run(settings: Settings) -> int:
    """Store until SIGTERM or SIGINT; blocking. Returns the process's exit code."""
    try:
        signer = load_audit_signer(settings)
        database = ClickHouse(settings.clickhouse_url, settings.data_dir)
    except KeyFileError as error:
        log.error("the sink does not start: %s (ESTOP_AUDIT_KEY_FILE)", error)  # noqa: TRY400  (the text says all)
        return EXIT_CONFIG
    except ClickHouseUnavailableError as error:
        log.error("the sink does not start: %s", error)  # noqa: TRY400  (the text says all)
        return EXIT_UNAVAILABLE
    try:
        applied = clickhouse_migrations.apply(database, settings.retain_event_history_days, settings.clickhouse_cluster)
        log.info("ClickHouse at %s, migrations applied: %s", database.where, ", ".join(applied) or "none")
        return run_until_signal(lambda stop: _serve(settings, database, signer, stop))
    except KafkaSignInError as error:
        log.error("the sink does not start: %s", error)  # noqa: TRY400  (the text says all)
        return EXIT_CONFIG
    finally:
        database.close()


def migrate(settings: Settings) -> int:
    """Bring the tables up to date, and print what was applied; blocking."""
    return _with_tables(settings, _apply)


def show_migrations(settings: Settings) -> int:
    """Print what ``migrate`` would run, and change nothing; blocking."""
    return _with_tables(settings, _show)


def make_roles(settings: Settings) -> int:
    """Make the analysts' role on a server, and print the statements; blocking."""
    if settings.clickhouse_url is None:
        log.error(
            "ESTOP_CLICKHOUSE_URL is not set: chDB has no roles, and the sink's query port only reads; set it to a"
            " server with access management, as a user who may create roles"
        )
        return EXIT_CONFIG
    try:
        return _with_tables(settings, _make_roles)
    except Exception as error:  # noqa: BLE001  (the driver raises many types; all mean the same here)
        log.error("the role was not made: %s; the user needs ACCESS MANAGEMENT and the right to grant", error)  # noqa: TRY400
        return EXIT_UNAVAILABLE


def _with_tables(settings: Settings, work: Callable[[ClickHouse, int, str | None], str]) -> int:
    try:
        database = ClickHouse(settings.clickhouse_url, settings.data_dir)
    except ClickHouseUnavailableError as error:
        log.error("%s", error)  # noqa: TRY400  (the text says all)
        return EXIT_UNAVAILABLE
    try:
        text = work(database, settings.retain_event_history_days, settings.clickhouse_cluster)
    finally:
        database.close()
    print(text)  # noqa: T201  (the command's result)
    return 0


def _apply(database: ClickHouse, ttl_days: int, cluster: str | None) -> str:
    return json.dumps({"applied": clickhouse_migrations.apply(database, ttl_days, cluster)})


def _make_roles(database: ClickHouse, _: int, cluster: str | None) -> str:
    statements = clickhouse_migrations.role_statements(str(database.rows("SELECT currentDatabase()")[0][0]), cluster)
    for statement in statements:
        database.command(statement)
    return ";\n".join((*statements, ""))


def _show(database: ClickHouse, ttl_days: int, cluster: str | None) -> str:
    steps = clickhouse_migrations.left(database, ttl_days, cluster)
    return clickhouse_migrations.as_script(steps) or "-- nothing is left to apply"


async def _serve(settings: Settings, database: ClickHouse, signer: Signer, stop: asyncio.Event) -> int:
    registry = build_registry(settings.registry_url)
    records = stored_topics(settings.services)
    name = f"{GROUP}-{settings.instance_id}"
    publisher = KafkaPublisher(settings.kafka, client_id=name)
    spec = SinkSpec(
        brokers=settings.kafka,
        group=GROUP,
        client_id=name,
        session_timeout_ms=settings.session_timeout_ms,
        records=records,
        cluster=settings.cluster,
    )
    watch = UsageWatch.of(settings, "where it is memory, smaller blocks are stored")
    head_spec = HeadSpec(settings.audit_head_records, settings.audit_head_interval_ms, settings.audit_heads_file)
    heads = HeadKeeper(head_spec, signer, settings.cluster, Codec(registry))
    worker = SinkWorker(
        spec,
        database,
        registry,
        publisher,
        SinkMetrics(topics=records),
        heads,
        spares_memory=watch.is_over_memory,
    )
    log.info("heads of the audit are signed with key %s", signer.key_id)
    loop = asyncio.get_running_loop()

    def in_database(work: Callable[[ClickHouse], T]) -> T:
        return asyncio.run_coroutine_threadsafe(worker.in_database(work), loop).result()

    def select(sql: str) -> dict[str, Any]:
        return in_database(lambda db: db.select(sql))

    def native(sql: str) -> bytes:
        return in_database(lambda db: db.native(sql))

    health = HealthServer(settings.metrics_host, settings.metrics_port, ready=worker.ready_conditions)
    query = QueryServer(settings.sink_query_port, select, native, settings.data_dir)
    health.start()
    query.start()
    await publisher.start()
    try:
        async with watched(watch, GROUP, settings):
            await worker.serve(stop)
    finally:
        query.stop()
        await publisher.stop()
        health.stop()
    return 0
