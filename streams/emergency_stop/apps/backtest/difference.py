"""Replayed hits beside recorded ones: the same, or which are not."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from emergency_stop.apps.backtest.reading import Reader, messages
from emergency_stop.apps.backtest.span import Map
from emergency_stop.apps.sink.tables import TABLES
from emergency_stop.domain.messages import Hit
from emergency_stop.domain.triggers import RESERVED_PREFIX
from emergency_stop.wire.codec import to_plain

#: When a detector came to it; a replay comes to it at the record's own time.
_MOMENT_OF_WORK: Final = "detected_at"
_CONTENTS, _SEEN = "window_contents", "seen"


@dataclass(frozen=True, slots=True)
class Changed:
    """One hit that says something else; ``fields`` name what."""

    recorded: Hit
    replayed: Hit
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """``equal`` hits say the same in every field but ``detected_at``, and in how far other topics had been read."""

    equal: int
    missing: tuple[Hit, ...]
    extra: tuple[Hit, ...]
    changed: tuple[Changed, ...]

    @property
    def is_none(self) -> bool:
        return not (self.missing or self.extra or self.changed)


def recorded_hits(reader: Reader, where: Map) -> list[Hit]:
    """The hits on record whose source lies where hits count, each once. Blocking."""
    rest = f"WHERE {where.sources(counted=True)} ORDER BY hit_id, _timestamp, _partition, _offset LIMIT 1 BY hit_id"
    return [
        hit
        for _, hit in messages(reader, Hit, TABLES["Hit"], rest)
        if where.counted(hit.source_topic, hit.source_partition, hit.source_offset)
        and not hit.trigger_id.startswith(RESERVED_PREFIX)
    ]


def by_id(hit: Hit) -> Hashable:
    """Derived from trigger, version, scope and the record that caused it."""
    return hit.hit_id


def by_moment(hit: Hit) -> Hashable:
    """Whichever the version: what fired for whom, at which moment of event time."""
    return hit.trigger_id, hit.scope, hit.occurred_at


def compare(recorded: Iterable[Hit], replayed: Iterable[Hit], same: Callable[[Hit], Hashable]) -> Difference:
    """``same`` gives what two records of one hit have in common. Matched by moment, only their presence is compared."""
    theirs, ours = {same(hit): hit for hit in recorded}, {same(hit): hit for hit in replayed}
    both = [(hit, ours[key]) for key, hit in theirs.items() if key in ours]
    changed = [Changed(hit, other, fields) for hit, other in both if same is by_id and (fields := _fields(hit, other))]
    return Difference(
        equal=len(both) - len(changed),
        missing=tuple(hit for key, hit in theirs.items() if key not in ours),
        extra=tuple(hit for key, hit in ours.items() if key not in theirs),
        changed=tuple(changed),
    )


def hangs_on_order(hit: Hit) -> bool:
    """Whether the hit's condition read several topics, or a silence: then the order between topics decides too."""
    return _SEEN in json.loads(hit.window_contents)


def _fields(one: Hit, other: Hit) -> tuple[str, ...]:
    mine, theirs = _told(one), _told(other)
    return tuple(name for name in mine if mine[name] != theirs[name])


def _told(hit: Hit) -> dict[str, Any]:
    """All that a hit says which a replay has to say too."""
    found = {name: value for name, value in to_plain(hit).items() if name != _MOMENT_OF_WORK}
    contents = json.loads(hit.window_contents)
    found[_CONTENTS] = {name: value for name, value in contents.items() if name != _SEEN}
    return found


def worst(difference: Difference, limit: int) -> Iterator[str]:
    """A line for each of the first hits that differ."""
    missing = (f"missing {_line(hit)}" for hit in difference.missing)
    extra = (f"extra   {_line(hit)}" for hit in difference.extra)
    changed = (f"changed {_line(one.recorded)}: {', '.join(one.fields)}" for one in difference.changed)
    return itertools.islice(itertools.chain(missing, extra, changed), limit)


def _line(hit: Hit) -> str:
    place = f"{hit.source_topic}-{hit.source_partition} offset {hit.source_offset}"
    return f"{hit.hit_id} {hit.trigger_id} version {hit.trigger_version} {hit.scope}, {place}"
