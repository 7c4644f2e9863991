"""Whether a record would be accepted now, asked of the decoder that decides for detector and sink."""

from __future__ import annotations

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from emergency_stop.apps.dead_letters.barred import REDRIVABLE
from emergency_stop.apps.dead_letters.fix import Candidate
from emergency_stop.apps.sink.intake import Intaker
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.domain.reasons import Reject
from emergency_stop.wire.registry import Registry


class Examiner:
    """Not thread-safe; may ask the registry, and raises what the registry raises where it does not answer."""

    def __init__(self, registry: Registry) -> None:
        self._intaker = Intaker(registry, dict(REDRIVABLE))

    def refusal(self, topic: str, candidate: Candidate) -> tuple[Reject, str] | None:
        """(reason, detail) for which ``candidate`` would be refused on ``topic`` now; ``None``: accepted."""
        builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 30)
        builder.append(0, candidate.timestamp_ms, candidate.key, candidate.value, [])
        intake = self._intaker.take(FetchedBatch(topic, 0, 0, 1, (bytes(builder.build()),)), 0, 1)
        return (intake.dead[0].reason, intake.dead[0].detail) if intake.dead else None

    def accepted(self, topic: str, candidate: Candidate, now_ms: int) -> Candidate | tuple[Reject, str]:
        """What may be sent, or why nothing may.

        The record keeps its timestamp. Only where occurred_at lies too far behind that, and not behind ``now_ms``, was
        the record's clock wrong and not the event's: then it is sent with ``now_ms``.
        """
        refused = self.refusal(topic, candidate)
        if refused is not None and refused[0] is Reject.FUTURE_TIMESTAMP:
            candidate = candidate.at(now_ms)
            refused = self.refusal(topic, candidate)
        return candidate if refused is None else refused
