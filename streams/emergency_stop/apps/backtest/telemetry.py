"""A slice of a telemetry topic → the columns that the decoder makes of a fetch, and when each row was there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from emergency_stop.apps.backtest.reading import Reader, quoted
from emergency_stop.apps.backtest.span import Slice
from emergency_stop.apps.sink.tables import TABLES
from emergency_stop.columnar.columns import F64, I64, U64, Columns
from emergency_stop.columnar.native import Answer, Texts, read_native
from emergency_stop.columnar.program import AS_HASH, enum_of, wanted_roles
from emergency_stop.domain.topics import TELEMETRY
from emergency_stop.wire.schemas import load_record_schema

_RECORDS: Final = {spec.name: spec.record or "" for spec in TELEMETRY}
#: Columns of an answer that are no field: named so that no field can have the name.
_PARTITION, _OFFSET, _WRITTEN, _OCCURRED, _ACCOUNT, _CORRELATION = (
    "_partition_", "_offset_", "_written_", "_occurred_", "_account_", "_correlation_",
)  # fmt: skip


#: A partition has fewer records than this has numbers.
_OFFSET_BITS: Final = 44
#: So many things may happen one after the other within a millisecond.
PLACES_PER_MS: Final = 1_000_000


def last_place_of(at_ms: int) -> int:
    """Behind all rows that were there at ``at_ms``."""
    return at_ms * PLACES_PER_MS + PLACES_PER_MS - 1


@dataclass(frozen=True, slots=True)
class Arrived:
    """Rows of one topic's partition in the log's order. ``at_ms`` is when each was there, ``place`` where it stands
    among the rows of other topics (by default the first one of its millisecond); neither ever falls.
    """

    columns: Columns
    at_ms: I64
    place: I64

    def part(self, rows: slice | I64) -> Columns:
        """Some rows, in the log's order and at least one, as a batch of their own. A slice copies nothing."""
        one = self.columns
        offset = one.offset[rows]
        return Columns(
            topic=one.topic,
            partition=one.partition,
            fetch_offset=int(offset[0]),
            next_offset=int(offset[-1]) + 1,
            n=len(offset),
            offset=offset,
            occurred_at=one.occurred_at[rows],
            record_timestamp=one.record_timestamp[rows],
            key_hash=one.key_hash[rows],
            key_start=one.key_start[rows],
            key_len=one.key_len[rows],
            value_start=one.value_start[rows],
            value_len=one.value_len[rows],
            schema_id=one.schema_id[rows],
            buffer=one.buffer,
            fields={name: values[rows] for name, values in one.fields.items()},
            rejected=(),
        )


def correlation_of(columns: Columns, row: int) -> str | None:
    """The correlation id of a row: it stands where a fetched record's body would."""
    return columns.body(row).decode(errors="replace") or None


def read_topic(reader: Reader, part: Slice, topic: str, fields: Sequence[str]) -> dict[int, Arrived]:
    """The slice's rows of ``topic`` by partition, with ``fields`` as the decoder has them. Blocking."""
    first, following = part.first[topic], part.following[topic]
    if not (first < following).any():
        return {}
    answer = read_native(reader.native(_sql(topic, fields, first, following)))
    if answer.n == 0:
        return {}
    kept = _in_order(answer.longs[_PARTITION], answer.longs[_OFFSET])
    partition = answer.longs[_PARTITION][kept]
    key, correlation = _taken(answer.texts[_ACCOUNT], kept), _taken(answer.texts[_CORRELATION], kept)
    hashes, values = key.hashes(), _fields(answer, fields, kept)
    edges = np.flatnonzero(np.diff(partition, prepend=-1, append=-1))
    offset, occurred, written = (answer.longs[name][kept] for name in (_OFFSET, _OCCURRED, _WRITTEN))
    found = {}
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        rows = slice(low, high)
        number = int(partition[low])
        columns = Columns(
            topic=topic,
            partition=number,
            fetch_offset=int(offset[low]),
            next_offset=int(offset[high - 1]) + 1,
            n=high - low,
            offset=offset[rows],
            occurred_at=occurred[rows],
            record_timestamp=written[rows],
            key_hash=hashes[rows],
            key_start=key.start[rows],
            key_len=key.length[rows],
            value_start=correlation.start[rows],
            value_len=correlation.length[rows],
            schema_id=np.zeros(high - low, np.int32),
            buffer=key.buffer,
            fields={name: one[rows] for name, one in values.items()},
            rejected=(),
        )
        at_ms = np.maximum.accumulate(written[rows])
        found[number] = Arrived(columns, at_ms, at_ms * PLACES_PER_MS)
    return found


def _in_order(partition: I64, offset: I64) -> I64:
    """The rows by partition and offset, each record once: a merge of its table may be still to come.

    The database could sort them too, at three times the cost: it has them in the order of accounts.
    """
    order: I64 = np.argsort((partition << _OFFSET_BITS) + offset, kind="stable")
    partition, offset = partition[order], offset[order]
    again = (np.diff(partition, prepend=-1) == 0) & (np.diff(offset, prepend=-1) == 0)
    return order[~again] if again.any() else order


def _taken(texts: Texts, kept: I64) -> Texts:
    return Texts(texts.buffer, texts.start[kept], texts.length[kept])


def _fields(answer: Answer, fields: Sequence[str], kept: I64) -> dict[str, F64 | U64]:
    found: dict[str, F64 | U64] = {}
    for name in fields:
        found[name] = answer.doubles[name][kept] if name in answer.doubles else answer.texts[name].hashes()[kept]
    return found


def _sql(topic: str, fields: Sequence[str], first: I64, following: I64) -> str:
    record = _RECORDS[topic]
    own = {
        _PARTITION: "toInt64(_partition)", _OFFSET: "_offset", _WRITTEN: "toUnixTimestamp64Milli(_timestamp)",
        _OCCURRED: "toUnixTimestamp64Milli(occurred_at)", _ACCOUNT: "account_id",
        _CORRELATION: "ifNull(correlation_id, '')",
    }  # fmt: skip
    chosen = [f"{sql} AS {name}" for name, sql in (own | _field_sql(record, tuple(fields))).items()]
    low, high = int(first.min()), int(following.max())
    return (
        f"SELECT {', '.join(chosen)} FROM {TABLES[record]} WHERE _topic = {quoted(topic)}"  # noqa: S608  (names and numbers are ours)
        f" AND _offset >= {low} AND _offset < {high} AND _partition < {len(first)}"
        f" AND _offset >= {_array(first)}[_partition + 1] AND _offset < {_array(following)}[_partition + 1]"
    )


def _array(numbers: I64) -> str:
    return "[" + ",".join(f"toInt64({number})" for number in numbers.tolist()) + "]"


def _field_sql(record: str, fields: tuple[str, ...]) -> dict[str, str]:
    """As the decoder has them: numbers as doubles, enums as the index of their symbol, strings as such, null as NaN."""
    reader = load_record_schema(record)
    roles = wanted_roles(reader, fields)
    found = {}
    for name in fields:
        enum = enum_of(reader, name)
        if roles[name] == AS_HASH:
            found[name] = f"CAST(ifNull({name}, '') AS String)"
        elif enum is None:
            found[name] = f"ifNull(toFloat64({name}), nan)"
        else:
            symbols, other = enum
            place = f"indexOf([{', '.join(map(quoted, symbols))}], CAST({name} AS String))"
            found[name] = f"if(isNull({name}), nan, toFloat64(if({place} = 0, {other}, toInt64({place}) - 1)))"
    return found
