"""Tampering with an export: each kind changes something, at a place that the seed chooses."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from emergency_stop.domain.messages import AuditHead
from emergency_stop.wire.audit_chain import GENESIS, Link, RawRecord, extend, next_head
from emergency_stop.wire.audit_file import Item, StoredRecord, export_lines
from emergency_stop.wire.audit_rows import expected_row
from emergency_stop.wire.signing import Signer

#: Who tampers has a key, and not the sink's.
STRANGER: Final = Signer.generate()
#: Fields of a record as they are stored.
_FIELDS: Final = ("value", "key", "timestamp", "records", "chain")


@dataclass(frozen=True)
class Audit:
    """An untouched export: its items, and an older export of the same audit."""

    items: Sequence[Item]
    older: Sequence[Item]

    def records(self) -> list[int]:
        return [number for number, item in enumerate(self.items) if isinstance(item, StoredRecord)]

    def heads(self) -> list[int]:
        return [number for number, item in enumerate(self.items) if isinstance(item, AuditHead)]


Tamper = Callable[[random.Random, Audit], bytes]


def written(items: Sequence[Item]) -> bytes:
    return "".join(export_lines(items)).encode()


def _flipped(rng: random.Random, text: bytes) -> bytes:
    at = rng.randrange(len(text))
    return text[:at] + bytes([text[at] ^ (1 << rng.randrange(8))]) + text[at + 1 :]


def flip_byte(rng: random.Random, audit: Audit) -> bytes:
    """Any bit of the file."""
    return _flipped(rng, written(audit.items))


def flip_field(rng: random.Random, audit: Audit) -> bytes:
    """Any bit of a field of a record as it was received, or of its place in the chain."""
    return written(_with_record(rng, audit, lambda one: _field_flipped(rng, one)))


def _field_flipped(rng: random.Random, one: StoredRecord) -> StoredRecord:
    name = rng.choice(_FIELDS)
    raw = _raw(one)
    if name == "timestamp":
        return replace(one, raw=replace(raw, timestamp=raw.timestamp ^ (1 << rng.randrange(40))))
    if name == "records":
        return replace(one, records=one.records ^ (1 << rng.randrange(16)))
    if name == "chain":
        return replace(one, chain=_flipped(rng, bytes.fromhex(one.chain)).hex())
    if name == "key":
        return replace(one, raw=replace(raw, key=_flipped(rng, raw.key or b"-")))
    return replace(one, raw=replace(raw, value=_flipped(rng, raw.value or b"-")))


def flip_column(rng: random.Random, audit: Audit) -> bytes:
    """Any bit of a column that analysts see; texts stay texts."""

    def change(one: StoredRecord) -> StoredRecord:
        row = dict(one.rows[0])
        name = rng.choice(sorted(row))
        value = row[name]
        if isinstance(value, int):
            row[name] = value ^ (1 << rng.randrange(40))
        else:
            at = rng.randrange(len(value) + 1)
            row[name] = (
                value[:at]
                + chr((ord(value[at]) if at < len(value) else 64) ^ (1 << rng.randrange(5)))
                + value[at + 1 :]
            )
        return replace(one, rows=(row,))

    return written(_with_record(rng, audit, change, needs_row=True))


def delete_record(rng: random.Random, audit: Audit) -> bytes:
    return written(_without(audit.items, {rng.choice(audit.records())}))


def delete_row(rng: random.Random, audit: Audit) -> bytes:
    """What analysts see is gone, and the record is there."""
    return written(_with_record(rng, audit, lambda one: replace(one, rows=()), needs_row=True))


def delete_received(rng: random.Random, audit: Audit) -> bytes:
    """What was received is gone, and its row is there."""
    return written(_with_record(rng, audit, lambda one: replace(one, raw=None, records=0, chain=""), needs_row=True))


def swap_lines(rng: random.Random, audit: Audit) -> bytes:
    return written(_swapped(audit.items, *rng.sample(audit.records(), 2)))


def swap_contents(rng: random.Random, audit: Audit) -> bytes:
    """Two records of a partition change places, and each gets the other's offset and place in the chain."""
    first, second = _two_of_a_partition(rng, audit)
    one, other = _record(audit.items[first]), _record(audit.items[second])
    items = list(audit.items)
    items[first] = replace(one, raw=replace(_raw(other), offset=one.offset), rows=other.rows)
    items[second] = replace(other, raw=replace(_raw(one), offset=other.offset), rows=one.rows)
    return written(items)


def swap_rows(rng: random.Random, audit: Audit) -> bytes:
    """Analysts see each of two records where the other was."""
    first, second = _two_of_a_partition(rng, audit)
    one, other = _record(audit.items[first]), _record(audit.items[second])
    items = list(audit.items)
    items[first], items[second] = replace(one, rows=other.rows), replace(other, rows=one.rows)
    return written(items)


def insert_row(rng: random.Random, audit: Audit) -> bytes:
    """A second row, of a decision that nobody took, under the offset of another."""
    return written(
        _with_record(
            rng, audit, lambda one: replace(one, rows=(*one.rows, {**one.rows[0], "actor": "eve"})), needs_row=True
        )
    )


def insert_record(rng: random.Random, audit: Audit) -> bytes:
    """A record between two others, chained to the one before it."""
    at = rng.choice(audit.records())
    one = _record(audit.items[at])
    forged = extend(_before(audit, at), one.topic, one.partition, _raw(one))
    copy = replace(one, records=forged.records, chain=forged.chain)
    return written([*audit.items[:at], copy, *audit.items[at:]])


def append_record(rng: random.Random, audit: Audit) -> bytes:
    """A record behind the last one of a partition, with the hash of another: the chain says nothing about it."""
    last = _ends(audit)[rng.choice(sorted(_ends(audit)))]
    one = _record(audit.items[last])
    raw = replace(_raw(one), offset=one.offset + 1)
    more = replace(one, offset=one.offset + 1, raw=raw, records=one.records + 1)
    return written([*audit.items[: last + 1], more, *audit.items[last + 1 :]])


def reorder(rng: random.Random, audit: Audit) -> bytes:
    """A stretch of records in another order."""
    first, last = sorted(rng.sample(range(len(audit.items)), 2))
    stretch = list(audit.items[first : last + 1])
    before = list(stretch)
    while stretch == before:
        rng.shuffle(stretch)
    return written([*audit.items[:first], *stretch, *audit.items[last + 1 :]])


def truncate_end(rng: random.Random, audit: Audit) -> bytes:
    """The last records of a partition; its heads stay."""
    partition = rng.choice(sorted(_ends(audit)))
    ours = [number for number in audit.records() if audit.items[number].partition == partition]
    return written(_without(audit.items, set(ours[-rng.randrange(1, len(ours) + 1) :])))


def truncate_with_heads(rng: random.Random, audit: Audit) -> bytes:
    """The last records of a partition, and every head that knew of them."""
    partition = rng.choice(sorted(_ends(audit)))
    heads = [number for number in audit.heads() if audit.items[number].partition == partition]
    gone = set(heads[rng.randrange(1, len(heads)) :])
    last = audit.items[max(set(heads) - gone)]
    assert isinstance(last, AuditHead)
    records = {
        number
        for number in audit.records()
        if audit.items[number].partition == partition and _record(audit.items[number]).records > last.records
    }
    return written(_without(audit.items, gone | records))


def cut_file(rng: random.Random, audit: Audit) -> bytes:
    text = written(audit.items)
    return text[: rng.randrange(len(text))]


def drop_head(rng: random.Random, audit: Audit) -> bytes:
    return written(_without(audit.items, {rng.choice(audit.heads())}))


def drop_partition(rng: random.Random, audit: Audit) -> bytes:
    partition = rng.choice(sorted(_ends(audit)))
    return written([item for item in audit.items if item.partition != partition])


def replace_head(rng: random.Random, audit: Audit) -> bytes:
    """A head that says something else, with the old signature, or a stranger's, or another head in its place."""
    at = rng.choice(audit.heads())
    head = audit.items[at]
    assert isinstance(head, AuditHead)
    number = rng.randrange(1 << 40)
    changed = rng.choice((
        replace(head, records=number), replace(head, next_offset=number), replace(head, signed_at=number),
        replace(head, number=number), replace(head, chain=head.chain[::-1]), replace(head, previous="0" * 64),
    ))  # fmt: skip
    other = audit.items[rng.choice([one for one in audit.heads() if one != at])]
    return written(
        [
            *audit.items[:at],
            rng.choice((changed, STRANGER.sign(changed), STRANGER.sign(head), other)),
            *audit.items[at + 1 :],
        ]
    )


def replay_older_export(rng: random.Random, audit: Audit) -> bytes:
    """An export of former times, of everything or of one partition, in the place of today's."""
    partitions = sorted({item.partition for item in audit.older})
    stale = set(rng.sample(partitions, rng.randrange(1, len(partitions) + 1)))
    newer = {item.partition for item in audit.items}
    return written([
        item
        for partition in sorted(newer)
        for item in (audit.older if partition in stale else audit.items)
        if item.partition == partition
    ])  # fmt: skip


def rechain(rng: random.Random, audit: Audit) -> bytes:
    """A decision is another, its row says so, and every hash that follows is computed anew; the heads stay."""
    return written(_rechained(rng, audit))


def rechain_and_resign(rng: random.Random, audit: Audit) -> bytes:
    """The same, and the partition's heads are made anew with a stranger's key."""
    items = _rechained(rng, audit)
    changed = next(one.partition for one, former in zip(items, audit.items, strict=True) if one != former)
    links = {
        _record(item).records: _record(item)
        for item in items
        if isinstance(item, StoredRecord) and item.partition == changed
    }
    before: AuditHead | None = None
    for number in audit.heads():
        head = items[number]
        if isinstance(head, AuditHead) and head.partition == changed:
            one = links[head.records]
            link = Link(one.offset + 1, one.records, one.chain)
            before = items[number] = STRANGER.sign(next_head(link, head.topic, changed, before, head.signed_at))
    return written(items)


def rechain_and_drop_heads(rng: random.Random, audit: Audit) -> bytes:
    """The same, and the heads that contradict it are gone; where none is left the chain is unsigned."""
    items = _rechained(rng, audit)
    changed = next(_record(one) for one, former in zip(items, audit.items, strict=True) if one != former)
    gone = {
        number
        for number in audit.heads()
        if items[number].partition == changed.partition and _head(items[number]).records >= changed.records
    }
    return written(_without(items, gone))


KINDS: Final[tuple[Tamper, ...]] = (
    flip_byte, flip_field, flip_column, delete_record, delete_row, delete_received, swap_lines, swap_contents,
    swap_rows, insert_row, insert_record, append_record, reorder, truncate_end, truncate_with_heads, cut_file,
    drop_head, drop_partition, replace_head, replay_older_export, rechain, rechain_and_resign, rechain_and_drop_heads,
)  # fmt: skip


def _rechained(rng: random.Random, audit: Audit) -> list[Item]:
    at = rng.choice([number for number in audit.records() if _record(audit.items[number]).rows])
    items = list(audit.items)
    one = _record(items[at])
    raw = _raw(one)
    value = bytearray(raw.value or b"")
    # Within the decision's id, which is text: the record stays one.
    value[10 + rng.randrange(20)] ^= 1
    link = _before(audit, at)
    for number in range(at, len(items)):
        now = items[number]
        if not isinstance(now, StoredRecord) or now.partition != one.partition:
            continue
        fresh = replace(raw, value=bytes(value)) if number == at else _raw(now)
        link = extend(link, now.topic, now.partition, fresh)
        row = expected_row(fresh, committed_ids=True)
        items[number] = replace(
            now, raw=fresh, records=link.records, chain=link.chain, rows=() if row is None else (row,)
        )
    return items


def _before(audit: Audit, at: int) -> Link:
    one = _record(audit.items[at])
    if one.records == 1:
        return GENESIS
    former = _record(audit.items[at - 1])
    return Link(former.offset + 1, former.records, former.chain)


def _with_record(
    rng: random.Random, audit: Audit, change: Callable[[StoredRecord], StoredRecord], *, needs_row: bool = False
) -> list[Item]:
    at = rng.choice([number for number in audit.records() if not needs_row or _record(audit.items[number]).rows])
    return [*audit.items[:at], change(_record(audit.items[at])), *audit.items[at + 1 :]]


def _two_of_a_partition(rng: random.Random, audit: Audit) -> tuple[int, int]:
    first = rng.choice(audit.records())
    partition, contents = audit.items[first].partition, _raw(_record(audit.items[first]))
    others = [
        number
        for number in audit.records()
        if audit.items[number].partition == partition and _raw(_record(audit.items[number])).value != contents.value
    ]
    return first, rng.choice(others)


def _ends(audit: Audit) -> dict[int, int]:
    """The last record of each partition."""
    return {audit.items[number].partition: number for number in audit.records()}


def _without(items: Sequence[Item], gone: set[int]) -> list[Item]:
    return [item for number, item in enumerate(items) if number not in gone]


def _swapped(items: Sequence[Item], first: int, second: int) -> list[Item]:
    swapped = list(items)
    swapped[first], swapped[second] = items[second], items[first]
    return swapped


def _record(item: Item) -> StoredRecord:
    assert isinstance(item, StoredRecord)
    return item


def _head(item: Item) -> AuditHead:
    assert isinstance(item, AuditHead)
    return item


def _raw(one: StoredRecord) -> RawRecord:
    assert one.raw is not None
    return one.raw
