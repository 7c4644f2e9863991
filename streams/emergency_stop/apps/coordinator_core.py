"""The coordinator of one partition as the worker's shell sees it: bytes in, records to publish out.

What cannot be decoded is counted and skipped (the sink dead-letters every input); what does not fit is
counted and put on record. Neither disturbs its neighbours in the batch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final

from aiokafka.partitioner import murmur2

from emergency_stop.apps.coordinator_metrics import CoordinatorMetrics
from emergency_stop.apps.coordinator_telling import Telling
from emergency_stop.apps.coordinator_watches import Watches
from emergency_stop.apps.records import records_of
from emergency_stop.apps.service_book import ServiceBook
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.coordinate.audit import decision
from emergency_stop.coordinate.blast import RAISED, BlastEffect
from emergency_stop.coordinate.blindness import BECAME_BLIND, BlindEffect
from emergency_stop.coordinate.bounds import bounded
from emergency_stop.coordinate.holds import hold_of
from emergency_stop.coordinate.oversize import RECORD_BYTES_MAX, Published, shrunk
from emergency_stop.coordinate.part_answers import PartAnswers
from emergency_stop.coordinate.partition import Coordinator
from emergency_stop.coordinate.publication import publishable
from emergency_stop.coordinate.published import PublishedHolds
from emergency_stop.coordinate.snapshot import scope_of
from emergency_stop.coordinate.state import Effect, Policy, World
from emergency_stop.coordinate.tables import InvariantViolationError, RefusedMessageError
from emergency_stop.domain import topics
from emergency_stop.domain.messages import (
    Ack,
    AuditRecord,
    Command,
    ConditionAnswer,
    ConditionQuestion,
    Emergency,
    Hit,
    Hold,
    Lease,
    Notice,
    Recovery,
    Request,
)
from emergency_stop.domain.questions import question_routes
from emergency_stop.domain.texts import fit, fit_name
from emergency_stop.domain.values import GLOBAL_SCOPE, is_scope
from emergency_stop.ports import Publish
from emergency_stop.wire.codec import Codec, WireError
from emergency_stop.wire.registry import UnknownSchemaError
from emergency_stop.wire.signing import MessageSigner

log = logging.getLogger(__name__)

Input = Hit | Request | Ack | ConditionAnswer
_INPUTS: Final[Mapping[str, type[Input]]] = {
    topics.HITS: Hit,
    topics.REQUESTS: Request,
    topics.ACKS: Ack,
    topics.ANSWERS: ConditionAnswer,
}
_EVERYTHING: Final = str(GLOBAL_SCOPE)
#: Each scope's answers come in dozens; so many newest scopes are remembered with their partition.
_SCOPES_REMEMBERED: Final = 4_096


@lru_cache(maxsize=_SCOPES_REMEMBERED)
def home_partition(scope: str, partitions: int) -> int:
    """Where records of ``scope`` belong: the partition that Kafka's own partitioner gives its key."""
    return int((murmur2(scope.encode()) & 0x7FFFFFFF) % partitions)


class CoordinatorCore:
    """A ``ports.RecordingCore``. Calls come from one thread at a time; the service book may change under it."""

    def __init__(  # wiring of one object, at one place
        self,
        *,
        partition: int,
        partitions: int,
        policy: Policy,
        book: ServiceBook,
        published: PublishedHolds,
        codec: Codec,
        signer: MessageSigner,
        metrics: CoordinatorMetrics,
        telling: Telling | None = None,
        watches: Watches | None = None,
        question_partitions: int = 1,
    ) -> None:
        """``telling``: what people and subscribers hear; ``None``: all of it.

        ``watches``: what the partition looks after beside its scopes; ``None``: nothing.
        ``question_partitions``: how many partitions of detectors may be asked; some questions go to all.
        """
        self._partition = partition
        self._partitions = partitions
        self._policy = policy
        self._book = book
        self._published = published
        self._codec = codec
        self._signer = signer
        self._metrics = metrics
        #: Read by metrics; changed by nobody else.
        self.coordinator = Coordinator(policy.max_concurrent_stops, policy.retention_ms)
        self._positions: dict[str, int] = {}
        self.watches = watches or Watches()
        self._telling = telling or Telling(codec, metrics)
        self._question_partitions = question_partitions
        self._part_answers = PartAnswers()
        #: Made ready before the records that were taken last; they vouch for nothing that was decided later.
        self._leases: Sequence[Lease] = ()

    def restore(self, records: Iterable[tuple[bytes, bytes]], positions: Mapping[str, int]) -> None:
        """See ``ports.PartitionCore``. Raises ``SnapshotError`` for a state record that cannot be read."""
        self.coordinator.restore([record for record in records if not self.watches.restore(*record)])
        self._positions = dict(positions)
        self._published.begin(self._is_home)
        for state in self.coordinator.states():
            if state.epoch:  # else no hold of it was ever decided, as far as is remembered
                self._published.restored(hold_of(state, "", 0))

    def on_batch(self, batch: FetchedBatch, now_ms: int) -> Sequence[Publish]:
        kind = _INPUTS[batch.topic]
        start = max(batch.fetch_offset, self._positions.get(batch.topic, 0))
        effects: list[Effect] = []
        strays: list[Publish] = []
        for offset, key, value in records_of(batch, start, lambda error: self._note_damage(batch, error)):
            message = self._decode(kind, value, batch.topic, offset)
            if message is None:
                continue
            if self._is_stray(message.scope, key):
                strays.append(self._forwarded(batch.topic, message, value))
            elif isinstance(message, ConditionAnswer):
                whole = self._part_answers.take(message)
                effects += [] if whole is None else self._apply(whole, now_ms)
            else:
                effects += self._apply(message, now_ms)
        self._positions[batch.topic] = max(batch.next_offset, start)
        self._metrics.strays(len(strays))
        return [*self._publishes(effects), *strays, *self._telling.of_refusals(effects)]

    def _note_damage(self, batch: FetchedBatch, error: str) -> None:
        self._metrics.undecodable(batch.topic)
        log.error("%s-%d: a record batch is damaged and was skipped: %s", batch.topic, batch.partition, error)

    def on_tick(self, now_ms: int) -> Sequence[Publish]:
        self.coordinator.tick(now_ms, self._world())
        self.watches.tick(now_ms, self.coordinator.state(_EVERYTHING))
        return ()

    def next_deadline(self) -> int | None:
        if self.coordinator.is_called(self._overtaken(), self._published.has):
            return 0
        deadlines = (self.coordinator.next_deadline(), self.watches.next_deadline())
        return min((at for at in deadlines if at is not None), default=None)

    def take_dirty(self) -> Iterator[Sequence[tuple[bytes, bytes | None]]]:
        """All at once: what may be published is decided by what was taken."""
        self._leases = self.watches.take_leases()
        scopes = self.coordinator.take_dirty()
        for key, value in scopes:
            if value is None:
                self._published.forgotten(scope_of(key))
        yield [*scopes, *self.watches.take_dirty()]

    def on_durable(self) -> Sequence[Publish]:
        """See ``ports.RecordingCore``: what was decided is on record, so it may be published."""
        blind, blast = self.watches.take_effects()
        for effect in (*blind, *blast):
            self._tell(effect)
        effects = self.coordinator.take_effects()
        self._telling.handed_out([*effects, *blind, *(effect for effect in blast if isinstance(effect, Notice))])
        watched = [self._publish_watched(effect) for effect in (*blind, *blast) if not isinstance(effect, Notice)]
        return [*self._publishes(effects), *watched]

    def on_published(self) -> Sequence[Publish]:
        """See ``ports.RecordingCore``: people are told of a stop once its commands are out."""
        return self._telling.published()

    def on_settled(self) -> Sequence[Publish]:
        """See ``ports.RecordingCore``. A lease says that the partition is this worker's, and that what its holder must
        obey of what was decided before it has reached the broker.
        """
        leases, self._leases = self._leases, ()
        return [self._record(topics.LEASES, str(lease.partition), self._signer.sign(lease)) for lease in leases]

    def _tell(self, effect: BlindEffect | BlastEffect) -> None:
        if isinstance(effect, AuditRecord):
            self._metrics.watched(effect.action)
            level = logging.ERROR if effect.action in (BECAME_BLIND, RAISED) else logging.WARNING
            log.log(level, "%s: %s: %s", effect.subject, effect.action, effect.reason)

    def _publish_watched(self, effect: Hit | AuditRecord) -> Publish:
        """A cause goes the way of every hit: to the partition of its scope."""
        if isinstance(effect, Hit):
            return self._record(topics.HITS, effect.scope, effect)
        return self._publish(effect)

    def _world(self) -> World:
        published = self._published
        return World(
            self._policy, self._book.services(), published.has, published.epochs, self._overtaken(), published.wide
        )

    def _overtaken(self) -> dict[str, int]:
        """Scopes of this partition whose hold is to be said again; hardly ever any."""
        return {scope: occasion for scope, occasion in self._published.overtaken.items() if self._is_home(scope)}

    def _is_home(self, scope: str) -> bool:
        return home_partition(scope, self._partitions) == self._partition

    def _decode(self, kind: type[Input], value: bytes | None, topic: str, offset: int) -> Input | None:
        """Raises ``RegistryError`` for a version that the registry was not asked about at start and does not tell now.

        It may be a stop, so it is not passed over: the process ends before it is acknowledged, and its successor
        begins once the registry answers (``coordinator_topics.coordinator_schemas``).
        """
        try:
            return bounded(self._codec.decode(kind, value))
        except (WireError, UnknownSchemaError) as error:
            self._metrics.undecodable(topic)
            log.warning("%s-%d offset %d was skipped: %s", topic, self._partition, offset, error)
            return None

    def _is_stray(self, scope: str, key: bytes | None) -> bool:
        """Whether a record lies where it does not belong: no key, a wrong one, or another library's partitioner.

        Two partitions must never both decide about one scope, and a stop must not be lost to a bad key. What is no
        scope is refused wherever it lies.
        """
        if not is_scope(scope):
            return False
        home = home_partition(scope, self._partitions)
        if home == self._partition:
            return False
        if key == scope.encode():
            log.info("a record for %s lies in partition %d, not %d: forwarding", scope, self._partition, home)
        else:
            log.warning("a record for %s has key %r: forwarding it under its scope", scope, key)
        return True

    def _forwarded(self, topic: str, message: Input, value: bytes | None) -> Publish:
        """As it came; but one that has hardly room in a record would have none with another key."""
        is_large = len(value or b"") > RECORD_BYTES_MAX
        return Publish(topic, message.scope.encode(), self._codec.encode(message, topic) if is_large else value)

    def _apply(self, message: Input, now_ms: int) -> list[Effect]:
        if isinstance(message, Ack):
            known = message.service in self._book.services().known
            self._metrics.ack(message.service if known else "other", message.state.value)
        try:
            effects = self.coordinator.apply(message, now_ms, self._world())
        except RefusedMessageError as error:
            self._metrics.refused(type(error).__name__)
            return [_refusal(message, str(error), now_ms)]
        except InvariantViolationError as error:
            # one poisoned message must not take the stops of every other scope with it
            self._metrics.refused(type(error).__name__)
            log.exception("a bug: %r was not applied", message)
            return [_refusal(message, f"internal error, please report: {error}", now_ms)]
        if isinstance(message, Hit):
            self._telling.hit(message)
        return effects

    def _publishes(self, effects: Sequence[Effect]) -> list[Publish]:
        records: list[Publish] = []
        for effect in publishable(effects):
            records += self._ask(effect) if isinstance(effect, ConditionQuestion) else [self._publish(effect)]
        return records

    def _ask(self, question: ConditionQuestion) -> list[Publish]:
        """To every partition that knows a part of the answer; what comes back is put together in ``on_batch``."""
        return [
            Publish(topics.QUESTIONS, route.key.encode(), self._codec.encode(route.question, topics.QUESTIONS),
                    route.partition)
            for route in question_routes(question, self._question_partitions)
        ]  # fmt: skip

    def _publish(self, effect: Published) -> Publish:
        self._metrics.observe(effect)
        record = self._encoded(effect)
        size = len(record.value or b"")
        if size <= RECORD_BYTES_MAX:
            return record
        text = "%s of %s has %d bytes, more than %d: it says less"
        log.warning(text, type(effect).__name__, (record.key or b"").decode(), size, RECORD_BYTES_MAX)
        return self._encoded(shrunk(effect))

    def _encoded(self, effect: Published) -> Publish:
        if isinstance(effect, Hold):
            record = self._record(topics.HOLDS, effect.scope, self._signer.sign(effect))
            self._published.decided(effect, record.value)
            return record
        if isinstance(effect, Command):
            return self._record(topics.commands_topic(effect.service), effect.scope, self._signer.sign(effect))
        if isinstance(effect, Emergency):
            # compacted: the newest record per emergency stands
            return self._record(topics.EMERGENCIES, effect.emergency_id, effect)
        if isinstance(effect, Recovery):
            return self._record(topics.RECOVERIES, effect.emergency_id, effect)
        return self._record(topics.AUDIT, effect.subject, effect)

    def _record(self, topic: str, key: str, message: Effect | Hit | Lease) -> Publish:
        return Publish(topic, key.encode(), self._codec.encode(message, topic))


def _refusal(message: Input, reason: str, now_ms: int) -> AuditRecord:
    if isinstance(message, Ack):
        actor, cause = f"{message.service}/{message.instance_id}", message.ack_id
    elif isinstance(message, Request):
        actor, cause = message.requested_by, message.request_id
    elif isinstance(message, ConditionAnswer):
        actor, cause = "detector", message.question_id
    else:
        actor, cause = f"trigger:{message.trigger_id}", message.hit_id
    return decision(
        at=now_ms, actor=actor, action=f"{type(message).__name__.lower()}_refused", subject=fit_name(message.scope),
        reason=fit(reason), correlation_id=message.correlation_id, cause=cause,
    )  # fmt: skip
