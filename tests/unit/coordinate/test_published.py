"""Holds in the order of their topic: which epoch is the newest, and whether the last word is what the owner decided."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emergency_stop.coordinate.published import PublishedHolds
from emergency_stop.domain.messages import Hold
from tests.unit.sdk.scenario import ACCOUNT, IMMEDIATE, half_open, held, running

FAR = 1 << 62


def read(*holds: Hold) -> PublishedHolds:
    published = PublishedHolds()
    for hold in holds:
        published.take(hold)
    return published


def owned(*holds: Hold) -> PublishedHolds:
    """Read back by the owner that has decided each of them."""
    published = PublishedHolds()
    for hold in holds:
        published.decided(hold, None)
        published.take(hold)
    return published


def test_the_newest_epoch_stands_whatever_comes_after_it() -> None:
    assert read(held(epoch=1), held(epoch=3), running(epoch=2)).epochs == {ACCOUNT: 3}


def test_a_scope_is_overtaken_until_a_hold_with_an_epoch_beyond_all_others_comes() -> None:
    published = owned(held(epoch=3), held(epoch=3), held("global", epoch=1))
    assert published.overtaken == {}
    published.take(running(epoch=2))
    assert set(published.overtaken) == {ACCOUNT}
    published.take(held(epoch=3))
    assert set(published.overtaken) == {ACCOUNT}, "guards may have taken what came between"
    published.decided(held(epoch=4), None)
    published.take(held(epoch=4))
    assert published.overtaken == {}


def test_each_occasion_can_be_told_from_the_last() -> None:
    published, occasions = owned(held(epoch=3)), []
    for _ in range(2):
        published.take(running(epoch=2))
        occasions.append(published.overtaken[ACCOUNT])
    assert len(set(occasions)) == 2


@pytest.mark.parametrize(
    # what came after the owner's ``held 3``
    "foreign",
    [
        running(epoch=3),
        half_open(50, epoch=3),
        held(epoch=3, level=IMMEDIATE),
        held(epoch=3, services=("x",)),
        running(epoch=4),
        held(epoch=4),
    ],
)
def test_what_the_owner_has_not_decided_overtakes_its_hold(foreign: Hold) -> None:
    published = owned(held(epoch=1), held(epoch=3))
    assert published.has(ACCOUNT, 3)
    assert not published.take(foreign)
    assert set(published.overtaken) == {ACCOUNT}
    assert not published.has(ACCOUNT, 3), "whoever starts now may read something else"
    again = replace(held(epoch=3), epoch=published.epochs[ACCOUNT] + 1)
    published.decided(again, None)
    assert published.take(again)
    assert published.overtaken == {}
    assert published.has(ACCOUNT, 3)


def test_the_owners_own_records_overtake_nothing_however_late_they_are_read_back() -> None:
    """As a timeline: what was decided runs ahead of what is read.

    decided  held 1 ── 10 % 2 ── running 3
    read                            held 1 ── held 1 ── 10 % 2 ── running 3
    """
    published, holds = PublishedHolds(), [held(epoch=1), half_open(10, epoch=2), running(epoch=3)]
    for hold in holds:
        published.decided(hold, None)
    for hold in [holds[0], *holds]:
        assert published.take(hold)
    assert published.overtaken == {}


def test_two_holds_of_one_epoch_are_no_record_whoever_wrote_them() -> None:
    """Nobody owns the scope here yet; whoever does next says it again."""
    published = read(running(epoch=1), held(epoch=3), running(epoch=3), held(epoch=3))
    assert not published.has(ACCOUNT, 3)
    published.restored(held(epoch=3))
    assert set(published.overtaken) == {ACCOUNT}


def test_what_is_not_signed_counts_as_no_hold_but_for_its_epoch() -> None:
    published = owned(held(epoch=3))
    assert not published.take(running(epoch=7), trusted=False)
    assert (published.has(ACCOUNT, 3), set(published.overtaken)) == (False, {ACCOUNT})
    assert published.epochs == {ACCOUNT: 7}, "the next epoch is beyond it, wherever it came from"
    published.decided(held(epoch=8), None)
    assert published.take(held(epoch=8))
    assert published.has(ACCOUNT, 3)


def test_a_forged_epoch_leaves_room_for_others() -> None:
    published = owned(held(epoch=3))
    published.take(running(epoch=FAR), trusted=False)
    assert published.epochs == {ACCOUNT: 3}
    published.decided(held(epoch=4), None)
    assert published.take(held(epoch=4))


def test_a_tombstone_hides_the_hold_before_it() -> None:
    published = owned(held(epoch=3))
    published.spoiled(ACCOUNT)
    assert (published.has(ACCOUNT, 3), set(published.overtaken)) == (False, {ACCOUNT})


def test_a_hold_that_nobody_remembers_is_never_said_again_as_lifted() -> None:
    """A coordinator that lost its state is in doubt; a scope that it forgot was free."""
    for newest, again in (held(epoch=3), set()), (running(epoch=3), {ACCOUNT}):
        published = read(newest)
        published.take(held(epoch=2))
        assert set(published.overtaken) == again
        published.spoiled("account:never-held")
        assert set(published.overtaken) == again


def test_who_takes_a_scope_over_compares_with_what_it_restored() -> None:
    """The former owner of this process's scopes knew something else."""
    published = owned(held(epoch=1))
    for hold in (held(epoch=2), running(epoch=3)):  # by the owner in between
        published.take(hold)
    published.begin(lambda scope: scope == ACCOUNT)
    published.restored(running(epoch=3))
    assert published.overtaken == {}
    assert published.has(ACCOUNT, 3)
    published.begin(lambda _: True)
    published.restored(held(epoch=2))
    assert set(published.overtaken) == {ACCOUNT}, "an epoch that nobody remembers to have given"


def test_what_its_owner_forgot_is_compared_with_nothing() -> None:
    published = owned(held(epoch=1), running(epoch=2))
    published.forgotten(ACCOUNT)
    assert published.take(held(epoch=3))
    assert published.overtaken == {}


def test_only_the_newest_record_of_this_process_is_known_as_its_own() -> None:
    published = PublishedHolds()
    published.decided(held(epoch=1), b"first")
    published.decided(held(epoch=2), b"second")
    assert [published.is_own(ACCOUNT, value) for value in (b"first", b"second", None)] == [False, True, False]
    assert not published.is_own("global", b"second")


def test_what_reaches_beyond_one_account_is_known_while_it_is_held() -> None:
    published = read(held("global", epoch=1), held("service:x", epoch=4), held("account:a", epoch=2))
    assert {scope: hold.epoch for scope, hold in published.wide.items()} == {"global": 1, "service:x": 4}
    published.take(running("service:x", epoch=3))
    published.take(running("service:x", epoch=4))
    published.take(running("service:x", epoch=5), trusted=False)
    assert set(published.wide) == {"global", "service:x"}, "an older word, or nobody's, lifts nothing"
    published.take(running("service:x", epoch=6))
    assert set(published.wide) == {"global"}
