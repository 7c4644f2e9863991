"""From a refused record to its row: found, explained, and redriven once, whoever asks how often."""

from __future__ import annotations

import asyncio
import functools
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka import Producer

from emergency_stop.adapters.embedded_broker import EmbeddedBroker
from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.apps.dead_letters.journal import ATTEMPT_OVER_MS, Order, intent, redrive_headers
from emergency_stop.apps.dead_letters.letter import Letter, Place, read_letter
from emergency_stop.config import Settings
from emergency_stop.control.errors import EXIT_BAD_INPUT, EXIT_OK, EXIT_REFUSED, EXIT_UNAVAILABLE
from emergency_stop.domain import topics
from emergency_stop.testing.brokers import ApacheKafka
from emergency_stop.wire.codec import Codec, encode_record, frame
from emergency_stop.wire.registry_http import HttpRegistry, register_committed
from emergency_stop.wire.schemas import load_record_schema
from tests.campaign.children import Child
from tests.campaign.log import Log
from tests.contract.test_registry_http import Server, server
from tests.integration.test_sink import COMMAND, RETENTION_DAYS, Plant

__all__ = ["server"]  # a fixture
pytestmark = pytest.mark.needs("broker", "chdb")

SENT_MS = 1_700_000_000_000
HEALTH = topics.TELEMETRY_HEALTH
FIELDS: dict[str, Any] = {
    "event_id": "good", "account_id": "acc-1", "occurred_at": SENT_MS, "health_score": 50.0, "risk_score": 1.0,
    "source": "test", "correlation_id": None,
}  # fmt: skip

#: Two who write at once are tried on Apache Kafka, and on the embedded broker where there is none.
HAS_KAFKA = shutil.which("java") and shutil.which("mvn")
BROKER = functools.partial(ApacheKafka, short_lived=True) if HAS_KAFKA else EmbeddedBroker


@pytest.fixture
def plant(
    request: pytest.FixtureRequest, tmp_path: Path, server: Server, lay_tables: Callable[[Path, int], None]
) -> Iterator[Plant]:
    """A broker (the embedded one by default), a sink, and a registry that knows the committed schemas."""
    lay_tables(tmp_path / "data", RETENTION_DAYS)
    (tmp_path / "broker").mkdir()
    with getattr(request, "param", EmbeddedBroker)(tmp_path / "broker") as broker:
        own = {"ESTOP_DATA_DIR": str(tmp_path / "data"), "RETAIN_EVENT_HISTORY": str(RETENTION_DAYS)}
        settings = Settings.from_env({"ESTOP_BROKERS": broker.bootstrap, "ESTOP_REGISTRY_URL": server.url} | own)
        asyncio.run(ensure_topics(broker.bootstrap, topics.all_topics(settings.services)))
        register_committed(HttpRegistry(server.url), topics.all_topics(settings.services))
        plant = Plant(settings, Child("sink", COMMAND, settings.as_env(), tmp_path))
        plant.sink.join()
        try:
            yield plant
        finally:
            plant.sink.kill()


def estop(settings: Settings, *arguments: str) -> tuple[int, Any, str]:
    """(exit code, the JSON document, standard error)."""
    ended = subprocess.run(
        command_line(*arguments), env=environment(settings), capture_output=True, text=True, timeout=120, check=False
    )
    return ended.returncode, json.loads(ended.stdout) if ended.stdout else None, ended.stderr


def command_line(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "emergency_stop.control.cli.main", "dead-letters", *arguments, "--json"]


def environment(settings: Settings) -> dict[str, str]:
    return {**os.environ, **settings.as_env()}


def send(settings: Settings, topic: str, *records: tuple[bytes | None, bytes | None, Any]) -> None:
    producer = Producer({"bootstrap.servers": settings.brokers, "acks": "all"})
    for key, value, headers in records:
        producer.produce(topic, value, key, partition=0, timestamp=SENT_MS, headers=list(headers))
    assert producer.flush(20) == 0


def health(schema_id: int, **more: Any) -> bytes:
    return encode_record("HealthEvent", FIELDS | more, schema_id)


def newer_schema() -> dict[str, Any]:
    """What a producer wrote by before anybody registered it."""
    schema = json.loads(json.dumps(load_record_schema("HealthEvent")))
    schema["fields"].append({"name": "mood", "type": "string", "default": "", "doc": "New."})
    return schema  # type: ignore[no-any-return]  # of json


def newer_value(schema_id: int) -> bytes:
    body = io.BytesIO()
    parsed = fastavro.parse_schema(newer_schema(), named_schemas={})
    fastavro.schemaless_writer(body, parsed, FIELDS | {"event_id": "newer", "mood": "calm"})
    return frame(schema_id, body.getvalue())


def letters_of(settings: Settings) -> dict[int, Letter]:
    """By the offset of the record that was refused."""
    found: list[Any] = []
    with Log(settings.brokers) as log:
        found += log.read(topics.DEAD_LETTER)
    letters = [
        read_letter(
            Place(topics.DEAD_LETTER, one.partition(), one.offset()), one.timestamp()[1], one.key(), one.value(),
            one.headers() or [],
        )
        for one in found
    ]  # fmt: skip
    return {letter.source.offset: letter for letter in letters}


def records_of(settings: Settings) -> list[Any]:
    with Log(settings.brokers) as log:
        return list(log.read(HEALTH))


def test_a_refused_record_becomes_one_row_once_its_schema_is_registered(
    plant: Plant,
    server: Server,
) -> None:
    settings, unknown_id = plant.settings, max(server.store.schemas) + 1
    health_id = HttpRegistry(server.url).schema_id("HealthEvent", HEALTH)
    send(
        settings,
        HEALTH,
        (b"acc-1", health(health_id), []),
        (b"acc-1", newer_value(unknown_id), [("trace", b"t-1")]),
        (b"acc-2", health(health_id, event_id="mismatch"), []),
    )
    plant.until(lambda: plant.count("dead_letters") == 2, "two dead letters")

    code, listed, _ = estop(settings, "list")
    assert code == EXIT_OK
    assert {(one["source"], one["reason"], one["state"]) for one in listed} == {
        (f"{HEALTH}-0@1", "unknown_schema", "open"),
        (f"{HEALTH}-0@2", "key_mismatch", "open"),
    }
    assert estop(settings, "list", "--count-by", "topic")[1] == {HEALTH: 2}
    code, shown, _ = estop(settings, "show", f"{HEALTH}-0@1")
    assert (code, shown["where"], shown["byte"]) == (EXIT_OK, "frame", 1)
    assert bytes.fromhex(shown["value"]) == newer_value(unknown_id)

    code, outcomes, _ = estop(settings, "redrive", f"{HEALTH}-0@1")
    assert (code, [one["outcome"] for one in outcomes]) == (EXIT_REFUSED, ["unknown_schema"])
    assert len(records_of(settings)) == 3
    assert server.store.add(f"{HEALTH}-value", json.dumps(newer_schema())) == unknown_id

    code, outcomes, said = estop(settings, "redrive", "--reason", "unknown_schema", "--by", "ann", "--note", "id 42")
    assert (code, [one["outcome"] for one in outcomes]) == (EXIT_OK, ["sent"]), said
    plant.until(lambda: plant.count("health_events") == 2, "the redriven record's row")
    row = plant.ask("SELECT count(), min(toUnixTimestamp64Milli(_timestamp)) FROM health_events WHERE event_id='newer'")
    assert [[int(cell) for cell in cells] for cells in row] == [[1, SENT_MS]]
    record = records_of(settings)[3]
    headers = dict(record.headers())
    assert (record.key(), record.value(), record.partition()) == (b"acc-1", newer_value(unknown_id), 0)
    assert (headers["trace"], headers["estop.redrive.by"], headers["estop.redrive.count"]) == (b"t-1", b"ann", b"1")

    for arguments in ((f"{HEALTH}-0@1",), (listed[0]["letter"], listed[1]["letter"])):
        code, outcomes, _ = estop(settings, "redrive", *arguments)
        assert code == EXIT_REFUSED
        assert "already_redriven" in [one["outcome"] for one in outcomes]
    assert estop(settings, "redrive", "--reason", "unknown_schema")[:2] == (EXIT_OK, [])
    assert len(records_of(settings)) == 4
    by_source = {one["source"]: one for one in estop(settings, "list")[1]}
    assert (by_source[f"{HEALTH}-0@1"]["state"], by_source[f"{HEALTH}-0@1"]["redriven_by"]) == ("redriven", "ann")
    assert [one["source"] for one in estop(settings, "list", "--open")[1]] == [f"{HEALTH}-0@2"]
    plant.until(lambda: plant.count("audit") == 2, "intent and outcome in the audit's table")
    asked = "SELECT action, actor, reason FROM audit ORDER BY action"
    assert plant.ask(asked) == [
        ["dead_letter_redrive_started", "ann", "id 42"],
        ["dead_letter_redriven", "ann", "id 42"],
    ]
    assert plant.count("dead_letters") == 2


@pytest.mark.parametrize("plant", [BROKER], indirect=True)
def test_two_at_once_send_one_record_and_what_an_interrupted_one_sent_is_found(
    plant: Plant,
    server: Server,
) -> None:
    settings, registry = plant.settings, HttpRegistry(server.url)
    health_id = registry.schema_id("HealthEvent", HEALTH)
    send(
        settings,
        HEALTH,
        (b"acc-2", health(health_id, event_id="twice"), []),
        (None, health(health_id, event_id="interrupted"), []),
    )
    plant.until(lambda: plant.count("dead_letters") == 2, "two dead letters")

    fixing = command_line("redrive", f"{HEALTH}-0@0", "--fix-key")
    assert estop(settings, "redrive", f"{HEALTH}-0@0", "--fix-key", "--dry-run")[1][0]["outcome"] == "would_send"
    both = [subprocess.Popen(fixing, env=environment(settings), stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outcomes = [json.loads(one.communicate(timeout=120)[0])[0]["outcome"] for one in both]
    assert outcomes.count("sent") == 1
    assert set(outcomes) <= {"sent", "in_progress", "already_redriven"}
    plant.until(lambda: plant.count("health_events") == 1, "its row")

    letter = letters_of(settings)[1]
    # Partition 0 has the two refused records; the redriven one lies where its new key belongs.
    target = Place(HEALTH, 0, sum(one.partition() == 0 for one in records_of(settings)))
    now_ms = time.time_ns() // 1_000_000
    killed = Order("killed", "bob", "", now_ms - ATTEMPT_OVER_MS)
    value = Codec(registry).encode(intent(letter, killed, target, "--fix-key"), topics.AUDIT)
    send(settings, topics.AUDIT, (letter.letter_id.encode(), value, []))
    assert estop(settings, "list", "--open")[1][0]["state"] == "interrupted"
    send(settings, HEALTH, (b"acc-1", letter.value, redrive_headers(letter, killed)))
    sent = len(records_of(settings))
    assert estop(settings, "redrive", str(letter.place), "--dry-run")[1][0]["outcome"] == "found"
    assert estop(settings, "list", "--open")[1][0]["state"] == "interrupted"
    code, (outcome,), _ = estop(settings, "redrive", str(letter.place), "--fix-key")
    assert (code, outcome["outcome"]) == (EXIT_OK, "found")
    assert len(records_of(settings)) == sent
    assert estop(settings, "list", "--open")[1] == []
    plant.until(lambda: plant.count("health_events") == 2, "its row, written by the interrupted attempt")


def test_wrong_selections_and_a_registry_that_is_away_are_named_and_send_nothing(
    plant: Plant,
    server: Server,
) -> None:
    settings = plant.settings
    health_id = HttpRegistry(server.url).schema_id("HealthEvent", HEALTH)
    send(settings, HEALTH, (b"acc-2", health(health_id), []))
    plant.until(lambda: plant.count("dead_letters") == 1, "a dead letter")
    for arguments, code, complaint in (
        (("redrive",), EXIT_BAD_INPUT, "name letters"),
        (("redrive", "telemetry.health@4"), EXIT_BAD_INPUT, "estop.dead-letter-0@17"),
        (("redrive", "--topic", "telemetry.heath"), EXIT_BAD_INPUT, "did you mean 'telemetry.health'"),
        (("show", f"{HEALTH}-0@99"), EXIT_BAD_INPUT, "no dead letter is at"),
    ):
        ended, _, said = estop(settings, *arguments)
        assert (ended, complaint in said) == (code, True), said
    server.store.broken = True
    code, _, said = estop(settings, "redrive", f"{HEALTH}-0@0", "--fix-key")
    assert (code, "registry" in said) == (EXIT_UNAVAILABLE, True), said
    assert len(records_of(settings)) == 1
