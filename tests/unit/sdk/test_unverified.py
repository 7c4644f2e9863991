"""Signatures of stops are checked after the gate is shut: a bad one is found all the same, and nothing opens early."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from emergency_stop.adapters.kafka_tail import TailRecord
from emergency_stop.domain import topics
from emergency_stop.domain.messages import Ack, Command, Hold, Share
from emergency_stop.domain.values import Action, StopLevel
from emergency_stop.sdk import StopGuard
from emergency_stop.sdk.unverified import PAUSE_MS, WAIT_MS_MAX, Unverified
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from emergency_stop.wire.signing import Signable, SignatureVerdict, Signer, Verifier
from tests.unit.sdk.scenario import GRACEFUL, IMMEDIATE, SERVICE, command, half_open, held, running

CODEC = Codec(LocalRegistry())
SIGNER = Signer.generate()
OTHER = f"{SERVICE}s"


class CountingVerifier(Verifier):
    """Notes what it was asked."""

    def __init__(self) -> None:
        super().__init__([SIGNER.public_key])
        self.asked: list[str] = []

    def verify(self, message: Signable) -> SignatureVerdict:
        assert isinstance(message, (Command, Hold))
        self.asked.append(f"{type(message).__name__} {message.epoch}")
        return super().verify(message)


class Guarded:
    """A guard that was never started, fed by hand; its clock stands still, and answers are kept."""

    def __init__(self) -> None:
        self.verifier = CountingVerifier()
        self.guard = StopGuard(SERVICE, "127.0.0.1:9", verifier=self.verifier, clock=self)
        self.guard._gate.open()
        self.answers: list[Ack] = []
        self.now = 0
        self.guard._outgoing.deliver = self._keep  # type: ignore[method-assign]  # no broker to send to

    def now_ms(self) -> int:
        return self.now

    async def _keep(self, ack: Ack) -> None:
        self.answers.append(ack)

    def reads(self, hold: Hold | bytes, *, signed: bool = True) -> None:
        message = SIGNER.sign(hold) if signed and isinstance(hold, Hold) else hold
        value = message if isinstance(message, bytes) else CODEC.encode(message, topics.HOLDS)
        self.guard._incoming.on_hold(TailRecord(b"account:a", value, 0, 0, 0))

    def hears(self, ordered: Command, *, signed: bool = True) -> None:
        message = SIGNER.sign(ordered) if signed else ordered
        topic = topics.commands_topic(SERVICE)
        self.guard._incoming.on_command(TailRecord(b"account:a", CODEC.encode(message, topic), 0, 0, 0))

    @property
    def is_shut(self) -> bool:
        return self.guard.stopped_by("a") is not None


@pytest.fixture
async def guarded() -> Guarded:
    return Guarded()


async def test_a_hold_is_obeyed_before_its_signature_is_checked(guarded: Guarded) -> None:
    guarded.reads(held())
    assert guarded.is_shut
    assert (guarded.verifier.asked, guarded.guard.stats.unverified) == ([], 1)


async def test_what_loosens_is_checked_at_once_and_what_waited_before_it(guarded: Guarded) -> None:
    guarded.reads(held(epoch=1))
    guarded.reads(held(epoch=2))
    guarded.reads(running(epoch=3))
    assert guarded.verifier.asked == ["Hold 1", "Hold 2", "Hold 3"]
    assert (guarded.is_shut, guarded.guard.stats.unverified) == (False, 0)


async def test_a_share_is_checked_at_once_and_admits_nothing_unless_it_is_signed(guarded: Guarded) -> None:
    guarded.reads(held(epoch=1))
    guarded.reads(half_open(100, epoch=2), signed=False)
    assert (guarded.verifier.asked, guarded.is_shut) == (["Hold 1", "Hold 2"], True)
    guarded.reads(half_open(100, epoch=2))
    assert (guarded.guard.stats.untrusted, guarded.is_shut) == (1, False)
    guarded.reads(half_open(0, epoch=3))
    assert (guarded.guard.stats.unverified, guarded.is_shut) == (1, True), "a share of nothing is a stop like any other"


async def test_a_share_for_another_service_alone_is_a_stop_for_this_one(guarded: Guarded) -> None:
    whole = held(epoch=2)
    shares = (Share(OTHER, 100),)
    guarded.reads(replace(whole, causes=(replace(whole.causes[0], shares=shares),)))
    assert (guarded.verifier.asked, guarded.is_shut) == ([], True)


async def test_a_stop_that_waits_is_not_lifted_by_an_older_record_of_its_scope(guarded: Guarded) -> None:
    """``held 1, running 2, held 3``: the lifting was taken before the third came, and nothing undoes that one."""
    guarded.reads(held(epoch=1))
    guarded.reads(running(epoch=2))
    guarded.reads(held(epoch=3))
    guarded.hears(command(epoch=3))
    assert guarded.is_shut
    guarded.reads(running(epoch=2))
    assert guarded.is_shut, "stale: the stop of epoch 3 is known as a good one"


async def test_a_forged_stop_is_obeyed_flagged_and_binds_nobody(guarded: Guarded) -> None:
    guarded.reads(held(epoch=1_000), signed=False)
    guarded.reads(running(epoch=2))
    assert (guarded.guard.stats.untrusted, guarded.is_shut) == (1, False)


async def test_an_unreadable_record_is_not_ended_by_a_hold_from_before_it(guarded: Guarded) -> None:
    """The hold that waits is for another service: checked late, it would have opened the gate."""
    guarded.reads(held(epoch=1, services=(OTHER,)))
    guarded.reads(b"\0\0\0\0\xce garbage")
    assert guarded.is_shut
    await pause(guarded, lambda: guarded.guard._incoming.unverified.checking)
    assert guarded.is_shut


async def test_signatures_are_checked_in_the_pause_after_the_burst(guarded: Guarded) -> None:
    for number in range(25):
        guarded.reads(held(f"account:a{number}"))
    guarded.reads(held("account:a"), signed=False)
    assert guarded.verifier.asked == []
    await pause(guarded, lambda: guarded.guard._incoming.unverified.checking)
    stats = guarded.guard.stats
    assert (len(guarded.verifier.asked), stats.unverified, stats.untrusted) == (26, 0, 1)
    assert guarded.is_shut, "a stop is obeyed whatever its signature says"
    assert stats.held_scopes == 26


async def test_a_command_that_asks_for_what_a_good_hold_does_is_not_checked_again(guarded: Guarded) -> None:
    guarded.reads(held(epoch=2, level=GRACEFUL))
    guarded.hears(command(epoch=2, level=GRACEFUL))
    assert guarded.verifier.asked == ["Hold 2"], "its hold was, once"


@pytest.mark.parametrize(
    ("hold_is_signed", "ordered"),
    [
        pytest.param(True, command(epoch=3), id="a later epoch"),
        pytest.param(True, command(epoch=2, level=IMMEDIATE), id="a more severe level"),
        pytest.param(False, command(epoch=2), id="a hold that proves nothing"),
        pytest.param(True, command(Action.RESUME, epoch=3), id="a resume"),
    ],
)
async def test_any_other_command_is_checked(guarded: Guarded, hold_is_signed: bool, ordered: Command) -> None:
    guarded.reads(held(epoch=2), signed=hold_is_signed)
    guarded.hears(ordered)
    assert guarded.verifier.asked == ["Hold 2", f"Command {ordered.epoch}"]


def test_when_a_check_is_due() -> None:
    """A pause after the newest hold, but never later than the bound after the oldest.

    ::

        holds     |    |    |  · · ·  |    |    |
        due               pause ┘           WAIT_MS_MAX after the first ┘
    """
    waiting = Unverified()
    waiting.add(held("account:a"), 1_000)
    assert waiting.due_in_ms(1_000) == PAUSE_MS
    assert waiting.due_in_ms(1_000 + PAUSE_MS) == 0
    for at_ms in range(1_100, 1_000 + WAIT_MS_MAX, 100):
        waiting.add(held("account:b", level=StopLevel.IMMEDIATE), at_ms)
    assert waiting.due_in_ms(at_ms) == 1_000 + WAIT_MS_MAX - at_ms
    assert waiting.oldest() == "account:a"
    assert [hold.scope for hold in waiting.take("account:a")] == ["account:a"]
    assert waiting.due_in_ms(at_ms) == 1_100 + WAIT_MS_MAX - at_ms
    assert waiting.take("account:a") == []


async def pause(guarded: Guarded, checking: Callable[[], Awaitable[None] | None]) -> None:
    """Nothing comes for longer than a pause; wait until what was due is done."""
    guarded.now += PAUSE_MS
    task = checking()
    assert task is not None
    await task
