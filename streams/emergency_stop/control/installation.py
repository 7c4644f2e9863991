"""An installation as its own topics tell it: holds, services, emergencies, triggers. Needs Kafka and nothing else.

What an operator sees and does at 3 a.m. must not depend on ClickHouse or a coordinator that answers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, TypeVar

from aiokafka.errors import KafkaError

from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_sign_in import KafkaSignInError
from emergency_stop.adapters.kafka_tail import CompactedTail, TailRecord
from emergency_stop.adapters.trigger_publishing import publish_versions
from emergency_stop.config import Settings
from emergency_stop.control.errors import SignInError, UnavailableError
from emergency_stop.domain.messages import (
    AuditRecord,
    ConditionQuestion,
    Emergency,
    Freshness,
    Hold,
    Recovery,
    Request,
    ServiceInstance,
    Silence,
)
from emergency_stop.domain.questions import question_routes
from emergency_stop.domain.topics import (
    EMERGENCIES,
    FRESHNESS,
    HOLDS,
    QUESTIONS,
    RECOVERIES,
    REQUESTS,
    SERVICES,
    SILENCES,
    TRIGGERS,
)
from emergency_stop.domain.triggers import Trigger
from emergency_stop.wire.codec import Codec, WireError
from emergency_stop.wire.registry import UnknownSchemaError
from emergency_stop.wire.registry_http import RegistryError, build_registry

READ_WITHIN_S: Final = 15.0
SCAN_WITHIN_S: Final = 120.0
#: Many triggers take longer to write; a slower broker is as good as none.
RECORDS_PER_S_MIN: Final = 500
_POLL_S: Final = 0.05
_KINDS: Final[dict[str, Any]] = {
    HOLDS: Hold,
    SERVICES: ServiceInstance,
    EMERGENCIES: Emergency,
    RECOVERIES: Recovery,
    FRESHNESS: Freshness,
    TRIGGERS: Trigger,
    SILENCES: Silence,
}
M = TypeVar("M")


async def caught_up(tails: Sequence[CompactedTail], within_s: float) -> None:
    """Wait until all are. Raises ``SignInError`` as soon as brokers refuse us, ``TimeoutError`` after ``within_s``."""
    try:
        await asyncio.wait_for(asyncio.gather(*(tail.caught_up(or_refused=True) for tail in tails)), within_s)
    except KafkaSignInError as error:
        raise SignInError(str(error)) from error


class Installation:
    """Follows compacted control topics from their beginning; the newest record per key stands.

    ``unreadable`` counts records that are no message of their topic: whoever decides must know of them.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.codec = Codec(build_registry(settings.registry_url))
        self.unreadable = 0
        self._newest: dict[str, dict[bytes, Any]] = {topic: {} for topic in _KINDS}

    def all_of(self, topic: str, kind: type[M]) -> list[M]:
        """What stands in ``topic``, by key."""
        found = self._newest[topic]
        return [found[key] for key in sorted(found) if isinstance(found[key], kind)]

    def hold(self, scope: str) -> Hold | None:
        """The hold of exactly this scope, in force or lifted."""
        return next((hold for hold in self.all_of(HOLDS, Hold) if hold.scope == scope), None)

    def emergency(self, emergency_id: str) -> Emergency | None:
        return next((one for one in self.all_of(EMERGENCIES, Emergency) if one.emergency_id == emergency_id), None)

    def recovery(self, emergency_id: str) -> Recovery | None:
        """The last recovery of an emergency."""
        return next((one for one in self.all_of(RECOVERIES, Recovery) if one.emergency_id == emergency_id), None)

    @contextlib.asynccontextmanager
    async def following(self, *topics: str) -> AsyncIterator[None]:
        """Within this context the topics are read on; on entry all that they held was read.

        Raises ``UnavailableError`` after ``READ_WITHIN_S`` seconds without that.
        """
        tails = [
            CompactedTail(self.settings.kafka, topic, self._taker(topic), client_id="estop-cli") for topic in topics
        ]
        try:
            for tail in tails:
                await tail.start()
            try:
                await caught_up(tails, READ_WITHIN_S)
            except TimeoutError:
                late = ", ".join(topic for topic, tail in zip(topics, tails, strict=True) if not tail.is_caught_up)
                raise UnavailableError(
                    f"{late} could not be read from ESTOP_BROKERS={self.settings.brokers} within {READ_WITHIN_S:g} s;"
                    f" {_hint(tails)}"
                ) from None
            yield
        finally:
            await asyncio.gather(*(tail.stop() for tail in tails))

    def _taker(self, topic: str) -> Callable[[TailRecord], None]:
        newest, kind = self._newest[topic], _KINDS[topic]

        def take(record: TailRecord) -> None:
            if record.key is None or record.value is None:
                newest.pop(record.key or b"", None)
                return
            try:
                newest[record.key] = self.codec.decode(kind, record.value)
            except (WireError, UnknownSchemaError):
                self.unreadable += 1

        return take

    async def scan(self, topic: str, take: Callable[[TailRecord], None], within_s: float = SCAN_WITHIN_S) -> None:
        """Hand over every record that ``topic`` holds now. Raises ``UnavailableError`` after ``within_s`` seconds."""
        async with self.reading(topic, take, within_s):
            pass

    @contextlib.asynccontextmanager
    async def reading(
        self, topic: str, take: Callable[[TailRecord], None], within_s: float = SCAN_WITHIN_S
    ) -> AsyncIterator[None]:
        """On entry every record that ``topic`` held was handed over; within this context, those that come are.

        Raises ``UnavailableError`` after ``within_s`` seconds without that.
        """
        tail = CompactedTail(self.settings.kafka, topic, take, client_id="estop-cli")
        await tail.start()
        try:
            await caught_up([tail], within_s)
        except TimeoutError:
            raise UnavailableError(
                f"{topic} could not be read whole from ESTOP_BROKERS={self.settings.brokers} within {within_s:g} s;"
                f" {_hint([tail])}"
            ) from None
        else:
            yield
        finally:
            await tail.stop()

    @contextlib.asynccontextmanager
    async def listening(self, topic: str, take: Callable[[TailRecord], None]) -> AsyncIterator[None]:
        """Within this context everything that is appended to ``topic`` is handed over. Raises ``UnavailableError``."""
        tail = CompactedTail(self.settings.kafka, topic, take, client_id="estop-cli", from_end=True)
        await tail.start()
        try:
            try:
                await caught_up([tail], READ_WITHIN_S)
            except TimeoutError:
                raise UnavailableError(
                    f"{topic} could not be read from ESTOP_BROKERS={self.settings.brokers} within {READ_WITHIN_S:g} s;"
                    " 'estop check' says what is missing"
                ) from None
            yield
        finally:
            await tail.stop()

    async def until(self, holds: Callable[[], bool], within_s: float) -> bool:
        """Whether ``holds`` came true while following; false after ``within_s``."""
        deadline = asyncio.get_running_loop().time() + within_s
        while not holds():
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(_POLL_S)
        return True

    async def publish(self, topic: str, key: str, message: Request | AuditRecord | Silence) -> None:
        """Write one message; on return every in-sync replica has it. Raises ``UnavailableError``."""
        async with self.writing(topic, READ_WITHIN_S) as publisher:
            await publisher.publish(topic, key.encode(), self.codec.encode(message, topic))

    async def ask(self, question: ConditionQuestion) -> None:
        """Write a question to every partition that knows a part of its answer. Raises ``UnavailableError``."""
        async with self.writing(QUESTIONS, READ_WITHIN_S) as publisher:
            for route in question_routes(question, self.settings.telemetry_partitions):
                value = self.codec.encode(route.question, QUESTIONS)
                await publisher.publish(QUESTIONS, route.key.encode(), value, partition=route.partition)

    async def publish_versions(self, versions: Sequence[Trigger], superseded: Sequence[Trigger] = ()) -> None:
        """Bring versions of triggers into force, their history first. Raises ``UnavailableError``."""
        within_s = READ_WITHIN_S + (len(versions) + len(superseded)) / RECORDS_PER_S_MIN
        async with self.writing(TRIGGERS, within_s) as publisher:
            await publish_versions(publisher, self.codec, versions, superseded)

    @contextlib.asynccontextmanager
    async def writing(self, topic: str, within_s: float) -> AsyncIterator[KafkaPublisher]:
        """A publisher for ``within_s`` seconds at most. Raises ``UnavailableError``."""
        publisher = KafkaPublisher(self.settings.kafka, client_id="estop-cli")
        try:
            async with asyncio.timeout(within_s):
                await publisher.start()
                yield publisher
        except KafkaSignInError as error:
            raise SignInError(str(error)) from error
        except (KafkaError, RegistryError, OSError, TimeoutError) as error:
            raise UnavailableError(
                f"{topic} could not be written at ESTOP_BROKERS={self.settings.brokers}: {str(error) or 'no answer'};"
                " nothing is known to have been written, and writing it again does no harm"
            ) from error
        finally:
            await publisher.stop()

    async def request(self, request: Request) -> None:
        """Ask the coordinator for a stop, a resume or a recovery."""
        await self.publish(REQUESTS, request.scope, request)


def _hint(tails: Sequence[CompactedTail]) -> str:
    """What keeps the tails that were not read, as far as they know it, or who does."""
    return next((tail.held_up_by for tail in tails if tail.held_up_by), "'estop check' says what is missing")
