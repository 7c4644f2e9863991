"""The tables' migrations: which are left, what they say for one node or for a cluster, and how long rows are kept.

A script in ``schemas/clickhouse`` is written for one node. For a cluster its tables become replicated ones, created
on all nodes; replicas share a table's log of tokens, so that an insert may be repeated at another one.

A numbered script runs once. The views in ``views/`` hold no rows, so they are made anew whenever their text changed.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.wire.schemas import schemas_root

#: A week. ClickHouse's own default is an hour, which is shorter than a bad night.
TOKENS_KEPT_S: Final = 604_800
_HEAD: Final = re.compile(
    r"^((?:CREATE (?:TABLE|VIEW) IF NOT EXISTS|CREATE OR REPLACE VIEW|ALTER TABLE) \w+)", re.MULTILINE
)
_ENGINE: Final = re.compile(r"\bENGINE = (\w*MergeTree)\b")
_TTL_DAYS: Final = re.compile(r"TTL toDateTime\(_timestamp\) \+ toIntervalDay\((\d+)\)")
_VIEWS: Final = "views:"
_MIGRATIONS: Final = (
    "CREATE TABLE IF NOT EXISTS migrations (name String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3))"
    " ENGINE = MergeTree ORDER BY name"
)


@dataclass(frozen=True, slots=True)
class Step:
    """What brings the tables further: a script's name, the views, or the change of the retention; its statements."""

    name: str
    statements: tuple[str, ...]


def render(script: str, ttl_days: int, cluster: str | None) -> tuple[str, ...]:
    """The statements of ``script``, for one node or for the cluster of that name."""
    statements = _statements(script.replace("{ttl_days}", str(ttl_days)))
    return tuple(_replicated(one, cluster) if cluster else one for one in statements)


def _statements(script: str) -> list[str]:
    """Without lines that are comments."""
    text = "\n".join(line for line in script.splitlines() if not line.lstrip().startswith("--"))
    return [statement.strip() for statement in text.split(";") if statement.strip()]


def role_statements(database: str, cluster: str | None) -> tuple[str, ...]:
    """What makes the analysts' role on a server; repeating it brings the role to this version's bounds."""
    script = (schemas_root() / "clickhouse" / "roles.sql").read_text()
    on_cluster = f" ON CLUSTER `{cluster}`" if cluster else ""
    return tuple(_statements(script.replace("{database}", f"`{database}`").replace("{on_cluster}", on_cluster)))


def _replicated(statement: str, cluster: str) -> str:
    tokens = f"replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = {TOKENS_KEPT_S}"
    statement = _HEAD.sub(rf"\1 ON CLUSTER `{cluster}`", statement)
    statement = _ENGINE.sub(r"ENGINE = Replicated\1", statement)
    return statement.replace("non_replicated_deduplication_window = 10000", tokens)


def left(database: ClickHouse, ttl_days: int, cluster: str | None) -> list[Step]:
    """The steps that are not taken yet, in order. Blocking; changes nothing."""
    exists = int(database.rows("EXISTS TABLE migrations")[0][0])
    done = {row[0] for row in database.rows("SELECT name FROM migrations")} if exists else set()
    steps = [
        Step(path.stem, render(path.read_text(), ttl_days, cluster))
        for path in sorted((schemas_root() / "clickhouse").glob("[0-9]*.sql"))
        if path.stem not in done
    ]
    return [*steps, *_retention(database, ttl_days, cluster), *_views(database, exists=bool(exists), cluster=cluster)]


def view_script() -> str:
    """All views, in the order in which they build on one another."""
    return "\n".join(path.read_text() for path in sorted((schemas_root() / "clickhouse" / "views").glob("*.sql")))


def _views(database: ClickHouse, *, exists: bool, cluster: str | None) -> list[Step]:
    """Views whose text is not the one that was applied last: also after a return to a former version."""
    script = view_script()
    name = f"{_VIEWS}{hashlib.sha256(script.encode()).hexdigest()[:12]}"
    newest = f"SELECT argMax(name, applied_at) FROM migrations WHERE startsWith(name, '{_VIEWS}')"  # noqa: S608  (ours)
    standing = database.rows(newest)[0][0] if exists else ""
    return [] if standing == name else [Step(name, render(script, 0, cluster))]


def _retention(database: ClickHouse, ttl_days: int, cluster: str | None) -> list[Step]:
    """Tables that were made for another ``RETAIN_EVENT_HISTORY``."""
    found = database.rows("SELECT name, engine_full FROM system.tables WHERE database = currentDatabase()")
    kept = {name: int(match.group(1)) for name, engine in found if (match := _TTL_DAYS.search(engine))}
    others = sorted(table for table, days in kept.items() if days != ttl_days)
    script = ";".join(
        f"ALTER TABLE {table} MODIFY TTL toDateTime(_timestamp) + INTERVAL {ttl_days} DAY" for table in others
    )
    return [Step(f"retention of {ttl_days} days", render(script, ttl_days, cluster))] if others else []


def apply(database: ClickHouse, ttl_days: int, cluster: str | None) -> tuple[str, ...]:
    """Take every step that is left; returns their names. Blocking; a second call takes none."""
    for statement in render(_MIGRATIONS, ttl_days, cluster):
        database.command(statement)
    steps = left(database, ttl_days, cluster)
    for step in steps:
        _take(database, step)
    return tuple(step.name for step in steps)


def _take(database: ClickHouse, step: Step) -> None:
    """Statements may be repeated: a crash among them leaves the step to be taken again."""
    for statement in step.statements:
        database.command(statement)
    if step.name[0].isdigit():
        database.insert_json("migrations", [{"name": step.name}], f"migration:{step.name}")
    elif step.name.startswith(_VIEWS):
        # The same views may come back, after others: each time is a row of its own.
        database.insert_json("migrations", [{"name": step.name}], f"migration:{step.name}:{uuid.uuid4()}")


def as_script(steps: Sequence[Step]) -> str:
    """What ``steps`` would run, to be read."""
    return "\n".join(f"-- {step.name}\n" + "".join(f"{one};\n" for one in step.statements) for step in steps)
