"""Accounts' keys in the log: the first of a race seals, no order of records brings an erased key back."""

from __future__ import annotations

import dataclasses
import itertools
import random

import pytest

from emergency_stop.domain.messages import AccountKey
from emergency_stop.domain.values import AccountKeyState
from emergency_stop.wire.account_keys import AccountKeyBook, erasures_of, late_erasures_of, record_name

Record = tuple[bytes, AccountKey | None]


def key(key_id: str, version: int = 1, master: str = "m1", pseudonym: str = "p") -> Record:
    made = AccountKey(pseudonym, AccountKeyState.KEY, key_id, version, master, b"w", 1)
    return record_name(made), made


def erased(version: int, master: str = "m1") -> Record:
    made = AccountKey("p", AccountKeyState.ERASED, "", version, master, b"", 2)
    return record_name(made), made


def gone(record: Record) -> Record:
    return record[0], None


def book(*records: Record) -> AccountKeyBook:
    made = AccountKeyBook()
    for name, value in records:
        made.take(name, value)
    return made


def current(of: AccountKeyBook) -> str | None:
    found = of.current("p")
    return found.key_id if found else None


@pytest.mark.parametrize(
    ("records", "seals", "opens", "next_version"),
    [
        # what the log has                                       who seals  who opens    the next version
        ([],                                                     None,      "",          1),
        ([key("a")],                                             "a",       "a",         2),
        ([key("a"), key("b")],                                   "a",       "ab",        2),
        ([key("b"), key("a")],                                   "b",       "ab",        2),
        ([key("a"), key("b"), gone(key("b"))],                   "a",       "a",         2),
        ([key("a"), key("b", 2)],                                "b",       "ab",        3),
        ([key("b", 2), key("a")],                                "b",       "ab",        3),
        ([key("a"), key("b", 2), key("c", 2)],                   "b",       "abc",       3),
        # the same key under another master key stands where it stood
        ([key("a"), key("b"), key("a", 1, "m2")],                "a",       "ab",        2),
        # erased: void wherever it comes
        ([key("a"), erased(1)],                                  None,      "",          2),
        ([erased(1), key("a")],                                  None,      "",          2),
        ([key("a"), erased(1), gone(key("a"))],                  None,      "",          2),
        ([key("a"), erased(1), key("a", 1, "m2")],               None,      "",          2),
        ([key("a"), key("b", 2), erased(2)],                     None,      "",          3),
        # what comes after an erasure is the next version's
        ([key("a"), erased(1), key("c", 2)],                     "c",       "c",         3),
        ([key("a"), erased(1), key("c", 2), erased(2, "m2")],    None,      "",          3),
    ],
)  # fmt: skip
def test_who_seals_and_who_opens(records: list[Record], seals: str | None, opens: str, next_version: int) -> None:
    made = book(*records)
    assert current(made) == seals
    assert sorted(one.key_id for one in made.keys("p")) == list(opens)
    assert made.next_version("p") == next_version


def test_no_order_of_an_erasure_and_its_keys_leaves_one_that_opens() -> None:
    records = [key("a"), key("b"), key("c", 2), erased(2), key("a", 1, "m2")]
    for order in itertools.permutations(records):
        made = book(*order)
        assert made.current("p") is None, order
        assert {one.key_id for one in made.void("p")} == {"a", "b", "c"}, order


def test_compaction_changes_nothing() -> None:
    """Of each name only the last record is left, in its place; what a fresh reader sees then is what others saw."""
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    for _ in range(300):
        log: list[Record] = []
        for number in range(rng.randrange(1, 12)):
            made = key(rng.choice("abcd"), rng.randrange(1, 4)) if rng.random() < 0.8 else erased(rng.randrange(1, 3))
            # a key's version never changes, and neither is a name ever used again
            if all(name != made[0] for name, _ in log):
                log.append(made)
            elif number % 3 == 0:
                log.append(gone(made))
        last = {name: at for at, (name, _) in enumerate(log)}
        whole, compacted = book(*log), book(*(log[at] for at in sorted(last.values())))
        assert current(whole) == current(compacted), seed
        assert whole.keys("p") == compacted.keys("p"), seed
        assert whole.void("p") == compacted.void("p"), seed


def test_who_came_second_is_a_loser_and_former_versions_are_not() -> None:
    made = book(key("a"), key("b"), key("c", 2), key("d", 2))
    assert [one.key_id for one in made.losers("p")] == ["b", "d"]


def test_an_erasure_names_every_master_key_and_repeating_it_adds_nothing() -> None:
    made = book(key("a"), key("b", 2, "m2"), key("x", 1, "m3", "other"))
    records = erasures_of(made, "p", 7)
    assert [(one.version, one.master_id) for one in records] == [(2, "m1"), (2, "m2")]
    for one in records:
        made.take(record_name(one), one)
    assert made.keys("p") == ()
    assert erasures_of(made, "p", 8) == ()
    assert [one.key_id for one in made.keys("other")] == ["x"]
    assert made.wrapped_by() == {"m3": 1}


def test_what_was_wrapped_anew_behind_its_erasure_is_told() -> None:
    """Somebody rotated the master key and did not know: the erased key lies under the new one as well."""
    made = book(key("a"), erased(1), key("a", 1, "m2"), key("c", 2, "m2"))
    (late,) = late_erasures_of(made, "p", 9)
    assert (late.version, late.master_id) == (1, "m2")
    made.take(record_name(late), late)
    assert late_erasures_of(made, "p", 9) == ()
    assert current(made) == "c"


def test_an_account_without_keys_has_nothing_to_erase() -> None:
    assert erasures_of(book(), "p", 1) == ()
    assert list(book(key("a"), gone(key("a")))) == []


def test_a_record_under_a_wrong_name_is_ignored() -> None:
    """A tombstone could not reach it."""
    name, value = key("a")
    assert value is not None
    assert book((b"p/b", value)).current("p") is None
    assert book((b"q/a", value)).current("p") is None
    assert book((name, dataclasses.replace(value, wrapped=b"x"))).current("p") is not None
