"""What is told, where and when, against a naive twin, and that no page is lost whenever it crashes."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field, replace

import pytest

from emergency_stop.apps.notifier import telling
from emergency_stop.apps.notifier.hiding import Hidden, Reason, problem_with
from emergency_stop.apps.notifier.telling import Message, StateError, Telling, TellingPolicy, channels_of
from emergency_stop.domain.messages import Notice, Silence
from emergency_stop.domain.values import NoticeKind
from tests.oracle.notices import NaiveNotifier

PAGE, WARNING, INFO = NoticeKind.PAGE, NoticeKind.WARNING, NoticeKind.INFO
ALL = ("system", "email", "webhook")
SEED = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 30)))
RUNS = 60


def notice(notice_id: str = "n1", kind: NoticeKind = WARNING, scope: str = "account:a", **changes: object) -> Notice:
    plain = Notice(notice_id, kind, 0, f"subject of {notice_id}", f"text of {notice_id}", scope, "corr")
    return replace(plain, **changes)  # type: ignore[arg-type]  # a test's shorthand


def silence(**changes: object) -> Silence:
    return replace(Silence("s1", "ann", "planned work", 0, 1_000_000), **changes)  # type: ignore[arg-type]  # as above


@dataclass
class Desk:
    """A core with one channel or more, and what came out of it."""

    core: Telling
    messages: list[Message] = field(default_factory=list)
    hidden: list[tuple[str, str, Reason, str]] = field(default_factory=list)

    @classmethod
    def of(cls, channels: tuple[str, ...] = ("system",), **policy: int | bool) -> Desk:
        return cls(Telling(TellingPolicy(channels, **policy)))  # type: ignore[arg-type]  # by name

    def take(self, *notices: Notice, at: int = 0, named: tuple[str, ...] = ()) -> None:
        for one in notices:
            self._note(self.core.take(one, named, at))

    def at(
        self, now_ms: int, *silences: Silence, under_way: tuple[str, ...] = (), fails: tuple[str, ...] = ()
    ) -> list[list[str]]:
        """The notices of each message of this moment, delivered unless its channel fails."""
        messages, hidden = self.core.due(silences, under_way, now_ms)
        self._note(hidden)
        self.messages += messages
        for message in messages:
            (self.core.failed if message.channel in fails else self.core.sent)(message, now_ms)
        return [[one.notice_id for one in message.notices] for message in messages]

    def _note(self, hidden: list[Hidden]) -> None:
        self.hidden += [(one.notice.notice_id, one.channel, one.reason, one.by) for one in hidden]


def test_a_page_goes_at_once_and_others_wait_for_company() -> None:
    """Warning 0 · warning 3 s · page 4 s → the page at 4 s, both warnings at 5 s."""
    desk = Desk.of(group_ms=5_000)
    desk.take(notice("w1"))
    assert desk.at(0) == []
    desk.take(notice("w2"), at=3_000)
    desk.take(notice("p1", PAGE), at=4_000)
    assert desk.at(4_000) == [["p1"]]
    assert desk.at(4_999) == []
    assert desk.at(5_000) == [["w1", "w2"]]
    assert desk.at(90_000) == []


def test_a_repeated_notice_is_recognised_also_after_it_was_told() -> None:
    desk = Desk.of(group_ms=0)
    desk.take(notice(), notice())
    assert desk.at(0) == [["n1"]]
    desk.take(notice(), at=telling.REMEMBERED_MS - 1)
    assert desk.at(telling.REMEMBERED_MS - 1) == []


def test_a_channel_that_is_out_keeps_no_other_waiting_and_loses_nothing() -> None:
    desk = Desk.of(("system", "email"), group_ms=0)
    desk.take(notice("p1", PAGE))
    assert desk.at(0, fails=("email",)) == [["p1"], ["p1"]]
    desk.take(notice("p2", PAGE), at=500)
    assert desk.at(500, fails=("email",)) == [["p2"]], "e-mail waits a second"
    assert desk.at(1_000, fails=("email",)) == [["p1", "p2"]]
    assert desk.at(2_999) == []
    assert desk.at(3_000) == [["p1", "p2"]]
    assert desk.core.waiting()["email", PAGE] == (0, 0)


def test_what_comes_faster_than_the_limit_is_told_together_and_pages_have_their_own() -> None:
    desk = Desk.of(group_ms=0, per_minute_max=2)
    for second in range(5):
        desk.take(notice(f"w{second}"), at=second * 1_000)
        desk.at(second * 1_000)
    desk.take(notice("p", PAGE), at=5_000)
    assert desk.at(5_000) == [["p"]]
    assert desk.at(59_999) == []
    assert desk.at(60_000) == [["w2", "w3", "w4"]]
    assert [len(message.notices) for message in desk.messages] == [1, 1, 1, 3]


def test_a_silence_hides_what_it_matches_and_says_whose_it_is() -> None:
    desk = Desk.of(group_ms=0)
    desk.take(notice("p", PAGE, trigger_id="t1"), notice("q", PAGE, trigger_id="t2"))
    assert desk.at(0, silence(trigger_id="t1")) == [["q"]]
    assert desk.hidden == [("p", "system", Reason.SILENCED, "s1 of ann: planned work")]


@pytest.mark.parametrize(
    ("of", "is_hidden"),
    [
        ({}, True),
        ({"scope": "account:a"}, True),
        ({"scope": "account:ab"}, False),
        ({"scope": "global"}, False),
        ({"service": "x"}, True),
        ({"service": "y"}, False),
        ({"scope": "account:a", "service": "y"}, False),
        ({"starts_at": 1}, False),
        ({"expires_at": 0, "starts_at": -5}, False),
        ({"author": " "}, False),
        ({"reason": ""}, False),
    ],
)
def test_what_a_silence_matches(of: dict[str, object], is_hidden: bool) -> None:
    desk = Desk.of(group_ms=0)
    desk.take(notice(service="x"))
    assert (desk.at(0, silence(**of)) == []) is is_hidden


def test_a_silence_without_author_reason_or_end_is_none() -> None:
    assert problem_with(silence()) == ""
    assert "author" in problem_with(silence(author=""))
    assert "reason" in problem_with(silence(reason="\t"))
    assert "expires_at" in problem_with(silence(expires_at=0))
    assert "scope" in problem_with(silence(scope="everything"))


def test_a_global_emergency_hides_its_accounts_noise_but_no_page() -> None:
    desk = Desk.of(group_ms=0, inhibit_ms=60_000)
    desk.take(notice("g", WARNING, "global", emergency_id="e1"))
    assert desk.at(0, under_way=("e1",)) == [["g"]]
    desk.take(notice("w", at=1), notice("i", INFO, at=1), notice("p", PAGE, at=1), at=1)
    assert desk.at(1, under_way=("e1",)) == [["p"]]
    assert desk.at(2, under_way=("e1",)) == []
    assert desk.hidden == [("w", "system", Reason.INHIBITED, "g"), ("i", "system", Reason.INHIBITED, "g")]
    desk.take(notice("later", at=60_000), at=60_000)
    assert desk.at(60_000, under_way=("e1",)) == [["later"]], "its window is over"
    desk.take(notice("over", at=2), at=61_000)
    assert desk.at(61_000) == [["over"]], "the emergency is not under way any more"


def test_what_was_hidden_hides_nothing_and_each_channel_speaks_for_itself() -> None:
    """The warning of everything is silenced, so the account's is told; and e-mail, which never had it, tells it too."""
    desk = Desk.of(group_ms=0)
    desk.take(notice("g", WARNING, "global", emergency_id="e1"), notice("w"))
    assert desk.at(0, silence(scope="global"), under_way=("e1",)) == [["w"]]
    other = Desk.of(("system", "email"), group_ms=0)
    other.take(notice("g", WARNING, "global", emergency_id="e1"), named=("system",))
    assert other.at(0, under_way=("e1",)) == [["g"]]
    other.take(notice("w", at=1), at=1)
    assert other.at(1, under_way=("e1",)) == [["w"]]
    assert [message.channel for message in other.messages] == ["system", "email"]


def test_how_an_emergency_ends_is_told_though_it_was_a_page() -> None:
    desk = Desk.of(group_ms=0)
    desk.take(notice("p", PAGE, emergency_id="e1"))
    desk.at(0, under_way=("e1",))
    desk.take(notice("own", INFO, emergency_id="e1"), notice("other", INFO, emergency_id="e2"), notice("back", INFO))
    assert desk.at(1, under_way=("e1", "e2")) == [["own", "back"]]


@pytest.mark.parametrize(
    ("kind", "own", "named", "expected"),
    [
        (WARNING, (), (), ALL),
        (WARNING, (), ("email",), ("system", "email")),
        (WARNING, ("webhook",), ("email",), ("system", "webhook")),
        (PAGE, (), ("email",), ALL),
        (INFO, (), ("system",), ("system",)),
    ],
)
def test_a_triggers_channels_carry_its_notices_but_a_page_goes_everywhere(
    kind: NoticeKind, own: tuple[str, ...], named: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert channels_of(notice(kind=kind, channels=own), named, ALL) == expected


def test_a_channel_that_is_gone_from_the_settings_does_not_take_its_page_with_it() -> None:
    desk = Desk.of(("email",), group_ms=0)
    desk.take(notice("p", PAGE))
    records = [(key, value) for key, value in desk.core.take_dirty() if value is not None]
    again = Desk.of(("system",), group_ms=0)
    again.core.restore(records)
    assert again.at(0) == [["p"]]


@pytest.mark.parametrize("value", [b"", b"[]", b"{}", b'{"version":2}', b'{"version":1,"notice":{},"taken_at":0}'])
def test_a_record_that_is_none_is_refused_by_its_key(value: bytes) -> None:
    with pytest.raises(StateError, match="notice:n1"):
        Telling(TellingPolicy()).restore([(b"notice:n1", value)])


# ------------------------------------------------------------------------------------------------ random sequences


class Run:
    """The core and its twin, through the same random life."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        rng = self.rng
        channels = ALL[: rng.randint(1, 3)]
        self.policy = TellingPolicy(
            channels, rng.random() > 0.05, rng.choice([0, 2_000, 5_000]), rng.choice([0, 20_000, 300_000]),
            rng.choice([1, 3, 10]),
        )  # fmt: skip
        self.core = Telling(self.policy)
        self.twin = NaiveNotifier(
            list(channels), self.policy.group_ms, self.policy.inhibit_ms, self.policy.per_minute_max,
            self.policy.enabled, telling.WAITING_MAX,
        )  # fmt: skip
        self.state: dict[bytes, bytes] = {}
        self.now_ms = 1_000_000
        self.count = 0
        self.silences: list[Silence] = []
        self.on_the_way: list[Message] = []

    def step(self) -> None:
        rng = self.rng
        self.now_ms += rng.choice([0, 1, 100, 900, 5_000, 20_000])
        act = rng.random()
        if act < 0.5:
            self._take()
        elif act < 0.6:
            self._silence()
        elif act < 0.8 and self.on_the_way:
            self._answer()
        elif act < 0.84:
            self._restart()
        self._tell()

    def _take(self) -> None:
        rng = self.rng
        self.count += rng.random() < 0.9
        random_of = random.Random(self.count)  # a repeated number is the same notice
        one = Notice(
            f"n{self.count}", random_of.choice([PAGE, WARNING, WARNING, INFO]),
            1_000_000 + 500 * self.count, "s", "t", random_of.choice(["global", "service:x", "account:a", "account:b"]),
            "c", random_of.choice([None, "e1", "e2", "e3"]), random_of.choice([None, "t1", "t2"]),
            random_of.choice([None, None, "x"]), random_of.choice([(), (), ("email",), ("webhook", "system")]),
        )  # fmt: skip
        named = rng.choice([(), ("system",), ("email", "webhook")])
        hidden = self.core.take(one, named, self.now_ms)
        assert _plain(hidden) == self.twin.take(one, list(named), self.now_ms)

    def _silence(self) -> None:
        rng = self.rng
        self.silences = [
            Silence(
                f"s{number}", rng.choice(["ann", "ann", ""]), "why", self.now_ms - 1,
                self.now_ms + rng.choice([0, 9_000]), rng.choice(["", "account:a", "global"]),
                rng.choice(["", "t1"]), rng.choice(["", "", "x"]),
            )
            for number in range(rng.randint(0, 2))
        ]  # fmt: skip

    def _answer(self) -> None:
        message = self.on_the_way.pop(self.rng.randrange(len(self.on_the_way)))
        arrived = self.rng.random() < 0.7
        (self.core.sent if arrived else self.core.failed)(message, self.now_ms)
        self.twin.answered(message.channel, arrived, self.now_ms)

    def _restart(self) -> None:
        """As after a crash behind a write: what is under way is not known any more."""
        for key, value in self.core.take_dirty():
            if value is None:
                self.state.pop(key, None)
            else:
                self.state[key] = value
        records = list(self.state.items())
        self.rng.shuffle(records)
        self.core = Telling(self.policy)
        self.core.restore(records)
        self.on_the_way = []
        self.twin.restart()

    def _tell(self) -> None:
        under_way = {one for one in ("e1", "e2", "e3") if self.rng.random() < 0.7}
        messages, hidden = self.core.due(self.silences, under_way, self.now_ms)
        expected, expected_hidden = self.twin.due(self.silences, under_way, self.now_ms)
        told = [(one.channel, one.kind.value, tuple(n.notice_id for n in one.notices)) for one in messages]
        assert told == expected
        assert _plain(hidden) == expected_hidden
        self.on_the_way += messages


def _plain(hidden: list[Hidden]) -> list[tuple[str, str, str]]:
    return [(one.channel, one.notice.notice_id, one.reason.value) for one in hidden]


def test_random_lives_are_told_as_the_naive_twin_tells_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "WAITING_MAX", 6)
    monkeypatch.setattr(telling, "REMEMBERED_MS", 1 << 60)  # the twin never forgets
    print(f"seed {SEED} (set SEED to repeat)")
    wanted, seen = {"told", *(reason.value for reason in Reason)}, set[str]()
    number = 0
    while number < RUNS or (seen != wanted and number < 20 * RUNS):  # a rare end may want some runs more
        run = Run(SEED + number)
        for _ in range(120):
            run.step()
        seen |= {how for _, _, how in run.twin.gone}
        number += 1
    assert seen == wanted, "the runs met everything"


def test_no_page_is_lost_wherever_it_crashes() -> None:
    """Records are read again from the last commit, which follows the write of what was taken."""
    print(f"seed {SEED} (set SEED to repeat)")
    for number in range(40):
        rng = random.Random(SEED + number)
        policy = TellingPolicy(ALL, group_ms=1_000, per_minute_max=3)
        topic = [notice(f"n{n}", rng.choice([PAGE, WARNING]), at=n) for n in range(20)]
        core, state, committed, position = Telling(policy), dict[bytes, bytes](), 0, 0
        arrived: set[tuple[str, str]] = set()
        for turn in range(1_500):
            now_ms = turn * 500
            if position < len(topic) and rng.random() < 0.3:
                core.take(topic[position], (), now_ms)
                position += 1
            for message in core.due((), (), now_ms)[0]:
                if rng.random() < 0.6:
                    arrived |= {(message.channel, one.notice_id) for one in message.notices}
                    core.sent(message, now_ms)
                else:
                    core.failed(message, now_ms)
            if rng.random() < 0.4:
                state.update({key: value for key, value in core.take_dirty() if value is not None})
                committed = position
            if turn < 400 and rng.random() < 0.1:
                core, position = Telling(policy), committed
                core.restore(state.items())
        assert arrived == {(channel, one.notice_id) for channel in ALL for one in topic}


def test_memory_is_given_back() -> None:
    desk = Desk.of(group_ms=0, per_minute_max=600)
    for number in range(50):
        desk.take(notice(f"n{number}", emergency_id="e", at=number), at=number)
        desk.at(number)
    kept = {key for key, value in desk.core.take_dirty() if value is not None}
    assert len(kept) == 50
    desk.at(telling.REMEMBERED_MS + 100)
    assert {key for key, value in desk.core.take_dirty() if value is None} == kept
    assert desk.core._inhibitors == {"system": {}}
