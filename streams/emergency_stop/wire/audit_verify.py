"""Whether an audit is what was written: pure, offline, over heads and records in their order.

Theory of operation. Per partition the heads come first, then the records by offset. Heads must be signed by a trusted
key, and each must name the one before it. Each record must be the next in number, must give the chain that is stored
with it, and must say what its row says; where a head says what the chain is, it must be that. Records beyond the
newest head, and heads beyond that of nobody else's, cannot be missed from within: **witnesses** are heads that were
kept elsewhere, and every one of them must be here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from emergency_stop.domain.messages import AuditHead
from emergency_stop.wire.audit_chain import GENESIS, Link, extend, head_digest
from emergency_stop.wire.audit_file import Item, StoredRecord
from emergency_stop.wire.audit_rows import expected_row
from emergency_stop.wire.signing import SignatureVerdict, Verifier

_SHORT: Final = 12


@dataclass(frozen=True, slots=True)
class Break:
    """What is wrong, where, and what was expected instead. ``offset`` is -1 where a head is meant."""

    kind: str
    topic: str
    partition: int
    offset: int
    expected: str
    found: str


@dataclass(slots=True)
class PartitionVerdict:
    """What one partition's audit is worth. ``unsigned`` counts records beyond the newest head; ``unchained`` rows from
    before the chain began, of which nothing is proven.
    """

    topic: str
    partition: int
    records: int = 0
    heads: int = 0
    first_offset: int | None = None
    next_offset: int | None = None
    unsigned: int = 0
    unchained: int = 0
    breaks: list[Break] = field(default_factory=list)


class Verification:
    """Takes items in the order of an export; ``finish`` says what they are worth. Uses no clock and no I/O."""

    def __init__(
        self,
        verifier: Verifier,
        witnesses: Iterable[AuditHead] = (),
        *,
        partial: bool = False,
        committed_ids: bool = True,
    ) -> None:
        """``partial``: partitions may begin at a signed head instead of their first record. ``committed_ids``: see
        ``audit_rows.expected_row``.
        """
        self._verifier = verifier
        self._partial = partial
        self._committed_ids = committed_ids
        self._checks: dict[tuple[str, int], _PartitionCheck] = {}
        self._witnesses = list(witnesses)

    def take(self, item: Item) -> None:
        """The next head or record."""
        check = self._check(item.topic, item.partition)
        if isinstance(item, AuditHead):
            check.head(item)
        else:
            check.record(item)

    def finish(self) -> list[PartitionVerdict]:
        """The verdicts, by partition. To be called once."""
        for check in self._checks.values():
            check.end()
        for witness in self._witnesses:
            self._check(witness.topic, witness.partition).witness(witness)
        return [self._checks[place].verdict for place in sorted(self._checks)]

    def _check(self, topic: str, partition: int) -> _PartitionCheck:
        place = (topic, partition)
        if place not in self._checks:
            self._checks[place] = _PartitionCheck(
                PartitionVerdict(topic, partition), self._verifier, self._partial, self._committed_ids
            )
        return self._checks[place]


class _PartitionCheck:
    def __init__(self, verdict: PartitionVerdict, verifier: Verifier, partial: bool, committed_ids: bool) -> None:
        self.verdict = verdict
        self._verifier = verifier
        self._partial = partial
        self._committed_ids = committed_ids
        self._heads: list[AuditHead] = []
        #: Heads that are good, by the number of records that they cover.
        self._good: dict[int, AuditHead] = {}
        self._link: Link | None = None
        self._row_offset = -1
        self._records_broken = False

    def head(self, head: AuditHead) -> None:
        self.verdict.heads += 1
        before = self._heads[-1] if self._heads else None
        self._heads.append(head)
        problem = self._head_problem(head, before)
        if problem is None:
            self._good[head.records] = head
        elif not self.verdict.breaks:
            self._note(problem[0], -1, *problem[1:])

    def _head_problem(self, head: AuditHead, before: AuditHead | None) -> tuple[str, str, str] | None:
        """(kind, expected, found), or nothing."""
        verdict = self._verifier.verify(head)
        if verdict is not SignatureVerdict.VALID:
            return "head_signature", f"head {head.number} signed by a trusted key", f"{verdict.value} ({head.key_id})"
        if self.verdict.records:
            return "order", "heads before the records of their partition", f"head {head.number} among them"
        if before is None:
            first = head.number == 0 and not head.previous
            return None if first or self._partial else ("head_missing", "head 0 first", f"head {head.number}")
        if head.number != before.number + 1:
            return "head_missing", f"head {before.number + 1}", f"head {head.number}"
        if head.previous != head_digest(before):
            return "head_differs", f"head {before.number} as head {head.number} names it", "another one"
        if head.records <= before.records or head.next_offset <= before.next_offset:
            return "head_order", f"more than {before.records} records", f"head {head.number} with {head.records}"
        return None

    def record(self, one: StoredRecord) -> None:
        if self._records_broken:
            return
        raw, before = one.raw, self._link
        self._expect(one.offset > self._row_offset, "order", one.offset, f"an offset beyond {self._row_offset}", "it")
        self._row_offset = one.offset
        if raw is None:
            if before is None and not self._partial:
                self.verdict.unchained += len(one.rows)
            else:
                self._expect(False, "row_without_record", one.offset, "a record in the chain", "a row alone")
            return
        before = before or self._beginning(one)
        if before is None:
            return
        if self.verdict.first_offset is None:
            self.verdict.first_offset = one.offset
        else:
            self._expect(
                one.offset == before.next_offset, "gap", one.offset, f"offset {before.next_offset} next", "a later one"
            )
        link = extend(before, one.topic, one.partition, raw)
        self._expect(
            one.records == link.records, "missing", one.offset, f"record {link.records}", f"record {one.records}"
        )
        self._expect(one.chain == link.chain, "chain", one.offset, _short(link.chain), _short(one.chain))
        self._compare_rows(one)
        self._compare_head(one, link)
        self._link = link
        self.verdict.records += 1
        self.verdict.next_offset = link.next_offset

    def _beginning(self, one: StoredRecord) -> Link | None:
        """What the first record continues: nothing, or a signed head."""
        if one.records == 1:
            return GENESIS
        head = self._heads[0] if self._heads else None
        if self._partial and head is not None and head.records in self._good and one.records == head.records + 1:
            return Link(head.next_offset, head.records, head.chain)
        wanted = "record 1, or with --partial the one behind a signed head"
        self._expect(False, "beginning", one.offset, wanted, f"record {one.records}")
        return None

    def _compare_rows(self, one: StoredRecord) -> None:
        if one.raw is None:
            return
        wanted = expected_row(one.raw, committed_ids=self._committed_ids)
        count = 0 if wanted is None else 1
        self._expect(len(one.rows) == count, "rows", one.offset, f"{count} rows", f"{len(one.rows)} rows")
        if wanted is None:
            return
        for row in one.rows:
            names = [name for name in sorted({*wanted, *row}) if row.get(name) != wanted.get(name)]
            what = {name: wanted.get(name) for name in names}
            self._expect(not names, "column", one.offset, repr(what), repr({name: row.get(name) for name in names}))

    def _compare_head(self, one: StoredRecord, link: Link) -> None:
        head = self._good.get(link.records)
        if head is not None:
            self._expect(
                (head.chain, head.next_offset) == (link.chain, link.next_offset), "head_mismatch", one.offset,
                f"the chain that head {head.number} signs: {_short(head.chain)}, up to offset {head.next_offset}",
                f"{_short(link.chain)}, up to offset {link.next_offset}",
            )  # fmt: skip

    def end(self) -> None:
        """After the last record."""
        if self._records_broken:
            return
        newest = max(self._good, default=None)
        start = self._heads[0].records if self._partial and self._heads else 0
        records = self._link.records if self._link else start
        if newest is None:
            if self.verdict.records:
                self._expect(False, "unsigned", -1, "a signed head of this partition", "none")
            return
        head = self._good[newest]
        self._expect(
            records >= newest, "truncated", self.verdict.next_offset or 0,
            f"{newest} records, up to offset {head.next_offset}, as head {head.number} signs", f"{records} records",
        )  # fmt: skip
        self.verdict.unsigned = max(records - newest, 0)

    def witness(self, witness: AuditHead) -> None:
        """A head that was kept elsewhere; only the first that is wrong is told."""
        if any(one.kind.startswith("witness") for one in self.verdict.breaks):
            return
        verdict = self._verifier.verify(witness)
        if verdict is not SignatureVerdict.VALID:
            self._note("witness_signature", -1, f"head {witness.number} signed by a trusted key", verdict.value)
            return
        first = self._heads[0].number if self._heads else 0
        if self._partial and witness.number < first:
            return
        here = next((head for head in self._heads if head.number == witness.number), None)
        if here != witness:
            found = "none: heads were left out, or an older state was put in place" if here is None else "another one"
            self._note("witness_missing" if here is None else "witness_differs", -1, f"head {witness.number}", found)

    def _expect(self, holds: bool, kind: str, offset: int, expected: str, found: str) -> None:
        """Tell the first thing that is wrong with the records; what follows it would only repeat it."""
        if not holds and not self._records_broken:
            self._records_broken = True
            self._note(kind, offset, expected, found)

    def _note(self, kind: str, offset: int, expected: str, found: str) -> None:
        self.verdict.breaks.append(Break(kind, self.verdict.topic, self.verdict.partition, offset, expected, found))


def _short(chain: str) -> str:
    return f"{chain[:_SHORT]}…"
