"""The coordinator as its worker sees it: record batches in, signed records out."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from prometheus_client import CollectorRegistry

from emergency_stop.apps.coordinator_core import CoordinatorCore, home_partition
from emergency_stop.apps.coordinator_cores import blast_watch
from emergency_stop.apps.coordinator_metrics import CoordinatorCollector, CoordinatorMetrics
from emergency_stop.apps.coordinator_watches import Watches
from emergency_stop.apps.lane_partition import LaneCounters
from emergency_stop.apps.service_book import HoldBook, ServiceBook
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.coordinate.blast import BlastLimits, RecentStops
from emergency_stop.coordinate.blind_watch import BlindWatch, View
from emergency_stop.coordinate.blindness import Sight, Watchers
from emergency_stop.coordinate.leases import Attendance, LeaseTurns
from emergency_stop.coordinate.published import PublishedHolds
from emergency_stop.coordinate.snapshot import read_scope, scope_key, scope_record
from emergency_stop.coordinate.state import Policy, ScopeState
from emergency_stop.domain import topics
from emergency_stop.domain.messages import (
    Ack,
    AuditRecord,
    Command,
    ConditionAnswer,
    ConditionQuestion,
    Emergency,
    Hit,
    Hold,
    HoldCause,
    Lease,
    Lifecycle,
    Notice,
    Recovery,
    Request,
)
from emergency_stop.domain.values import (
    AckState,
    Action,
    ConditionState,
    HoldState,
    RecoveryOutcome,
    StopLevel,
)
from emergency_stop.ports import Publish, RecordingCore
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry, UnknownSchemaError
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
        self.published = published or PublishedHolds()

        def make(watches: Watches | None = None, scope: str = SCOPE) -> CoordinatorCore:
            return CoordinatorCore(
                partition=home_partition(scope, partitions),
                partitions=partitions,
                policy=Policy(),
                book=book,
                published=self.published,
                codec=self.codec,
                signer=self.signer,
                metrics=metrics,
                watches=watches,
                question_partitions=3,
            )

        self.make = make
        self.core = make()

    def value(self, message: Hit | Request | Ack | ConditionAnswer) -> bytes:
        return self.codec.encode(message, "any")

    def batch(self, topic: str, *values: bytes | None, at: int = 0, fetch_offset: int | None = None) -> FetchedBatch:
        builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
        for number, value in enumerate(values):
            builder.append(number, 0, SCOPE.encode(), value, [])
        raw = bytearray(builder.build())
        raw[0:8] = at.to_bytes(8, "big")
        start, end = at if fetch_offset is None else fetch_offset, at + len(values)
        return FetchedBatch(topic, HOME, start, end, (bytes(raw),))

    def sent(self, topic: str, *values: bytes | None, **where: Any) -> list[Publish]:
        """One batch and the checkpoint after it: everything that is published."""
        effects = list(self.core.on_batch(self.batch(topic, *values, **where), 1_000))
        taken(self.core)
        return effects + list(self.core.on_durable()) + list(self.core.on_published())

    def hear(self, topic: str, *values: bytes | None, **where: Any) -> list[Publish]:
        """As ``sent``, and the holds are read back."""
        sent = self.sent(topic, *values, **where)
        for hold in self.read(Hold, sent, topics.HOLDS):
            self.published.take(hold)
        return sent

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
        topics.HOLDS, topics.AUDIT, topics.EMERGENCIES, "estop.commands.x", "estop.commands.y", topics.NOTICES,
        topics.LIFECYCLE,
    }  # fmt: skip
    told = [record.topic in (topics.NOTICES, topics.LIFECYCLE) for record in records]
    assert told == sorted(told), "people and subscribers are told last"
    trusted = Verifier([bench.signer.public_key])
    signed = bench.read(Hold, records, topics.HOLDS) + bench.read(Command, records, topics.COMMANDS_PREFIX)
    assert {trusted.verify(message) for message in signed} == {SignatureVerdict.VALID}
    (emergency,) = bench.read(Emergency, records, topics.EMERGENCIES)
    keys = {record.key for record in records if record.topic == topics.EMERGENCIES}
    assert keys == {emergency.emergency_id.encode()}, "compacted: the newest account of each emergency stands"


def test_a_stop_goes_out_though_nobody_can_be_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_effects: object) -> list[object]:
        raise UnknownSchemaError("no schema for notices")

    monkeypatch.setattr("emergency_stop.apps.coordinator_telling.notices_of", fails)
    records = bench.hear(topics.HITS, bench.value(hit()))
    assert [record.topic for record in records if record.topic == topics.NOTICES] == []
    assert len(bench.read(Command, records, topics.COMMANDS_PREFIX)) == len(SERVICES)
    assert bench.count("estop_telling_failed_total", topic=topics.NOTICES) > 0


def test_people_are_told_behind_the_commands_and_once(bench: Bench) -> None:
    bench.core.on_batch(bench.batch(topics.HITS, bench.value(hit())), 1_000)
    taken(bench.core)
    assert topics.NOTICES not in {record.topic for record in bench.core.on_durable()}
    told = [record.topic for record in bench.core.on_published()]
    assert told == [topics.NOTICES, topics.LIFECYCLE, topics.LIFECYCLE], "the hit, and what it led to"
    assert list(bench.core.on_published()) == []


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


def test_a_damaged_batch_is_counted_and_a_stop_behind_it_is_carried_out(bench: Bench) -> None:
    good = bench.batch(topics.HITS, bench.value(hit()))
    broken = bytearray(good.batches[0])
    broken[22] |= 1  # it says that it is compressed, and is not
    records = list(bench.core.on_batch(dataclasses.replace(good, batches=(bytes(broken), *good.batches)), 1_000))
    taken(bench.core)
    assert len(bench.read(Hold, [*records, *bench.core.on_durable()], topics.HOLDS)) == 1
    assert bench.count("estop_coordinator_undecodable_total", topic=topics.HITS) == 1


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
    assert [(r.topic, r.key) for r in again] == [(r.topic, r.key) for r in before]
    told = list(second.core.on_published())
    evaluated, rest = list[Publish](), list[Publish]()
    for record in first.core.on_published():
        is_of_hit = record.topic == topics.LIFECYCLE and not evaluated
        (evaluated if is_of_hit else rest).append(record)
    assert told == rest, "people recognise what they are told again"
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


def test_only_a_record_with_a_good_signature_under_its_own_key_counts_as_published() -> None:
    codec, signer, other = Codec(LocalRegistry()), Signer.generate(), Signer.generate()
    hold = Hold(SCOPE, 3, HoldState.HELD, StopLevel.GRACEFUL, (), "held", 0)
    free = dataclasses.replace(hold, epoch=9, state=HoldState.RUNNING, level=None)
    elsewhere = codec.encode(signer.sign(dataclasses.replace(hold, scope="account:b")), topics.HOLDS)
    for value in (
        codec.encode(free, topics.HOLDS),
        codec.encode(other.sign(free), topics.HOLDS),
        codec.encode(dataclasses.replace(signer.sign(free), epoch=10), topics.HOLDS),
        elsewhere,
        b"garbage",
        None,
    ):
        book = HoldBook(codec, verifier=Verifier([signer.public_key]))
        book.published.decided(hold, b"")
        book.record(codec.encode(signer.sign(hold), topics.HOLDS), SCOPE.encode())
        assert book.published.has(SCOPE, 3)
        book.record(value, SCOPE.encode())
        assert not book.published.has(SCOPE, 3), value
        assert set(book.published.overtaken) == {SCOPE}, value
    trusting = HoldBook(codec)
    trusting.record(codec.encode(hold, topics.HOLDS), SCOPE.encode())
    assert trusting.published.has(SCOPE, 3), "where no keys are configured nothing is verified"


def test_a_coordinator_knows_its_own_record_whose_key_nobody_trusts() -> None:
    """Else it would say it again for ever."""
    book = HoldBook(Codec(LocalRegistry()), verifier=Verifier([Signer.generate().public_key]))
    bench = Bench(book.published)
    (record,) = [one for one in bench.sent(topics.HITS, bench.value(hit())) if one.topic == topics.HOLDS]
    book.record(record.value, record.key)
    assert book.published.has(SCOPE, 1)
    assert book.published.overtaken == {}


def test_a_successor_recognises_what_its_predecessor_published() -> None:
    """Through its state and through the topic alike: else it would say everything again."""
    first, book = Bench(), HoldBook(Codec(LocalRegistry()))
    kept: dict[bytes, bytes | None] = {}
    for number, value in enumerate((hit("h1"), hit("h2", trigger_id="t2", target_services=("x",)))):
        sent = first.sent(topics.HITS, first.value(value), at=number)
        for record in sent:
            if record.topic == topics.HOLDS:
                book.record(record.value, record.key)
    first.core.on_batch(first.batch(topics.HITS, first.value(hit("h2")), at=2), 1_000)
    kept.update(taken(first.core))
    second = Bench(book.published)
    second.core.restore([(key, value) for key, value in kept.items() if value is not None], {})
    assert second.core.coordinator.state(SCOPE).epoch == 2
    assert book.published.has(SCOPE, 2)
    assert book.published.overtaken == {}


def test_a_successor_says_again_what_a_forged_lifting_hides() -> None:
    """The forged record is all that compaction has left of the scope."""
    signer = Signer.generate()
    first = Bench()
    kept: dict[bytes, bytes | None] = {}
    first.core.on_batch(first.batch(topics.HITS, first.value(hit())), 1_000)
    kept.update(taken(first.core))
    first.core.on_durable()
    book = HoldBook(first.codec, verifier=Verifier([signer.public_key]))
    forged = Hold(SCOPE, 2, HoldState.RUNNING, None, (), "all is well", 0)
    book.record(first.codec.encode(forged, topics.HOLDS), SCOPE.encode())
    second = Bench(book.published)
    second.core.restore([(key, value) for key, value in kept.items() if value is not None], {})
    second.core.on_tick(5_000)
    taken(second.core)
    *_, again = second.read(Hold, [*second.core.on_durable()], topics.HOLDS)
    assert (again.state, again.epoch) == (HoldState.HELD, 3)


def test_a_hold_that_an_older_record_overtook_is_said_again_by_its_owner_alone() -> None:
    published = PublishedHolds()
    bench = Bench(published)
    (held,) = bench.read(Hold, bench.hear(topics.HITS, bench.value(hit())), topics.HOLDS)
    stray = next(scope for scope in map("account:{}".format, range(99)) if home_partition(scope, PARTITIONS) != HOME)
    for scope in (SCOPE, stray):
        published.take(dataclasses.replace(held, scope=scope))
        published.take(dataclasses.replace(held, scope=scope, epoch=0, state=HoldState.RUNNING, level=None, causes=()))
    assert set(published.overtaken) == {SCOPE}, "of the other nobody here knows what holds it"
    assert bench.core.next_deadline() == 0
    bench.core.on_tick(50)
    taken(bench.core)
    (again,) = bench.read(Hold, [*bench.core.on_durable()], topics.HOLDS)
    assert (again.scope, again.epoch, again.causes) == (SCOPE, held.epoch + 1, held.causes)
    assert bench.core.next_deadline() != 0


def test_a_blind_partitions_causes_are_hits_under_their_scopes_and_survive_a_restart() -> None:
    """The scopes of a coordinator and the sight of its telemetry lie side by side in its state."""
    bench = Bench()
    sights = {2: Sight(900, 1_000)}

    def core() -> CoordinatorCore:
        watch = BlindWatch([2], 30_000)
        watchers = Watchers((trigger("one", "acc-1"), trigger("all")))
        return bench.make(Watches(blind=watch, view=lambda: View(sights, watchers)))

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


def test_a_recovery_is_told_counted_and_its_question_goes_where_the_account_s_windows_are(bench: Bench) -> None:
    records = bench.hear(topics.HITS, bench.value(hit(occurred_at=900)))
    (emergency,) = bench.read(Emergency, records, topics.EMERGENCIES)[-1:]
    for number, command in enumerate(bench.read(Command, records, topics.COMMANDS_PREFIX)):
        bench.hear(topics.ACKS, bench.value(ack(command, AckState.STOPPED)), at=number)
    records = bench.hear(topics.REQUESTS, bench.value(request("r2", Action.RECOVER)))
    (told,) = bench.read(Recovery, records, topics.RECOVERIES)
    assert (told.emergency_id, told.outcome) == (emergency.emergency_id, RecoveryOutcome.UNDER_WAY)
    (asked,) = [record for record in records if record.topic == topics.QUESTIONS]
    assert asked.key == b"a", "as telemetry is keyed"
    assert bench.read(ConditionQuestion, [asked], topics.QUESTIONS)[0].scope == SCOPE
    records = bench.hear(topics.REQUESTS, bench.value(resume("r3", epoch=1)), at=1)
    assert bench.read(Recovery, records, topics.RECOVERIES)[-1].outcome is RecoveryOutcome.ABANDONED
    labels = {"outcome": "abandoned", "procedure": "standard_recovery"}
    assert bench.count("estop_recoveries_ended_total", **labels) == 1


def test_a_wider_hold_on_the_topic_keeps_an_account_from_recovering() -> None:
    published = PublishedHolds()
    published.take(Hold("global", 3, HoldState.HELD, StopLevel.GRACEFUL, (), "all of it", 0))
    bench = Bench(published)
    records = bench.hear(topics.REQUESTS, bench.value(request("r1")))
    for number, command in enumerate(bench.read(Command, records, topics.COMMANDS_PREFIX)):
        bench.hear(topics.ACKS, bench.value(ack(command, AckState.STOPPED)), at=number)
    records = bench.hear(topics.REQUESTS, bench.value(request("r2", Action.RECOVER)), at=1)
    assert bench.read(Recovery, records, topics.RECOVERIES)[-1].detail == "global is held at epoch 3"


def many_stops() -> RecentStops:
    stops = RecentStops(60_000)
    for number in range(20):
        cause = HoldCause(f"e{number}", StopLevel.GRACEFUL, ("all",), "why", 1, "t1")
        stops.take(Hold(f"account:{number}", 1, HoldState.HELD, StopLevel.GRACEFUL, (cause,), "why", 1_000))
    return stops


def guarding(bench: Bench, scope: str) -> CoordinatorCore:
    """The home of ``scope``, with the guard that its worker would give it."""
    home = home_partition(scope, PARTITIONS)
    return bench.make(Watches(blast=blast_watch(home, PARTITIONS, BlastLimits(), many_stops())), scope)


def test_a_common_cause_is_raised_at_home_of_everything_and_nowhere_else() -> None:
    bench = Bench()
    assert home_partition("global", PARTITIONS) != HOME
    elsewhere = guarding(bench, SCOPE)
    elsewhere.on_tick(2_000)
    taken(elsewhere)
    assert list(elsewhere.on_durable()) == []

    core = guarding(bench, "global")
    assert core.next_deadline() is not None
    core.on_tick(2_000)
    records = taken(core)
    sent = [*core.on_durable(), *core.on_published()]
    assert [(one.topic, one.key) for one in sent if one.topic == topics.HITS] == [(topics.HITS, b"global")]
    assert len(bench.read(Notice, sent, topics.NOTICES)) == 1
    assert bench.count("estop_common_causes_total", what="common_cause_raised") == 1

    second = guarding(bench, "global")
    second.restore([(key, value) for key, value in records if value is not None], {})
    second.on_tick(3_000)
    taken(second)
    assert [*second.on_durable(), *second.on_published()] == sent


def test_a_lease_is_signed_and_goes_out_only_once_what_was_decided_is_durable(bench: Bench) -> None:
    attendance = Attendance(30_000)
    book = ServiceBook(SERVICES, bench.codec, attendance)
    turns = LeaseTurns(attendance, partition=2, partitions=PARTITIONS, lease_ms=30_000, issued_by="c1")
    core = bench.make(Watches(leases=turns))
    book.record(b"x/1", bench.codec.encode(instance("x", heartbeat_at=7), topics.SERVICES), 1_000)
    assert core.next_deadline() == 0
    assert list(core.on_tick(1_000)) == []
    taken(core)
    assert list(core.on_durable()) == []
    (record,) = core.on_settled()
    (lease,) = bench.read(Lease, [record], topics.LEASES)
    assert (record.key, lease.partition, lease.partitions) == (b"2", 2, PARTITIONS)
    assert [(one.service, one.instance_id, one.heartbeat_at) for one in lease.renewals] == [("x", "1", 7)]
    assert Verifier([bench.signer.public_key]).verify(lease) is SignatureVerdict.VALID
    assert core.next_deadline() == 11_000
    assert list(core.on_settled()) == []


def test_a_lease_does_not_overtake_a_stop_that_was_decided_before_it(bench: Bench) -> None:
    """As a timeline: what is made ready while a checkpoint is under way goes out with the next one.

    decided     stop 1 ─────────── stop 2 ── lease
    checkpoint         [cut ──── durable ──────── settled: no lease]  [cut ── durable: stop 2 ── settled: lease]
    """
    attendance = Attendance(30_000)
    turns = LeaseTurns(attendance, partition=2, partitions=PARTITIONS, lease_ms=30_000, issued_by="c1")
    core = bench.make(Watches(leases=turns))
    core.on_batch(bench.batch(topics.HITS, bench.value(hit("h1"))), 1_000)
    taken(core)
    core.on_batch(bench.batch(topics.REQUESTS, bench.value(request("r2"))), 1_001)
    core.on_tick(1_002)
    assert len(bench.read(Hold, [*core.on_durable()], topics.HOLDS)) == 1
    assert list(core.on_settled()) == []
    taken(core)
    assert list(core.on_settled()) != [], "it was ready when these records were taken"
    assert len(bench.read(Hold, [*core.on_durable()], topics.HOLDS)) == 1


def test_a_question_goes_to_the_partitions_that_know(bench: Bench) -> None:
    """As any effect: recorded with its scope's state, read back by a successor, then published."""

    def asked(scope: str) -> list[Publish]:
        question = ConditionQuestion("q", "t", scope, "e", 1_000)
        return bench.core._publishes([question])

    (record,) = asked(SCOPE)
    assert (record.topic, record.key, record.partition) == (topics.QUESTIONS, b"a", None)
    assert bench.read(ConditionQuestion, [record], topics.QUESTIONS)[0].question_id == "q"
    records = asked("service:x")
    assert [(record.key, record.partition) for record in records] == [(b"service:x", number) for number in range(3)]
    key, value = scope_key(SCOPE), scope_record(ScopeState(SCOPE), [ConditionQuestion("q", "t", SCOPE, "e", 1_000)])
    assert read_scope(key, value)[1] == [ConditionQuestion("q", "t", SCOPE, "e", 1_000)]


def test_answers_to_parts_are_heard_as_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []

    def hear(message: Any, *_: Any) -> list[Any]:
        heard.append(message)
        return []

    monkeypatch.setattr(bench.core.coordinator, "apply", hear)

    def answer(question_id: str, state: ConditionState) -> bytes:
        return bench.value(ConditionAnswer(question_id, "t", SCOPE, "e", state, "", 1_000, subjects=1))

    clear = ConditionState.CLEAR
    bench.hear(topics.ANSWERS, answer("q#0/3", clear), answer("q#2/3", clear), answer("whole", clear))
    assert [(one.question_id, one.state) for one in heard] == [("whole", clear)]
    bench.hear(topics.ANSWERS, answer("q#1/3", clear), at=3)
    assert [(one.question_id, one.state) for one in heard[1:]] == [("q", clear)]


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

    assert shown(guarding(bench, SCOPE)) == []
    core = guarding(bench, "global")
    assert shown(core) == [0.0]
    core.on_tick(2_000)
    assert shown(core) == [1.0]
