"""The coordinator as its worker sees it: record batches in, signed records out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from prometheus_client import CollectorRegistry

from emergency_stop.apps.coordinator_core import CoordinatorCore, home_partition
from emergency_stop.apps.coordinator_metrics import CoordinatorCollector, CoordinatorMetrics
from emergency_stop.apps.lane_partition import LaneCounters
from emergency_stop.apps.service_book import HoldBook, ServiceBook
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.coordinate.blast import BlastLimits, RecentStops
from emergency_stop.coordinate.blast_watch import BlastWatch
from emergency_stop.coordinate.blind_watch import BlindWatch, View
from emergency_stop.coordinate.blindness import Sight, Watchers
from emergency_stop.coordinate.published import PublishedHolds
from emergency_stop.coordinate.state import Policy
from emergency_stop.domain import topics
from emergency_stop.domain.messages import (
    Ack,
    AuditRecord,
    Command,
    Emergency,
    Hit,
    Hold,
    HoldCause,
    Lifecycle,
    Notice,
    Request,
)
from emergency_stop.domain.values import AckState, HoldState, StopLevel
from emergency_stop.ports import Publish, RecordingCore
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from emergency_stop.wire.signing import SignatureVerdict, Signer, Verifier
from tests.unit.coordinate.scenario import ack, hit, instance, request, resume
from tests.unit.coordinate.test_blindness import trigger

PARTITIONS = 4
SCOPE = "account:a"
HOME = home_partition(SCOPE, PARTITIONS)
SERVICES = ("x", "y")


def taken(core: CoordinatorCore) -> list[tuple[bytes, bytes | None]]:
    return [record for records in core.take_dirty() for record in records]


class Bench:
    """One core, its keys and its counters."""

    def __init__(self, published: PublishedHolds | None = None, partitions: int = PARTITIONS) -> None:
        self.codec = Codec(LocalRegistry())
        self.signer = Signer.generate()
        self.counters = CollectorRegistry()
        book = ServiceBook(SERVICES, self.codec)
        for service in SERVICES:
            book.record(service.encode(), self.codec.encode(instance(service), topics.SERVICES))
        metrics = CoordinatorMetrics(self.counters)

        def make(
            watch: BlindWatch | None = None, view: Callable[[], View] | None = None,
            blast: BlastWatch | None = None, scope: str = SCOPE,
        ) -> CoordinatorCore:  # fmt: skip
            return CoordinatorCore(
                partition=home_partition(scope, partitions),
                partitions=partitions,
                policy=Policy(),
                book=book,
                published=published or PublishedHolds(),
                codec=self.codec,
                signer=self.signer,
                metrics=metrics,
                watch=watch,
                view=view,
                blast=blast,
            )

        self.make = make
        self.core = make()

    def value(self, message: Hit | Request | Ack) -> bytes:
        return self.codec.encode(message, "any")

    def batch(self, topic: str, *values: bytes | None, at: int = 0, fetch_offset: int | None = None) -> FetchedBatch:
        builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
        for number, value in enumerate(values):
            builder.append(number, 0, SCOPE.encode(), value, [])
        raw = bytearray(builder.build())
        raw[0:8] = at.to_bytes(8, "big")
        start, end = at if fetch_offset is None else fetch_offset, at + len(values)
        return FetchedBatch(topic, HOME, start, end, (bytes(raw),))

    def hear(self, topic: str, *values: bytes | None, **where: Any) -> list[Publish]:
        """One batch and the checkpoint after it: everything that is published."""
        effects = list(self.core.on_batch(self.batch(topic, *values, **where), 1_000))
        taken(self.core)
        return effects + list(self.core.on_durable())

    def read(self, kind: type[Any], records: list[Publish], prefix: str) -> list[Any]:
        return [self.codec.decode(kind, record.value) for record in records if record.topic.startswith(prefix)]

    def count(self, name: str, **labels: str) -> float:
        return self.counters.get_sample_value(name, labels) or 0.0


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_hit_gives_signed_records_on_their_topics(bench: Bench) -> None:
    records = bench.hear(topics.HITS, bench.value(hit()))
    assert (records[0].topic, records[0].key) == (topics.HOLDS, SCOPE.encode())
    assert {r.topic for r in records} == {
        topics.HOLDS, topics.AUDIT, topics.EMERGENCIES, topics.LIFECYCLE, "estop.commands.x", "estop.commands.y",
    }  # fmt: skip
    trusted = Verifier([bench.signer.public_key])
    signed = bench.read(Hold, records, topics.HOLDS) + bench.read(Command, records, topics.COMMANDS_PREFIX)
    assert {trusted.verify(message) for message in signed} == {SignatureVerdict.VALID}
    (emergency,) = bench.read(Emergency, records, topics.EMERGENCIES)
    keys = {record.key for record in records if record.topic == topics.EMERGENCIES}
    assert keys == {emergency.emergency_id.encode()}, "compacted: the newest account of each emergency stands"


def test_nothing_that_was_decided_is_published_before_it_is_on_record(bench: Bench) -> None:
    assert isinstance(bench.core, RecordingCore)
    assert list(bench.core.on_batch(bench.batch(topics.HITS, bench.value(hit())), 1_000)) == []
    assert list(bench.core.on_durable()) == []
    taken(bench.core)
    assert bench.core.on_durable()


def test_bad_records_are_counted_and_their_neighbours_unharmed(bench: Bench) -> None:
    good = bench.value(hit())
    bad = (None, b"", b"\0\0\0\0\7", b"\1" + good[1:], good[:-1], b"\0\xff\xff\xff\xff")
    records = bench.hear(topics.HITS, *bad, good)
    assert len(bench.read(Hold, records, topics.HOLDS)) == 1
    assert bench.count("estop_coordinator_undecodable_total", topic=topics.HITS) == 6


def test_records_that_were_applied_are_skipped(bench: Bench) -> None:
    bench.core.restore([], {topics.HITS: 12})
    values = [bench.value(hit(f"h{n}", trigger_id=f"t{n}")) for n in range(4)]
    (hold,) = bench.read(Hold, bench.hear(topics.HITS, *values, at=10), topics.HOLDS)
    assert [cause.epoch for cause in hold.causes] == [1, 2]


def test_a_restored_core_repeats_what_was_decided_and_no_more() -> None:
    first, second = Bench(), Bench()
    first.core.on_batch(first.batch(topics.HITS, first.value(hit())), 1_000)
    state = [(key, value) for key, value in taken(first.core) if value is not None]
    second.core.restore(state, {})
    assert second.core.next_deadline() == 0
    second.core.on_tick(2_000)
    again, before = list(second.core.on_durable()), list(first.core.on_durable())
    evaluated = [record for record in before if record.topic == topics.LIFECYCLE][:1]
    assert [(r.topic, r.key) for r in again] == [(r.topic, r.key) for r in before if r is not evaluated[0]]
    assert second.hear(topics.HITS, second.value(hit())) == evaluated, "of the hit, which comes again"
    assert second.hear(topics.HITS, second.value(hit()), at=1) == []


def test_a_record_of_another_partition_is_forwarded_under_its_scope(bench: Bench) -> None:
    stray = next(f"account:{n}" for n in range(99) if home_partition(f"account:{n}", PARTITIONS) != HOME)
    value = bench.value(request(scope=stray))
    assert bench.hear(topics.REQUESTS, value) == [Publish(topics.REQUESTS, stray.encode(), value)]


@pytest.mark.parametrize(
    ("topic", "message", "why"),
    [
        (topics.REQUESTS, request(scope="account-123"), "RefusedMessageError"),
        (topics.ACKS, None, "UnknownEmergencyError"),
    ],
)
def test_what_does_not_fit_is_counted_and_put_on_record(topic: str, message: Request | None, why: str) -> None:
    bench = Bench(partitions=1)
    command = bench.read(Command, bench.hear(topics.HITS, bench.value(hit())), topics.COMMANDS_PREFIX)[0]
    sent = message or ack(command, AckState.STOPPED, emergency_id="e9")
    notes = bench.read(AuditRecord, bench.hear(topic, bench.value(sent)), topics.AUDIT)
    assert [note.action for note in notes] == [f"{type(sent).__name__.lower()}_refused"]
    assert bench.count("estop_coordinator_refused_total", reason=why) == 1


def test_of_a_scopes_holds_in_one_moment_only_the_newest_is_published(bench: Bench) -> None:
    stop = request("r1", scope=SCOPE, level=StopLevel.IMMEDIATE)
    bench.core.on_batch(bench.batch(topics.HITS, bench.value(hit())), 1_000)
    messages = [stop, resume("r2", 2), request("r3", scope=SCOPE)]
    records = bench.hear(topics.REQUESTS, *map(bench.value, messages))
    assert [hold.epoch for hold in bench.read(Hold, records, topics.HOLDS)] == [4]


def test_what_shuts_gates_goes_first_whichever_scope_it_is_of(bench: Bench) -> None:
    """::

    decided     hold a, commands a, account a, ...   hold b, commands b, account b, ...
    published   hold a, hold b, then the rest in its order
    """
    others = (f"account:{n}" for n in range(99))
    other = next(scope for scope in others if home_partition(scope, PARTITIONS) == HOME)
    records = bench.hear(topics.HITS, bench.value(hit()), bench.value(hit("h2", scope=other)))
    assert [(r.topic, r.key) for r in records[:2]] == [(topics.HOLDS, SCOPE.encode()), (topics.HOLDS, other.encode())]
    assert topics.HOLDS not in {r.topic for r in records[2:]}
    rest = [r.topic for r in records[2:] if r.topic.startswith(topics.COMMANDS_PREFIX)]
    assert rest == ["estop.commands.x", "estop.commands.y"] * 2


def test_proofs_are_measured(bench: Bench) -> None:
    commands = bench.read(Command, bench.hear(topics.HITS, bench.value(hit(occurred_at=500))), topics.COMMANDS_PREFIX)
    bench.hear(topics.ACKS, *(bench.value(ack(command, AckState.STOPPED, at=900)) for command in commands))
    assert bench.count("estop_time_to_stop_seconds_sum", level="graceful") == pytest.approx(0.4)
    assert bench.count("estop_acks_total", service="x", state="stopped") == 1


def test_epochs_go_on_from_what_was_published() -> None:
    book = HoldBook(Codec(LocalRegistry()))
    bench = Bench(book.published)
    (hold,) = bench.read(Hold, bench.hear(topics.HITS, bench.value(hit())), topics.HOLDS)
    for value in (bench.codec.encode(hold, topics.HOLDS), b"garbage", None):
        book.record(value)
    assert book.published.epochs == {SCOPE: 1}


def test_a_hold_that_an_older_record_overtook_is_said_again_by_its_owner_alone() -> None:
    published = PublishedHolds()
    bench = Bench(published)
    (held,) = bench.read(Hold, bench.hear(topics.HITS, bench.value(hit())), topics.HOLDS)
    stray = next(scope for scope in map("account:{}".format, range(99)) if home_partition(scope, PARTITIONS) != HOME)
    for scope in (SCOPE, stray):
        published.take(dataclasses.replace(held, scope=scope))
        published.take(dataclasses.replace(held, scope=scope, epoch=0, state=HoldState.RUNNING, level=None, causes=()))
    assert bench.core.next_deadline() == 0
    bench.core.on_tick(50)
    taken(bench.core)
    (again,) = bench.read(Hold, [*bench.core.on_durable()], topics.HOLDS)
    assert (again.scope, again.epoch, again.causes) == (SCOPE, held.epoch, held.causes)
    assert bench.core.next_deadline() != 0


def test_a_blind_partitions_causes_are_hits_under_their_scopes_and_survive_a_restart() -> None:
    """The scopes of a coordinator and the sight of its telemetry lie side by side in its state."""
    bench = Bench()
    sights = {2: Sight(900, 1_000)}

    def core() -> CoordinatorCore:
        watch = BlindWatch([2], 30_000)
        return bench.make(watch, lambda: View(sights, Watchers((trigger("one", "acc-1"), trigger("all")))))

    first = core()
    assert first.next_deadline() == 31_001
    assert list(first.on_tick(41_000)) == []
    first.on_batch(bench.batch(topics.HITS, bench.value(hit("h1"))), 41_000)
    records = taken(first)
    sent = first.on_durable()
    raised = [(one.topic, one.key) for one in sent if one.topic in (topics.HITS, topics.AUDIT)]
    assert (topics.HITS, b"account:acc-1") in raised
    assert (topics.HITS, b"global") in raised
    assert bench.count("estop_blindness_total", what="partition_blind") == 1

    second = core()
    second.restore([(key, value) for key, value in records if value is not None], {})
    second.on_tick(50_000)
    taken(second)
    repeated = [one for one in second.on_durable() if one.topic == topics.HITS]
    assert repeated == [one for one in sent if one.topic == topics.HITS]
    assert second.coordinator.state(SCOPE) == first.coordinator.state(SCOPE)


def many_stops() -> RecentStops:
    stops = RecentStops(60_000)
    for number in range(20):
        cause = HoldCause(f"e{number}", StopLevel.GRACEFUL, ("all",), "why", 1, "t1")
        stops.take(Hold(f"account:{number}", 1, HoldState.HELD, StopLevel.GRACEFUL, (cause,), "why", 1_000))
    return stops


def test_a_common_cause_is_raised_at_home_of_everything_and_nowhere_else() -> None:
    bench = Bench()
    assert home_partition("global", PARTITIONS) != HOME
    elsewhere = bench.make(blast=BlastWatch(BlastLimits(), many_stops()))
    elsewhere.on_tick(2_000)
    taken(elsewhere)
    assert list(elsewhere.on_durable()) == []

    core = bench.make(blast=BlastWatch(BlastLimits(), many_stops()), scope="global")
    assert core.next_deadline() is not None
    core.on_tick(2_000)
    records = taken(core)
    sent = list(core.on_durable())
    assert [(one.topic, one.key) for one in sent if one.topic == topics.HITS] == [(topics.HITS, b"global")]
    assert len(bench.read(Notice, sent, topics.NOTICES)) == 1
    assert bench.count("estop_common_causes_total", what="common_cause_raised") == 1

    second = bench.make(blast=BlastWatch(BlastLimits(), many_stops()), scope="global")
    second.restore([(key, value) for key, value in records if value is not None], {})
    second.on_tick(3_000)
    taken(second)
    assert list(second.on_durable()) == sent


def test_what_happened_is_told_last_and_once() -> None:
    bench = Bench()
    first = bench.hear(topics.HITS, bench.value(hit()), bench.value(hit("h2")))
    told = bench.read(Lifecycle, first, topics.LIFECYCLE)
    assert [one.event.value for one in told] == ["triggerEvaluated", "triggerEvaluated", "emergencyStarted"]
    assert {record.topic for record in first[-3:]} == {topics.LIFECYCLE}
    again: list[Publish] = []
    for command in bench.read(Command, first, topics.COMMANDS_PREFIX):
        again += bench.hear(
            topics.ACKS, bench.value(ack(command, AckState.STOPPED)), at=bench.core._positions.get(topics.ACKS, 0)
        )
    events = [one.event.value for one in bench.read(Lifecycle, again, topics.LIFECYCLE)]
    assert events == ["serviceStopAttempted", "serviceStopAttempted", "emergencyCompleted"]


def test_a_common_cause_shows_in_the_metrics_of_the_home_of_everything_alone() -> None:
    bench = Bench()

    def shown(core: CoordinatorCore) -> list[float]:
        worker: Any = SimpleNamespace(counters=LaneCounters(), position=lambda _topic, _partition: 0)
        families = CoordinatorCollector(worker, {0: core}).collect()
        return [sample.value for one in families if one.name == "estop_common_cause" for sample in one.samples]

    assert shown(bench.make(blast=BlastWatch(BlastLimits(), many_stops()))) == []
    core = bench.make(blast=BlastWatch(BlastLimits(), many_stops()), scope="global")
    assert shown(core) == [0.0]
    core.on_tick(2_000)
    assert shown(core) == [1.0]
