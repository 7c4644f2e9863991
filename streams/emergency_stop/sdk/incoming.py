"""What comes in: the records of the holds and of the service's commands, decoded, judged and handed to ``Stops``."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from emergency_stop.adapters.kafka_tail import TailRecord
from emergency_stop.domain import topics
from emergency_stop.domain.messages import Command, Hold
from emergency_stop.domain.values import Action, HoldState, Scope, StopLevel
from emergency_stop.sdk.deferred_checks import DeferredChecks
from emergency_stop.sdk.effects import Effect
from emergency_stop.sdk.gate import Gate, Shut, Verdict
from emergency_stop.sdk.shares import reduced
from emergency_stop.sdk.stops import Stops
from emergency_stop.sdk.unanswered import Unanswered
from emergency_stop.wire.codec import Codec, WireError
from emergency_stop.wire.registry import SchemaUnansweredError, UnknownSchemaError
from emergency_stop.wire.signing import SignatureVerdict, Verifier

log = logging.getLogger(__name__)


@dataclass(slots=True)
class IncomingCounts:
    """What has come in so far."""

    commands: int = 0
    holds: int = 0
    untrusted: int = 0
    unreadable: int = 0


class Incoming:
    """Without a ``verifier`` nothing is verified. ``perform`` is given what ``stops`` answers, in order."""

    def __init__(
        self,
        gate: Gate,
        stops: Stops,
        codec: Codec,
        verifier: Verifier | None,
        perform: Callable[[list[Effect]], None],
        now_ms: Callable[[], int],
    ) -> None:
        self._gate = gate
        self._stops = stops
        self._codec = codec
        self._verifier = verifier
        self._perform = perform
        self._now_ms = now_ms
        self.counts = IncomingCounts()
        #: Holds that were obeyed before anybody checked their signature.
        self.unverified = DeferredChecks(self._take_over, now_ms)
        #: Holds that hold in doubt until the registry tells how they were written.
        self.unanswered = Unanswered(self._read_hold)

    def on_command(self, record: TailRecord) -> None:
        """Take a record of the service's commands. What cannot be read is counted.

        Raises ``SchemaUnansweredError`` for what cannot be read yet: it comes again then, and may be a stop, which
        its hold carries out until then.
        """
        service = self._gate.service
        try:
            command = self._codec.decode(Command, record.value)
        except (WireError, UnknownSchemaError) as error:
            self.counts.unreadable += 1
            log.warning("a command to %s (offset %d) is unreadable: %s", service, record.offset, error)
            return
        if command.service != service:
            log.error("a command to %s lies on the topic of %s; ignored", command.service, service)
            return
        self.counts.commands += 1
        self.unverified.check_now(command.scope)
        trusted, note = (True, "") if self._adds_nothing(command) else self._judge(command)
        self._perform(self._stops.on_command(command, trusted=trusted, note=note, now_ms=self._now_ms()))
        unread = self.unanswered.newest(command.scope.encode())
        if unread is not None:  # what ended the alarm knew nothing of this hold
            self._hold_in_doubt(unread)

    def _adds_nothing(self, command: Command) -> bool:
        """Whether a verified hold already stops as much: then the signature of the command decides nothing."""
        return command.action is Action.STOP and self._gate.holds(command.scope, command.epoch, command.level)

    def on_hold(self, record: TailRecord) -> None:
        """Take a record of ``estop.holds``. Never raises: what cannot be read holds."""
        self.counts.holds += 1
        self.unanswered.overtake(record.key)
        try:
            self._read_hold(record)
        except SchemaUnansweredError as error:
            self._doubt(record, str(error))
            self.unanswered.add(record)

    def _read_hold(self, record: TailRecord) -> None:
        """Raises ``SchemaUnansweredError``, and nothing else."""
        try:
            hold = self._codec.decode(Hold, record.value)
            if self._verifier is not None and hold.state is HoldState.HELD and not _admits(hold, self._gate.service):
                self._obey_unverified(hold)
            else:
                self.unverified.check_now(hold.scope)
                self._take_over(hold)
        except (WireError, UnknownSchemaError, ValueError) as error:
            self._doubt(record, str(error))

    def _obey_unverified(self, hold: Hold) -> None:
        """Shut the gate now, as for a stop that proves nothing; its signature is checked in the next pause."""
        now_ms = self._now_ms()
        _, effects = self._stops.on_hold(hold, trusted=False, now_ms=now_ms)
        self.unverified.add(hold, now_ms)
        self._perform(effects)

    def _take_over(self, hold: Hold) -> None:
        """Raises ``ValueError`` for a bad scope."""
        trusted, _ = self._judge(hold)
        verdict, effects = self._stops.on_hold(hold, trusted=trusted, now_ms=self._now_ms())
        if verdict in (Verdict.REFUSED_STALE, Verdict.REFUSED_UNTRUSTED):
            log.warning("the lifting of %s (epoch %d) was refused: %s", hold.scope, hold.epoch, verdict.value)
        self._perform(effects)

    def _doubt(self, record: TailRecord, problem: str) -> None:
        self.counts.unreadable += 1
        log.error("%s offset %d, key %r: unreadable hold: %s", topics.HOLDS, record.offset, record.key, problem)
        self._hold_in_doubt(record)

    def _hold_in_doubt(self, record: TailRecord) -> None:
        """A hold that cannot be read may be a stop of the scope that its key names: so it is one."""
        scope = (record.key or b"").decode(errors="replace")
        with contextlib.suppress(ValueError):
            Scope.parse(scope)
            self.unverified.check_now(scope)  # in the order of the log: an older hold must not end this alarm
            reason = "its newest hold cannot be read; held until a readable one comes"
            self._gate.raise_alarm(Shut(scope, 0, StopLevel.GRACEFUL, reason))

    def _judge(self, message: Command | Hold) -> tuple[bool, str]:
        """(whether the signature is good, or none is asked for; what is wrong with it)."""
        if self._verifier is None:
            return True, ""
        verdict = self._verifier.verify(message)
        if verdict is SignatureVerdict.VALID:
            return True, ""
        self.counts.untrusted += 1
        stops = message.action is Action.STOP if isinstance(message, Command) else message.state is HoldState.HELD
        log.warning("%s for %s: signature %s", type(message).__name__, message.scope, verdict.value)
        return False, f"signature {verdict.value}" + (": a stop is obeyed all the same" if stops else "")


def _admits(hold: Hold, service: str) -> bool:
    """Whether it is half open for ``service``: what loosens is verified before it is heeded."""
    shut = reduced(hold, service)
    return shut is not None and shut.percent > 0
