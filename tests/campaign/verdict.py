"""What was seen at the end, and which equalities it breaks. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

SAMPLES_SHOWN = 5


class HitPlace(NamedTuple):
    """What identifies a hit without knowing how ids are made: who fired, for whom, on which record."""

    trigger_id: str
    account_id: str
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class TableRows:
    """One ClickHouse table against the topic that it holds."""

    table: str
    produced: int
    rows: int
    distinct: int
    telemetry: bool


@dataclass
class Findings:
    """Everything that the judge read back from the broker and from ClickHouse."""

    seed: int
    kills: int
    kills_least: int
    tables: list[TableRows]
    #: Records that are no event, by (topic, partition, offset); and how often each was dead-lettered.
    bad_inputs: set[tuple[str, int, int]]
    dead_letters: Counter[tuple[str, int, int]]
    oracle_hits: set[HitPlace]
    #: Every record on estop.hits: its id, by where it fired.
    hits: list[tuple[HitPlace, str]]
    #: Enforced hits that must have opened an emergency: the first of each trigger and scope.
    opening_hit_ids: set[str]
    #: Audit records of the other ones, which join the emergency that is in force already.
    joins_expected: set[str]
    joins_found: set[str]
    #: Emergency ids by cause, over every record on estop.emergencies.
    emergencies: Mapping[str, set[str]]
    unfinished_emergencies: list[str]
    #: What else went wrong: refused sends, children that would not leave, conditions not reached.
    troubles: list[str] = field(default_factory=list)

    @property
    def hit_duplicates(self) -> int:
        return len(self.hits) - len({hit_id for _, hit_id in self.hits})

    def report(self) -> str:
        """The campaign's one line; events are those of telemetry."""
        tables = [table for table in self.tables if table.telemetry]
        return json.dumps(
            {
                "kills": self.kills,
                "seed": self.seed,
                "events_produced": sum(table.produced for table in tables),
                "events_in_clickhouse": sum(table.rows for table in tables),
                "duplicates_in_clickhouse": sum(table.rows - table.distinct for table in tables),
                "hits": len({hit_id for _, hit_id in self.hits}),
                "oracle_hits": len(self.oracle_hits),
                "emergencies": len({one for ids in self.emergencies.values() for one in ids}),
            }
        )

    def failures(self) -> list[str]:
        """One sentence per broken equality; empty when the campaign is won."""
        equalities = [self._kill_failures(), self._row_failures(), self._hit_failures(), self._emergency_failures()]
        return [failure for part in [*equalities, self.troubles] for failure in part]

    def _kill_failures(self) -> list[str]:
        if self.kills >= self.kills_least:
            return []
        return [f"only {self.kills} of at least {self.kills_least} disturbances struck a running process"]

    def _row_failures(self) -> list[str]:
        out = [
            f"{table.table}: {table.produced} produced, {table.rows} rows, {table.distinct} distinct"
            for table in self.tables
            if not table.produced == table.rows == table.distinct
        ]
        dead = set(self.dead_letters)
        out += _difference("bad inputs without a dead letter", self.bad_inputs - dead)
        out += _difference("dead letters of good inputs", dead - self.bad_inputs)
        return out

    def _hit_failures(self) -> list[str]:
        seen = {place for place, _ in self.hits}
        ids: dict[HitPlace, set[str]] = {}
        for place, hit_id in self.hits:
            ids.setdefault(place, set()).add(hit_id)
        return [
            *_difference("hits that the oracle expects and nobody published", self.oracle_hits - seen),
            *_difference("hits that the oracle does not expect", seen - self.oracle_hits),
            *_difference("hits with two ids", {place for place, found in ids.items() if len(found) > 1}),
        ]

    def _emergency_failures(self) -> list[str]:
        causes = {f"hit:{hit_id}" for hit_id in self.opening_hit_ids}
        twice = {cause for cause, found in self.emergencies.items() if len(found) > 1}
        return [
            *_difference("opening hits without an emergency", causes - set(self.emergencies)),
            *_difference("emergencies without an opening hit", set(self.emergencies) - causes),
            *_difference("repeated hits without a record that they joined", self.joins_expected - self.joins_found),
            *_difference("records of joining for hits that should have opened", self.joins_found - self.joins_expected),
            *_difference("causes with two emergencies", twice),
            *_difference("emergencies neither stopped nor partial", self.unfinished_emergencies),
        ]


def _difference(what: str, found: Iterable[object]) -> list[str]:
    sample = sorted(map(str, found))
    return [f"{len(sample)} {what}, such as {'; '.join(sample[:SAMPLES_SHOWN])}"] if sample else []
