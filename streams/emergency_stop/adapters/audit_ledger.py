"""The audit's chain and its heads in ClickHouse: appended by the sink, read by whoever verifies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.domain.messages import AuditHead
from emergency_stop.wire.audit_chain import GENESIS, Link, RawRecord, links
from emergency_stop.wire.audit_file import Item, StoredRecord
from emergency_stop.wire.audit_rows import TIMESTAMP, row_columns
from emergency_stop.wire.codec import from_plain, to_plain

CHAIN: Final = "audit_chain"
HEADS: Final = "audit_heads"
_CHAIN_COLUMNS: Final = ("_topic", "_partition", "_offset", "timestamp_ms", "key", "value", "records", "chain")
HEAD_COLUMNS: Final = (
    "topic", "partition", "number", "next_offset", "records", "chain", "previous", "signed_at", "key_id", "signature",
)  # fmt: skip
_TEXTS: Final = frozenset({"topic", "chain", "previous", "key_id", "signature"})
#: The table of the audit that analysts read.
ROWS: Final = "audit"
#: Columns of it that are whole numbers; the others are text.
_WHOLE: Final = frozenset({"at"})
#: Offsets that are read at once.
_WINDOW: Final = 5_000
Place = tuple[str, int]
Select = Callable[[str], Sequence[Sequence[Any]]]


def head_of(row: Sequence[Any]) -> AuditHead:
    """A row of ``HEAD_COLUMNS`` as a head. Raises ``ValueError`` for one that is none."""
    plain = {name: str(cell) if name in _TEXTS else int(cell) for name, cell in zip(HEAD_COLUMNS, row, strict=True)}
    return from_plain(AuditHead, plain | {"signature": bytes.fromhex(str(plain["signature"]))})


def append_chain(
    database: ClickHouse, topic: str, partition: int, first_offset: int, records: Sequence[RawRecord], token: str
) -> None:
    """Chain ``records`` to what is stored before ``first_offset``, and store them as one block. Blocking.

    Repeating it computes the same rows, because it looks only at what lies before the range.
    """
    before = end_of_chain(database, topic, partition, first_offset) or GENESIS
    rows = [
        (topic, partition, one.offset, one.timestamp, one.key, one.value, link.records, link.chain)
        for one, link in zip(records, links(before, topic, partition, records), strict=True)
    ]
    database.insert_rows(CHAIN, _CHAIN_COLUMNS, rows, token)


def end_of_chain(database: ClickHouse, topic: str, partition: int, before_offset: int | None = None) -> Link | None:
    """The last stored link, or the last one before an offset; ``None`` where there is none. Blocking."""
    until = "" if before_offset is None else f" AND _offset < {before_offset}"
    found = database.rows(
        f"SELECT _offset, records, chain FROM {CHAIN} WHERE _topic = '{topic}' AND _partition = {partition}{until}"  # noqa: S608  (names are ours)
        " ORDER BY _offset DESC LIMIT 1"
    )
    return Link(int(found[0][0]) + 1, int(found[0][1]), str(found[0][2])) if found else None


def last_head(database: ClickHouse, topic: str, partition: int) -> AuditHead | None:
    """The newest stored head of a partition. Blocking."""
    found = database.rows(
        f"SELECT {', '.join(HEAD_COLUMNS)} FROM {HEADS}"  # noqa: S608  (names are ours)
        f" WHERE topic = '{topic}' AND partition = {partition} ORDER BY number DESC LIMIT 1"
    )
    return head_of(found[0]) if found else None


def store_heads(database: ClickHouse, cluster: str, heads: Iterable[AuditHead]) -> None:
    """Store heads, each under its number: one that is there already stays. Blocking."""
    for head in heads:
        row = to_plain(head) | {"signature": head.signature.hex()}
        database.insert_json(HEADS, [row], f"{cluster}:{HEADS}:{head.topic}:{head.partition}:{head.number}")


class AuditReader:
    """Heads and records of the audit in the order of an export. All calls block and raise what ``select`` raises.

    Duplicates are not folded away: a second row under an offset is what somebody put there.
    """

    def __init__(self, select: Select) -> None:
        """``select`` answers one reading statement, as the client does or as JSON has it."""
        self._select = select

    def items(self, since_ms: int | None = None) -> Iterator[Item]:
        """Everything, or of each partition what follows its newest head that was signed before ``since_ms``."""
        for place in self._places():
            heads = self._heads(place)
            start = 0
            if since_ms is not None:
                former = [number for number, head in enumerate(heads) if head.signed_at <= since_ms]
                if former:
                    heads = heads[former[-1] :]
                    start = heads[0].next_offset
            yield from heads
            yield from self._records(place, start)

    def _places(self) -> list[Place]:
        found = self._select(
            f"SELECT DISTINCT _topic, _partition FROM {CHAIN} UNION DISTINCT"  # noqa: S608  (names are ours)
            f" SELECT DISTINCT _topic, _partition FROM {ROWS} UNION DISTINCT"
            f" SELECT DISTINCT topic, partition FROM {HEADS}"
        )
        return sorted((str(row[0]), int(row[1])) for row in found)

    def _heads(self, place: Place) -> list[AuditHead]:
        found = self._select(
            f"SELECT {', '.join(HEAD_COLUMNS)} FROM {HEADS}"  # noqa: S608  (names are ours)
            f" WHERE topic = {_quoted(place[0])} AND partition = {place[1]} ORDER BY number"
        )
        return [head_of(row) for row in found]

    def _bound(self, place: Place) -> int:
        """The last offset of which everything is stored: a sink that runs meanwhile stores the chain, then the rows,
        then its position, then heads. Obliges: heads were read before, so that this is beyond what they cover.
        """
        where = f"{_quoted(place[0])} AND {{0}}partition = {place[1]}"
        positions = self._select(
            f"SELECT max(next_offset) - 1 FROM sink_positions WHERE topic = {where.format('')} HAVING count() > 0"  # noqa: S608
        )
        rows = self._select(f"SELECT max(_offset) FROM {ROWS} WHERE _topic = {where.format('_')} HAVING count() > 0")  # noqa: S608
        return max((int(row[0]) for row in (*positions, *rows)), default=-1)

    def _records(self, place: Place, start: int) -> Iterator[StoredRecord]:
        bound = self._bound(place)
        where = f"_topic = {_quoted(place[0])} AND _partition = {place[1]} AND _offset <= {bound} AND _offset >= "
        first = start
        while True:
            # Windows of offsets, not LIMIT: a page must not end between two rows of one offset.
            found = self._select(
                f"SELECT min(at) FROM (SELECT _offset AS at FROM {CHAIN} WHERE {where}{first}"  # noqa: S608
                f" UNION ALL SELECT _offset FROM {ROWS} WHERE {where}{first}) HAVING count() > 0"
            )
            if not found:
                return
            first = int(found[0][0])
            yield from self._window(place, f"{where}{first} AND _offset < {first + _WINDOW}")
            first += _WINDOW

    def _window(self, place: Place, where: str) -> Iterator[StoredRecord]:
        columns = row_columns()
        chained = self._select(
            f"SELECT _offset, timestamp_ms, hex(key), hex(value), records, chain FROM {CHAIN} WHERE {where}"  # noqa: S608
            " ORDER BY _offset, records, chain"
        )
        shown = self._select(
            f"SELECT _offset, toUnixTimestamp64Milli({TIMESTAMP}), {', '.join(f'`{name}`' for name in columns)}"  # noqa: S608
            f" FROM {ROWS} WHERE {where} ORDER BY _offset"
        )
        rows: dict[int, list[dict[str, Any]]] = {}
        for offset, timestamp, *cells in shown:
            plain = {name: int(cell) if name in _WHOLE else cell for name, cell in zip(columns, cells, strict=True)}
            rows.setdefault(int(offset), []).append(plain | {TIMESTAMP: int(timestamp)})
        chained_at = {int(row[0]) for row in chained}
        found: list[tuple[int, Sequence[Any] | None]] = [(int(row[0]), row) for row in chained]
        found += [(offset, None) for offset in rows if offset not in chained_at]
        for offset, link in sorted(found, key=lambda entry: entry[0]):
            yield _stored(place, offset, link, tuple(rows.get(offset, ())))


def _stored(place: Place, offset: int, cells: Sequence[Any] | None, rows: tuple[dict[str, Any], ...]) -> StoredRecord:
    if cells is None:
        return StoredRecord(*place, offset, None, 0, "", rows)
    _, timestamp, key, value, records, chain = cells
    raw = RawRecord(offset, int(timestamp), _bytes(key), _bytes(value))
    return StoredRecord(*place, offset, raw, int(records), str(chain), rows)


def _bytes(digits: str | None) -> bytes | None:
    return None if digits is None else bytes.fromhex(digits)


def _quoted(text: str) -> str:
    """A name that is not ours, for a tampered database may hold any."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
