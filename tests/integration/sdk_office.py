"""The coordinator's side of a stop, by hand: real holds and commands on a real broker, and every answer read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Self

from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_tail import CompactedTail, TailRecord
from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.domain import topics
from emergency_stop.domain.ids import command_id
from emergency_stop.domain.messages import (
    Ack,
    Activity,
    Command,
    Hold,
    HoldCause,
    Lease,
    Renewal,
    ServiceInstance,
    Share,
)
from emergency_stop.domain.values import AckState, Action, HoldState, InstanceState, StopLevel
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from emergency_stop.wire.signing import Signer

WITHIN_S = 90.0
#: An immediate stop is proven within this, on a machine that has much else to do.
PROMPT_MS = 10_000
LEASE_MS = 30_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {WITHIN_S} s: {what}"
        await asyncio.sleep(0.01)


class Office:
    """Give it a service of its own: its topics are shared by all tests of a broker.

    Like a coordinator it answers every heartbeat of that service with a lease.
    """

    def __init__(self, brokers: str, service: str) -> None:
        self.brokers = brokers
        self.service = service
        self.codec = Codec(LocalRegistry())
        #: Signs leases, and nothing else unless a test does.
        self.signer = Signer.generate()
        self.acks: list[Ack] = []
        self.activity: list[Activity] = []
        self.instances: dict[str, ServiceInstance] = {}
        #: What was read from acks and activity, in the order of arrival here.
        self.publisher = KafkaPublisher(brokers, client_id="office")
        self._answers: set[asyncio.Future[None]] = set()
        self._tails = [
            CompactedTail(brokers, topics.ACKS, self._on_ack, client_id="office-acks"),
            CompactedTail(brokers, topics.ACTIVITY, self._on_activity, client_id="office-activity"),
            CompactedTail(brokers, topics.SERVICES, self._on_instance, client_id="office-services"),
        ]

    async def __aenter__(self) -> Self:
        await ensure_topics(self.brokers, topics.all_topics((self.service,)))
        await self.publisher.start()
        for tail in self._tails:
            await tail.start()
        await asyncio.gather(*(tail.caught_up() for tail in self._tails))
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(tail.stop() for tail in self._tails))
        await self.publisher.stop()

    async def hold(
        self,
        scope: str,
        epoch: int,
        *,
        level: StopLevel | None = StopLevel.GRACEFUL,
        services: tuple[str, ...] | None = None,
        percent: int | None = None,
        signer: Signer | None = None,
    ) -> Hold:
        """Write a hold; ``level`` ``None`` lifts it, ``percent`` opens it for the service to that share."""
        shares = () if percent is None else (Share(self.service, percent),)
        cause = level and HoldCause(f"e-{scope}", level, services or (self.service,), "a test", epoch, None, shares)
        causes = (cause,) if cause else ()
        state = HoldState.HELD if level else HoldState.RUNNING
        hold = Hold(scope, epoch, state, level, causes, "a test", now_ms())
        hold = signer.sign(hold) if signer else hold
        await self.publisher.publish(topics.HOLDS, scope.encode(), self.codec.encode(hold, topics.HOLDS))
        return hold

    async def command(
        self,
        scope: str,
        epoch: int,
        action: Action = Action.STOP,
        *,
        level: StopLevel = StopLevel.IMMEDIATE,
        within_ms: int = 5_000,
        share_percent: int = 0,
        signer: Signer | None = None,
    ) -> Command:
        at = now_ms()
        known_as = command_id(f"e-{scope}", self.service, epoch, action, 1)
        command = Command(
            known_as, f"e-{scope}", "corr", self.service, scope, epoch, action, level, "a test", "office", at,
            at + within_ms, 1, share_percent=share_percent,
        )  # fmt: skip
        command = signer.sign(command) if signer else command
        topic = topics.commands_topic(self.service)
        await self.publisher.publish(topic, scope.encode(), self.codec.encode(command, topic))
        return command

    def answers(self, command: Command, instance_id: str | None = None) -> list[AckState]:
        return [
            ack.state
            for ack in self.acks
            if ack.command_id == command.command_id and instance_id in (None, ack.instance_id)
        ]

    def answer(self, command: Command, state: AckState) -> Ack:
        return next(ack for ack in self.acks if ack.command_id == command.command_id and ack.state is state)

    async def answered(self, command: Command, state: AckState) -> Ack:
        await until(lambda: state in self.answers(command), f"{state.value} for {command.scope}")
        return self.answer(command, state)

    def state_of(self, instance_id: str) -> InstanceState | None:
        found = self.instances.get(f"{self.service}/{instance_id}")
        return found.state if found else None

    def acts(self, account_id: str | None = None, instance_id: str | None = None) -> list[Activity]:
        return [
            act
            for act in self.activity
            if act.service == self.service
            and account_id in (None, act.account_id)
            and instance_id in (None, act.instance_id)
        ]

    def _on_ack(self, record: TailRecord) -> None:
        self.acks.append(self.codec.decode(Ack, record.value))

    def _on_activity(self, record: TailRecord) -> None:
        self.activity.append(self.codec.decode(Activity, record.value))

    def _on_instance(self, record: TailRecord) -> None:
        instance = self.codec.decode(ServiceInstance, record.value)
        self.instances[(record.key or b"").decode()] = instance
        is_new = instance.service == self.service and self._tails[-1].is_caught_up
        if is_new and instance.state is InstanceState.UP:
            answer = asyncio.ensure_future(self._renew(instance))
            self._answers.add(answer)
            answer.add_done_callback(self._answers.discard)

    async def _renew(self, instance: ServiceInstance) -> None:
        renewal = Renewal(instance.service, instance.instance_id, instance.heartbeat_at)
        lease = self.signer.sign(Lease(0, 1, "office", now_ms(), LEASE_MS, (renewal,)))
        await self.publisher.publish(topics.LEASES, b"0", self.codec.encode(lease, topics.LEASES))
