"""What the verification finds, one kind of tampering at a time; `make test-tamper` does it at random and in bulk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from emergency_stop.domain.messages import AuditHead
from emergency_stop.wire.audit_chain import RawRecord
from emergency_stop.wire.audit_file import (
    AuditFileError,
    Item,
    StoredRecord,
    export_lines,
    head_line,
    read_export,
    read_heads,
)
from emergency_stop.wire.audit_verify import PartitionVerdict, Verification
from emergency_stop.wire.signing import Signer, Verifier
from tests.unit.wire.audit_log import SIGNER, audit, chained, heads, raw, rows

#: Three heads, then eight records.
HEADS = 3


def verdicts(
    items: Sequence[Item], witnesses: Sequence[AuditHead] = (), *, partial: bool = False
) -> list[PartitionVerdict]:
    verification = Verification(Verifier([SIGNER.public_key]), witnesses, partial=partial)
    for item in items:
        verification.take(item)
    return verification.finish()


def kinds(items: Sequence[Item], witnesses: Sequence[AuditHead] = (), *, partial: bool = False) -> list[str]:
    return [one.kind for verdict in verdicts(items, witnesses, partial=partial) for one in verdict.breaks]


def heads_of(items: Sequence[Item]) -> list[AuditHead]:
    return [item for item in items if isinstance(item, AuditHead)]


def test_an_untouched_audit_is_whole() -> None:
    items = [*audit(), *audit(5, (2,), partition=1)]
    first, second = verdicts(items, heads_of(items))
    assert (first.breaks, first.records, first.heads, first.unsigned) == ([], 8, 3, 0)
    assert (second.breaks, second.records, second.first_offset, second.next_offset, second.unsigned) == ([], 5, 0, 5, 3)


def _changed(number: int, change: Callable[[StoredRecord], StoredRecord]) -> Callable[[list[Item]], list[Item]]:
    def tamper(items: list[Item]) -> list[Item]:
        one = items[HEADS + number]
        assert isinstance(one, StoredRecord)
        return [*items[: HEADS + number], change(one), *items[HEADS + number + 1 :]]

    return tamper


def _raw(**changes: Any) -> Callable[[StoredRecord], StoredRecord]:
    def change(one: StoredRecord) -> StoredRecord:
        assert one.raw is not None
        return replace(one, raw=replace(one.raw, **changes))

    return change


def _column(name: str, value: Any) -> Callable[[StoredRecord], StoredRecord]:
    return lambda one: replace(one, rows=({**one.rows[0], name: value},))


def _rechained(items: list[Item]) -> list[Item]:
    """One record is another, and so is every hash and row that follows from it."""
    records = [raw(number, "forged" if number == 4 else "why") for number in range(8)]
    return [*items[:HEADS], *chained(records)]


def _resigned(items: list[Item]) -> list[Item]:
    records = chained([raw(number, "forged" if number == 4 else "why") for number in range(8)])
    return [*heads(records, (3, 6, 8), Signer.generate()), *records]


TAMPERS: dict[str, tuple[Callable[[list[Item]], list[Item]], str]] = {
    "value": (_changed(3, _raw(value=b"\0")), "chain"),
    "key": (_changed(3, _raw(key=b"x")), "chain"),
    "timestamp": (_changed(3, _raw(timestamp=1)), "chain"),
    "chain": (_changed(3, lambda one: replace(one, chain="0" * 64)), "chain"),
    "number": (_changed(3, lambda one: replace(one, records=3)), "missing"),
    "column": (_changed(3, _column("actor", "eve")), "column"),
    "moment": (_changed(3, _column("_timestamp", 1)), "column"),
    "column gone": (_changed(3, lambda one: replace(one, rows=({},))), "column"),
    "row gone": (_changed(3, lambda one: replace(one, rows=())), "rows"),
    "row twice": (_changed(3, lambda one: replace(one, rows=one.rows * 2)), "rows"),
    "record gone": (_changed(3, lambda one: replace(one, raw=None)), "row_without_record"),
    "deleted": (lambda items: [*items[:6], *items[7:]], "gap"),
    "first deleted": (lambda items: [*items[:HEADS], *items[HEADS + 1 :]], "beginning"),
    "swapped": (lambda items: [*items[:5], items[6], items[5], *items[7:]], "gap"),
    "twice": (lambda items: [*items[:6], items[5], *items[6:]], "order"),
    "cut": (lambda items: items[:-1], "truncated"),
    "all records cut": (lambda items: items[:HEADS], "truncated"),
    "rechained": (_rechained, "head_mismatch"),
    "resigned": (_resigned, "head_signature"),
    "no heads": (lambda items: items[HEADS:], "unsigned"),
    "head dropped": (lambda items: [items[0], *items[2:]], "head_missing"),
    "first head dropped": (lambda items: items[1:], "head_missing"),
    "heads swapped": (lambda items: [items[1], items[0], *items[2:]], "head_missing"),
    "head among records": (lambda items: [*items[:2], *items[3:], items[2]], "order"),
}  # fmt: skip


@pytest.mark.parametrize("name", TAMPERS)
def test_it_is_found(name: str) -> None:
    tamper, kind = TAMPERS[name]
    assert kinds(tamper(audit()))[0] == kind


def test_the_break_says_where_and_what_was_expected() -> None:
    (verdict,) = verdicts(_changed(3, _column("actor", "eve"))(audit()))
    (one,) = verdict.breaks
    assert (one.partition, one.offset) == (0, 3)
    assert "ann" in one.expected
    assert "eve" in one.found


@pytest.mark.parametrize("field", ["chain", "records", "next_offset", "previous", "signed_at", "number", "key_id"])
def test_a_changed_head_is_found(field: str) -> None:
    items = audit()
    head = items[1]
    assert isinstance(head, AuditHead)
    value = getattr(head, field)
    changes: dict[str, Any] = {field: value + 1 if isinstance(value, int) else "0" * len(value)}
    items[1] = replace(head, **changes)
    assert kinds(items)[0] == "head_signature"


@pytest.mark.parametrize("left", [1, 2])
def test_what_was_cut_together_with_its_heads_is_found_by_heads_kept_elsewhere(left: int) -> None:
    items = audit()
    shorter = [*items[:left], *items[HEADS : HEADS + (3, 6)[left - 1]]]
    assert kinds(shorter) == []
    assert kinds(shorter, heads_of(items)) == ["witness_missing"]


def test_a_whole_partition_that_is_gone_is_found_by_heads_kept_elsewhere() -> None:
    assert kinds(audit(), heads_of(audit(partition=1))) == ["witness_missing"]


def test_a_fork_is_found_by_heads_kept_elsewhere() -> None:
    records = chained([raw(number, "another") for number in range(8)])
    assert kinds(audit(), heads(records, (3,))) == ["witness_differs"]
    assert kinds(audit(), heads(records, (3,), Signer.generate())) == ["witness_signature"]


def test_a_part_begins_at_a_signed_head_and_only_where_that_is_allowed() -> None:
    items = audit()
    part = [*items[1:HEADS], *items[HEADS + 6 :]]
    assert kinds(part, heads_of(items), partial=True) == []
    assert "beginning" in kinds(part)
    assert kinds([*items[1:HEADS], *items[HEADS + 7 :]], partial=True) == ["beginning"]
    assert kinds([items[2]], partial=True) == []


def test_a_value_that_is_no_record_is_chained_and_has_no_row() -> None:
    bad = [RawRecord(0, 1, None, None), RawRecord(1, 1, b"k", b"junk"), raw(2)]
    records = chained(bad)
    assert [len(one.rows) for one in records] == [0, 0, 1]
    assert kinds([*heads(records, (3,)), *records]) == []
    records[1] = replace(records[1], rows=rows(raw(1)))
    assert kinds([*heads(records, (3,)), *records]) == ["rows"]


def test_rows_from_before_the_chain_are_counted_and_not_vouched_for() -> None:
    records = chained([raw(number) for number in range(5, 8)])
    former = StoredRecord(records[0].topic, 0, 3, None, 0, "", rows(raw(3)))
    (verdict,) = verdicts([*heads(records, (3,)), former, *records])
    assert (verdict.breaks, verdict.unchained, verdict.records) == ([], 1, 3)


def test_an_export_reads_back_and_refuses_every_other_form() -> None:
    items = audit()
    lines = [line.encode() for line in export_lines(items)]
    assert list(read_export(lines)) == items
    for wrong, why in (
        (lines[:-1], "no end"),
        (lines[1:], "begins with its format"),
        ([*lines[:2], *lines[3:]], "lines were written"),
        ([*lines, lines[1]], "nothing follows"),
        ([lines[0], lines[1].replace(b":", b": ", 1), *lines[2:]], "not in the form"),
        ([lines[0], lines[1][:-3], *lines[2:]], "is not JSON"),
        ([lines[0], b'{"head":{"topic":1}}\n', *lines[2:]], "neither a head nor a record"),
    ):
        with pytest.raises(AuditFileError, match=why):
            list(read_export(wrong))


def test_heads_are_read_back_from_their_file() -> None:
    found = heads_of(audit())
    assert read_heads([head_line(head).encode() for head in found]) == found
    with pytest.raises(AuditFileError, match="line 2: is no head"):
        read_heads([line.encode() for line in [head_line(found[0]), *list(export_lines(audit()))[-2:-1]]])
