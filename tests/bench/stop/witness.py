"""What the bench itself reads from the topics: with its own clock, and trusting no sum of the coordinator's.

``Emergency.time_to_stop_ms`` is the coordinator's word. The witness keeps beside it when it read the last STOPPED, and
what every instance answered to every command.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final, Self

from emergency_stop.adapters.kafka_tail import CompactedTail, TailRecord
from emergency_stop.domain import topics
from emergency_stop.domain.messages import Ack, Activity, Command, Emergency, Recovery
from emergency_stop.domain.values import AckState, Action, EmergencyState
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry

ENDED: Final = frozenset({EmergencyState.STOPPED, EmergencyState.PARTIAL})
VERDICTS: Final = frozenset({AckState.STOPPED, AckState.FAILED, AckState.REFUSED})
_POLL_S: Final = 0.02
#: (service, instance)
Who = tuple[str, str]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def until(condition: Callable[[], bool], what: Callable[[], str], within_s: float) -> None:
    """Wait for ``condition``. Raises ``TimeoutError`` that says what was still missing."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within_s:g} s: {what()}")
        await asyncio.sleep(_POLL_S)


@dataclass(slots=True)
class Seen:
    """One emergency as it was read, up to its first recovery: what a rollback stops is timed from the rollback."""

    account: Emergency
    #: When its newest account, and the last STOPPED of an instance, were read.
    ended_seen_ms: int = 0
    last_stopped_seen_ms: int = 0
    answers: dict[Who, dict[AckState, Ack]] = field(default_factory=dict)
    #: (command, instance) of every verdict: STOPPED, FAILED or REFUSED.
    verdicts: set[tuple[str, str]] = field(default_factory=set)
    is_recovering: bool = False

    @property
    def has_ended(self) -> bool:
        return self.account.state in ENDED


class Witness:
    """An async context manager that follows acknowledgements, emergencies, commands and side effects from the end."""

    def __init__(self, brokers: str, services: tuple[str, ...]) -> None:
        self._codec = Codec(LocalRegistry())
        self._brokers = brokers
        self._services = services
        self._stack = AsyncExitStack()
        self._early: dict[str, list[tuple[Ack, int]]] = {}
        self.emergencies: dict[str, Seen] = {}
        #: By scope: the emergency that was opened for it last.
        self.by_scope: dict[str, Seen] = {}
        self.stop_commands: dict[str, Command] = {}
        self.activity: list[Activity] = []
        #: When the first recovery of an emergency began; from then on its services may act again.
        self.recovering_from: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        takes: dict[str, Callable[[TailRecord], None]] = {
            topics.EMERGENCIES: self._take_emergency, topics.ACKS: self._take_ack, topics.ACTIVITY: self._take_activity,
            topics.RECOVERIES: self._take_recovery,
            **{topics.commands_topic(service): self._take_command for service in self._services},
        }  # fmt: skip
        for topic, take in takes.items():
            tail = CompactedTail(self._brokers, topic, take, client_id=f"witness-{topic}", from_end=True)
            await tail.start()
            self._stack.push_async_callback(tail.stop)
            await tail.caught_up()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def has_ended(self, scope: str) -> bool:
        """Whether ``scope`` has an emergency, and that is over."""
        seen = self.by_scope.get(scope)
        return seen is not None and seen.has_ended

    def effects_after_stop(self) -> int:
        """Side effects of an instance for an account between its word that it had stopped and the first recovery."""
        never = 1 << 62
        stopped = {
            (*who, seen.account.account_id): (
                answers[AckState.STOPPED].acked_at,
                self.recovering_from.get(emergency_id, never),
            )
            for emergency_id, seen in self.emergencies.items()
            for who, answers in seen.answers.items()
            if AckState.STOPPED in answers
        }
        keys = ((one.performed_at, (one.service, one.instance_id, one.account_id)) for one in self.activity)
        spans = ((at, *stopped.get(key, (never, never))) for at, key in keys)
        return sum(from_ms < at < until_ms for at, from_ms, until_ms in spans)

    def clock_contradictions(self) -> list[str]:
        """Emergencies whose last STOPPED was read before the moment that ``time_to_stop_ms`` claims for it."""
        return [
            f"{seen.account.scope}: {seen.account.time_to_stop_ms} ms claimed, read after {read_ms} ms"
            for seen in self.emergencies.values()
            if seen.account.time_to_stop_ms is not None and seen.last_stopped_seen_ms
            if (read_ms := seen.last_stopped_seen_ms - seen.account.occurred_at) < seen.account.time_to_stop_ms
        ]

    def all_ended(self) -> Iterator[Seen]:
        return (seen for seen in self.emergencies.values() if seen.has_ended)

    def _take_emergency(self, record: TailRecord) -> None:
        account = self._codec.decode(Emergency, record.value)
        seen = self.emergencies.get(account.emergency_id)
        if seen is None:
            seen = self.emergencies[account.emergency_id] = Seen(account)
            self.by_scope[account.scope] = seen
            for ack, read_ms in self._early.pop(account.emergency_id, ()):
                self._note(seen, ack, read_ms)
        seen.is_recovering |= account.state is EmergencyState.RECOVERING
        if seen.is_recovering:
            return
        if account.state in ENDED and not seen.has_ended:
            seen.ended_seen_ms = now_ms()
        seen.account = account

    def _take_ack(self, record: TailRecord) -> None:
        ack = self._codec.decode(Ack, record.value)
        seen = self.emergencies.get(ack.emergency_id)
        if seen is None:
            self._early.setdefault(ack.emergency_id, []).append((ack, now_ms()))
        else:
            self._note(seen, ack, now_ms())

    def _note(self, seen: Seen, ack: Ack, read_ms: int) -> None:
        answers = seen.answers.setdefault((ack.service, ack.instance_id), {})
        # an instance that is commanded again, after a deadline, proves it again, and the newest proof counts
        is_new = (ack.command_id, ack.instance_id) not in seen.verdicts
        if ack.state is AckState.STOPPED and is_new and not seen.is_recovering:
            seen.last_stopped_seen_ms = max(seen.last_stopped_seen_ms, read_ms)
        answers.setdefault(ack.state, ack)
        if ack.state in VERDICTS:
            seen.verdicts.add((ack.command_id, ack.instance_id))

    def _take_command(self, record: TailRecord) -> None:
        command = self._codec.decode(Command, record.value)
        if command.action is Action.STOP:
            self.stop_commands[command.command_id] = command

    def _take_recovery(self, record: TailRecord) -> None:
        recovery = self._codec.decode(Recovery, record.value)
        self.recovering_from.setdefault(recovery.emergency_id, recovery.started_at)

    def _take_activity(self, record: TailRecord) -> None:
        self.activity.append(self._codec.decode(Activity, record.value))
