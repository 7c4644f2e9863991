"""The analysts' views against their naive twin, on half a million generated rows in chDB."""

from __future__ import annotations

import calendar
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from emergency_stop.adapters import clickhouse_migrations as migrations
from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.apps.sink.query import QueryServer
from emergency_stop.config import Settings
from emergency_stop.control.errors import UnavailableError
from emergency_stop.control.report import page, terminal
from emergency_stop.control.report.sections import SECTIONS, Period, ask
from emergency_stop.control.report.source import opened
from emergency_stop.domain.triggers import COOLDOWN_MS_MAX, WINDOW_MS_MAX
from tests.bench.views.generate import DAY_MS, HOUR_MS, World, fill
from tests.oracle import views as twin

pytestmark = pytest.mark.needs("chdb")

ROWS: Final = 500_000
DAYS: Final = 3
ALLOWED_MS: Final = 30_000
PERIODS: Final = (30, 2)
MS: Final = "toUnixTimestamp64Milli"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    """A world that ended half a day ago, so that a period of two days cuts through it."""
    database = ClickHouse(None, tmp_path_factory.mktemp("views"))
    try:
        migrations.apply(database, 3_650, None)
        fill(database, World(ROWS, 2_000, DAYS, 2_000, int(time.time()) * 1000 - DAY_MS // 2))
        yield database
    finally:
        database.close()


def view(database: ClickHouse, call: str) -> list[dict[str, Any]]:
    answer = database.select(f"SELECT * FROM {call}")  # noqa: S608  (calls are ours)
    names = [column["name"] for column in answer["meta"]]
    return [dict(zip(names, row, strict=True)) for row in answer["data"]]


def compare(
    database: ClickHouse, call: Callable[[int], str], expected: Callable[[int], Any], *, shaped: Any = lambda rows: rows
) -> None:
    """The view gives what its twin gives, for each period.

    A view reads the clock itself, so it is asked again where its second made a difference to the twin.
    """
    for days in PERIODS:
        deadline = time.monotonic() + 60
        while True:
            before, found = int(time.time()), shaped(view(database, call(days)))
            wanted = expected((before - days * 86_400) * 1000)
            if wanted == expected((int(time.time()) - days * 86_400) * 1000) or time.monotonic() > deadline:
                break
        assert wanted, "the period must not be empty"
        assert found == wanted


def stops(database: ClickHouse) -> list[twin.Stop]:
    rows = database.rows(
        f"SELECT emergency_id, {MS}(occurred_at), level, state, time_to_stop_ms, {MS}(deadline_at),"  # noqa: S608  (ours)
        " arrayMap(i -> (i.service, i.state, i.at), instances) FROM emergencies WHERE NOT drill ORDER BY _timestamp"
    )
    last: dict[str, Any] = {}
    recovered: set[str] = set()
    for row in rows:
        if row[3] == "recovering":
            recovered.add(row[0])
        elif row[3] in {"stopped", "partial"} and row[0] not in recovered:
            last[row[0]] = row
    assert any(row[3] == "stopped" and row[0] in recovered and row != last[row[0]] for row in rows), "no rollback"
    return [twin.Stop(*(*row[:6], tuple(tuple(one) for one in row[6]))) for row in last.values()]


def test_time_to_stop_by_level(database: ClickHouse) -> None:
    known = stops(database)
    compare(database, lambda days: f"time_to_stop_by_level(days = {days})", lambda since: twin.by_level(known, since))


def test_time_to_stop_by_service(database: ClickHouse) -> None:
    known = stops(database)
    compare(
        database, lambda days: f"time_to_stop_by_service(days = {days})", lambda since: twin.by_service(known, since)
    )


def test_time_to_stop_by_day_has_every_stop_of_its_day(database: ClickHouse) -> None:
    known = stops(database)
    found = view(database, "time_to_stop_by_day(days = 30)")
    assert {row["day"]: row["stops"] for row in found} == {
        day: len(group) for day, group in _by_day(known).items()
    }  # fmt: skip
    for row in found:
        took = [one.time_to_stop_ms for one in _by_day(known)[row["day"]] if one.state == "stopped"]
        assert row["p50_ms"] == twin.quantile((ms for ms in took if ms is not None), 0.5)


def _by_day(known: list[twin.Stop]) -> dict[str, list[twin.Stop]]:
    days: dict[str, list[twin.Stop]] = {}
    for one in known:
        days.setdefault(time.strftime("%Y-%m-%d", time.gmtime(one.occurred_at / 1000)), []).append(one)
    return days


def test_service_reliability_is_the_share_that_stopped_in_time(database: ClickHouse) -> None:
    known = stops(database)
    compare(database, lambda days: f"service_reliability(days = {days})", lambda since: twin.reliability(known, since))
    shares = [row["coordinated_percent"] for row in view(database, "service_reliability(days = 30)")]
    assert min(shares) < 100, "nothing was late in this world: the comparison would show nothing"


def test_hit_outcomes_count_each_hit_once_and_its_newest_mark(database: ClickHouse) -> None:
    hits = database.rows(f"SELECT hit_id, trigger_id, {MS}(occurred_at), suppressed_before FROM hits")  # noqa: S608
    marks = database.rows(
        "SELECT subject, JSONExtractString(after, 'mark'), at FROM audit WHERE action = 'hit_marked'"
        " ORDER BY at, _partition, _offset"
    )
    assert len(hits) > len({row[0] for row in hits}), "no hit has two records"
    compare(
        database,
        lambda days: f"hit_outcomes(days = {days})",
        lambda since: twin.outcomes([tuple(row) for row in hits], [tuple(row) for row in marks], since),
    )


def test_near_misses_are_the_hours_in_which_a_score_came_near_and_nothing_fired(database: ClickHouse) -> None:
    names = ("trigger_id", "trigger_type", "account_id", "thresholds", "time_window", "cooldown_period")
    triggers = [
        dict(zip(names, row, strict=True))
        for row in database.rows(f"SELECT {', '.join(names)} FROM triggers")  # noqa: S608  (ours)
        if row[1] in twin.SCORED
    ]
    samples = {
        kind: [tuple(row) for row in database.rows(f"SELECT account_id, {MS}(occurred_at), {field} FROM {table}")]  # noqa: S608
        for kind, field, table in (
            ("account_suspension_risk", "risk_score", "health_events"),
            ("health_score_critical", "health_score", "health_events"),
            ("behavioral_anomaly_severe", "anomaly_score", "behavioral_events"),
        )
    }
    hits = [tuple(row) for row in database.rows(f"SELECT trigger_id, account_id, {MS}(occurred_at) FROM hits")]  # noqa: S608
    assert len(triggers) == len(samples)
    compare(
        database,
        lambda days: f"near_misses(days = {days})",
        lambda since: twin.near_misses(triggers, samples, hits, since),
        shaped=lambda rows: {
            (row["trigger_id"], row["account_id"], _hour(row["hour"])): (row["nearest"], int(row["samples"]))
            for row in rows
        },
    )
    assert twin.near_misses(triggers, samples, hits, 0) != twin.near_misses(triggers, samples, [], 0), "no hit hid one"


def _hour(text: str) -> int:
    """``YYYY-MM-DD hh:mm:ss`` as hours since the epoch."""
    return calendar.timegm(time.strptime(text, "%Y-%m-%d %H:%M:%S")) * 1000 // HOUR_MS


def test_recovery_success(database: ClickHouse) -> None:
    rows = database.rows(
        f"SELECT recovery_id, procedure, outcome, {MS}(started_at), {MS}(ended_at) FROM recoveries ORDER BY _timestamp"  # noqa: S608
    )
    compare(
        database,
        lambda days: f"recovery_success(days = {days})",
        lambda since: twin.recovery_success([tuple(row) for row in rows], since),
    )


@pytest.mark.parametrize(
    ("call", "key", "table", "sign", "words"),
    [
        ("detector_availability(days = 30, blind_after_ms = 30000)", "partition", "freshness", "fresh_at", "blind"),
        (
            "service_availability(days = 30, lost_after_ms = 30000)", "service",
            "(SELECT * FROM service_instances WHERE healthy AND state = 'up')", "heartbeat_at", "down",
        ),
    ],
)  # fmt: skip
def test_availability_counts_what_is_overdue(
    database: ClickHouse, call: str, key: str, table: str, sign: str, words: str
) -> None:
    signs: dict[Any, list[int]] = {}
    for name, at in database.rows(f"SELECT {key}, {MS}({sign}) FROM {table}"):  # noqa: S608  (ours)
        signs.setdefault(name, []).append(at)
    before_ms = int(time.time() * 1000)
    found = view(database, call)
    after_ms = int(time.time() * 1000) + 1
    assert [row[key] for row in found] == sorted(signs)
    for row in found:
        now_ms = min(signs[row[key]]) + int(row["observed_ms"])
        assert before_ms <= now_ms <= after_ms
        wanted = twin.absences(signs[row[key]], ALLOWED_MS, now_ms)
        assert tuple(int(row[f"{name}"]) for name in (f"{words}_ms", f"{words}_times", f"longest_{words}_ms")) == wanted
        assert row["available_percent"] == pytest.approx(100 * (1 - wanted[0] / int(row["observed_ms"])))
    assert len({row[f"{words}_times"] for row in found}) > 1, "all were away equally often"


def test_the_timeline_has_all_of_one_account_in_order_and_nothing_of_another(database: ClickHouse) -> None:
    ((account,),) = database.rows("SELECT account_id FROM hits ORDER BY hit_id LIMIT 1")
    found = view(database, f"account_timeline(account = '{account}', days = 30)")
    assert found == sorted(found, key=lambda row: (row["at"], row["what"], row["reference"]))
    counted = {what: sum(row["what"] == what for row in found) for what in {row["what"] for row in found}}
    sources = {
        "health": "health_events WHERE account_id", "behavior": "behavioral_events WHERE account_id",
        "proxy": "proxy_events WHERE account_id", "platform": "platform_events WHERE account_id",
        "detection": "detection_events WHERE account_id", "hit": "hits_once WHERE account_id",
        "command": "commands WHERE scope", "emergency": "emergencies WHERE scope",
        "answer": "acks WHERE scope", "hold": "holds WHERE scope", "recovery": "recoveries WHERE scope",
    }  # fmt: skip
    wanted = {}
    for what, source in sources.items():
        table, _, column = source.partition(" WHERE ")
        value = account if column == "account_id" else f"account:{account}"
        column = "account_id" if column == "account_id" else "scope"
        ((count,),) = database.rows(f"SELECT count() FROM {table} WHERE {column} = '{value}'")  # noqa: S608  (ours)
        wanted[what] = count
    assert {what: counted.get(what, 0) for what in wanted} == wanted
    assert wanted["hit"] > 0
    assert wanted["health"] > 0
    assert wanted["command"] > 0


def evaluated(database: ClickHouse) -> tuple[list[twin.Evaluated], list[tuple[str, str, str, int]]]:
    rows = database.rows(
        "SELECT evaluation_id, trigger_id, scope, outcome, evaluations, approach_percent, observed, threshold,"  # noqa: S608
        f" {MS}(evaluated_at) FROM evaluations"
    )
    hits = database.rows(f"SELECT hit_id, trigger_id, scope, {MS}(occurred_at) FROM hits")  # noqa: S608
    assert len(rows) > len({row[0] for row in rows}), "nothing is repeated"
    return [tuple(row) for row in rows], [tuple(row) for row in hits]


def test_evaluations_of_triggers_count_each_once(database: ClickHouse) -> None:
    rows, hits = evaluated(database)
    compare(
        database,
        lambda days: f"trigger_evaluations(days = {days})",
        lambda since: twin.trigger_evaluations(twin.evaluated_once(rows, hits, since)),
    )


def test_approaches_of_a_trigger_are_the_nearest_evaluation_of_each_account_without_hours_of_hits(
    database: ClickHouse,
) -> None:
    rows, hits = evaluated(database)
    trigger = "default-suspension-risk"
    compare(
        database,
        lambda days: f"approaches(trigger = '{trigger}', days = {days})",
        lambda since: twin.approaches(twin.evaluated_once(rows, hits, since), hits, trigger),
        shaped=lambda found: [
            {**row, "nearest_at": _ms(row["nearest_at"]), "last_at": _ms(row["last_at"])} for row in found
        ],
    )
    once = twin.evaluated_once(rows, hits, 0)
    found = twin.approaches(once, hits, trigger)
    assert found != twin.approaches(once, [], trigger), "no hit hid one"
    assert any(row["hours"] > 1 and row["nearest_at"] != row["last_at"] for row in found)


def test_approaches_by_trigger_have_each_account_once_where_it_came_nearest(database: ClickHouse) -> None:
    rows, hits = evaluated(database)
    compare(
        database,
        lambda days: f"approaches_by_trigger(days = {days})",
        lambda since: twin.approaches_by_trigger(twin.evaluated_once(rows, hits, since), hits),
    )
    once = twin.evaluated_once(rows, hits, 0)
    assert twin.approaches_by_trigger(once, hits) != twin.approaches_by_trigger(once, []), "no hit hid one"


def _ms(text: str) -> int:
    """``YYYY-MM-DD hh:mm:ss.sss`` as milliseconds since the epoch."""
    whole, _, part = text.partition(".")
    return calendar.timegm(time.strptime(whole, "%Y-%m-%d %H:%M:%S")) * 1000 + int(part)


def test_evaluations_once_are_the_fullest_of_each_id(database: ClickHouse) -> None:
    rows, hits = evaluated(database)
    wanted = {(row[0], *row[3:]) for row in twin.evaluated_once(rows, [], 0)}
    found = database.rows(
        "SELECT evaluation_id, outcome, evaluations, approach_percent, observed, threshold,"  # noqa: S608  (ours)
        f" {MS}(evaluated_at) FROM evaluations_once(days = 30) WHERE outcome != 'hit'"
    )
    assert len(found) == len(wanted) < len(rows)
    assert {tuple(row) for row in found} == wanted
    ((count,),) = database.rows("SELECT count() FROM evaluations_once(days = 30) WHERE outcome = 'hit'")
    assert count == len({hit[0] for hit in hits}) < len(hits)


def test_one_accounts_evaluations_are_found_before_all_are_sorted(database: ClickHouse) -> None:
    """ClickHouse filters before it takes each once only by columns that stand beside the id there."""
    sql = "SELECT * FROM evaluations_once(days = 30) WHERE scope = 'account:acc-000010' AND outcome = 'suppressed'"
    plan = "\n".join(row[0] for row in database.rows(f"EXPLAIN {sql}"))
    assert "Filter" in plan[plan.index("ReadFromMergeTree") :] or "Prewhere" in plan
    above = plan[: plan.index("ReadFromMergeTree")]
    assert "scope = " not in above, plan


def test_counting_evaluations_reads_no_texts_of_ids(database: ClickHouse) -> None:
    for call in ("trigger_evaluations(days = 30)", "approaches_by_trigger(days = 30)"):
        plan = "\n".join(row[0] for row in database.rows(f"EXPLAIN SELECT * FROM {call}"))  # noqa: S608  (ours)
        assert "evaluation_key" in plan
        assert "evaluation_id" not in plan


def test_near_misses_read_a_small_part_of_the_telemetry(database: ClickHouse) -> None:
    answer = database.select("SELECT count() FROM near_misses(days = 30)")
    assert answer["statistics"]["rows_read"] < ROWS // 5
    plan = "\n".join(row[0] for row in database.rows("EXPLAIN indexes = 1 SELECT * FROM near_misses(days = 30)"))
    for projection in ("by_risk_score", "by_health_score", "by_anomaly_score"):
        assert projection in plan


def test_views_are_made_anew_when_their_text_changed_and_only_then(
    database: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert migrations.apply(database, 3_650, None) == ()
    former = migrations.view_script()
    changed = former + "\nCREATE OR REPLACE VIEW another AS SELECT 1 AS one;\n"
    monkeypatch.setattr(migrations, "view_script", lambda: changed)
    (name,) = migrations.apply(database, 3_650, None)
    assert name.startswith("views:")
    assert database.rows("SELECT one FROM another") == [(1,)]
    assert migrations.apply(database, 3_650, None) == ()
    monkeypatch.setattr(migrations, "view_script", lambda: former)
    (back,) = migrations.apply(database, 3_650, None)
    assert back not in {"", name}, "a return to the former views is applied too"


def test_every_section_of_a_report_finds_its_columns_through_the_sinks_query_port(
    database: ClickHouse, tmp_path: Path
) -> None:
    server = QueryServer(0, database.select, database.native, tmp_path)
    server.start()
    try:
        with opened(Settings(data_dir=tmp_path)) as select:
            answers = [ask(select, section, Period(30, ALLOWED_MS, ALLOWED_MS)) for section in SECTIONS]
            with pytest.raises(UnavailableError, match="estop migrate"):
                select("SELECT * FROM no_such_view")
    finally:
        server.stop()
    for answer in answers:
        assert answer.rows, answer.section.key
        assert {column.name for column in answer.section.columns} <= set(answer.rows[0]), answer.section.key
        assert answer.rows_read > 0
    page.render(answers, days=30, made_at="now", cluster="estop")
    out = io.StringIO()
    terminal.show(answers, out)
    assert "nothing in this period" not in out.getvalue()


def test_a_hit_hides_the_hours_that_the_longest_window_and_cooldown_reach_into(database: ClickHouse) -> None:
    """The last test of this file: it adds to the world.

    ::

        hit ├── window: a day ──┼── cooldown: a week ──┤ the hour of a near sample, at the edge of a period of a day
    """
    near_at = int(time.time()) * 1000 - DAY_MS + 300_000
    hour_ms, reach_ms = near_at // HOUR_MS * HOUR_MS, WINDOW_MS_MAX + COOLDOWN_MS_MAX
    watching: dict[str, Any] = {
        "trigger_type": "account_suspension_risk", "account_id": "edge", "thresholds": {"riskScore": 85}, "version": 1,
        "time_window": WINDOW_MS_MAX, "cooldown_period": COOLDOWN_MS_MAX, "is_active": True,
    }  # fmt: skip
    for number, name, hit_at in (0, "reaches-into", hour_ms - reach_ms), (1, "ends-before", hour_ms - reach_ms - 1):
        place = {"_topic": "edge", "_partition": 0, "_offset": number, "_timestamp": hit_at / 1000}
        fired = {"hit_id": name, "trigger_id": name, "account_id": "edge", "occurred_at": hit_at / 1000}
        database.insert_json("triggers", [{**place, **watching, "trigger_id": name}], f"edge:trigger:{name}")
        database.insert_json("hits", [{**place, **fired}], f"edge:hit:{name}")
    sample = {
        "_topic": "edge", "_partition": 0, "_offset": 0, "_timestamp": near_at / 1000, "event_id": "edge",
        "account_id": "edge", "occurred_at": near_at / 1000, "risk_score": 84.0, "health_score": 90.0,
    }  # fmt: skip
    database.insert_json("health_events", [sample], "edge:health")
    told = {row["trigger_id"] for row in view(database, "near_misses(days = 1)") if row["account_id"] == "edge"}
    assert told == {"default-suspension-risk", "ends-before"}
