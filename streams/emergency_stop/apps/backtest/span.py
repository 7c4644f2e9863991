"""Moments of a backtest, and where they lie in the logs: which offsets were there when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from emergency_stop.apps.backtest.reading import Reader, quoted
from emergency_stop.apps.sink.tables import TABLES
from emergency_stop.columnar.columns import I64
from emergency_stop.columnar.native import read_native
from emergency_stop.domain.topics import DETECTOR_LOOPS, TELEMETRY, TopicSpec

#: Rows that are read, and kept in memory, at once: about 100 bytes each. An analyst may have no more of one query.
SLICE_ROWS: Final = 1_000_000
_BUCKET_ROWS: Final = 100_000
_BUCKET_MS_MIN: Final = 1_000
_BUCKETS_MIN, _BUCKETS_MAX = 60, 20_000
_NOWHERE: Final = np.iinfo(np.int64).max
#: Whatever a hit can come from.
SOURCES: Final[tuple[TopicSpec, ...]] = (*TELEMETRY, *DETECTOR_LOOPS)


@dataclass(frozen=True, slots=True)
class Span:
    """Hits count from ``since_ms`` to ``until_ms`` (excluded); windows are filled for ``warm_up_ms`` before."""

    since_ms: int
    until_ms: int
    warm_up_ms: int


@dataclass(frozen=True, slots=True)
class Slice:
    """What was written from ``from_ms`` to ``until_ms``: per topic the first offset and the one after the last, by
    partition.
    """

    from_ms: int
    until_ms: int
    first: Mapping[str, I64]
    following: Mapping[str, I64]
    rows: int


@dataclass(frozen=True, slots=True)
class Map:
    """``edges_ms`` are moments in order; ``offsets[topic][edge, partition]`` is the first offset not before it.

    A record's moment is the latest timestamp up to it in its partition, so that moments rise as offsets do.
    """

    edges_ms: I64
    offsets: Mapping[str, I64]
    rows: I64
    since_edge: int

    @property
    def partitions(self) -> int:
        return max((found.shape[1] for found in self.offsets.values()), default=0)

    def slices(self, rows_max: int = SLICE_ROWS) -> list[Slice]:
        """The whole span in slices of about ``rows_max`` rows; one of them begins where hits begin to count."""
        cuts, waiting = [0], 0
        for bucket, rows in enumerate(self.rows.tolist()):
            if bucket > cuts[-1] and (waiting + rows > rows_max or bucket == self.since_edge):
                cuts.append(bucket)
                waiting = 0
            waiting += rows
        cuts.append(len(self.rows))
        return [self._slice(first, last) for first, last in pairwise(cuts)]

    def _slice(self, first: int, last: int) -> Slice:
        return Slice(
            int(self.edges_ms[first]),
            int(self.edges_ms[last]),
            {topic: found[first] for topic, found in self.offsets.items()},
            {topic: found[last] for topic, found in self.offsets.items()},
            int(self.rows[first:last].sum()),
        )

    def sources(self, *, counted: bool) -> str:
        """SQL that hits fulfil whose source lies in the span (``counted``: where hits count), and few others."""
        first = self.since_edge if counted else 0
        parts = [
            f"(source_topic = {quoted(topic)} AND source_offset >= {int(found[first].min(initial=0))}"
            f" AND source_offset < {int(found[-1].max(initial=0))})"
            for topic, found in self.offsets.items()
        ]
        return f"({' OR '.join(parts)})"

    def counted(self, topic: str, partition: int, offset: int) -> bool:
        """Whether a record lies where hits count."""
        found = self.offsets.get(topic)
        if found is None or not 0 <= partition < found.shape[1]:
            return False
        return bool(found[self.since_edge, partition] <= offset < found[-1, partition])


def map_span(reader: Reader, span: Span) -> Map:
    """Look where the span lies in every log; reads timestamps and offsets only."""
    width_ms = _bucket_ms(span, _count(reader, span))
    before = -(-span.warm_up_ms // width_ms)
    start_ms = span.since_ms - before * width_ms
    buckets = -(-(span.until_ms - start_ms) // width_ms)
    edges = np.append(start_ms + width_ms * np.arange(buckets, dtype=np.int64), span.until_ms)
    found = {spec.name: _buckets(reader, spec, start_ms, span.until_ms, width_ms, buckets) for spec in SOURCES}
    partitions = max((int(one[0].max()) + 1 for one in found.values() if len(one[0])), default=0)
    rows: I64 = np.zeros(buckets, np.int64)
    for spec in TELEMETRY:
        _, bucket, _, _, count = found[spec.name]
        within = (bucket >= 0) & (bucket < buckets)
        np.add.at(rows, bucket[within], count[within])
    return Map(edges, {name: _edges(one, buckets, partitions) for name, one in found.items()}, rows, before)


def _count(reader: Reader, span: Span) -> int:
    since = f"fromUnixTimestamp64Milli({span.since_ms - span.warm_up_ms})"
    until = f"fromUnixTimestamp64Milli({span.until_ms})"
    parts = " UNION ALL ".join(
        f"SELECT count() AS n FROM {TABLES[spec.record or '']} WHERE _timestamp >= {since} AND _timestamp < {until}"  # noqa: S608  (names and numbers are ours)
        for spec in TELEMETRY
    )
    return int(reader.select(f"SELECT sum(n) FROM ({parts})")["data"][0][0])  # noqa: S608  (as above)


def _bucket_ms(span: Span, rows: int) -> int:
    buckets = min(max(rows // _BUCKET_ROWS, _BUCKETS_MIN), _BUCKETS_MAX)
    return max(-(-(span.until_ms - span.since_ms + span.warm_up_ms) // buckets), _BUCKET_MS_MIN)


def _buckets(
    reader: Reader, spec: TopicSpec, start_ms: int, until_ms: int, width_ms: int, buckets: int
) -> tuple[I64, I64, I64, I64, I64]:
    """(partition, bucket, first offset, last offset, rows); -1 is before the span, ``buckets`` is behind it."""
    table = TABLES[spec.record or ""]
    place = f"multiIf(t < {start_ms}, -1, t >= {until_ms}, {buckets}, intDiv(t - {start_ms}, {width_ms}))"
    answer = read_native(
        reader.native(
            "SELECT toInt64(_partition) AS p,"  # noqa: S608  (names and numbers are ours)
            f" toInt64({place}) AS b, min(_offset) AS first, max(_offset) AS last, toInt64(count()) AS n"
            f" FROM (SELECT _partition, _offset, toUnixTimestamp64Milli(_timestamp) AS t FROM {table}"
            f" WHERE _topic = {quoted(spec.name)}) GROUP BY p, b"
        )
    )
    names: Sequence[str] = ("p", "b", "first", "last", "n")
    none: I64 = np.zeros(0, np.int64)
    partition, bucket, first, last, count = (answer.longs.get(name, none) for name in names)
    return partition, bucket, first, last, count


def _edges(found: tuple[I64, I64, I64, I64, I64], buckets: int, partitions: int) -> I64:
    """Per edge and partition the first offset not before it; where there is none, the one after the last."""
    partition, bucket, first, last, _ = found
    firsts = np.full((buckets + 1, partitions), _NOWHERE, np.int64)
    ends = np.zeros(partitions, np.int64)
    within = bucket >= 0
    np.minimum.at(firsts, (bucket[within], partition[within]), first[within])
    np.maximum.at(ends, partition, last + 1)
    edges: I64 = np.minimum(np.minimum.accumulate(firsts[::-1], axis=0)[::-1], ends)
    return edges
