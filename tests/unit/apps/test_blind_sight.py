"""What a coordinator makes of detectors' words: when it last knew that somebody saw, on its own clock."""

from __future__ import annotations

from dataclasses import replace

from emergency_stop.adapters.kafka_tail import TailRecord
from emergency_stop.apps.blind_sight import FreshnessBook, WatcherBook
from emergency_stop.coordinate.blindness import Sight
from emergency_stop.domain import topics
from emergency_stop.domain.messages import Freshness
from emergency_stop.domain.values import OnBlind, StopLevel
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from tests.unit.coordinate.test_blindness import trigger
from tests.unit.wire.unanswering import Unanswering, newly_written

CODEC = Codec(LocalRegistry())


class Hands:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.at = 1_000_000

    def now_ms(self) -> int:
        return self.at


def word(partition: int = 0, lane: str = "a", *, fresh_at: int, written_at: int, live: int = 0) -> TailRecord:
    value = CODEC.encode(Freshness(lane, partition, "d", (), fresh_at, written_at, live), topics.FRESHNESS)
    return TailRecord(f"{lane}/{partition}".encode(), value, 0, 0, 0)


def test_a_detectors_clock_may_be_hours_off() -> None:
    """It says that it lags by 3 s; so it saw 3 s ago, whatever time it thinks it is."""
    clock = Hands()
    book = FreshnessBook(CODEC, clock)
    clock.at += 60_000
    book.record(word(fresh_at=5_000, written_at=8_000))
    assert book.sights(0) == {0: Sight(5_000, clock.at - 3_000)}


def test_the_better_lane_counts_and_an_old_word_read_again_does_not() -> None:
    clock = Hands()
    book = FreshnessBook(CODEC, clock)
    clock.at += 60_000
    book.record(word(lane="b", fresh_at=50_000, written_at=51_000))
    book.record(word(lane="a", fresh_at=20_000, written_at=51_000))
    seen = Sight(50_000, clock.at - 1_000)
    assert book.sights(0) == {0: seen}
    clock.at += 60_000
    book.record(word(lane="b", fresh_at=50_000, written_at=51_000))
    assert book.sights(0) == {0: seen}


def test_words_that_stand_at_start_give_a_grace_from_the_start() -> None:
    clock = Hands()
    book = FreshnessBook(CODEC, clock)
    book.record(word(fresh_at=1, written_at=600_000))
    assert book.sights(0)[0].seen_at == clock.at


def test_time_in_which_the_topic_did_not_answer_does_not_count() -> None:
    clock = Hands()
    book = FreshnessBook(CODEC, clock)
    book.record(word(fresh_at=5_000, written_at=5_000))
    clock.at += 90_000
    assert book.sights(90_000)[0].seen_at == clock.at
    clock.at += 10_000
    assert book.sights(100)[0].seen_at == clock.at - 10_000


def test_a_word_that_nothing_is_known_yet_is_none_and_telemetry_is_looked_for_there() -> None:
    book = FreshnessBook(CODEC, Hands())
    book.record(word(1, fresh_at=0, written_at=5_000))
    book.record(word(2, fresh_at=4_000, written_at=5_000))
    book.record(TailRecord(b"a/3", b"\0garbage", 0, 0, 0))
    assert book.never_heard_of(4) == [0, 1, 3]
    book.with_telemetry.add(3)
    assert book.sights(0)[3] == Sight(0, 1_000_000, has_telemetry=True)
    assert book.never_heard_of(4) == [0, 1]


def test_active_triggers_are_told_apart_by_what_they_do_when_blind() -> None:
    book = WatcherBook(CODEC, StopLevel.GRACEFUL)
    builtin = book.watchers().alerting
    wanted = {
        "low": trigger("low", priority=1),
        "urgent": trigger("urgent", priority=4),
        "off": trigger("off", is_active=False),
        "gone": trigger("gone", removed=True),
        "alerts": trigger("alerts", on_blind=OnBlind.ALERT),
    }
    for name, one in wanted.items():
        book.record(TailRecord(name.encode(), CODEC.encode(one, topics.TRIGGERS), 0, 0, 0))
    assert [one.trigger_id for one in book.watchers().holding] == ["urgent", "low"]
    assert book.watchers().alerting == builtin + 1
    assert book.watchers() is book.watchers()
    changed = replace(wanted["low"], on_blind=OnBlind.ALERT, version=2)
    book.record(TailRecord(b"low", CODEC.encode(changed, topics.TRIGGERS), 0, 0, 0))
    book.record(TailRecord(b"urgent", None, 0, 0, 0))
    assert book.watchers().holding == ()


def test_live_accounts_are_the_newest_word_s_of_every_partition_summed() -> None:
    book = FreshnessBook(CODEC, Hands())
    assert book.live_accounts() == 0
    book.record(word(0, "a", fresh_at=0, written_at=1_000, live=50))
    book.record(word(1, "a", fresh_at=0, written_at=1_000, live=7))
    book.record(word(0, "b", fresh_at=0, written_at=2_000, live=40))
    book.record(word(0, "a", fresh_at=0, written_at=1_500, live=90))
    assert book.live_accounts() == 47


def test_a_word_that_nobody_can_read_yet_is_no_sight_and_keeps_no_other_waiting() -> None:
    clock = Hands()
    book = FreshnessBook(Codec(Unanswering("Freshness")), clock)
    unread = word(partition=0, fresh_at=5_000, written_at=8_000)
    book.record(replace(unread, value=newly_written(unread.value or b"")))
    book.record(word(partition=1, fresh_at=5_000, written_at=8_000))
    assert list(book.sights(0)) == [1]
