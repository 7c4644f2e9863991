"""What a coordinator knows of instances, from what it hears and from what was there before it."""

from __future__ import annotations

import random
from collections.abc import Iterable

from emergency_stop.apps.service_book import FORGET_EVERY_MS, ServiceBook
from emergency_stop.coordinate.leases import Attendance
from emergency_stop.coordinate.services import FORGOTTEN_AFTER_LIMITS, Liveness
from emergency_stop.domain import topics
from emergency_stop.domain.messages import ServiceInstance
from emergency_stop.domain.values import InstanceState
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from tests.unit.coordinate.scenario import instance

CODEC = Codec(LocalRegistry())
LOST_MS = 30_000
COUNTS_MS = LOST_MS * FORGOTTEN_AFTER_LIMITS
NOW = 1_800_000_000_000
HOUR_MS = 3_600_000


class Read:
    """A book, and what is written to its topic."""

    def __init__(self) -> None:
        self.attendance = Attendance(30_000)
        self.book = ServiceBook(("x", "y"), CODEC, self.attendance, lost_ms=LOST_MS)

    def hears(self, one: ServiceInstance, now_ms: int = NOW, *, written_at: int | None = None) -> None:
        key = f"{one.service}/{one.instance_id}".encode()
        self.book.record(key, CODEC.encode(one, topics.SERVICES), now_ms, written_at=written_at)

    def counts(self, now_ms: int = NOW, service: str = "x") -> dict[str, Liveness]:
        found = self.book.services().instances(service, now_ms, LOST_MS)
        return {name: liveness for name, (_, liveness) in found.items()}


def test_one_that_is_heard_counts_whatever_its_clock_says() -> None:
    read = Read()
    read.hears(instance("x", heartbeat_at=NOW - HOUR_MS))
    assert read.counts() == {"1": Liveness.LIVE}
    assert read.counts(NOW + LOST_MS + 1) == {"1": Liveness.LOST}
    assert [one.instance_id for one in read.attendance.renewals(NOW)] == ["1"], "it has a lease, so it must count"


def test_whoever_may_have_a_lease_counts() -> None:
    """Of instances with clocks of all kinds, heard at some time: a renewal is for nobody who is no target."""
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    read, now = Read(), NOW
    for _ in range(2_000):
        now += rng.randrange(20_000)
        skew_ms = rng.choice((0, -HOUR_MS, -COUNTS_MS - 1, HOUR_MS, 5))
        state = rng.choice((InstanceState.UP, InstanceState.UP, InstanceState.LEFT))
        read.hears(instance("x", str(rng.randrange(9)), heartbeat_at=now + skew_ms, state=state), now)
        renewed = {one.instance_id for one in read.attendance.renewals(now)}
        targets = {name for name, liveness in read.counts(now).items() if liveness is not Liveness.LEFT}
        assert renewed <= targets, f"seed {seed}"


def test_of_what_was_there_before_only_its_dates_and_its_place_in_the_log_tell_when() -> None:
    """::

    log   dead 1 h ago   behind by 1 h, heard last   right, now   behind too
    """
    read = Read()
    read.hears(instance("x", "dead", heartbeat_at=NOW - HOUR_MS), written_at=NOW - HOUR_MS)
    read.hears(instance("x", "right", heartbeat_at=NOW - 5_000), written_at=NOW - 5_000)
    read.hears(instance("x", "behind", heartbeat_at=NOW - HOUR_MS), written_at=NOW - HOUR_MS)
    assert read.counts() == {"right": Liveness.LIVE, "behind": Liveness.LIVE}


def test_a_date_from_the_future_makes_nobody_heard_later_than_now() -> None:
    read = Read()
    read.hears(instance("x", "ahead", heartbeat_at=NOW + HOUR_MS), written_at=NOW + HOUR_MS)
    read.hears(instance("x", "other", heartbeat_at=NOW - HOUR_MS), written_at=NOW - HOUR_MS)
    assert read.counts(NOW + COUNTS_MS + 1)["ahead"] is Liveness.LIVE
    assert "other" not in read.counts(NOW + COUNTS_MS + 1)


def test_a_record_without_a_date_goes_by_the_heartbeat_in_it() -> None:
    read = Read()
    read.hears(instance("x", heartbeat_at=NOW - 5_000), written_at=-1)
    assert read.counts() == {"1": Liveness.LIVE}


def test_a_tombstone_strikes_out_and_a_key_stands_for_one_instance() -> None:
    read = Read()
    for name in ("1", "2"):
        read.book.record(b"same", CODEC.encode(instance("x", name, heartbeat_at=NOW), topics.SERVICES), NOW)
    assert read.counts() == {"2": Liveness.LIVE}
    read.book.record(b"same", None, NOW)
    read.book.record(b"same", None, NOW)
    assert read.counts() == {}


def test_a_bad_record_changes_nothing() -> None:
    read = Read()
    read.hears(instance("x", heartbeat_at=NOW))
    for value in (b"", b"\0garbage", b"\0\0\0\0\x7f"):
        read.book.record(b"x/1", value, NOW)
    assert read.counts() == {"1": Liveness.LIVE}


def test_the_book_stays_small_however_many_instances_come_and_go() -> None:
    read = Read()
    for number in range(5_000):
        now = NOW + number * 10_000
        read.hears(instance("x", f"i{number}", heartbeat_at=now), now)
        if number % 2:
            read.hears(instance("x", f"i{number}", heartbeat_at=now, state=InstanceState.LEFT), now)
    lately = (COUNTS_MS + FORGET_EVERY_MS) // 10_000 + 10
    assert len(read.book._of_key) <= lately
    assert len(list(known(read.book))) <= lately


def known(book: ServiceBook) -> Iterable[str]:
    services = book.services()
    return (name for instances in services._by_service.values() for name in instances)


def test_heartbeats_cost_the_same_however_many_instances_there_are() -> None:
    read = Read()
    read.hears(instance("x", heartbeat_at=NOW))
    services = read.book.services()
    read.hears(instance("x", "2", heartbeat_at=NOW))
    assert read.book.services() is services, "nothing is made anew"


def test_a_name_that_is_too_long_for_an_account_gets_no_lease_and_is_a_target() -> None:
    read = Read()
    read.hears(instance("x", "i" * 300, heartbeat_at=NOW))
    ((name, liveness),) = read.counts().items()
    assert (len(name), liveness) == (256, Liveness.LIVE)
    assert read.attendance.renewals(NOW) == []


def test_what_else_it_says_is_bounded() -> None:
    read = Read()
    said = ServiceInstance(
        "x", "1", InstanceState.UP, 0, NOW, 0, 0, tuple(f"s{n}" for n in range(9_000)), "v" * 9_000, False, "p" * 9_000
    )
    read.hears(said)
    ((kept, _),) = read.book.services().instances("x", NOW, LOST_MS).values()
    assert (len(kept.depends_on), len(kept.version), len(kept.problem)) == (256, 256, 1_000)


def test_whoever_does_not_count_yet_gets_no_lease_before_it_is_heard() -> None:
    """Read back alone in the log: its clock is behind, or it is long dead; its next heartbeat tells."""
    read = Read()
    read.hears(instance("x", heartbeat_at=NOW - HOUR_MS), written_at=NOW - HOUR_MS)
    assert (read.counts(), read.attendance.renewals(NOW)) == ({}, [])
    read.hears(instance("x", heartbeat_at=NOW - HOUR_MS + 5_000), NOW + 5_000)
    assert read.counts(NOW + 5_000) == {"1": Liveness.LIVE}
    assert len(read.attendance.renewals(NOW + 5_000)) == 1
