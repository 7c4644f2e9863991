"""The judge's book of answers: every command that was given, what was said to it, and who was there to say it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from emergency_stop.domain.messages import Ack, Command, Hold
from emergency_stop.domain.values import AckState, Action, StopLevel

if TYPE_CHECKING:
    from tests.simulation.instance import Instance
    from tests.simulation.judge import Judge
    from tests.simulation.world import SimulatedWorld

_SAYS_NO: Final = frozenset({AckState.FAILED, AckState.REFUSED, AckState.UNKNOWN})
#: An instance that a coordinator knows for so long counts in whatever it decides.
KNOWN_FOR_MS: Final = 1_000
#: One that a coordinator has seen it sees ever after, but for so long: what it reads has a lag that changes.
SEEN_WITHIN_MS: Final = 10


class Word(NamedTuple):
    """A verdict on a stop: the command's epoch and attempt, when it was said, whether it says no, by which process."""

    epoch: int
    attempt: int
    at: int
    says_no: bool
    started_at: int | None


class Answers:
    def __init__(self, judge: Judge, world: SimulatedWorld) -> None:
        self._judge, self._world = judge, world
        self._commands: dict[str, Command] = {}
        #: By emergency: each answer that differs from every other, in the order in which they came.
        self._acks: dict[str, dict[Ack, Ack]] = {}

    def commanded(self, command: Command) -> None:
        self._commands[command.command_id] = command

    def command(self, command_id: str) -> Command | None:
        """A command that was given."""
        return self._commands.get(command_id)

    def given(self, emergency: str, action: Action) -> list[Command]:
        """The commands of an emergency."""
        return [one for one in self._commands.values() if (one.emergency_id, one.action) == (emergency, action)]

    def acked(self, ack: Ack) -> None:
        self._acks.setdefault(ack.emergency_id, {})[ack] = ack

    # ------------------------------------------------------------------------------------- the naive twin of acks

    def _order(self, ack: Ack, action: Action) -> Command | None:
        command = self._commands.get(ack.command_id)
        if command is None or command.service != ack.service or command.action is not action:
            return None
        return command

    def verdicts(self, emergency: str, epoch: int, scope: str) -> dict[tuple[str, str], list[Word]]:
        """By instance all verdicts on commands that were given.

        Of a stop of ``epoch`` that a recovery had let run before, only those on commands given since.
        """
        words: dict[tuple[str, str], list[Word]] = {}
        for ack in self._acks.get(emergency, {}).values():
            command = self._order(ack, Action.STOP)
            if command is None or command.epoch < self._judge.ledger.ran_before(scope, emergency, epoch, ack.service):
                continue
            unsaved = command.level is StopLevel.MAINTENANCE and not ack.saved_state
            bad_proof = ack.in_flight > 0 or ack.epoch < command.epoch or unsaved
            if ack.state in _SAYS_NO or ack.state is AckState.STOPPED:
                no = ack.state in _SAYS_NO or bad_proof
                word = Word(command.epoch, command.attempt, ack.acked_at, no, ack.started_at)
                words.setdefault((ack.service, ack.instance_id), []).append(word)
        return words

    def has_resumed(self, emergency: str, key: tuple[str, str]) -> bool:
        """Whether the instance has confirmed a resume that it was given."""
        acks = self._acks.get(emergency, {}).values()
        said_so = [ack for ack in acks if (ack.service, ack.instance_id, ack.state) == (*key, AckState.RESUMED)]
        return any(self._order(ack, Action.RESUME) is not None for ack in said_so)

    def anew_at(self, emergency: str, service: str) -> int:
        """Epoch with which the service was last commanded anew: after a rollback all owe their proof."""
        stops = self.given(emergency, Action.STOP)
        return max((one.epoch for one in stops if (one.service, one.attempt) == (service, 1)), default=0)

    # ---------------------------------------------------------------------------------------- who owes what

    def _probes(self, emergency: str, attempt: int, epoch: int) -> list[Command]:
        """Those of a recovery's attempt before ``epoch``."""
        given = self.given(emergency, Action.PROBE)
        return [probe for probe in given if probe.attempt == attempt and probe.epoch < epoch]

    def not_ready(self, emergency: str, attempt: int, epoch: int) -> list[tuple[Instance, Command]]:
        """Who was there when a recovery's attempt probed, before ``epoch``, and has not said that it is ready."""
        probes = self._probes(emergency, attempt, epoch)
        acks = self._acks.get(emergency, {}).values()
        ready = {(a.command_id, a.instance_id) for a in acks if a.state is AckState.READY}
        return [
            (instance, probe)
            for probe in probes
            for instance in self._seen_before(probe.service, probe.issued_at)
            if (probe.command_id, instance.instance_id) not in ready
        ]

    def begun_since_probed(self, emergency: str, attempt: int, hold: Hold) -> list[tuple[Instance, Command]]:
        """Who lived at the last probes of a recovery's attempt before ``hold``, and began anew under its id since."""
        probes = self._probes(emergency, attempt, hold.epoch)
        last_at = max((probe.issued_at for probe in probes), default=0)
        return [
            (instance, probe)
            for probe in probes
            if probe.issued_at == last_at
            for instance in self._world.instances
            if instance.service == probe.service
            and probe.issued_at < (self._world.seen_at(instance) or 0) < hold.updated_at - SEEN_WITHIN_MS
            and any(self._was_there(one, probe.issued_at) for one in self._world.instances if one.key == instance.key)
        ]

    def _was_there(self, instance: Instance, at: int) -> bool:
        """Whether a coordinator knew it well at that time, and it had not ended."""
        seen_at = self._world.seen_at(instance)
        return seen_at is not None and seen_at < at - SEEN_WITHIN_MS and (instance.ended_at or at + 1) > at

    def owing(self, emergency: str, services: tuple[str, ...], at: int) -> list[Instance]:
        """Live instances of ``services`` that were asked to stop and had given no proof by then."""
        acks = self._acks.get(emergency, {}).values()
        proven = {(a.service, a.instance_id) for a in acks if a.state is AckState.STOPPED}
        seen = [one for service in services for one in self._seen_before(service, at)]
        return [one for one in seen if one.key not in proven and one.is_alive]

    def _seen_before(self, service: str, at: int) -> list[Instance]:
        """Instances of a service that a coordinator knew well before, and that have not left.

        Of those under one id the last: what was before it has ended.
        """
        newest = {one.key: one for one in self._world.instances if self._world.seen_at(one) is not None}
        here = [one for one in newest.values() if one.service == service and one.left_at is None]
        return [one for one in here if (self._world.seen_at(one) or at) < at - KNOWN_FOR_MS]
