"""The sink's own tables in ClickHouse: whose a partition is, which ranges were frozen, how far rows are stored."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from emergency_stop.adapters.clickhouse import ClickHouse

#: The low bits of a claim are random, so that two who claim at the same moment differ.
_RANDOM_BITS: Final = 20


@dataclass(frozen=True, slots=True)
class FrozenRange:
    """Offsets ``first_offset`` to ``next_offset`` (excluded) of a partition, to be stored as one block."""

    topic: str
    partition: int
    first_offset: int
    next_offset: int
    claim: int


@dataclass(frozen=True, slots=True)
class StoredRange:
    """Up to where a partition is stored now, and what its last range became."""

    topic: str
    partition: int
    next_offset: int
    rows: int
    dead_lettered: int


class SinkLedger:
    """All calls block, raise what the driver raises, and may be repeated."""

    def __init__(self, database: ClickHouse, cluster: str) -> None:
        self._database = database
        self._cluster = cluster

    def claim(
        self, partitions: Sequence[tuple[str, int]], owner: str, before: Mapping[tuple[str, int], int]
    ) -> dict[tuple[str, int], int]:
        """Claim ``partitions``; returns the claim's number by partition, higher than any of ``before``."""
        own = secrets.randbits(_RANDOM_BITS)
        made = {key: (((before.get(key, 0) >> _RANDOM_BITS) + 1) << _RANDOM_BITS) + own for key in partitions}
        rows = [
            {"topic": topic, "partition": partition, "claim": number, "owner": owner}
            for (topic, partition), number in made.items()
        ]
        self._database.insert_json("sink_claims", rows, f"{self._cluster}:claim:{owner}:{own}:{secrets.token_hex(8)}")
        return made

    def claims(self) -> dict[tuple[str, int], int]:
        """The latest claim of every partition."""
        found = self._database.rows("SELECT topic, partition, max(claim) FROM sink_claims GROUP BY 1, 2")
        return {(row[0], int(row[1])): int(row[2]) for row in found}

    def freeze(self, ranges: Sequence[FrozenRange]) -> None:
        """Write ``ranges`` down, all or none."""
        rows = [
            {
                "topic": one.topic,
                "partition": one.partition,
                "first_offset": one.first_offset,
                "next_offset": one.next_offset,
                "claim": one.claim,
            }
            for one in ranges
        ]
        bounds = ",".join(
            f"{one.topic}:{one.partition}:{one.first_offset}-{one.next_offset - 1}:{one.claim}" for one in ranges
        )
        self._database.insert_json("sink_ranges", rows, f"{self._cluster}:freeze:{bounds}")

    def frozen(self, positions: Mapping[Any, int]) -> list[FrozenRange]:
        """Ranges that begin at their partition's position or later, whether they count or not.

        ``positions`` is by (topic, partition); ranges of other partitions are left out.
        """
        if not positions:
            return []
        # In the order of the table's key, so that only the ends of partitions are read. Topics' names are ours.
        wanted = " OR ".join(
            f"(topic = '{topic}' AND partition = {partition} AND first_offset >= {position})"
            for (topic, partition), position in positions.items()
        )
        sql = f"SELECT topic, partition, first_offset, next_offset, claim FROM sink_ranges WHERE {wanted}"  # noqa: S608
        return [FrozenRange(row[0], *map(int, row[1:])) for row in self._database.rows(sql)]

    def positions(self) -> dict[tuple[str, int], int]:
        """The first offset that is not known to be stored, by partition, as recorded."""
        found = self._database.rows("SELECT topic, partition, max(next_offset) FROM sink_positions GROUP BY 1, 2")
        return {(row[0], int(row[1])): int(row[2]) for row in found}

    def ends_of_rows(self, tables: Iterable[str]) -> dict[tuple[str, int], int]:
        """One more than the greatest stored offset, by partition. Reads all rows of ``tables``."""
        found: dict[tuple[str, int], int] = {}
        for table in sorted(set(tables)):
            sql = f"SELECT _topic, _partition, max(_offset) + 1 FROM {table} GROUP BY 1, 2"  # noqa: S608  (names are ours)
            found |= {(row[0], int(row[1])): int(row[2]) for row in self._database.rows(sql)}
        return found

    def record(self, stored: Sequence[StoredRange]) -> None:
        """Write down up to where partitions are stored."""
        rows = [
            {
                "topic": one.topic,
                "partition": one.partition,
                "next_offset": one.next_offset,
                "rows": one.rows,
                "dead_lettered": one.dead_lettered,
            }
            for one in stored
        ]
        ends = ",".join(f"{one.topic}:{one.partition}:{one.next_offset}" for one in stored)
        self._database.insert_json("sink_positions", rows, f"{self._cluster}:positions:{ends}")
