"""Each letter is sent once: what the audit says about attempts, in the order in which they lie there."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from emergency_stop.apps.dead_letters.barred import barred
from emergency_stop.apps.dead_letters.book import Choice, LetterBook
from emergency_stop.apps.dead_letters.examine import Examiner
from emergency_stop.apps.dead_letters.fix import Candidate, Fix
from emergency_stop.apps.dead_letters.journal import (
    ATTEMPT_OVER_MS,
    Journal,
    Order,
    Standing,
    done,
    intent,
    redrive_count,
    redrive_headers,
)
from emergency_stop.apps.dead_letters.letter import Letter, Place, read_letter
from emergency_stop.apps.dead_letters.plan import Refused, forgotten_at_ms, plan
from emergency_stop.domain.messages import AuditRecord
from emergency_stop.domain.topics import DEAD_LETTER, REQUESTS, TELEMETRY_HEALTH
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry

NOW_MS = 1_800_000_000_000
TARGET = Place(TELEMETRY_HEALTH, 1, 40)
LETTER = Letter(
    Place(DEAD_LETTER, 0, 5), Place(TELEMETRY_HEALTH, 1, 3), NOW_MS, NOW_MS, "unknown_schema", "", b"a",
    b"\0\0\0\3\xe7abc", (("trace", b"1"),),
)  # fmt: skip
ONE = Order("one", "cli:ann", "", NOW_MS)
TWO = Order("two", "cli:bob", "", NOW_MS + 5)


def journal_of(*records: AuditRecord) -> Journal:
    """Through the wire, as the audit topic has them."""
    codec, journal = Codec(LocalRegistry()), Journal()
    for record in records:
        journal.take(codec.decode(AuditRecord, codec.encode(record, "estop.audit")))
    return journal


def begun(order: Order) -> AuditRecord:
    return intent(LETTER, order, TARGET, "")


def test_a_letter_without_a_record_is_open() -> None:
    assert journal_of().standing(LETTER.letter_id, NOW_MS) == Standing()
    assert Standing().state == "open"


def test_what_was_sent_is_never_sent_again_whoever_asks_and_however_late() -> None:
    journal = journal_of(begun(ONE), done(LETTER, ONE, TARGET, ""))
    standings = [journal.standing(LETTER.letter_id, NOW_MS + age_ms) for age_ms in (0, 10**10)]
    for standing in (*standings, journal.standing_of_attempt(LETTER.letter_id, "one", frozenset())):
        assert standing.state == "redriven"
        refused = plan(LETTER, standing, Fix(), NOW_MS, Examiner(LocalRegistry()), LocalRegistry())
        assert isinstance(refused, Refused)
        assert refused.kind == "already_redriven"


@pytest.mark.parametrize("order", list(itertools.permutations((ONE, TWO))))
def test_of_two_attempts_at_once_exactly_the_first_on_record_goes_on(order: tuple[Order, Order]) -> None:
    journal = journal_of(*map(begun, order))
    none: frozenset[str] = frozenset()
    going = [one for one in order if journal.standing_of_attempt(LETTER.letter_id, one.attempt_id, none).busy is None]
    assert going == [order[0]]


def test_an_attempt_passes_ended_ones_only_where_it_has_looked_for_what_they_sent() -> None:
    """One that began and ended while this one waited is as old as it may be: nobody has looked."""
    journal = journal_of(begun(ONE), begun(replace(TWO, at_ms=NOW_MS + 10 * ATTEMPT_OVER_MS)))
    assert journal.standing_of_attempt(LETTER.letter_id, "two", frozenset({"one"})) == Standing()
    assert journal.standing_of_attempt(LETTER.letter_id, "two", frozenset()).busy is not None


def test_a_new_attempt_waits_for_one_that_may_still_send_and_looks_for_what_an_ended_one_sent() -> None:
    journal = journal_of(begun(ONE))
    busy = journal.standing(LETTER.letter_id, NOW_MS + ATTEMPT_OVER_MS - 1)
    assert (busy.state, busy.unsettled) == ("in progress", ())
    over = journal.standing(LETTER.letter_id, NOW_MS + ATTEMPT_OVER_MS)
    assert (over.state, over.busy) == ("interrupted", None)
    assert [one.target for one in over.unsettled] == [TARGET]


def test_another_letters_attempts_and_other_decisions_do_not_matter() -> None:
    other = replace(LETTER, source=Place(TELEMETRY_HEALTH, 1, 4))
    stop = replace(begun(ONE), action="stop_issued")
    journal = journal_of(intent(other, ONE, TARGET, ""), done(other, ONE, TARGET, ""), stop)
    assert journal.standing(LETTER.letter_id, NOW_MS) == Standing()


def test_an_intent_that_cannot_be_read_still_counts_as_one() -> None:
    journal = journal_of(replace(begun(ONE), after="{"))
    assert journal.standing(LETTER.letter_id, NOW_MS).busy is not None


def test_letters_about_one_record_are_one_and_a_topic_made_anew_has_others() -> None:
    again = replace(LETTER, place=Place(DEAD_LETTER, 3, 9), at_ms=NOW_MS + 1)
    assert again.letter_id == LETTER.letter_id
    different = [
        replace(LETTER, value=b"x"), replace(LETTER, key=None), replace(LETTER, key=b""),
        replace(LETTER, key=b"a\0", value=LETTER.value), replace(LETTER, source=Place(TELEMETRY_HEALTH, 2, 3)),
    ]  # fmt: skip
    assert len({one.letter_id for one in (LETTER, *different)}) == 1 + len(different)


def test_headers_say_that_it_was_redriven_and_count_on() -> None:
    first = redrive_headers(LETTER, ONE)
    assert first[0] == ("trace", b"1")
    assert dict(first)["estop.redrive.by"] == b"cli:ann"
    assert dict(first)["estop.redrive.letter"] == b"estop.dead-letter-0@5"
    assert redrive_count(first) == 1
    second = redrive_headers(replace(LETTER, headers=first), TWO)
    assert redrive_count(second) == 2
    assert len(second) == len(first)


@pytest.mark.parametrize("topic", [REQUESTS, "estop.holds", "estop.commands.alpha", "services.activity", ""])
def test_nothing_but_telemetry_is_redriven(topic: str) -> None:
    """A resume or a hold that comes late could undo a newer stop."""
    assert barred(replace(LETTER, source=Place(topic, 0, 0)))
    assert not barred(LETTER)


def test_a_schema_that_was_unknown_a_moment_ago_is_waited_for() -> None:
    book = LetterBook(Choice(), 10)
    for age_ms in (50_000, 10_000, 20_000):
        source = Place(TELEMETRY_HEALTH, 0, age_ms)
        book.take(replace(LETTER, source=source, at_ms=NOW_MS - age_ms))
    same, other = Candidate(b"a", LETTER.value, NOW_MS), Candidate(b"a", b"\0\0\0\0\x65abc", NOW_MS)
    assert forgotten_at_ms(book, [other, same]) == NOW_MS - 10_000 + 32_000
    assert forgotten_at_ms(book, [other]) == 0
    assert forgotten_at_ms(book, []) == 0


def test_a_book_counts_all_and_keeps_the_newest_once() -> None:
    book = LetterBook(Choice(), 3)
    letters = [replace(LETTER, source=Place(TELEMETRY_HEALTH, 0, n), at_ms=NOW_MS + n) for n in range(20)]
    for letter in (*letters, *letters):
        book.take(letter)
    assert book.letters() == letters[-3:]
    assert (book.count, book.by_reason["unknown_schema"], book.by_topic[TELEMETRY_HEALTH]) == (20, 20, 20)


def test_what_was_named_and_is_not_there_is_missing() -> None:
    gone = Place(DEAD_LETTER, 9, 9)
    book = LetterBook(Choice(places=frozenset({LETTER.place, LETTER.source, gone})), 1)
    book.take(LETTER)
    assert book.missing() == [gone]


@pytest.mark.parametrize("text", ["", "a", "a-1", "a-1@", "a-x@1", "a-1@-1", "-1@1", "a b-1@1"])
def test_what_is_no_place_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"estop\.dead-letter-0@17"):
        Place.parse(text)


def test_a_letter_that_something_else_wrote_is_read_as_far_as_it_goes() -> None:
    letter = read_letter(Place(DEAD_LETTER, 0, 0), NOW_MS, None, None, [("x", b"y"), ("__connect.errors.offset", b"q")])
    assert (letter.source, letter.label, letter.reason) == (Place("", -1, -1), "", None)
    assert letter.headers == (("x", b"y"),)
    assert barred(letter)
