"""What the five reference services share: they act for many accounts, and only while they are permitted to.

Every side effect has two halves, both within one permit: a call to the platform (simulated: it takes a few
milliseconds and can be cancelled), then one ``Activity`` record that proves it. The record's delivery is
never cut short, so when an instance says STOPPED no record of it is still on its way.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from aiokafka.errors import KafkaError

from emergency_stop.domain.messages import Activity
from emergency_stop.domain.topics import ACTIVITY
from emergency_stop.domain.values import GLOBAL_SCOPE, Scope, ScopeKind
from emergency_stop.ports import Publisher
from emergency_stop.sdk import StopGuard, Stopped, current_stop, finish
from emergency_stop.wire.codec import Codec

log = logging.getLogger(__name__)

RATE_PER_S_MAX: Final = 10_000.0


@dataclass(frozen=True, slots=True)
class Operation:
    """One kind of call to the platform, and how long it takes there."""

    name: str
    call_ms: int


class ActivityLog:
    """Writes one record per side effect, with this instance's numbering."""

    def __init__(self, publisher: Publisher, codec: Codec, guard: StopGuard) -> None:
        self._publisher = publisher
        self._codec = codec
        self._guard = guard
        self.sequence = 0
        #: Records that the broker has not answered for, and how to wait for each.
        self._on_the_way: dict[int, asyncio.Event] = {}
        #: The first number whose record the broker did not take; ``None``: it has taken all.
        self._first_missing: int | None = None

    async def record(self, account_id: str, operation: str) -> None:
        """Stamp, write and await the broker's acknowledgement. Must be called while the permit is held.

        Raises ``KafkaError`` where the broker does not take it.
        """
        self.sequence = number = self.sequence + 1
        guard = self._guard
        activity = Activity(guard.service, guard.instance_id, account_id, operation, guard.now_ms(), number)
        value = self._codec.encode(activity, ACTIVITY)
        self._on_the_way[number] = answered = asyncio.Event()
        try:
            await finish(self._publisher.publish(ACTIVITY, account_id.encode(), value))
        except KafkaError:
            self._first_missing = min(number, self._first_missing or number)
            raise
        finally:
            del self._on_the_way[number]
            answered.set()

    async def settled(self, up_to: int) -> None:
        """Wait until the broker has answered for every record up to ``up_to``: it has it, or never will."""
        for number, answered in [*self._on_the_way.items()]:
            if number <= up_to:
                await answered.wait()

    def is_complete(self, up_to: int) -> bool:
        """Whether the broker has every record that this instance numbered up to ``up_to``."""
        missing = (*self._on_the_way, *((self._first_missing,) if self._first_missing else ()))
        return up_to <= self.sequence and up_to < min(missing, default=up_to + 1)


class ReferenceService:
    """Works through ``operations`` for each account in turn, until ``run`` is cancelled.

    ``rate_per_s`` counts actions of the whole instance. Subclasses keep what a real service keeps per
    account: ``prepare`` sets it up, ``applied`` notes the effect of a call, ``release`` gives up what is held.
    """

    service: ClassVar[str]
    operations: ClassVar[tuple[Operation, ...]]

    def __init__(
        self, guard: StopGuard, publisher: Publisher, codec: Codec, accounts: Sequence[str], rate_per_s: float
    ) -> None:
        if not accounts or not 0 < rate_per_s <= RATE_PER_S_MAX:
            raise ValueError(
                f"{self.service}: {len(accounts)} accounts at {rate_per_s} actions/s; allowed: at least 1 account,"
                f" a rate above 0 and up to {RATE_PER_S_MAX:.0f}"
            )
        self.guard = guard
        self.accounts = tuple(accounts)
        self.activity = ActivityLog(publisher, codec, guard)
        self.performed = 0
        self.refused = 0
        self._period_s = len(accounts) / rate_per_s
        self._problem = ""
        self.prepare()

    async def run(self) -> None:
        """Act until cancelled. A stop makes it wait, not end."""
        async with asyncio.TaskGroup() as group:
            for position, account_id in enumerate(self.accounts):
                group.create_task(self._work(account_id, self._period_s * position / len(self.accounts)))

    async def act(self, account_id: str, operation: Operation) -> None:
        """One side effect, permitted, performed and put on record. Raises ``Stopped`` or ``KafkaError``."""
        async with self.guard.permit(account_id):
            await asyncio.sleep(operation.call_ms / 1000)
            self.applied(account_id, operation)
            await self.activity.record(account_id, operation.name)
            self.performed += 1

    async def emergency_stop(self, correlation_id: str) -> bool:
        """Give up what is held for every account that the stop concerns and that may no longer act. Idempotent."""
        stopped = [account_id for account_id in self._concerned() if self.guard.stopped_by(account_id)]
        for account_id in stopped:
            self.release(account_id)
        log.info("%s: stopped for %d accounts (correlation %s)", self.service, len(stopped), correlation_id)
        return True

    def _concerned(self) -> Sequence[str]:
        """The accounts of the stop under way: one, where its scope is one; else, or outside of a stop, all."""
        command = current_stop()
        scope = Scope.parse(command.scope) if command else GLOBAL_SCOPE
        return (scope.name,) if scope.kind is ScopeKind.ACCOUNT else self.accounts

    async def save_state(self, correlation_id: str) -> str:
        """Where this instance's work stands, once the log has every record up to here; other accounts go on."""
        del correlation_id  # one position serves all stops
        number = self.activity.sequence
        await self.activity.settled(number)
        return f"{ACTIVITY}/{self.service}/{self.guard.instance_id}@{number}"

    def verify_state(self, reference: str) -> bool:
        """Whether ``reference`` is this instance's, and every record up to it was acknowledged."""
        place, _, number = reference.rpartition("@")
        ours = place == f"{ACTIVITY}/{self.service}/{self.guard.instance_id}"
        return ours and number.isdecimal() and self.activity.is_complete(int(number))

    def health(self) -> str:
        """What ails the service: side effects that nobody can see are a problem."""
        return self._problem

    def prepare(self) -> None:
        """Set up what the service keeps per account."""
        raise NotImplementedError

    def applied(self, account_id: str, operation: Operation) -> None:
        """The platform has answered ``operation``."""
        raise NotImplementedError

    def release(self, account_id: str) -> None:
        """Let go of what is held for ``account_id``; a no-op where nothing is."""
        raise NotImplementedError

    async def _work(self, account_id: str, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        for operation in itertools.cycle(self.operations):
            try:
                await self.act(account_id, operation)
                self._problem = ""
            except Stopped:
                self.refused += 1
            except KafkaError as error:
                self._problem = f"the broker takes no record of its activity: {error!r}"
                log.warning("%s: %s for %s has no record: %r", self.service, operation.name, account_id, error)
            await asyncio.sleep(self._period_s)
