"""What a detector must get over: hits of odd events, damaged batches, a registry that is away."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from emergency_stop.apps.detector_core import DetectorCore, know_ids
from emergency_stop.columnar.batches import Scratch
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.detect.compile import compile_plan
from emergency_stop.detect.recording import Recording
from emergency_stop.domain import topics
from emergency_stop.domain.messages import Evaluation, Hit, Tick
from emergency_stop.domain.trigger_definitions import parse_trigger
from emergency_stop.ports import Publish
from emergency_stop.wire.codec import Codec, encode_record
from emergency_stop.wire.registry import LocalRegistry, Registry, RegistryError, SchemaUnansweredError
from emergency_stop.wire.registry_http import NotRegisteredError
from emergency_stop.wire.schemas import committed_ids, load_record_schema
from tests.unit.wire.unanswering import NEW_ID

NOW = 1_700_000_000_000
CODEC = Codec(LocalRegistry())
HEALTH_ID = committed_ids()["HealthEvent"]
#: Where a batch's header says how its records are compressed.
ATTRIBUTES_AT = 22
GZIP = 1
PLAN = compile_plan(
    [
        parse_trigger(
            {
                "triggerId": "low", "name": "low", "triggerType": "health_score_critical", "priority": 1,
                "thresholds": {"healthScore": 50}, "timeWindow": 60_000, "cooldownPeriod": 0, "stopLevel": "immediate",
            },
            services=(),
        )
    ]
)  # fmt: skip


def health(account: str, score: float, schema_id: int = HEALTH_ID) -> tuple[bytes, bytes]:
    """(key, value) of an event whose id is no UUID."""
    event = {
        "event_id": "evt-17", "account_id": account, "occurred_at": NOW, "health_score": score, "risk_score": 0.0,
        "source": "", "correlation_id": "from-the-producer",
    }  # fmt: skip
    return account.encode(), encode_record("HealthEvent", event, schema_id)


def raw(offset: int, key: bytes | None, value: bytes) -> bytes:
    """A record batch of one record."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 100_000)
    builder.append(0, NOW, key, value, [])
    built = bytearray(builder.build())
    built[:8] = offset.to_bytes(8, "big")
    return bytes(built)


def damaged(batch: bytes) -> bytes:
    """It says that it is compressed, and is not."""
    broken = bytearray(batch)
    broken[ATTRIBUTES_AT] |= GZIP
    return bytes(broken)


def fetched(*batches: bytes, topic: str = topics.TELEMETRY_HEALTH) -> FetchedBatch:
    return FetchedBatch(topic, 0, 0, len(batches), batches)


def core_of(registry: Registry, recording: Recording | None = None) -> DetectorCore:
    kept = recording or Recording()
    return DetectorCore(registry, Codec(registry), lambda: PLAN, Scratch(), enforcing=True, recording=kept)


def hits(found: list[Publish]) -> list[Hit]:
    return [CODEC.decode(Hit, one.value) for one in found if one.topic == topics.HITS]


class Annotated(LocalRegistry):
    """A producer's schema says that event ids are UUIDs."""

    def __init__(self) -> None:
        super().__init__()
        self.schema = copy.deepcopy(load_record_schema("HealthEvent"))
        self.schema["fields"][0]["type"] = {"type": "string", "logicalType": "uuid"}

    def writer_schema(self, schema_id: int | str) -> dict[str, Any]:
        return self.schema if schema_id == NEW_ID else super().writer_schema(schema_id)


class TellsOnce(Annotated):
    """Answers who decodes, and then no more."""

    def __init__(self) -> None:
        super().__init__()
        self.told = False

    def writer_schema(self, schema_id: int | str) -> dict[str, Any]:
        if self.told:
            raise SchemaUnansweredError("away")
        self.told = True
        return super().writer_schema(schema_id)


def test_a_hit_is_published_though_its_event_is_not_what_its_schema_means() -> None:
    core = core_of(Annotated())
    (hit,) = hits(list(core.on_batch(fetched(raw(0, *health("a", 10, NEW_ID))), NOW)))
    assert (hit.scope, hit.correlation_id) == ("account:a", "from-the-producer")


def test_a_hit_is_published_under_its_own_id_where_the_events_cannot_be_read() -> None:
    core = core_of(TellsOnce())
    (hit,) = hits(list(core.on_batch(fetched(raw(0, *health("a", 10, NEW_ID))), NOW)))
    assert (hit.scope, hit.correlation_id) == ("account:a", hit.hit_id)


def test_a_damaged_batch_is_counted_and_its_neighbours_are_evaluated() -> None:
    core = core_of(LocalRegistry())
    sick = [raw(offset, *health(account, 10)) for offset, account in enumerate("abc")]
    found = hits(list(core.on_batch(fetched(sick[0], damaged(sick[1]), sick[2]), NOW)))
    assert [(hit.scope, hit.source_offset) for hit in found] == [("account:a", 0), ("account:c", 2)]
    assert core.undecodable == 1


def test_nothing_but_damage_is_passed_over() -> None:
    core = core_of(LocalRegistry())
    assert list(core.on_batch(fetched(damaged(raw(0, *health("a", 10)))), NOW)) == []
    assert list(core.on_batch(fetched(b"short"), NOW)) == []
    assert core.undecodable == 2
    assert core.detector.topics[topics.TELEMETRY_HEALTH].next_offset == 1


def test_a_damaged_batch_of_ticks_does_not_hide_those_behind_it() -> None:
    core = core_of(LocalRegistry())
    ticks = [raw(offset, None, CODEC.encode(Tick(0, NOW + offset), topics.TICKS)) for offset in range(3)]
    core.on_batch(fetched(ticks[0], damaged(ticks[1]), ticks[2], topic=topics.TICKS), NOW)
    assert (core.undecodable, core.detector._clock.last_ms) == (1, NOW + 2)


class Unregistered(LocalRegistry):
    """Has no schema for ``record``."""

    def __init__(self, record: str) -> None:
        super().__init__()
        self._record = record

    def schema_id(self, record: str, topic: str) -> int:
        if record == self._record:
            raise NotRegisteredError(record, f"{topic}-value")
        return super().schema_id(record, topic)


def cleared(core: DetectorCore) -> list[Publish]:
    """What is published when an account that a hit was about gets well again."""
    assert len(hits(list(core.on_batch(fetched(raw(0, *health("b", 10))), NOW)))) == 1
    well = tuple(raw(offset, *health("b", 100)) for offset in (1, 2, 3))
    return list(core.on_batch(FetchedBatch(topics.TELEMETRY_HEALTH, 0, 1, 4, well), NOW))


def test_evaluations_that_cannot_be_written_are_given_up_and_cost_no_hit() -> None:
    registry = Unregistered(Evaluation.__name__)
    know_ids(registry)
    core = core_of(registry, Recording(changes_max=10))
    assert (cleared(core), core.evaluations_given_up) == ([], 1)
    told = cleared(core_of(LocalRegistry(), Recording(changes_max=10)))
    assert [one.topic for one in told] == [topics.EVALUATIONS], "what was given up"


def test_what_could_not_be_published_is_not_decided() -> None:
    """Else its cooldown would be in the state, and the hit lost with the process."""
    core = core_of(Unregistered(Hit.__name__))
    with pytest.raises(RegistryError):
        core.on_batch(fetched(raw(0, *health("a", 10))), NOW)
    assert core.detector.dirty() == []
    assert core.detector.topics[topics.TELEMETRY_HEALTH].next_offset == 0
