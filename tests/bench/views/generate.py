"""A month of an installation, made inside ClickHouse from numbers: telemetry, and what followed from it.

Nothing here is random at run time: a value is a hash of its row's number and of what it is for. One account in two
hundred is near a threshold again and again, and one sample in two thousand of the others is an outlier.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.domain.default_triggers import default_pack
from emergency_stop.domain.triggers import Trigger

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000
PARTITIONS: Final = 12
SERVICES: Final = ("sessionManager", "realtimeSync", "behavioralEngine", "antiDetectionManager", "accountHealthMonitor")
#: Heartbeats and freshness come this often, and two of the partitions, and one service, are away for an hour a day.
BEAT_MS: Final = 10_000
_CHUNK: Final = 2_000_000
_SHARES: Final = {"health": 60, "behavioral": 20, "proxy": 10, "platform": 8, "detection": 1, "system": 1}


@dataclass(frozen=True, slots=True)
class World:
    """How much there is of what. ``end_ms``: the moment at which the month ends."""

    rows: int
    accounts: int
    days: int
    emergencies: int
    end_ms: int

    @property
    def start_ms(self) -> int:
        return self.end_ms - self.days * DAY_MS

    @property
    def evaluations(self) -> int:
        return self.emergencies * 20

    @property
    def beats(self) -> int:
        return self.days * DAY_MS // BEAT_MS


def fill(database: ClickHouse, world: World, told: Callable[[str], object] = id) -> None:
    """Store the whole world; blocking. The tables exist and are empty."""
    _triggers(database, world)
    for name, share in _SHARES.items():
        told(f"{name}: {world.rows * share // 100:,} rows")
        _telemetry(database, world, name, world.rows * share // 100)
    for table, count, columns in _consequences(world):
        told(f"{table}: {count:,} rows")
        _insert(database, table, count, columns)


def _insert(database: ClickHouse, table: str, count: int, columns: dict[str, str]) -> None:
    chosen = ", ".join(f"{expression} AS {name}" for name, expression in columns.items())
    for first in range(0, count, _CHUNK):
        database.command(
            f"INSERT INTO {table} ({', '.join(columns)}) SELECT {chosen}"  # noqa: S608  (names are ours)
            f" FROM numbers({first}, {min(_CHUNK, count - first)}) SETTINGS max_insert_block_size = 1000000"
        )


def _hash(salt: str, of: str = "number") -> str:
    return f"cityHash64({of}, '{salt}')"


def _unit(salt: str) -> str:
    """A number from 0 to 1."""
    return f"({_hash(salt)} % 1000000 / 1000000)"


def _time(ms: str) -> str:
    return f"fromUnixTimestamp64Milli(toInt64({ms}), 'UTC')"


def _origin(topic: str, at_ms: str) -> dict[str, str]:
    return {
        "_topic": f"'{topic}'",
        "_partition": f"number % {PARTITIONS}",
        "_offset": f"intDiv(number, {PARTITIONS})",
        "_timestamp": _time(at_ms),
    }


def _telemetry(database: ClickHouse, world: World, name: str, count: int) -> None:
    at_ms = f"{world.start_ms} + intDiv(number * {world.days * DAY_MS}, {max(count, 1)})"
    account = f"{_hash('account')} % {world.accounts}"
    near = f"({account} % 200 = 0 OR {_hash('outlier')} % 2000 = 0)"
    score = f"round(if({near}, 45 + 39.9 * {_unit('score')}, 60 * {_unit('score')}), 3)"
    anomaly = f"round(if({near}, 50 + 39.9 * {_unit('score')}, 70 * {_unit('score')}), 3)"
    # Health is near its threshold of 30 only in accounts that are near anyway.
    health = f"round(if({near}, 30.1 + 30 * {_unit('health')}, 45 + 55 * {_unit('health')}), 3)"
    fields = {
        "health": {"risk_score": score, "health_score": health},
        "behavioral": {"anomaly_score": anomaly, "pattern": "'burst'"},
        "proxy": {
            "proxy_id": "concat('proxy-', toString(number % 500))", "latency_ms": f"1000 * {_unit('latency')}",
            "outcome": f"if({_hash('failed')} % 50 = 0, 'failure', 'success')",
        },
        "platform": {
            "kind": f"['api_call', 'rate_limit', 'authentication'][1 + {_hash('kind')} % 3]",
            "outcome": f"if({_hash('failed')} % 40 = 0, 'failure', 'success')", "status_code": "200",
        },
        "detection": {
            "severity": f"['low', 'medium', 'high'][1 + {_hash('severity')} % 3]", "detection_type": "'fingerprint'",
            "confidence": _unit("confidence"),
        },
        "system": {
            "service": f"['{SERVICES[0]}', '{SERVICES[1]}'][1 + number % 2]", "host": "'host-1'",
            "cpu_percent": f"100 * {_unit('cpu')}", "memory_bytes": "500000000",
        },
    }[name]  # fmt: skip
    columns = {
        **_origin(f"telemetry.{name}", at_ms),
        "event_id": f"concat('{name}-', toString(number))",
        "account_id": f"concat('acc-', leftPad(toString({account}), 6, '0'))",
        "occurred_at": _time(at_ms),
        **fields,
        "source": "'generated'",
    }
    _insert(database, f"{name}_events", count, columns)


def _consequences(world: World) -> Iterator[tuple[str, int, dict[str, str]]]:
    """(table, rows, column → expression). A hit, its emergency, its commands and answers are of one number."""
    count = world.emergencies
    yield "hits", count + count // 50, _hits(world)
    yield "evaluations", world.evaluations, _evaluations(world)
    yield "emergencies", count * 5, _emergencies(world)
    one = f"intDiv(number, {len(SERVICES)})"
    service = f"{list(SERVICES)}[1 + number % {len(SERVICES)}]"
    case = {"emergency_id": f"concat('em-', toString({one}))", "scope": _scope(world, one), "service": service}
    at_ms = _happened(world, one)
    yield "commands", count * len(SERVICES), {
        **_origin("estop.commands", at_ms), **case, "command_id": f"concat('command-', toString({one}))",
        "action": "'stop'", "level": _level(one), "issued_at": _time(at_ms), "deadline_at": _time(f"{at_ms} + 5000"),
    }  # fmt: skip
    yield "acks", count * len(SERVICES), {
        **_origin("estop.acks", at_ms), **case, "command_id": f"concat('command-', toString({one}))",
        "instance_id": "'a'", "state": "'stopped'", "acked_at": _time(f"{at_ms} + 60"),
    }  # fmt: skip
    yield "holds", count, {
        **_origin("estop.holds", _happened(world, "number")), "scope": _scope(world, "number"), "epoch": "number",
        "state": "'stopping'", "updated_at": _time(_happened(world, "number")),
    }  # fmt: skip
    yield "recoveries", count // 2 * 4, _recoveries(world)
    yield "audit", count * 2, _audit(world)
    yield "freshness", world.beats * PARTITIONS, _freshness(world)
    yield "service_instances", world.beats * len(SERVICES), _heartbeats(world)


def _happened(world: World, number: str) -> str:
    """When the emergency of that number was caused, ms; without its last minutes, so that all have ended."""
    span_ms = world.days * DAY_MS - HOUR_MS
    return f"({world.start_ms} + {_hash('when', number)} % {span_ms})"


def _scope(world: World, number: str) -> str:
    return f"concat('account:acc-', leftPad(toString({_hash('who', number)} % {world.accounts}), 6, '0'))"


def _level(number: str) -> str:
    return f"['immediate', 'immediate', 'graceful', 'cascading'][1 + {_hash('level', number)} % 4]"


def _hits(world: World) -> dict[str, str]:
    """Every fiftieth has a second record, as after a detector's crash."""
    number = f"(number % {world.emergencies})"
    names = [trigger.trigger_id for trigger in default_pack(world.start_ms)]
    at_ms = _happened(world, number)
    return {
        **_origin("estop.hits", at_ms),
        "hit_id": f"concat('hit-', toString({number}))",
        "trigger_id": f"{names}[1 + {_hash('trigger', number)} % {len(names)}]",
        "mode": "'enforce'",
        "scope": _scope(world, number),
        "account_id": f"substring({_scope(world, number)}, 9)",
        "level": _level(number),
        "occurred_at": _time(at_ms),
        "detected_at": _time(f"{at_ms} + 5"),
        "suppressed_before": f"toInt32({_hash('suppressed', number)} % 3)",
        "reason": "'generated'",
    }


def _evaluations(world: World) -> dict[str, str]:
    """Two in three are summaries of a minute, the others changes. Every fiftieth is repeated with fewer evaluations, as
    after a detector's crash.
    """
    number = f"(number % {world.evaluations - world.evaluations // 50})"
    names = [trigger.trigger_id for trigger in default_pack(world.start_ms)]
    at_ms = f"({world.start_ms} + {_hash('evaluated', number)} % {world.days * DAY_MS})"
    outcome = f"['unchanged', 'unchanged', 'others', 'others', 'cleared', 'suppressed'][1 + {number} % 6]"
    near = f"{number} % 6 < 2"
    return {
        **_origin("estop.evaluations", at_ms),
        "evaluation_id": f"toString(reinterpretAsUUID(sipHash128({number}, 'evaluation')))",
        "trigger_id": f"{names}[1 + {_hash('trigger', number)} % {len(names)}]",
        "trigger_version": "1",
        "mode": "'enforce'",
        "outcome": outcome,
        "scope": f"if({number} % 6 IN (2, 3), 'global', {_scope(world, number)})",
        "account_id": f"if({number} % 6 IN (2, 3), NULL, substring({_scope(world, number)}, 9))",
        "observed": f"if({near}, 40 + {_hash('observed', number)} % 40, NULL)",
        "threshold": f"if({near}, 80, NULL)",
        "approach_percent": f"if({near}, 100 * (40 + {_hash('observed', number)} % 40) / 80, NULL)",
        "evaluations": f"if({number} % 6 < 4, 10 + {_hash('count', number)} % 50 - (number != {number}), 1)",
        "evaluated_at": _time(at_ms),
        "detected_at": _time(f"{at_ms} + 5"),
        "source_topic": "'telemetry.health'",
    }


def _emergencies(world: World) -> dict[str, str]:
    """Five records each: stopping, how it ended, recovering, for one in ten stopped by a rollback, resolved.

    One in a hundred is partial at first.
    """
    one, turn = "intDiv(number, 5)", "number % 5"
    at_ms = _happened(world, one)
    again = f"({turn} = 3 AND {_hash('again', one)} % 10 = 0)"
    partial = f"({turn} = 1 AND {_hash('partial', one)} % 100 = 0)"
    took = f"(40 + {_hash('took', one)} % 100 + if({again}, 7, 0))"
    instances = ", ".join(
        f"('{service}', '{instance}', if({partial} AND {place} = 0, 'unknown', 'stopped'), '', toInt32(0),"
        f" toInt64({at_ms} + 10 + {_hash(f'{service}{instance}', one)} % 30"
        f" + if({_hash('slow', one)} % 50 = 0 AND {place} = 3, 6000, 0) + if({again}, 600000, 0)))"
        for place, service in enumerate(SERVICES)
        for instance in "ab"
    )
    return {
        **_origin("estop.emergencies", f"{at_ms} + {turn} * 1000"),
        "emergency_id": f"concat('em-', toString({one}))",
        "state": f"multiIf({turn} = 0, 'stopping', {turn} = 2, 'recovering', {partial}, 'partial',"
        f" {turn} = 1 OR {again}, 'stopped', 'resolved')",
        "scope": _scope(world, one),
        "level": _level(one),
        "instances": f"[{instances}]",
        "occurred_at": _time(at_ms),
        "deadline_at": _time(f"{at_ms} + 5000"),
        "time_to_stop_ms": f"if({turn} = 0 OR {partial}, NULL, toInt64({took}))",
    }


def _recoveries(world: World) -> dict[str, str]:
    one = "intDiv(number, 4)"
    at_ms = f"{_happened(world, one)} + 60000"
    ended_at = _time(f"{at_ms} + 1000 + {_hash('lasted', one)} % 300000")
    ended = f"number % 4 = 3 AND {_hash('unended', one)} % 20 != 0"
    return {
        **_origin("estop.recoveries", f"{at_ms} + number % 4 * 1000"),
        "recovery_id": f"concat('recovery-', toString({one}))",
        "scope": _scope(world, one),
        "procedure": f"['standard_recovery', 'gradual_recovery', 'critical_recovery'][1 + {_hash('by', one)} % 3]",
        "phase": "['validation', 'preparation', 'full_restore', 'monitoring'][1 + number % 4]",
        "outcome": f"if({ended}, if({_hash('failed', one)} % 10 = 0, 'rolled_back', 'completed'), 'under_way')",
        "started_at": _time(at_ms),
        "ended_at": f"if({ended}, {ended_at}, NULL)",
    }


def _audit(world: World) -> dict[str, str]:
    """Every fifth record is a mark; one hit in ten is marked, some of them twice with another word."""
    marked = f"{_hash('marked')} % {max(world.emergencies // 10, 1)}"
    mark = f"if({_hash('mark')} % 4 = 0, 'false_positive', 'true_positive')"
    return {
        **_origin("estop.audit", _happened(world, "number")),
        "audit_id": "concat('audit-', toString(number))",
        "at": f"toInt64({_happened(world, 'number')})",
        "actor": "'cli:generated'",
        "action": "if(number % 5 = 0, 'hit_marked', 'emergency_opened')",
        "subject": f"if(number % 5 = 0, concat('hit-', toString({marked})), {_scope(world, 'number')})",
        "after": f"if(number % 5 = 0, concat('{{\"mark\": \"', {mark}, '\"}}'), '')",
    }


def _freshness(world: World) -> dict[str, str]:
    """Partitions 0 and 1 say nothing between 3 and 4 o'clock of every day."""
    at_ms = f"({world.start_ms} + intDiv(number, {PARTITIONS}) * {BEAT_MS})"
    away = f"(number % {PARTITIONS} < 2 AND intDiv({at_ms} % {DAY_MS}, {HOUR_MS}) = 3)"
    fresh_ms = f"if({away}, {at_ms} - {at_ms} % {HOUR_MS}, {at_ms})"
    return {
        **_origin("estop.freshness", at_ms), "lane": "'a'", "partition": f"number % {PARTITIONS}",
        "instance_id": "'detector-1'", "fresh_at": _time(fresh_ms), "written_at": _time(at_ms),
    }  # fmt: skip


def _heartbeats(world: World) -> dict[str, str]:
    """The first service is unhealthy between 5 and 6 o'clock of every day."""
    at_ms = f"({world.start_ms} + intDiv(number, {len(SERVICES)}) * {BEAT_MS})"
    ill = f"(number % {len(SERVICES)} = 0 AND intDiv({at_ms} % {DAY_MS}, {HOUR_MS}) = 5)"
    return {
        **_origin("estop.services", at_ms), "service": f"{list(SERVICES)}[1 + number % {len(SERVICES)}]",
        "instance_id": "concat('i-', toString(number % 2))", "state": "'up'", "heartbeat_at": _time(at_ms),
        "healthy": f"NOT {ill}",
    }  # fmt: skip


def _triggers(database: ClickHouse, world: World) -> None:
    rows = [_trigger_row(number, trigger, world) for number, trigger in enumerate(default_pack(world.start_ms))]
    database.insert_json("triggers", rows, "generated")


def _trigger_row(number: int, trigger: Trigger, world: World) -> dict[str, Any]:
    return {
        "_topic": "estop.triggers", "_partition": 0, "_offset": number, "_timestamp": world.start_ms / 1000,
        "trigger_id": trigger.trigger_id, "version": trigger.version, "trigger_type": trigger.trigger_type.value,
        "is_active": trigger.is_active, "removed": False, "thresholds": json.loads(json.dumps(trigger.thresholds)),
        "time_window": trigger.time_window, "cooldown_period": trigger.cooldown_period,
    }  # fmt: skip
