"""The order between topics, as far as it is told: what was read of others when a rule over several, or a silence fired.

Nothing else records that order. By itself a record counts as read at its timestamp; a detector that lagged read it
later. A hit of such a condition names the first offsets that had not been read (``seen``): so records before these were
read before it, and records from these on after it. Both only ever put a reading off, as a detector would.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from emergency_stop.apps.backtest.reading import Reader
from emergency_stop.apps.backtest.replay import TickAt
from emergency_stop.apps.backtest.span import Map
from emergency_stop.apps.backtest.telemetry import Arrived
from emergency_stop.apps.sink.tables import TABLES
from emergency_stop.columnar.columns import I64
from emergency_stop.domain.topics import TICKS

#: What a hit tells puts off others, which puts off others again; a real order settles in a few rounds.
_ROUNDS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Seen:
    """When the record at ``offset`` of ``topic`` was judged, each of ``others`` had been read up to its offset."""

    topic: str
    offset: int
    others: Mapping[str, int]


def told_order(reader: Reader, where: Map) -> dict[int, list[Seen]]:
    """What the hits on record of a span tell, by partition, in the order of their offsets. Blocking."""
    answer = reader.select(
        "SELECT DISTINCT source_topic, source_partition, source_offset, window_contents"  # noqa: S608  (names are ours)
        f" FROM {TABLES['Hit']} WHERE {where.sources(counted=False)} AND position(window_contents, '\"seen\"') > 0"
        " ORDER BY source_partition, source_offset, source_topic"
    )
    found: dict[int, list[Seen]] = {}
    for topic, partition, offset, contents in answer["data"]:
        others = {str(name): int(following) for name, following in json.loads(contents).get("seen", {}).items()}
        found.setdefault(int(partition), []).append(Seen(str(topic), int(offset), others))
    return found


def put_in_order(
    rows: Mapping[str, Arrived], ticks: Sequence[TickAt], told: Sequence[Seen]
) -> tuple[Mapping[str, Arrived], Sequence[TickAt]]:
    """A slice's rows by topic, and its ticks, at the places at which ``told`` has them."""
    offsets = {topic: one.columns.offset for topic, one in rows.items()}
    places = {topic: one.place.copy() for topic, one in rows.items()}
    if ticks:
        offsets[TICKS] = np.array([tick.offset for tick in ticks], np.int64)
        places[TICKS] = np.array([tick.place for tick in ticks], np.int64)
    here = [one for one in told if _lies_in(offsets.get(one.topic), one.offset)]
    for _ in range(_ROUNDS_MAX):
        moved = [_settle(one, offsets, places) for one in here]
        if not any(moved):
            break
    if not here:
        return rows, ticks
    ordered = {topic: Arrived(one.columns, one.at_ms, places[topic]) for topic, one in rows.items()}
    moments = places.get(TICKS, np.zeros(0, np.int64)).tolist()
    return ordered, [replace(tick, place=place) for tick, place in zip(ticks, moments, strict=True)]


def _lies_in(offsets: I64 | None, offset: int) -> bool:
    return offsets is not None and bool(offsets[0] <= offset <= offsets[-1])


def _settle(one: Seen, offsets: Mapping[str, I64], places: Mapping[str, I64]) -> bool:
    """Put off what has to be; whether anything was."""
    row = int(np.searchsorted(offsets[one.topic], one.offset))
    mine, moved = places[one.topic], False
    for topic, following in one.others.items():
        theirs = places.get(topic)
        if theirs is None or topic == one.topic:
            continue
        first = int(np.searchsorted(offsets[topic], following))
        if first > 0:
            moved |= _put_off(mine, row, int(theirs[first - 1]) + 1)
        if first < len(theirs):
            moved |= _put_off(theirs, first, int(mine[row]) + 1)
    return moved


def _put_off(places: I64, row: int, place: int) -> bool:
    """Have ``row`` and all behind it at ``place`` or later."""
    if places[row] >= place:
        return False
    end = int(np.searchsorted(places, place))
    places[row:end] = place
    return True
