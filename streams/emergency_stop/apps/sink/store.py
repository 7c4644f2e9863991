"""Intakes → ClickHouse, in an order that no crash can turn into a loss or a duplicate.

Theory of operation. Per flush: the ranges are frozen (``ranges.py``); dead letters are acknowledged by the broker;
then, per range, one insert of one block (all of it is stored, or none) under a token that is the range; then the
positions. A range of the audit is two inserts, its chain first, so that rows which are there are chained. A range whose
insert went wrong, or that waited long, is looked for before it is inserted again: the database knows a token for a
while only, and may have been away for longer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from emergency_stop.adapters.audit_ledger import CHAIN, append_chain
from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.adapters.sink_ledger import FrozenRange, SinkLedger, StoredRange
from emergency_stop.apps.sink.blocks import BlockMaker
from emergency_stop.apps.sink.dead_letter import DEAD_LETTER_COLUMNS
from emergency_stop.apps.sink.intake import Intake
from emergency_stop.apps.sink.ranges import Place, Standing, still_pending
from emergency_stop.apps.sink.tables import DEAD_LETTERS, TABLES
from emergency_stop.columnar.block import Block
from emergency_stop.wire.audit_chain import RawRecord


@dataclass(frozen=True, slots=True)
class RangeInsert:
    """One range of a partition as one block for one table. ``token`` is without the cluster's name."""

    table: str
    topic: str
    partition: int
    first_offset: int
    next_offset: int
    rows: int
    block: Block | None
    raw_rows: tuple[tuple[object, ...], ...] = ()
    chained: tuple[RawRecord, ...] = ()

    @property
    def token(self) -> str:
        return f"{self.table}:{self.topic}:{self.partition}:{self.first_offset}-{self.next_offset - 1}"


def plan_inserts(blocks: BlockMaker, intakes: Iterable[Intake], records: Mapping[str, str | None]) -> list[RangeInsert]:
    """One insert per range that has rows, and one before it where it is chained. The same intakes make the same
    inserts.
    """
    made = (
        one for intake in intakes for one in (_chain_insert(intake), _insert(blocks, intake, records[intake.topic]))
    )
    return [one for one in made if one.rows]


def _chain_insert(intake: Intake) -> RangeInsert:
    chained = tuple(intake.chained)
    return RangeInsert(
        CHAIN, intake.topic, intake.partition, intake.fetch_offset, intake.next_offset, len(chained), None, (), chained
    )


def _insert(blocks: BlockMaker, intake: Intake, record: str | None) -> RangeInsert:
    table = TABLES[record] if record else DEAD_LETTERS
    where = (table, intake.topic, intake.partition, intake.fetch_offset, intake.next_offset)
    if record is None:
        return RangeInsert(*where, len(intake.raw_rows), None, tuple(intake.raw_rows))
    count = sum(intake.counts.values())
    schemas = list(intake.rows)
    if not schemas:
        return RangeInsert(*where, 0, None)
    if len(schemas) == 1 and blocks.fits(record, schemas[0]):
        return RangeInsert(*where, count, blocks.block(schemas[0], count, intake.rows[schemas[0]]))
    rows = [(schema, data) for schema, pieces in intake.rows.items() for data in pieces]
    return RangeInsert(*where, count, blocks.uniform(record, count, rows))


class Storing:
    """One flush's way into the database. ``run`` may be repeated until it returns; it goes on where it broke off."""

    def __init__(
        self, inserts: Iterable[RangeInsert], intakes: Iterable[Intake], cluster: str, *, late: Callable[[], bool]
    ) -> None:
        """``late`` says whether so much time has passed since the ranges were frozen that others may act on them."""
        self._left = deque(inserts)
        self._stored = [
            StoredRange(
                one.topic,
                one.partition,
                one.next_offset,
                sum(one.counts.values()) + len(one.raw_rows),
                len(one.dead),
            )
            for one in intakes
        ]
        self._cluster = cluster
        self._late = late
        self._doubtful = False

    def run(self, database: ClickHouse) -> None:
        """Blocking. Raises what the driver raises."""
        while self._left:
            one = self._left[0]
            doubtful, self._doubtful = self._doubtful or self._late(), True
            if not (doubtful and _is_stored(database, one)):
                _insert_range(database, one, f"{self._cluster}:{one.token}")
            self._left.popleft()
            self._doubtful = False
        if self._stored:
            SinkLedger(database, self._cluster).record(self._stored)


def _is_stored(database: ClickHouse, one: RangeInsert) -> bool:
    return database.has_rows(one.table, one.topic, one.partition, one.first_offset, one.next_offset)


def _insert_range(database: ClickHouse, one: RangeInsert, token: str) -> None:
    if one.chained:
        append_chain(database, one.topic, one.partition, one.first_offset, one.chained, token)
    elif one.block is not None:
        database.insert_block(one.table, one.block, token)
    else:
        database.insert_rows(one.table, DEAD_LETTER_COLUMNS, one.raw_rows, token)


def take_over(
    database: ClickHouse, cluster: str, partitions: Iterable[Place], owner: str, tables: Mapping[str, str]
) -> dict[Place, Standing]:
    """Claim ``partitions``, and say where each stands; the claim comes first. Blocking. ``tables`` is by topic."""
    ledger, wanted = SinkLedger(database, cluster), list(partitions)
    if not wanted:
        return {}
    before = ledger.claims()
    claims = ledger.claim(wanted, owner, before)
    positions = ledger.positions()
    # Only rows that were stored before there were claims can be ahead of the record and in no frozen range.
    ends = ledger.ends_of_rows(tables[place.topic] for place in wanted if place not in before)
    starts = {place: max(positions.get(place, 0), ends.get(place, 0)) for place in wanted}
    frozen: dict[Place, list[FrozenRange]] = {}
    for one in ledger.frozen(starts):
        frozen.setdefault(Place(one.topic, one.partition), []).append(one)
    return {
        place: _standing(
            database, tables[place.topic], claims[place], start, still_pending(frozen.get(place, ()), start)
        )
        for place, start in starts.items()
    }


def _standing(database: ClickHouse, table: str, claim: int, start: int, pending: tuple[FrozenRange, ...]) -> Standing:
    """Pass over the ranges whose rows are there: their sink died before it recorded them."""
    for number, one in enumerate(pending):
        if not database.has_rows(table, one.topic, one.partition, one.first_offset, one.next_offset):
            return Standing(claim, start, pending[number:])
        start = one.next_offset
    return Standing(claim, start, ())


def freeze(ledger: SinkLedger, ranges: list[FrozenRange]) -> bool:
    """Write ``ranges`` down; whether all their partitions are the claimant's still. Blocking; repeating it is safe."""
    if not ranges:
        return True
    ledger.freeze(ranges)
    latest = ledger.claims()
    return all(latest.get((one.topic, one.partition)) == one.claim for one in ranges)
