"""A recorded run and its replay: the hits that a live detector published are exactly those of a backtest."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_tail import CompactedTail, TailRecord
from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.apps.backtest.difference import hangs_on_order
from emergency_stop.apps.backtest.plans import of_the_time, recorded_changes
from emergency_stop.apps.backtest.run import Backtest, Manner
from emergency_stop.apps.backtest.span import Span, map_span
from emergency_stop.apps.demo.witness import Analyst
from emergency_stop.apps.produce.generator import INCIDENTS, TelemetryEvent, TelemetryGenerator
from emergency_stop.apps.sink.query import QueryServer
from emergency_stop.apps.stack.child import Child
from emergency_stop.config import Settings
from emergency_stop.control.cli.main import main
from emergency_stop.control.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_OK
from emergency_stop.control.report.source import opened_reader
from emergency_stop.domain.default_triggers import builtin_triggers, default_definitions
from emergency_stop.domain.messages import AuditRecord, Hit
from emergency_stop.domain.topics import AUDIT, DETECTOR_LOOPS, HITS, QUESTIONS_SPEC, TELEMETRY, TRIGGERS
from emergency_stop.rules.definitions import read_trigger
from emergency_stop.testing.brokers import EmbeddedBroker
from emergency_stop.wire.codec import Codec, encode_record
from emergency_stop.wire.registry import LocalRegistry

pytestmark = pytest.mark.needs("broker", "chdb")

READY_MS, DEADLINE_S = 180_000, 90
NORMAL_EVENTS = 4_000
COMMON: dict[str, Any] = {"cooldownPeriod": 600_000, "stopLevel": "graceful", "priority": 1}
OWN_TRIGGERS: list[dict[str, Any]] = [
    {**COMMON, "triggerId": "two-topics", "triggerType": "custom_rule_trigger",
     "rule": 'avg(health_score, "60s") < 40.0 && count(detection, "5m") >= 2'},
    {**COMMON, "triggerId": "silent", "triggerType": "custom_rule_trigger", "rule": 'absent(behavioral, "2s")',
     "accountId": "acc-quiet"},
    {**COMMON, "triggerId": "everyone", "triggerType": "detection_event_critical", "thresholds": {"eventCount": 50},
     "options": {"minSeverity": "low"}, "timeWindow": 60_000, "across": "accounts"},
    {**COMMON, "triggerId": "jumpy", "triggerType": "behavioral_anomaly_severe", "thresholds": {"anomalyScore": 30},
     "timeWindow": 10_000, "cooldownPeriod": 300},
    {**COMMON, "triggerId": "minutely", "triggerType": "time_based_trigger", "options": {"cron": "* * * * *"},
     "accountId": "acc-cron", "cooldownPeriod": 0},
    {**COMMON, "triggerId": "stricter", "triggerType": "custom_rule_trigger", "rule": 'max(latency_ms, "10s") > 360.0'},
]  # fmt: skip
DETECTOR_INPUTS = {spec.name for spec in (*TELEMETRY, *DETECTOR_LOOPS, QUESTIONS_SPEC)}
ADDED_LATER: dict[str, Any] = {
    **COMMON, "triggerId": "added-later", "triggerType": "custom_rule_trigger", "rule": "last(cpu_percent) > 50.0",
}  # fmt: skip


@dataclass
class Recorded:
    """A broker, a detector and a sink; what is sent to them, and the hits that are published."""

    settings: Settings
    publisher: KafkaPublisher
    detector: Child
    sink: Child
    codec: Codec = field(default_factory=lambda: Codec(LocalRegistry()))
    hits: dict[str, Hit] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    generator: TelemetryGenerator = field(
        default_factory=lambda: TelemetryGenerator(7, [f"acc-{number:03d}" for number in range(60)])
    )

    def take(self, record: TailRecord) -> None:
        hit = self.codec.decode(Hit, record.value)
        self.hits.setdefault(hit.hit_id, hit)

    async def add(self, definition: dict[str, Any]) -> None:
        trigger = read_trigger({"name": "test", **definition}, services=())
        await self.publisher.publish(TRIGGERS, trigger.trigger_id.encode(), self.codec.encode(trigger, TRIGGERS))

    async def send(self, *events: TelemetryEvent) -> None:
        for event in events:
            value = encode_record(event.record, event.fields, LocalRegistry().schema_id(event.record, event.topic))
            self.sent[event.topic] = self.sent.get(event.topic, 0) + 1
            await self.publisher.publish(event.topic, str(event.fields["account_id"]).encode(), value)

    async def normal(self, count: int) -> None:
        for _ in range(count):
            await self.send(self.generator.normal(now_ms()))

    async def incident(self, kind: str, account: str) -> None:
        await self.send(*self.generator.incident(kind, account, now_ms()))

    def fired(self, trigger_id: str, scope: str) -> bool:
        return any((hit.trigger_id, hit.scope) == (trigger_id, scope) for hit in self.hits.values())

    async def until(self, holds: Callable[[], object], what: str) -> None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not await asyncio.to_thread(holds):  # noqa: ASYNC110  (a state to poll, not an event)
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"not within {DEADLINE_S} s: {what}\n{self.detector.log_tail()}\n{self.sink.log_tail()}")

    def metric(self, name: str) -> list[float]:
        """A metric of the detector, by its labels; empty while it does not answer."""
        try:
            with urllib.request.urlopen(f"{self.detector.url}/metrics", timeout=2) as answer:  # noqa: S310  (loopback)
                lines = answer.read().decode().splitlines()
        except OSError:
            return []
        return [float(line.rpartition(" ")[2]) for line in lines if line.split("{")[0].split(" ")[0] == name]

    def seen_until(self) -> float:
        """Up to when everything that was written is applied, ms; 0 where that is not known of every partition."""
        asked_at, ages = now_ms(), self.metric("estop_freshness_seconds")
        topics = [spec for spec in self.settings.topics() if spec.name in DETECTOR_INPUTS]
        return asked_at - 1000 * max(ages) if len(ages) == sum(spec.partitions for spec in topics) else 0

    def stored(self, sql: str) -> int:
        try:
            return int(Analyst(self.settings.data_dir).ask(sql)[0][0])
        except (OSError, ValueError):
            return -1


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The environment of a finished run, whose ClickHouse nobody has open any more, and its hits."""
    folder = tmp_path_factory.mktemp("backtest")
    with EmbeddedBroker(folder) as broker:
        yield asyncio.run(_recorded(broker.bootstrap, folder))


async def _recorded(brokers: str, folder: Path) -> dict[str, Any]:
    started = now_ms()
    settings = Settings(
        brokers=brokers, data_dir=folder / "data", checkpoint_interval_ms=100, trigger_detection_interval_ms=1_000,
        usage_report_ms=0,  # what is stored is counted
    )  # fmt: skip
    async with AsyncExitStack() as stack:
        publisher = KafkaPublisher(brokers, client_id="test")
        await publisher.start()
        stack.push_async_callback(publisher.stop)
        plant = Recorded(
            settings, publisher,
            Child("detector", ["detector"], settings, folder / "detector.log"),
            Child("sink", ["sink"], settings, folder / "sink.log"),
        )  # fmt: skip
        await ensure_topics(brokers, settings.topics())
        for definition in (*default_definitions(), *OWN_TRIGGERS):
            await plant.add(dict(definition))
        tail = CompactedTail(brokers, HITS, plant.take, client_id="test")
        await tail.start()
        stack.push_async_callback(tail.stop)
        for child in (plant.sink, plant.detector):
            child.start()
            stack.push_async_callback(child.stop)
        for child in (plant.sink, plant.detector):
            await child.ready(READY_MS)
        await _telemetry(plant)
        last_sent = now_ms()
        await plant.until(lambda: plant.seen_until() > last_sent, "everything is applied")
        await plant.detector.stop()  # with what it had to publish acknowledged
        whole = CompactedTail(brokers, HITS, plant.take, client_id="test-whole")
        await whole.start()
        stack.push_async_callback(whole.stop)
        await whole.caught_up()
        marked = next(hit for hit in plant.hits.values() if hit.trigger_id == "default-suspension-risk")
        await publisher.publish(AUDIT, marked.hit_id.encode(), plant.codec.encode(_mark(marked), AUDIT))
        await _all_stored(plant)
    environment = {name: value for name, value in settings.as_env().items() if value}
    return {
        "settings": settings, "environment": environment, "hits": plant.hits, "started": started, "marked": marked,
        "sent": plant.sent,
    }  # fmt: skip


async def _telemetry(plant: Recorded) -> None:
    """Incidents of every kind among normal telemetry, through a ``kill -9`` and a trigger that is added meanwhile."""
    await plant.normal(NORMAL_EVENTS // 4)
    for number, kind in enumerate(INCIDENTS):
        await plant.incident(kind, f"bad-{number}")
        await plant.normal(20)
    for _ in range(40):
        usage = {"service": "sessionManager", "host": "hot", "cpu_percent": 99.0, "memory_bytes": 1.0}
        await plant.send(_event("telemetry.system", "sessionManager@hot", **usage, open_connections=1))
    await plant.send(_event("telemetry.behavioral", "acc-quiet", anomaly_score=1.0, pattern="test"))
    await plant.incident("health", "acc-both")
    await plant.until(lambda: plant.fired("default-health-score", "account:acc-both"), "its health, by itself")
    for _ in range(2):
        await plant.send(_event("telemetry.detection", "acc-both", severity="low", detection_type="t", confidence=1.0))
    await plant.until(lambda: plant.fired("two-topics", "account:acc-both"), "a rule over two topics")
    await plant.until(lambda: plant.fired("silent", "account:acc-quiet"), "a silence")
    await plant.normal(NORMAL_EVENTS // 4)
    plant.detector.kill()
    await plant.normal(NORMAL_EVENTS // 4)
    plant.detector.start()
    await plant.detector.ready(READY_MS)
    sent_at = now_ms()
    await plant.until(lambda: plant.seen_until() > sent_at, "what was sent while no detector ran")
    before = sum(plant.metric("estop_triggers"))
    await plant.add(ADDED_LATER)
    await plant.until(lambda: sum(plant.metric("estop_triggers")) == before + 1, "the trigger that was added")
    applied = sum(plant.metric("estop_events_total"))
    await plant.send(_event("telemetry.health", "acc-000", health_score=90.0, risk_score=1.0))
    await plant.until(lambda: sum(plant.metric("estop_events_total")) > applied, "an event under the new triggers")
    await plant.normal(NORMAL_EVENTS // 4)
    await plant.until(lambda: any(hit.trigger_id == "added-later" for hit in plant.hits.values()), "the new trigger")
    await plant.until(lambda: plant.fired("everyone", "global"), "a value over all accounts")


def _event(topic: str, account: str, **fields: Any) -> TelemetryEvent:
    return TelemetryEvent(topic, {"event_id": "e", "account_id": account, "occurred_at": now_ms(), **fields})


def _mark(hit: Hit) -> AuditRecord:
    return AuditRecord(
        audit_id="mark-1", at=now_ms(), actor="test", action="hit_marked", subject=hit.hit_id, reason="it was right",
        correlation_id=hit.correlation_id, after=json.dumps({"mark": "true_positive"}),
    )  # fmt: skip


async def _all_stored(plant: Recorded) -> None:
    """Every event, every hit of it, and the mark."""
    tables = {spec.name: f"{spec.name.removeprefix('telemetry.')}_events" for spec in TELEMETRY}
    for topic, count in plant.sent.items():
        await plant.until(partial(_has_rows, plant, tables[topic], count), f"{count} rows of {topic}")
    await plant.until(lambda: _hits_settled(plant), "every hit is stored")
    await plant.until(lambda: plant.stored("SELECT count() FROM hit_marks") == 1, "the mark is stored")


def _has_rows(plant: Recorded, table: str, count: int) -> bool:
    return plant.stored(f"SELECT count() FROM {table}") == count  # noqa: S608  (ours)


def _hits_settled(plant: Recorded) -> bool:
    return plant.stored("SELECT count() FROM hits_once") == len(plant.hits)


def backtest(
    run: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, Any]:
    for name, value in run["environment"].items():
        monkeypatch.setenv(name, value)
    code = main(["triggers", "backtest", "--json", "--until", "0s", *arguments])
    out = capsys.readouterr()
    return code, json.loads(out.out) if out.out else out.err


def test_a_replay_gives_exactly_the_hits_of_the_run(
    run: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = backtest(run, monkeypatch, capsys, "--since", "1h", "--compare")
    difference = told["compare"]
    assert (difference["missing"], difference["extra"], difference["changed"]) == ([], [], [])
    assert difference["equal"] == told["hits"] == len(run["hits"])
    assert code == EXIT_OK
    assert told["events"] == sum(run["sent"].values())
    assert not told["made_ticks"]
    assert not told["made_parts"]
    fired = {one["trigger_id"] for one in told["triggers"] if one["hits"]}
    # A minute may or may not begin within the run; a schedule's hits are compared either way.
    assert {one["triggerId"] for one in [*OWN_TRIGGERS, ADDED_LATER]} - {"minutely"} <= fired
    assert {one["trigger_id"] for one in default_definitions()} - fired == {"default-activity"}
    assert sum(one["suppressed"] for one in told["triggers"]) > 0
    assert sum(one["hits"] for one in told["accounts"]) == told["hits"]
    ((mark,),) = [[one for one in told["triggers"] if one["trigger_id"] == run["marked"].trigger_id]]
    assert (mark["true_positives"], mark["precision_percent"], mark["incidents_found"]) == (1, 100.0, 1)


def test_a_replay_of_the_second_half_gives_the_hits_of_the_second_half(
    run: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is before fills windows and cooldowns, and no more."""
    middle = sorted(hit.occurred_at for hit in run["hits"].values())[len(run["hits"]) // 2]
    since = datetime.fromtimestamp(middle / 1000, UTC).isoformat()
    code, told = backtest(run, monkeypatch, capsys, "--since", since, "--compare", "--hits")
    assert code == EXIT_OK, told["compare"]
    assert 0 < told["hits"] < len(run["hits"])
    assert told["hits"] == told["compare"]["equal"]
    assert 0 < told["warm_up_events"] < told["events"]
    assert {one["hit_id"] for one in told["all_hits"]} < set(run["hits"])


def test_small_slices_give_the_same_hits(run: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data_dir=run["settings"].data_dir)
    builtin = builtin_triggers(settings.preventive_stop_level)
    found = []
    with opened_reader(settings) as reader:
        changes = recorded_changes(reader, now_ms())
        where = map_span(reader, Span(run["started"], now_ms(), 10_000))
        for rows in (2**40, 500, 30):
            manner = Manner(enforcing=True, interval_ms=1_000, as_recorded=True, slice_rows=rows)
            plans = of_the_time(changes, builtin, run["started"])
            outcome = Backtest(reader, where, plans, manner).run()
            found.append({hit.hit_id: hit for hit in outcome.hits})
    assert found[0].keys() == found[1].keys() == found[2].keys() == run["hits"].keys()
    # What hits tell of the order between topics is heeded within a slice.
    own = [{name: hit for name, hit in hits.items() if not hangs_on_order(hit)} for hits in found]
    assert own[0] == own[1] == own[2]
    assert len(own[0]) == len(run["hits"]) - 2, "all but the rule over two topics, and the silence"
    assert len(where.slices(30)) > 10


@contextmanager
def changed_hits(data_dir: Path, gone: str, changed: str) -> Iterator[None]:
    """The table without one hit, with another one changed and once more under another id; put right at the end."""

    def run_all(*statements: str) -> None:
        database = ClickHouse(None, data_dir)
        try:
            for one in statements:
                database.command(one)
        finally:
            database.close()

    again = "SETTINGS insert_deduplicate = 0"
    run_all(
        "CREATE TABLE kept AS hits",
        f"INSERT INTO kept SELECT * FROM hits {again}",  # noqa: S608  (ours)
        "TRUNCATE TABLE hits",
        f"INSERT INTO hits SELECT * REPLACE (if(hit_id = '{changed}', observed + 1, observed) AS observed)"  # noqa: S608  (ours)
        f" FROM kept WHERE hit_id != '{gone}' {again}",
        f"INSERT INTO hits SELECT * REPLACE ('made-up' AS hit_id) FROM kept AS one"  # noqa: S608  (ours)
        f" WHERE one.hit_id = '{changed}' {again}",
    )
    try:
        yield
    finally:
        run_all("TRUNCATE TABLE hits", f"INSERT INTO hits SELECT * FROM kept {again}", "DROP TABLE kept")  # noqa: S608  (ours)


def test_what_was_changed_on_record_is_found(
    run: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A hit that is gone, one that is new, and one that says something else."""
    gone, changed, _ = sorted(run["hits"])[:3]
    with changed_hits(run["settings"].data_dir, gone, changed):
        code, told = backtest(run, monkeypatch, capsys, "--since", "1h", "--compare")
    assert code == EXIT_FAILED
    assert [hit["hit_id"] for hit in told["compare"]["missing"]] == ["made-up"]
    assert [hit["hit_id"] for hit in told["compare"]["extra"]] == [gone]
    assert told["compare"]["changed"] == [{"hit_id": changed, "fields": ["observed"]}]
    assert told["compare"]["equal"] == len(run["hits"]) - 2


def test_a_sweep_is_each_of_its_values_tried_alone(
    run: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Two thresholds, one of a condition over all accounts; scored by a file of outcomes."""
    outcomes = tmp_path / "outcomes.csv"
    risky = run["marked"]
    outcomes.write_text(
        "account,from,to,outcome\n"
        f"{risky.account_id},{risky.occurred_at - 1000},{risky.occurred_at + 1000},true_positive\n"
        f"nobody,{risky.occurred_at},{risky.occurred_at},true_positive\n"
    )
    arguments = ("--since", "1h", "--trigger", "jumpy", "--sweep", "anomalyScore=20:60:10")
    code, told = backtest(run, monkeypatch, capsys, *arguments)
    assert code == EXIT_OK
    swept = {one["values"]["anomalyScore"]: one["hits"] for one in told["triggers"]}
    assert list(swept) == [20.0, 30.0, 40.0, 50.0, 60.0]
    assert swept[30.0] == sum(hit.trigger_id == "jumpy" for hit in run["hits"].values())
    for value, hits in swept.items():
        definition = next(one for one in OWN_TRIGGERS if one["triggerId"] == "jumpy")
        file = tmp_path / "one.json"
        file.write_text(json.dumps(definition | {"name": "one", "thresholds": {"anomalyScore": value}}))
        _, alone = backtest(run, monkeypatch, capsys, str(file), "--since", "1h", "--trigger", "jumpy")
        assert alone["hits"] == hits, value
    arguments = ("--since", "1h", "--trigger", risky.trigger_id, "--sweep", "riskScore=10:99:89")
    _, told = backtest(run, monkeypatch, capsys, *arguments, "--outcomes", str(outcomes))
    low, high = told["triggers"]
    assert (low["true_positives"], low["incidents_found"], low["incidents"]) == (1, 1, 2)
    assert low["unmarked"] == low["hits"] - 1 > 0
    assert (high["values"], high["hits"], high["incidents_found"]) == ({"riskScore": 99.0}, 0, 0)


def test_a_file_is_compared_by_what_fired_for_whom_and_when(
    run: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "as-they-were.yaml"
    alone = [one for one in default_definitions() if one["trigger_id"] != "default-activity"]
    file.write_text(yaml.safe_dump(alone))
    chosen = [word for one in alone for word in ("--trigger", one["trigger_id"])]
    code, told = backtest(run, monkeypatch, capsys, str(file), "--since", "1h", "--compare", *chosen)
    assert code == EXIT_OK, told["compare"]
    assert told["compare"]["equal"] == told["hits"] > 8


def test_while_a_sink_has_chdb_open_it_is_asked(
    run: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    database = ClickHouse(None, run["settings"].data_dir)
    server = QueryServer(0, database.select, database.native, run["settings"].data_dir)
    server.start()
    try:
        code, told = backtest(run, monkeypatch, capsys, "--since", "1h", "--compare")
    finally:
        server.stop()
        database.close()
    assert code == EXIT_OK
    assert told["compare"]["equal"] == len(run["hits"])


def test_tables_for_people(
    run: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in run["environment"].items():
        monkeypatch.setenv(name, value)
    assert main(["triggers", "backtest", "--since", "1h", "--until", "0s", "--compare", "--hits"]) == EXIT_OK
    told = capsys.readouterr()
    assert f"{len(run['hits'])} hits are those on record; missing 0, extra 0, changed 0" in told.out
    assert "highest risk_score" in told.out
    assert "a second)" in told.err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--trigger", "jumpi"], "'jumpi' (did you mean 'jumpy'?)"),
        (["--sweep", "anomalyscore=1:2:1"], "did you mean 'anomalyScore'?"),
        (["--sweep", "anomalyScore=60:20:5"], "write NAME=LOW:HIGH:STEP"),
        (["--sweep", "anomalyScore=0:100:0.1"], "allowed: 500"),
        (["--sweep", "anomalyScore=90:110:10"], "is out of range; allowed: from 0 to 100"),
        (["--sweep", "eventCount=1:2:0.5", "--trigger", "everyone"], "allowed: whole numbers from 1 to"),
        (["--sweep", "anomalyScore=1:2:1", "--compare"], "give one of them"),
        (["--since", "1h", "--until", "2h"], "--until lies before --since"),
        (["no-such-file.yaml"], "no-such-file.yaml is not readable"),
        (["--outcomes", "no-such-file.csv"], "cannot be read"),
        (["--warm-up", "2026-12-01T22:00:00Z"], "give a duration"),
    ],
)
def test_what_cannot_be_replayed_is_refused_with_what_can(
    run: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], complaint: str,
) -> None:  # fmt: skip
    code, told = backtest(run, monkeypatch, capsys, *arguments)
    assert code == EXIT_BAD_INPUT
    assert complaint in told
