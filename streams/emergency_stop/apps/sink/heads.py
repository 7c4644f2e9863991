"""Signed heads of the audit: when the next one is due, and what becomes of it.

A head is stored first and published after, from what is stored: so the topic and the file never have a head that the
database lacks, and a sink that died in between leaves at most one that nobody was told, which its successor tells.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emergency_stop.adapters.audit_ledger import end_of_chain, last_head, store_heads
from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.apps.sink.intake import Intake
from emergency_stop.apps.sink.ranges import Place
from emergency_stop.domain import topics
from emergency_stop.domain.messages import AuditHead
from emergency_stop.ports import Publish
from emergency_stop.wire.audit_chain import Link, next_head
from emergency_stop.wire.audit_file import head_line
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.signing import Signer

log = logging.getLogger(__name__)

_READABLE_BY_ALL: Final = 0o644


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """A head is due after so many records, or so long after the first record that none covers."""

    records_max: int
    interval_ms: int
    file: Path | None = None


class HeadKeeper:
    """Which partitions wait for a head. ``due`` and ``note`` do no I/O; ``make`` blocks, on the database's thread."""

    def __init__(self, spec: HeadSpec, signer: Signer, cluster: str, codec: Codec) -> None:
        self._spec = spec
        self._signer = signer
        self._cluster = cluster
        self._codec = codec
        #: Records that no head covers, and since when, by partition of the audit.
        self._waiting: dict[Place, tuple[int, int]] = {}
        #: Partitions that were taken over: only the database knows how far their heads are.
        self._unknown: set[Place] = set()

    def take_over(self, places: Iterable[Place]) -> None:
        """These are this sink's partitions now, and no others."""
        self._waiting.clear()
        self._unknown = {place for place in places if place.topic == topics.AUDIT}

    def note(self, intakes: Iterable[Intake], now_ms: int) -> None:
        """These were stored."""
        for one in intakes:
            if one.chained:
                place = Place(one.topic, one.partition)
                count, since = self._waiting.get(place, (0, now_ms))
                self._waiting[place] = (count + len(one.chained), since)

    def due(self, now_ms: int, *, at_once: bool = False) -> list[Place]:
        """Partitions whose next head is due; with ``at_once`` all that any record waits in."""
        late = (
            place
            for place, (count, since) in self._waiting.items()
            if at_once or count >= self._spec.records_max or now_ms - since >= self._spec.interval_ms
        )
        return sorted({*late, *self._unknown})

    def make(self, database: ClickHouse, places: Iterable[Place], now_ms: int) -> list[AuditHead]:
        """Sign and store a head of every partition that has records beyond its last one; returns what is to be told.

        Raises what the driver raises, and may be repeated. Of a partition that was taken over the last stored head is
        told again: its maker may have died before.
        """
        told: list[AuditHead] = []
        for place in places:
            before, link = last_head(database, *place), end_of_chain(database, *place)
            if before is not None and place in self._unknown:
                told.append(before)
            if link is not None and (before is None or link.records > before.records):
                told.append(self._stored(database, place, before, link, now_ms))
        return told

    def _stored(
        self, database: ClickHouse, place: Place, before: AuditHead | None, link: Link, now_ms: int
    ) -> AuditHead:
        """What the database has under the head's number: another sink's, if that was first."""
        made = self._signer.sign(next_head(link, place.topic, place.partition, before, now_ms))
        store_heads(database, self._cluster, [made])
        return last_head(database, *place) or made

    def record(self, head: AuditHead) -> Publish:
        """A head, ready for its topic."""
        key = f"{head.topic}/{head.partition}".encode()
        return Publish(topics.AUDIT_HEADS, key, self._codec.encode(head, topics.AUDIT_HEADS))

    def told(self, places: Iterable[Place]) -> None:
        """Heads of these were stored and told."""
        for place in places:
            self._waiting.pop(place, None)
            self._unknown.discard(place)

    def append_to_file(self, heads: Iterable[AuditHead]) -> None:
        """Append to the file of heads, if there is one; on the disk when this returns. Blocking.

        A file that cannot be written is logged: the chain, its heads and their topic do not wait for it.
        """
        text = "".join(map(head_line, heads)).encode()
        if self._spec.file is None or not text:
            return
        try:
            handle = os.open(self._spec.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, _READABLE_BY_ALL)
            try:
                os.write(handle, text)
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            log.error(  # noqa: TRY400  (the text says all)
                "ESTOP_AUDIT_HEADS_FILE=%s could not be written: %s; heads are on %s",
                self._spec.file, error.strerror, topics.AUDIT_HEADS,
            )  # fmt: skip
