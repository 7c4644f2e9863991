"""In which order a replay applies rows, ticks and changes: the naive twin, one record after the other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A row, a tick or a change; ``at_ms`` is its timestamp."""

    kind: str
    topic: str
    offset: int
    at_ms: int


def arrivals(entries: Iterable[Entry]) -> dict[tuple[str, int], int]:
    """When each was there, by (topic, offset): at the latest timestamp of its topic up to it."""
    newest: dict[str, int] = {}
    found = {}
    for one in sorted(entries, key=lambda entry: (entry.topic, entry.offset)):
        newest[one.topic] = max(newest.get(one.topic, one.at_ms), one.at_ms)
        found[one.topic, one.offset] = newest[one.topic]
    return found


def order(entries: list[Entry]) -> list[tuple[str, str, int]]:
    """(kind, topic, offset) by arrival; within a millisecond rows by topic and offset, then ticks, then changes."""
    there = arrivals(entries)
    kinds = ("row", "tick", "change")
    ordered = sorted(
        entries, key=lambda one: (there[one.topic, one.offset], kinds.index(one.kind), one.topic, one.offset)
    )
    return [(one.kind, one.topic, one.offset) for one in ordered]


def follows(applied: list[tuple[str, str, int]], told: Iterable[tuple[str, int, dict[str, int]]]) -> bool:
    """Whether every record that a hit names was applied behind what it had seen of others, and before the rest."""
    place = {(topic, offset): number for number, (_, topic, offset) in enumerate(applied)}
    for topic, offset, others in told:
        mine = place[topic, offset]
        for (other, at), theirs in place.items():
            if other in others and (theirs < mine) != (at < others[other]):
                return False
    return True
