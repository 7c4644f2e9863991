"""Many accounts stopped by triggers have one cause.

```
window        ├──────── 60 s ────────┤
stops by      t t t  p  t            ┤ p: a person's, exempt; t > share of the live accounts → everything held, one page
in force      ───────────────────────┼── no second one ──┬ lifted: counted anew from here
```
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from fractions import Fraction

import pytest

from emergency_stop.coordinate.blast import (
    COMMON_CAUSE,
    TAKEN_WITHIN_MS,
    BlastEffect,
    BlastLimits,
    BlastState,
    RecentStops,
    is_blast,
    step,
)
from emergency_stop.coordinate.blast_watch import KEY, LOOK_MS, RECHECK_MS, BlastWatch
from emergency_stop.coordinate.snapshot import SnapshotError
from emergency_stop.coordinate.state import ScopeState
from emergency_stop.coordinate.step import step as coordinate
from emergency_stop.domain.ids import emergency_id, hit_cause
from emergency_stop.domain.messages import AuditRecord, Hit, Hold, HoldCause, Notice
from emergency_stop.domain.values import Action, ClearRule, HoldState, Mode, NoticeKind, StopLevel
from tests.oracle.naive_blast import NaiveHold, is_common_cause, stopped_accounts
from tests.unit.coordinate.scenario import request, world

WINDOW_MS = 60_000
LIMITS = BlastLimits(percent=30, window_ms=WINDOW_MS, accounts_min=3)
NOTHING = ScopeState("global")


def hold(account: str, at: int, *causes: tuple[str, str | None], epoch: int = 1) -> Hold:
    held = tuple(HoldCause(e, StopLevel.GRACEFUL, ("all",), "why", epoch, trigger) for e, trigger in causes)
    state = HoldState.HELD if held else HoldState.RUNNING
    return Hold(f"account:{account}", epoch, state, StopLevel.GRACEFUL if held else None, held, "why", at)


def stopped(accounts: Iterable[int], at: int = 1_000, trigger: str | None = "t1") -> RecentStops:
    stops = RecentStops(WINDOW_MS)
    for number in accounts:
        stops.take(hold(f"a{number}", at, (f"e{number}", trigger)))
    return stops


def decide(
    stops: RecentStops, live: int = 0, state: BlastState | None = None, everything: ScopeState = NOTHING,
    now_ms: int = 2_000,
) -> tuple[BlastState, list[BlastEffect]]:  # fmt: skip
    return step(state or BlastState(), stops, live, everything, now_ms=now_ms, limits=LIMITS)


def the_hit(effects: list[BlastEffect]) -> Hit:
    (found,) = (effect for effect in effects if isinstance(effect, Hit))
    return found


@pytest.mark.parametrize(
    ("accounts", "live", "blast"),
    [
        (2, 0, False),  # fewer than the minimum
        (3, 0, True),  # nobody knows how many live: the minimum decides
        (3, 5, True),  # 60 %
        (3, 10, False),  # 30 %: not more than it
        (4, 10, True),
        (2, 2, False),  # all of two, but fewer than the minimum
    ],
)
def test_more_than_the_share_of_the_live_accounts_and_at_least_the_minimum(
    accounts: int, live: int, blast: bool
) -> None:
    state, effects = decide(stopped(range(accounts)), live)
    assert (state.hit_id is not None) == blast
    assert bool(effects) == blast


def test_it_holds_everything_gracefully_until_an_operator_resets_it() -> None:
    stops = stopped(range(4))
    stops.take(hold("b", 1_500, ("eb", "t2")))
    hit = the_hit(decide(stops, live=10)[1])
    assert (hit.trigger_id, hit.scope, hit.account_id, hit.level) == (COMMON_CAUSE, "global", None, StopLevel.GRACEFUL)
    assert (hit.mode, hit.clear_rule, hit.target_services) == (
        Mode.ENFORCE, ClearRule.AFTER_OPERATOR_RESET, ("all",),
    )  # fmt: skip
    assert (hit.observed, hit.threshold, hit.margin) == (5.0, 3.0, 2.0)
    assert hit.reason == (
        "triggers stopped 5 accounts within 60 s (50 % of 10 live ones, more than 30 %), most often t1 (4), t2 (1)"
    )


def test_one_page_goes_out_that_names_the_emergency() -> None:
    effects = decide(stopped(range(4)))[1]
    (notice,) = (effect for effect in effects if isinstance(effect, Notice))
    assert (notice.kind, notice.scope, notice.channels) == (NoticeKind.PAGE, "global", ())
    assert notice.emergency_id == emergency_id(hit_cause(the_hit(effects).hit_id))
    assert "4 accounts" in notice.subject
    assert [effect.action for effect in effects if isinstance(effect, AuditRecord)] == ["common_cause_raised"]


def test_people_s_stops_and_the_guard_s_own_are_exempt() -> None:
    for trigger in (None, COMMON_CAUSE):
        assert decide(stopped(range(9), trigger=trigger)) == (BlastState(), [])


def test_only_accounts_count_each_once_and_only_when_something_new_holds_it() -> None:
    stops = stopped([1])
    stops.take(hold("a1", 1_100, ("e1", "t1"), epoch=2))  # raised by its escalation
    stops.take(hold("a1", 1_200, ("e1", "t1"), ("e9", None), epoch=3))
    assert stops.seen == 1
    stops.take(hold("a1", 1_300, ("e1", "t1"), ("e9", None), ("e2", "t2"), epoch=4))
    everything = Hold("global", 1, HoldState.HELD, StopLevel.GRACEFUL, (), "why", 1_000)
    stops.take(everything)
    assert (stops.after(0).accounts, stops.after(0).triggers) == (1, (("t2", 1),))


def test_what_left_the_window_does_not_count() -> None:
    assert decide(stopped(range(9), at=1_000), now_ms=1_000 + WINDOW_MS) == (BlastState(), [])
    assert decide(stopped(range(9), at=1_001), now_ms=1_000 + WINDOW_MS)[1]


def test_memory_is_bounded_though_nobody_asks() -> None:
    stops = RecentStops(WINDOW_MS)
    for number in range(1_000):
        stops.take(hold(f"a{number}", number * WINDOW_MS, (f"e{number}", "t")))
        stops.take(hold(f"a{number}", number * WINDOW_MS + 1, epoch=2))
    assert len(stops) <= 3
    assert stops._in_force == {}


def taken(state: BlastState, effects: list[BlastEffect], at: int = 2_100) -> ScopeState:
    """The scope ``global`` after the coordinator took the hit."""
    after, _ = coordinate(NOTHING, the_hit(effects), at, world())
    assert after.in_force[0].emergency_id == emergency_id(hit_cause(state.hit_id or ""))
    return after


def test_while_it_is_in_force_no_second_one_is_raised_and_once_it_is_lifted_counting_begins_anew() -> None:
    stops = stopped(range(4))
    raised, effects = decide(stops)
    assert decide(stops, state=raised, now_ms=2_050) == (raised, []), "not taken yet"
    everything = taken(raised, effects)
    for number in range(50, 60):
        stops.take(hold(f"a{number}", 3_000, (f"e{number}", "t1")))
    assert decide(stops, state=raised, everything=everything, now_ms=3_100) == (raised, [])

    lifted, epoch = everything, everything.epoch
    for who, action in (("ann", Action.RESET), ("ann", Action.RESUME), ("ben", Action.RESUME)):
        asked = request(f"{who}-{action}", action, "global", requested_by=who, epoch=epoch)
        lifted, _ = coordinate(lifted, asked, 4_000, world())
    state, effects = decide(stops, state=raised, everything=lifted, now_ms=4_100)
    assert state == BlastState(counted_from=4_100)
    assert [effect.action for effect in effects if isinstance(effect, AuditRecord)] == ["common_cause_lifted"]
    assert decide(stops, state=state, everything=lifted, now_ms=4_200) == (state, [])
    for number in range(70, 73):
        stops.take(hold(f"a{number}", 4_300, (f"e{number}", "t1")))
    again, effects = decide(stops, state=state, everything=lifted, now_ms=4_400)
    assert the_hit(effects).hit_id == again.hit_id != raised.hit_id


def test_a_hit_that_nobody_took_is_raised_again() -> None:
    raised, effects = decide(stopped(range(4)))
    stops, late = stopped(range(10, 14), at=TAKEN_WITHIN_MS), 2_000 + TAKEN_WITHIN_MS + 1
    assert decide(stops, state=raised, now_ms=late - 1) == (raised, [])
    assert the_hit(decide(stops, state=raised, now_ms=late)[1]).hit_id != the_hit(effects).hit_id


@pytest.mark.parametrize("seed", range(40))
def test_the_count_is_the_naive_twin_s(seed: int) -> None:
    """Random holds of few accounts, with stops by people, escalations, resumes, and questions in between."""
    rng, stops, told = random.Random(seed), RecentStops(WINDOW_MS), list[NaiveHold]()
    causes: dict[str, tuple[tuple[str, str | None], ...]] = {}
    now, asked_from = 0, 0
    for number in range(300):
        now += rng.choice((0, 1, 500, 9_000))
        account = f"a{rng.randrange(12)}"
        held = causes.get(account, ())
        match rng.randrange(6):
            case 0:
                held = ()
            case 1:
                held = held[1:]
            case 2:
                held = (*held, (f"e{number}", rng.choice((None, COMMON_CAUSE))))
            case 3 | 4:
                held = (*held, (f"e{number}", f"t{rng.randrange(3)}"))
        causes[account] = held
        told.append(NaiveHold(account, now, held))
        stops.take(hold(account, now, *held, epoch=number + 1))
        asked_from = max(asked_from, now - rng.choice((WINDOW_MS, 20_000)))
        if rng.random() < 0.3:
            wanted = stopped_accounts(told, asked_from)
            count = stops.after(asked_from)
            assert count.accounts == len(wanted), f"seed {seed}, hold {number}"
            assert sum(n for _, n in count.triggers) == len(wanted)


@pytest.mark.parametrize("seed", range(20))
def test_the_verdict_is_the_naive_twin_s(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(200):
        accounts, live, percent, least = (rng.randrange(n) for n in (60, 100, 101, 30))
        wanted = is_common_cause(accounts, live, percent, least)
        if live and Fraction(accounts, live) == Fraction(percent, 100):
            wanted = False  # the twin divides in floating point; equal is not more
        limits = BlastLimits(percent, WINDOW_MS, least)
        assert is_blast(accounts, live, limits) == wanted, f"seed {seed}: {accounts} of {live}, {percent} %, {least}"


# ------------------------------------------------------------------------------------------------ the watch


def records(watch: BlastWatch) -> list[tuple[bytes, bytes]]:
    return [(key, value) for key, value in watch.take_dirty() if value is not None]


def test_nothing_is_published_before_it_is_on_record() -> None:
    watch = BlastWatch(LIMITS, stopped(range(4)))
    assert watch.next_deadline() == LOOK_MS
    watch.tick(2_000, 0, NOTHING)
    assert watch.next_deadline() == 0
    assert watch.take_effects() == []
    assert [key for key, _ in records(watch)] == [KEY]
    assert {type(effect) for effect in watch.take_effects()} == {Hit, Notice, AuditRecord}
    assert watch.take_effects() == []
    records(watch)
    assert watch.next_deadline() == 2_000 + RECHECK_MS


def test_a_restart_repeats_what_was_decided_and_a_second_one_nothing_else() -> None:
    """
    ```
    first    raised ─ on record ─ killed
    second                         repeats ─ killed
    third                                     repeats ─ on record ─ killed
    fourth                                                           nothing more
    ```
    """  # noqa: D212  (a drawing)
    first = BlastWatch(LIMITS, stopped(range(4)))
    first.tick(2_000, 0, NOTHING)
    saved, told, published = records(first), [], list[tuple[bytes, bytes]]()
    for now_ms in (5_000, 9_000):
        later = BlastWatch(LIMITS, stopped(range(4)))
        later.restore(*saved[0])
        assert later.next_deadline() == 0
        later.tick(now_ms, 0, NOTHING)
        told.append(later.take_effects())
        published = records(later)
    assert told[0] == told[1] == first.take_effects()
    fourth = BlastWatch(LIMITS, stopped(range(4)))
    fourth.restore(*published[0])
    fourth.tick(10_000, 0, NOTHING)
    assert fourth.take_effects() == []
    assert fourth.is_raised


def test_a_watch_that_knows_nothing_leaves_no_record_and_is_never_due() -> None:
    watch = BlastWatch(LIMITS, stopped(range(2)))
    watch.tick(2_000, 0, NOTHING)
    assert (watch.next_deadline(), list(watch.take_dirty())) == (None, [])


def test_without_a_share_nothing_is_raised() -> None:
    watch = BlastWatch(BlastLimits(percent=0), stopped(range(99)))
    watch.tick(2_000, 0, NOTHING)
    assert (watch.is_on, watch.is_raised) == (False, False)


@pytest.mark.parametrize("value", [b"", b"{}", b'{"version":9,"state":{},"outbox":[]}', b'{"version":1,"state":{}}'])
def test_a_record_that_cannot_be_read_keeps_the_partition_from_starting(value: bytes) -> None:
    with pytest.raises(SnapshotError):
        BlastWatch(LIMITS, RecentStops(WINDOW_MS)).restore(KEY, value)
