"""Whatever anybody writes to ``estop.triggers``, no worker falls over it, and what stood before stays in force."""

from __future__ import annotations

import io
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import fastavro
import pytest
from fastavro.utils import generate_many

from emergency_stop.adapters.kafka_tail import TailRecord
from emergency_stop.apps.trigger_book import TriggerBook
from emergency_stop.detect.page_budget import page_problem
from emergency_stop.domain.default_triggers import BUILTIN_SUSPENSION_ID
from emergency_stop.domain.definition_reader import DEFINITION_FIELDS, snake_case
from emergency_stop.domain.topics import TRIGGERS
from emergency_stop.domain.triggers import Trigger
from emergency_stop.domain.values import StopLevel
from emergency_stop.rules.definitions import read_trigger
from emergency_stop.rules.versions import Author, removed
from emergency_stop.wire.codec import Codec, frame, to_plain
from emergency_stop.wire.registry import LocalRegistry, SchemaUnansweredError
from emergency_stop.wire.schemas import committed_ids, load_record_schema
from tests.unit.domain.test_trigger_definitions import DAMAGED_STABLE, GUIDE_HEALTH, MALFORMED, SERVICES
from tests.unit.wire.unanswering import Unanswering, newly_written

CODEC = Codec(LocalRegistry())
ID = committed_ids()["Trigger"]
SCHEMA = fastavro.parse_schema(load_record_schema("Trigger"), named_schemas={})
STANDING = replace(read_trigger(GUIDE_HEALTH | {"triggerId": "mine"}, services=SERVICES), updated_by="before")


def record(value: bytes | None) -> TailRecord:
    return TailRecord(b"mine", value, 0, 7, 0)


@pytest.fixture
def book() -> TriggerBook:
    """One trigger is in force, and compiled."""
    book = TriggerBook(CODEC, StopLevel.GRACEFUL)
    book.record(record(CODEC.encode(STANDING, TRIGGERS)))
    book.plan()
    return book


def mine(book: TriggerBook) -> Trigger | None:
    return next((trigger for trigger in book.triggers() if trigger.trigger_id == "mine"), None)


def written(definition: Mapping[str, Any]) -> bytes | None:
    """The definition as a record that a careless producer writes; ``None`` where no encoder takes it."""
    aliases = {"id": "trigger_id", "type": "trigger_type"}
    fields = {aliases.get(name, snake_case(name)): value for name, value in definition.items()}
    known = {name: value for name, value in fields.items() if name in DEFINITION_FIELDS}
    out = io.BytesIO()
    try:
        fastavro.schemaless_writer(
            out, SCHEMA, to_plain(STANDING) | {"updated_by": "after"} | known | {"trigger_id": "mine"}
        )
    except (ValueError, TypeError, OverflowError, AttributeError, LookupError):
        return None
    return frame(ID, out.getvalue())


RECORDS = [(number, value) for number, case in enumerate(MALFORMED) if (value := written(case[0])) is not None]


@pytest.mark.parametrize(("number", "value"), RECORDS, ids=[str(MALFORMED[number][1]) for number, _ in RECORDS])
def test_a_malformed_definition_as_a_record_is_refused_or_harmless(
    number: int, value: bytes, book: TriggerBook
) -> None:
    """What is no problem on the wire (a name given twice) is taken; the rest leaves the version before in force."""
    book.record(record(value))
    book.plan()
    found = mine(book)
    assert found is not None
    assert found == STANDING or (found.updated_by == "after" and not book.refused)
    if MALFORMED[number][1].startswith(("options.", "rule", "across")):
        assert found == STANDING, MALFORMED[number]


def test_most_malformed_definitions_can_be_written_and_are_refused(book: TriggerBook) -> None:
    for _, value in RECORDS:
        book.record(record(value))
    assert book.refused >= 50


@pytest.mark.parametrize("stable", DAMAGED_STABLE)
def test_a_canary_with_a_damaged_stable_is_refused(stable: str, book: TriggerBook) -> None:
    canary = replace(STANDING, account_id=None, canary_percent=10, stable=stable, updated_by="after")
    book.record(record(CODEC.encode(canary, TRIGGERS)))
    assert (book.refused, mine(book)) == (1, STANDING)
    book.plan()


def test_random_bytes_change_nothing(book: TriggerBook) -> None:
    """Noise, noise behind a good header, and a good value cut off; seed 11."""
    rng, good = random.Random(11), CODEC.encode(replace(STANDING, updated_by="after"), TRIGGERS)
    for _ in range(3_000):
        noise = rng.randbytes(rng.randrange(200))
        for value in (noise, good[:5] + noise, good[: rng.randrange(len(good))]):
            book.record(record(value))
    assert (book.refused, mine(book)) == (9_000, STANDING)


def test_a_good_value_with_bytes_changed_never_raises(book: TriggerBook) -> None:
    """It may be another valid trigger, which is then in force; seed 13."""
    rng, good = random.Random(13), CODEC.encode(STANDING, TRIGGERS)
    for _ in range(3_000):
        damaged = bytearray(good)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(5, len(good))] = rng.randrange(256)
        book.record(record(bytes(damaged)))
    assert book.refused >= 1_000
    book.plan()


def test_random_records_of_the_schema_never_raise(book: TriggerBook) -> None:
    """Well-formed Avro that no command line would write; seed 12."""
    random.seed(12)
    for plain in generate_many(SCHEMA, 500):
        out = io.BytesIO()
        fastavro.schemaless_writer(out, SCHEMA, plain | {"trigger_id": "mine", "removed": False})
        book.record(record(frame(ID, out.getvalue())))
    assert (book.refused, mine(book)) == (500, STANDING)


def test_a_removal_is_taken_whatever_else_it_says(book: TriggerBook) -> None:
    gone = replace(removed(STANDING, Author("ann", 1)), thresholds={}, rule="(")
    book.record(record(CODEC.encode(gone, TRIGGERS)))
    assert (book.refused, mine(book)) == (0, None)
    book.plan()


def test_what_is_built_in_removed_or_switched_off_is_not_counted_as_active(book: TriggerBook) -> None:
    assert book.count_active() == 1
    for one in (
        replace(STANDING, trigger_id="off", is_active=False),
        replace(STANDING, trigger_id=BUILTIN_SUSPENSION_ID),
        replace(STANDING, trigger_id="second"),
    ):
        book.record(record(CODEC.encode(one, TRIGGERS)))
    assert book.count_active() == 2
    for one in (STANDING, replace(STANDING, trigger_id="second")):
        book.record(record(CODEC.encode(removed(one, Author("ann", 1)), TRIGGERS)))
    assert (book.count_active(), len(book.triggers())) == (0, 3)


def test_a_trigger_that_nobody_can_read_yet_is_not_taken_for_a_bad_one() -> None:
    """The tail hands it over again once the registry answers: it must not be lost until a restart."""
    registry = Unanswering("Trigger")
    book = TriggerBook(Codec(registry), StopLevel.GRACEFUL)
    new = record(newly_written(CODEC.encode(STANDING, TRIGGERS)))
    with pytest.raises(SchemaUnansweredError):
        book.record(new)
    assert (book.refused, mine(book)) == (0, None)
    registry.answers = True
    book.record(new)
    assert (book.refused, mine(book)) == (0, STANDING)


def counting(number: int, priority: int) -> Trigger:
    """Of valid triggers that keep a thousand moments of each account, over windows of their own, three fit."""
    definition = {
        "trigger_id": f"count-{number}", "name": "many", "trigger_type": "rate_limit_violation", "priority": priority,
        "thresholds": {"violations": 1_000}, "time_window": 60_000 + number, "cooldown_period": 0,
        "stop_level": "graceful",
    }  # fmt: skip
    return read_trigger(definition, services=SERVICES)


def test_triggers_without_room_are_left_out_until_there_is_some(
    book: TriggerBook, caplog: pytest.LogCaptureFixture
) -> None:
    for number, priority in enumerate((1, 2, 3, 4, 4)):
        book.record(TailRecord(None, CODEC.encode(counting(number, priority), TRIGGERS), 0, number, 0))
    book._compile_again_at_s = 0
    assert page_problem(book.plan()) == ""
    assert (book.refused, book.left_out) == (0, frozenset({"count-0", "count-1"}))
    assert mine(book) == STANDING
    assert {"count-0", "count-1"}.isdisjoint(one.trigger_id for one in book.triggers())
    assert "2 triggers are not watched for, because there is no room: count-0, count-1" in caplog.text
    book.record(TailRecord(b"count-4", None, 0, 9, 0))
    book._compile_again_at_s = 0
    book.plan()
    assert book.left_out == {"count-0"}
    assert "count-1" in {one.trigger_id for one in book.triggers()}


def test_a_trigger_that_no_record_of_state_could_hold_is_refused(book: TriggerBook) -> None:
    """It is well-formed, and checked by no definition: its count is beyond what one may be."""
    beyond: list[dict[str, Any]] = [{"min_samples": 1_000_000}, {"thresholds": {"violations": 1e6}}]
    for fields in beyond:
        book.record(record(CODEC.encode(replace(counting(1, 1), trigger_id="mine", **fields), TRIGGERS)))
    assert (book.refused, mine(book)) == (2, STANDING)
