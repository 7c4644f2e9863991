"""What an instance has answered to each command: made once, given again to whoever repeats the command. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Final

from emergency_stop.domain.ids import ack_id
from emergency_stop.domain.messages import Ack, Command
from emergency_stop.domain.texts import fit
from emergency_stop.domain.values import AckState, Action, is_scope
from emergency_stop.sdk.gate import Gate

#: Finished commands that are remembered, to answer duplicates alike.
ANSWERED_COMMANDS_MAX: Final = 10_000


class Answers:
    """The answers of instance ``instance_id``, with the evidence of its gate."""

    def __init__(self, gate: Gate, instance_id: str) -> None:
        self._gate = gate
        self._instance_id = instance_id
        #: When the instance was started, as it announces it.
        self.started_at: int | None = None
        self._last: dict[str, Ack] = {}
        #: How often each was said, a repetition not counted.
        self.counts: Counter[tuple[Action, AckState]] = Counter()

    def last(self, command_id: str) -> Ack | None:
        """The last answer to the command; ``None`` where there is none, or it is long ago."""
        return self._last.get(command_id)

    def make(self, command: Command, state: AckState, reason: str, now_ms: int, saved_state: str | None = None) -> Ack:
        """Answer ``command``, with how things stand in its scope now."""
        # a scope that cannot be read covers, for all we know, everything
        scope = command.scope if is_scope(command.scope) else "global"
        last_at = self._gate.last_side_effect_at(scope, now_ms)
        ack = Ack(
            ack_id=ack_id(command.command_id, self._instance_id, state),
            command_id=command.command_id,
            emergency_id=command.emergency_id,
            correlation_id=command.correlation_id,
            scope=command.scope,
            epoch=max(command.epoch, self._gate.epoch_of(command.scope)),
            service=self._gate.service,
            instance_id=self._instance_id,
            state=state,
            reason=fit(reason),
            in_flight=self._gate.in_flight(scope),
            last_side_effect_at=last_at,
            saved_state=None if saved_state is None else fit(saved_state),
            acked_at=max(now_ms, last_at or 0),
            started_at=self.started_at,
        )
        self.counts[command.action, state] += 1
        self._last.pop(command.command_id, None)
        self._last[command.command_id] = ack
        if len(self._last) > ANSWERED_COMMANDS_MAX:
            del self._last[next(iter(self._last))]
        return ack
