"""What comes in too long reaches no record at its length, and stops all the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emergency_stop.apps.coordinator_core import home_partition
from emergency_stop.coordinate.bounds import bounded
from emergency_stop.coordinate.oversize import RECORD_BYTES_MAX
from emergency_stop.coordinate.state import Policy
from emergency_stop.domain import topics
from emergency_stop.domain.messages import AuditRecord, Command, Emergency, Hold, Request
from emergency_stop.domain.values import AckState, HoldState
from emergency_stop.ports import Publish
from tests.unit.apps.test_coordinator_core import HOME, SCOPE, SERVICES, Bench, taken
from tests.unit.coordinate.scenario import ack, hit, instance, request

MB = 1_000_000


def largest(records: list[Publish]) -> int:
    return max(len(record.value or b"") for record in records)


def test_requests_with_reasons_of_megabytes_stop_and_their_successor_reads_them() -> None:
    bench, state = Bench(partitions=1), list[tuple[bytes, bytes | None]]()
    for number in range(20):
        stop = request(f"r{number}", reason="w" * 5 * MB, requested_by="n" * MB, correlation_id="c" * MB)
        values = bench.value(replace(stop, services=tuple(f"s{one}" for one in range(20_000))))
        effects = [*bench.core.on_batch(bench.batch(topics.REQUESTS, values, at=number), 1_000)]
        state = taken(bench.core)
        assert sum(len(value or b"") for _, value in state) < MB
        sent = [*effects, *bench.core.on_durable(), *bench.core.on_published()]
        assert largest(sent) < 100_000
        (hold,) = bench.read(Hold, sent, topics.HOLDS)
        assert (hold.state, hold.causes[-1].services) == (HoldState.HELD, ("all",))
        assert "characters" in hold.causes[-1].reason
        commands = bench.read(Command, sent, topics.COMMANDS_PREFIX)
        assert {one.service for one in commands} == (set(SERVICES) if number < Policy().max_concurrent_stops else set())
    successor = bench.make()
    successor.restore([(key, value) for key, value in state if value is not None], {})
    assert successor.coordinator.state(SCOPE) == bench.core.coordinator.state(SCOPE)


def test_an_answer_of_megabytes_is_put_on_record_cut() -> None:
    bench = Bench(partitions=1)
    commands = bench.read(Command, bench.hear(topics.HITS, bench.value(hit())), topics.COMMANDS_PREFIX)
    sent: list[Publish] = []
    for number, one in enumerate(commands):
        failed = ack(one, AckState.FAILED, reason="w" * 5 * MB, saved_state="s" * MB)
        sent += bench.hear(topics.ACKS, bench.value(failed), at=number)
    assert largest(sent) < 100_000
    reasons = [one.reason for one in bench.read(Emergency, sent, topics.EMERGENCIES)[-1].instances]
    assert ["cut: 5000000 characters" in reason for reason in reasons] == [True, True]


@pytest.mark.parametrize("scope", ["x" * MB, "account:" + "a" * 300])
def test_what_is_refused_is_put_on_record_cut(scope: str) -> None:
    bench = Bench(partitions=1)
    sent = bench.hear(topics.REQUESTS, bench.value(request("r" * MB, scope=scope, reason="w" * MB)))
    (note,) = bench.read(AuditRecord, sent, topics.AUDIT)
    assert note.action == "request_refused"
    assert largest(sent) < 10_000


def test_an_account_of_too_many_instances_is_published_and_says_how_many(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(partitions=1)
    book = bench.core._book
    for number in range(20_000):
        one = instance("x", f"{number:0>200}")
        book.record(one.instance_id.encode(), bench.codec.encode(one, topics.SERVICES))
    sent = bench.hear(topics.HITS, bench.value(hit()))
    assert largest(sent) <= RECORD_BYTES_MAX
    account = bench.read(Emergency, sent, topics.EMERGENCIES)[-1]
    assert "1000 of 20002 instances are listed" in account.reason
    assert "Emergency of" in caplog.text
    assert {one.service for one in bench.read(Command, sent, topics.COMMANDS_PREFIX)} == set(SERVICES)


def test_what_is_forwarded_fits_under_its_new_key_and_is_no_less() -> None:
    bench = Bench(partitions=4)
    stray = next(f"account:{number}" for number in range(99) if home_partition(f"account:{number}", 4) != HOME)
    (small,) = bench.hear(topics.REQUESTS, value := bench.value(request("r1", scope=stray)))
    assert small == Publish(topics.REQUESTS, stray.encode(), value)
    stop = request("r2", scope=stray, reason="w" * 7 * MB)
    (large,) = bench.hear(topics.REQUESTS, bench.value(stop), at=1)
    assert (large.topic, large.key) == (topics.REQUESTS, stray.encode())
    assert len(large.value or b"") < 10_000
    assert bench.codec.decode(Request, large.value) == bounded(stop)


def test_what_is_no_scope_is_refused_where_it_lies_however_long_it_is() -> None:
    """Under its scope as a key it would fit into no record."""
    for number in range(8):
        bench = Bench(partitions=4)
        sent = bench.hear(topics.REQUESTS, bench.value(request(scope=str(number) * 5 * MB)))
        assert [note.action for note in bench.read(AuditRecord, sent, topics.AUDIT)] == ["request_refused"]
        assert largest(sent) < 10_000
