"""An audit made in memory, as the sink would have stored it."""

from __future__ import annotations

from collections.abc import Sequence

from emergency_stop.domain.messages import AuditHead, AuditRecord
from emergency_stop.domain.topics import AUDIT
from emergency_stop.wire.audit_chain import GENESIS, RawRecord, links, next_head
from emergency_stop.wire.audit_file import Item, StoredRecord
from emergency_stop.wire.audit_rows import expected_row
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from emergency_stop.wire.signing import Signer

SIGNER = Signer.generate()
CODEC = Codec(LocalRegistry())


def raw(offset: int, reason: str = "why") -> RawRecord:
    decision = AuditRecord(f"a{offset}", 1_000 + offset, "ann", "stopped", "account:a", reason, "c1", "{}", "{}")
    return RawRecord(offset, 2_000 + offset, b"account:a", CODEC.encode(decision, AUDIT))


def chained(records: Sequence[RawRecord], partition: int = 0) -> list[StoredRecord]:
    """Records with their chain and their rows."""
    return [
        StoredRecord(AUDIT, partition, one.offset, one, link.records, link.chain, rows(one))
        for one, link in zip(records, links(GENESIS, AUDIT, partition, records), strict=True)
    ]


def rows(one: RawRecord) -> tuple[dict[str, object], ...]:
    row = expected_row(one, committed_ids=True)
    return () if row is None else (row,)


def heads(records: Sequence[StoredRecord], at: Sequence[int], signer: Signer = SIGNER) -> list[AuditHead]:
    """Signed heads after so many records each."""
    found: list[AuditHead] = []
    raws = [one.raw for one in records if one.raw is not None]
    all_links = list(links(GENESIS, AUDIT, records[0].partition, raws))
    for number in at:
        before = found[-1] if found else None
        head = next_head(all_links[number - 1], AUDIT, records[0].partition, before, 5_000 + number)
        found.append(signer.sign(head))
    return found


def audit(count: int = 8, at: Sequence[int] = (3, 6, 8), partition: int = 0) -> list[Item]:
    """Heads, then records: one partition of an export."""
    records = chained([raw(offset) for offset in range(count)], partition)
    return [*heads(records, at), *records]
