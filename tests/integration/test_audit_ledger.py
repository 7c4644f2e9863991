"""The audit's chain and heads in ClickHouse: a repeat changes nothing, and the first head of a number stands."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from emergency_stop.adapters.audit_ledger import HEAD_COLUMNS, HEADS, AuditReader, append_chain, last_head
from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.adapters.sink_ledger import SinkLedger, StoredRange
from emergency_stop.apps.sink.heads import HeadKeeper, HeadSpec
from emergency_stop.apps.sink.intake import Intake
from emergency_stop.apps.sink.ranges import Place
from emergency_stop.domain.messages import AuditHead
from emergency_stop.domain.topics import AUDIT
from emergency_stop.wire.audit_chain import RawRecord
from emergency_stop.wire.audit_file import StoredRecord, read_heads
from emergency_stop.wire.audit_verify import Verification
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from emergency_stop.wire.signing import Signer, Verifier

pytestmark = pytest.mark.needs("chdb")

PLACE = Place(AUDIT, 1)
#: No value is a record of the audit, so none has a row.
RECORDS = [
    RawRecord(offset, 1_000 + offset, b"\xff\0k" if offset % 2 else None, bytes([offset])) for offset in range(9)
]
SIGNER = Signer.generate()


@pytest.fixture
def database(tmp_path: Path, lay_tables: Callable[[Path, int], None]) -> Iterator[ClickHouse]:
    lay_tables(tmp_path, 30)
    database = ClickHouse(None, tmp_path)
    try:
        yield database
    finally:
        database.close()


def keeper(file: Path | None = None, *, records_max: int = 3) -> HeadKeeper:
    return HeadKeeper(HeadSpec(records_max, 1_000, file), SIGNER, "test", Codec(LocalRegistry()))


def append(database: ClickHouse, first: int, following: int, attempt: int = 0) -> None:
    """As the sink does: the chain, then the position."""
    append_chain(database, *PLACE, first, RECORDS[first:following], f"range {first}-{following} attempt {attempt}")
    SinkLedger(database, "test").record([StoredRange(*PLACE, following, 0, following - first)])


def stored(database: ClickHouse) -> list[StoredRecord]:
    return [item for item in AuditReader(database.rows).items() if isinstance(item, StoredRecord)]


def breaks(database: ClickHouse, witnesses: Sequence[AuditHead] = ()) -> list[str]:
    verification = Verification(Verifier([SIGNER.public_key]), witnesses)
    for item in AuditReader(database.rows).items():
        verification.take(item)
    return [one.kind for verdict in verification.finish() for one in verdict.breaks]


def test_a_chain_in_ranges_is_one_chain_and_bytes_come_back_as_they_were(database: ClickHouse) -> None:
    for first, following in ((0, 2), (2, 3), (3, 9)):
        append(database, first, following)
    assert [one.raw for one in stored(database)] == RECORDS
    assert [one.records for one in stored(database)] == list(range(1, 10))
    keeper().make(database, [PLACE], 5)
    assert breaks(database) == []


def test_a_repeated_range_is_computed_the_same_though_it_is_there(database: ClickHouse) -> None:
    append(database, 0, 4)
    append(database, 4, 6)
    append(database, 4, 6, attempt=1)
    found = stored(database)
    by_offset: dict[int, set[str]] = {}
    for one in found:
        by_offset.setdefault(one.offset, set()).add(one.chain)
    assert all(len(chains) == 1 for chains in by_offset.values())


def test_what_a_running_sink_has_not_stored_whole_is_left_for_the_next_look(database: ClickHouse) -> None:
    append(database, 0, 4)
    keeper().make(database, [PLACE], 5)
    append_chain(database, *PLACE, 4, RECORDS[4:], "rows and position are still on their way")
    assert [one.offset for one in stored(database)] == [0, 1, 2, 3]
    assert breaks(database) == []


def test_offsets_that_the_broker_deleted_unseen_are_a_gap_that_is_told(database: ClickHouse) -> None:
    append(database, 0, 3)
    append(database, 5, 9)
    keeper().make(database, [PLACE], 5)
    assert breaks(database) == ["gap"]


def test_the_table_of_heads_has_every_field_of_a_head(database: ClickHouse) -> None:
    fields = tuple(field.name for field in dataclasses.fields(AuditHead))
    assert fields == HEAD_COLUMNS == tuple(row[0] for row in database.select(f"DESCRIBE TABLE {HEADS}")["data"])


def test_the_first_head_of_a_number_stands_and_only_it_is_told(database: ClickHouse) -> None:
    append(database, 0, 3)
    (first,) = keeper().make(database, [PLACE], 5)
    assert keeper().make(database, [PLACE], 6) == [], "nothing is new"
    append(database, 3, 6)
    (second,) = keeper().make(database, [PLACE], 7)
    assert (second.number, second.records, last_head(database, *PLACE)) == (1, 6, second)
    assert breaks(database, [first, second]) == []


def test_a_sink_that_takes_over_tells_the_last_head_again(database: ClickHouse, tmp_path: Path) -> None:
    """Its maker may have died between the database and the topic."""
    append(database, 0, 3)
    (first,) = keeper().make(database, [PLACE], 5)
    successor = keeper(tmp_path / "heads.jsonl")
    successor.take_over([PLACE, Place("estop.hits", 1)])
    assert successor.due(6) == [PLACE]
    append(database, 3, 4)
    told = successor.make(database, successor.due(6), 6)
    assert [head.number for head in told] == [0, 1]
    assert told[0] == first
    successor.append_to_file(told)
    successor.told([PLACE])
    assert successor.due(1 << 40) == []
    assert read_heads((tmp_path / "heads.jsonl").read_bytes().splitlines(keepends=True)) == told


def test_a_head_is_due_by_number_by_time_and_at_the_end() -> None:
    one = keeper(records_max=3)
    intake = Intake(AUDIT, 1, 0, 2, chained=RECORDS[:2])
    one.note([intake, Intake("estop.hits", 1, 0, 2)], 1_000)
    assert one.due(1_999) == []
    assert one.due(2_000) == one.due(1_000, at_once=True) == [PLACE]
    one.note([intake], 1_001)
    assert one.due(1_001) == [PLACE], "four records"


def test_a_file_of_heads_that_cannot_be_written_is_told_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, database: ClickHouse
) -> None:
    append(database, 0, 3)
    one = keeper(tmp_path)
    one.append_to_file(one.make(database, [PLACE], 5))
    assert "ESTOP_AUDIT_HEADS_FILE=" in caplog.text
