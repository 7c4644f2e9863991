"""Signed commands that somebody recorded and sends again, before, during and after a change of keys.

::

    epoch      1 stop        2 resume             3 stop
    signed     old           old                  new
    keys       old trusted   old and new trusted  new trusted, old retired
"""

from __future__ import annotations

from pathlib import Path

import pytest

from emergency_stop.domain.messages import Ack, Command, Hold
from emergency_stop.domain.values import AckState, Action
from emergency_stop.sdk.effects import RunHandler
from emergency_stop.sdk.gate import Gate
from emergency_stop.sdk.stops import Stops
from emergency_stop.wire.signing import SignatureVerdict, Signer
from emergency_stop.wire.trusted_keys import KeyFileVerifier, retire_key, trust_keys
from tests.unit.sdk.scenario import SERVICE, command, held, running

OLD, NEW = Signer.generate(), Signer.generate()
STOP, RESUME = OLD.sign(command(epoch=1)), OLD.sign(command(Action.RESUME, epoch=2))


class Instance:
    """An instance of a service that follows a file of trusted keys; its handlers succeed at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now_ms = 0
        trust_keys(path, OLD.public_pem())
        self.verifier = KeyFileVerifier(path, lambda: self.now_ms)
        self.gate = Gate(SERVICE)
        self.gate.open()
        self.stops = Stops(self.gate, "i1", 60_000, lambda: None)

    def trusts(self, message: Command | Hold) -> bool:
        self.now_ms += 1_000
        return self.verifier.verify(message) is SignatureVerdict.VALID

    def told(self, message: Command) -> list[Ack]:
        """What is answered to a command, to the end."""
        trusted = self.trusts(message)
        effects = self.stops.on_command(message, trusted=trusted, note="" if trusted else "untrusted", now_ms=0)
        answers = []
        for effect in effects:
            if isinstance(effect, RunHandler):
                answers += self.stops.on_handled(effect.command.command_id, 0, done=True)
            else:
                answers.append(effect)
        return [answer for answer in answers if isinstance(answer, Ack)]

    def reads(self, hold: Hold) -> None:
        self.stops.on_hold(hold, trusted=self.trusts(hold), now_ms=0)

    @property
    def is_stopped(self) -> bool:
        return self.gate.shut_for("a") is not None


def states(answers: list[Ack]) -> list[AckState]:
    return [answer.state for answer in answers]


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    """It was stopped and resumed under the old key, and both keys are trusted now."""
    made = Instance(tmp_path / "trusted.pem")
    made.reads(OLD.sign(held(epoch=1)))
    assert states(made.told(STOP)) == [AckState.RECEIVED, AckState.STOPPING, AckState.STOPPED]
    made.reads(OLD.sign(running(epoch=2)))
    assert states(made.told(RESUME)) == [AckState.RESUMED]
    trust_keys(made.path, NEW.public_pem())
    assert not made.is_stopped
    return made


def test_a_repeated_command_gets_its_answer_again_and_does_nothing(instance: Instance) -> None:
    assert states(instance.told(STOP)) == [AckState.STOPPED]
    assert not instance.is_stopped, "its stop was lifted; the same command is no other stop"
    assert states(instance.told(RESUME)) == [AckState.RESUMED]


def test_a_recorded_resume_does_not_lift_the_stop_of_another_key(instance: Instance) -> None:
    instance.reads(NEW.sign(held(epoch=3)))
    assert states(instance.told(NEW.sign(command(epoch=3))))[-1] is AckState.STOPPED
    instance.told(RESUME)
    assert instance.is_stopped
    again = OLD.sign(command(Action.RESUME, epoch=2, attempt=2))
    (answer,) = instance.told(again)
    assert answer.state is AckState.REFUSED, "an old epoch, although its key is still trusted"
    assert "not beyond the stop of epoch 3" in answer.reason
    instance.reads(OLD.sign(running(epoch=2)))
    assert instance.is_stopped, "nor does a recorded hold"


def test_what_a_retired_key_signed_lifts_nothing_and_stops_all_the_same(instance: Instance) -> None:
    retire_key(instance.path, OLD.key_id)
    instance.reads(NEW.sign(held(epoch=3)))
    forged = OLD.sign(command(Action.RESUME, epoch=9))
    (answer,) = instance.told(forged)
    assert answer.state is AckState.REFUSED, "whoever has the old key has no power any more"
    assert "must be signed by a known key" in answer.reason
    instance.reads(OLD.sign(running(epoch=9)))
    assert instance.is_stopped
    instance.reads(NEW.sign(running(epoch=4)))
    assert not instance.is_stopped
    answers = instance.told(OLD.sign(command(epoch=1, attempt=7)))
    assert states(answers)[-1] is AckState.STOPPED
    assert instance.is_stopped, "a stop is obeyed whoever signed it"
    instance.reads(NEW.sign(running(epoch=6)))
    assert not instance.is_stopped, "until the trusted key says otherwise"


def test_an_instance_that_starts_after_the_change_is_held_by_old_holds_and_freed_by_new(tmp_path: Path) -> None:
    """A compacted topic keeps holds of keys that are long retired."""
    late = Instance(tmp_path / "trusted.pem")
    trust_keys(late.path, NEW.public_pem())
    retire_key(late.path, OLD.key_id)
    late.reads(OLD.sign(held(epoch=1)))
    assert late.is_stopped
    assert states(late.told(STOP))[-1] is AckState.STOPPED
    assert states(late.told(RESUME)) == [AckState.REFUSED]
    assert late.is_stopped
    late.reads(NEW.sign(running(epoch=2)))
    assert not late.is_stopped
