"""Holds in the order of their topic: which epoch is the newest, and whether it is the last word."""

from __future__ import annotations

from emergency_stop.coordinate.published import PublishedHolds
from tests.unit.sdk.scenario import held, running


def test_the_newest_epoch_stands_whatever_comes_after_it() -> None:
    published = PublishedHolds()
    for hold in (held(epoch=1), held(epoch=3), running(epoch=2)):
        published.take(hold)
    assert published.epochs == {"account:a": 3}


def test_a_scope_is_overtaken_until_its_newest_hold_is_the_last_again() -> None:
    published = PublishedHolds()
    for hold in (held(epoch=3), held(epoch=3), held("global", epoch=1), running(epoch=2)):
        published.take(hold)
    assert set(published.overtaken) == {"account:a"}
    published.take(held(epoch=3))
    assert published.overtaken == {}


def test_each_occasion_can_be_told_from_the_last() -> None:
    published, occasions = PublishedHolds(), []
    for _ in range(2):
        for hold in (held(epoch=3), running(epoch=2)):
            published.take(hold)
        occasions.append(published.overtaken["account:a"])
    assert len(set(occasions)) == 2


def test_what_reaches_beyond_one_account_is_known_while_it_is_held() -> None:
    published = PublishedHolds()
    for hold in (held("global", epoch=1), held("service:x", epoch=4), held("account:a", epoch=2)):
        published.take(hold)
    assert {scope: hold.epoch for scope, hold in published.wide.items()} == {"global": 1, "service:x": 4}
    published.take(running("service:x", epoch=3))
    assert set(published.wide) == {"global", "service:x"}, "an older word lifts nothing"
    published.take(running("service:x", epoch=5))
    assert set(published.wide) == {"global"}
