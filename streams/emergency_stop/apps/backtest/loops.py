"""What detectors wrote for themselves to read: ticks and parts on record; where none are, ticks as they would be."""

from __future__ import annotations

from typing import Final

import numpy as np

from emergency_stop.apps.backtest.reading import Reader, quoted
from emergency_stop.apps.backtest.replay import PartAt, TickAt
from emergency_stop.apps.backtest.span import Slice
from emergency_stop.apps.sink.tables import TABLES
from emergency_stop.columnar.native import Answer, read_native
from emergency_stop.domain.messages import Partial
from emergency_stop.domain.topics import PARTIALS, TICKS

#: All parts meet in one partition.
_MEETING: Final = 0
_TICK: Final = "at AS moment_"
_PART: Final = (
    "CAST(source_topic AS String) AS topic_, CAST(series AS String) AS series_, toInt64(source_partition) AS from_,"
    " next_offset AS next_, row AS row_"
)


def made_ticks(part: Slice, interval_ms: int) -> list[TickAt]:
    """One at every multiple of ``interval_ms`` in the slice, read back at once; its offset is its number."""
    numbers = range(-(-part.from_ms // interval_ms), -(-part.until_ms // interval_ms))
    return [TickAt.behind(number * interval_ms, number, number * interval_ms) for number in numbers]


def read_ticks(reader: Reader, part: Slice, partition: int) -> list[TickAt]:
    """The ticks on record of a slice, in the log's order. Blocking."""
    answer = _read(reader, part, (TICKS, TABLES["Tick"], partition), _TICK)
    if not answer.n:
        return []
    columns = (_risen(answer), answer.longs["offset_"].tolist(), answer.longs["moment_"].tolist())
    return [TickAt.behind(*found) for found in zip(*columns, strict=True)]


def read_parts(reader: Reader, part: Slice, series: frozenset[tuple[str, str]]) -> list[PartAt]:
    """The parts on record of a slice that belong to ``series`` (topic and name), in the log's order. Blocking."""
    if not series:
        return []
    answer = _read(reader, part, (PARTIALS, TABLES["Partial"], _MEETING), _PART)
    found = []
    for row, at_ms in enumerate(_risen(answer) if answer.n else ()):
        topic, name = (answer.texts[column].at(row).decode() for column in ("topic_", "series_"))
        if (topic, name) in series:
            source, following = int(answer.longs["from_"][row]), int(answer.longs["next_"][row])
            partial = Partial(topic, name, source, following, answer.texts["row_"].at(row))
            found.append(PartAt(at_ms, int(answer.longs["offset_"][row]), partial))
    return found


def published_series(reader: Reader) -> frozenset[tuple[str, str]]:
    """Series (topic and name) whose parts are on record. Blocking."""
    answer = reader.select(f"SELECT DISTINCT source_topic, series FROM {TABLES['Partial']}")  # noqa: S608  (ours)
    return frozenset((str(topic), str(series)) for topic, series in answer["data"])


def _read(reader: Reader, part: Slice, where: tuple[str, str, int], chosen: str) -> Answer:
    topic, table, partition = where
    if partition >= len(part.first[topic]):
        return Answer()
    first, following = int(part.first[topic][partition]), int(part.following[topic][partition])
    if first >= following:
        return Answer()
    return read_native(
        reader.native(
            f"SELECT _offset AS offset_, toUnixTimestamp64Milli(_timestamp) AS written_, {chosen} FROM {table}"  # noqa: S608  (names and numbers are ours)
            f" WHERE _topic = {quoted(topic)} AND _partition = {partition} AND _offset >= {first}"
            f" AND _offset < {following} ORDER BY _offset LIMIT 1 BY _offset"
        )
    )


def _risen(answer: Answer) -> list[int]:
    """When each record was there: at its timestamp, or that of the latest before it."""
    risen: list[int] = np.maximum.accumulate(answer.longs["written_"]).tolist()
    return risen
