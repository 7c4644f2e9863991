"""Whoever got hold of everything: all topics, all tables, their backups, and every key that is left anywhere.

He is told nothing of erasures and follows no rule: he tries every account key that any copy of any record gives,
under any master key that is left, on every sealed text, for its place.
"""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import fastavro

from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.adapters.kafka_tail import TailRecord
from emergency_stop.domain.messages import AccountKey
from emergency_stop.domain.topics import ACCOUNT_KEYS, DEAD_LETTER, TELEMETRY
from emergency_stop.domain.values import AccountKeyState
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.privacy_keys import PrivacyKeys, UnwrapError
from emergency_stop.wire.registry import LocalRegistry
from emergency_stop.wire.schemas import committed_ids, load_record_schema
from emergency_stop.wire.sealing import SealedPlace, SealError, SealingKey, is_sealed, sealed_with
from emergency_stop.wire.sensitive import sensitive_fields
from tests.erasure.plant import CANARY

RECORDS: Final = {spec.name: str(spec.record) for spec in TELEMETRY}
TABLES: Final = {"platform_events": "PlatformEvent", "proxy_events": "ProxyEvent"}
BYTES: Final = frozenset({"key", "value", "signature"})
CODEC: Final = Codec(LocalRegistry())
TOPICS_AND_TABLES: Final = ("topics", "tables", "backup of topics", "backup of tables")


@dataclass(frozen=True, slots=True)
class Found:
    """One sealed text, and where it was found."""

    where: str
    place: SealedPlace
    text: str


@dataclass
class Loot:
    """``clear`` names where a secret was found that nobody had sealed."""

    found: list[Found] = field(default_factory=list)
    clear: list[str] = field(default_factory=list)
    wrapped: list[AccountKey] = field(default_factory=list)

    def take_topics(self, where: str, copies: Mapping[str, list[TailRecord]]) -> None:
        for topic, records in copies.items():
            for record in records:
                if CANARY.encode() in (record.key or b"") + (record.value or b""):
                    self.clear.append(f"{where}: {topic} {record.partition}@{record.offset}")
                if record.value is None:
                    continue
                if topic == ACCOUNT_KEYS:
                    self.wrapped.append(CODEC.decode(AccountKey, record.value))
                elif topic in RECORDS or topic == DEAD_LETTER:
                    self.found += _sealed_in(where, record.value)

    def take_tables(self, where: str, folder: Path) -> None:
        """Every column of every table; ``folder`` is one in which chDB kept its files."""
        database = ClickHouse(None, folder)
        try:
            tables = database.rows(
                "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree'"
            )
            for (table,) in tables:
                for columns in _rows(database, str(table)):
                    if CANARY in json.dumps(columns, default=str):
                        self.clear.append(f"{where}: {table}")
                    if table in TABLES:
                        self.found += _sealed_of(where, TABLES[table], columns)
                    if table == "dead_letters" and columns["value"] is not None:
                        self.found += _sealed_in(where, bytes.fromhex(columns["value"]))
        finally:
            database.close()

    def keys(self, masters: PrivacyKeys) -> set[bytes]:
        """The secret of every account key that these master keys unwrap."""
        secrets = set()
        for one in self.wrapped:
            if one.state is AccountKeyState.KEY:
                try:
                    secrets.add(masters.unwrap(one))
                except UnwrapError:
                    continue
        return secrets


def _rows(database: ClickHouse, table: str) -> Iterator[dict[str, Any]]:
    """Every row; bytes as hexadecimal digits."""
    names = [str(row[0]) for row in database.rows(f"DESCRIBE TABLE {table}")]
    cells = ", ".join(f"hex({name})" if name in BYTES else f"toString({name})" for name in names)
    for row in database.rows(f"SELECT {cells} FROM {table}"):  # noqa: S608  (its own names)
        yield dict(zip(names, row, strict=True))


def _sealed_in(where: str, value: bytes) -> list[Found]:
    """Of a telemetry value, good or refused: its record is the one of its schema id."""
    schema_id = int.from_bytes(value[1:5], "big") if value[:1] == b"\0" else -1
    record = next((name for name, one in committed_ids().items() if one == schema_id), None)
    if record is None or record not in RECORDS.values():
        return []
    plain: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), _parsed(record), None)
    return _sealed_of(where, record, plain)


@cache
def _parsed(record: str) -> Any:
    return fastavro.parse_schema(load_record_schema(record), named_schemas={})


def _sealed_of(where: str, record: str, plain: Mapping[str, Any]) -> list[Found]:
    texts = [(name, str(plain[name])) for name in sensitive_fields(record) if plain.get(name)]
    assert all(is_sealed(text) for _, text in texts), f"{where}: {record} is not sealed"
    return [Found(where, SealedPlace(record, name, plain["account_id"]), text) for name, text in texts]


@dataclass
class Verdict:
    """By where a text was found: how many there were, and how many opened. ``opened`` are those that opened."""

    fields: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    readable: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    opened: list[tuple[str, str]] = field(default_factory=list)


def attack(found: Iterable[Found], secrets: set[bytes]) -> Verdict:
    """Try every key on every text, whatever key the text names."""
    verdict, ready = Verdict(), cache(SealingKey)
    known: dict[tuple[SealedPlace, str], str | None] = {}
    for one in found:
        verdict.fields[one.where] += 1
        if (one.place, one.text) not in known:
            tries = (ready(sealed_with(one.text), secret) for secret in secrets)
            known[one.place, one.text] = next(filter(None, (_open(key, one) for key in tries)), None)
        text = known[one.place, one.text]
        if text is not None:
            verdict.readable[one.where] += 1
            verdict.opened.append((one.place.account_id, text))
    return verdict


def _open(key: SealingKey, one: Found) -> str | None:
    try:
        return key.open(one.text, one.place)
    except SealError:
        return None
