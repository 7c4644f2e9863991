"""The chain is what its document says, and every part of a record is in it."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from emergency_stop.domain.topics import AUDIT
from emergency_stop.wire.audit_chain import GENESIS, RawRecord, extend, head_digest, links, next_head
from tests.oracle import naive_audit_chain
from tests.unit.wire.audit_log import SIGNER, raw


@pytest.mark.parametrize("seed", range(20))
def test_the_chain_is_the_naive_twins(seed: int) -> None:
    rng = random.Random(seed)

    def text() -> bytes | None:
        return None if rng.random() < 0.2 else rng.randbytes(rng.randrange(40))

    records = [RawRecord(n * 2, rng.randrange(-1, 1 << 42), text(), text()) for n in range(rng.randrange(1, 30))]
    partition = rng.randrange(100)
    wanted = naive_audit_chain.chain(
        "t", partition, [(one.offset, one.timestamp, one.key, one.value) for one in records]
    )
    assert [link.chain for link in links(GENESIS, "t", partition, records)] == wanted, f"seed {seed}"


def test_every_part_of_a_record_is_in_its_hash() -> None:
    one = raw(5)
    made = [
        extend(GENESIS, AUDIT, 0, one),
        extend(GENESIS, AUDIT, 1, one),
        extend(GENESIS, "other", 0, one),
        extend(extend(GENESIS, AUDIT, 0, raw(4)), AUDIT, 0, one),
        extend(replace(GENESIS, records=1), AUDIT, 0, one),
        *(extend(GENESIS, AUDIT, 0, changed) for changed in (
            replace(one, offset=6), replace(one, timestamp=1), replace(one, key=None), replace(one, key=b""),
            replace(one, value=None), replace(one, value=b""), replace(one, key=(one.key or b"") + b"x"),
        )),
    ]  # fmt: skip
    assert len({link.chain for link in made}) == len(made)


def test_a_byte_that_moves_from_the_key_to_the_value_changes_the_hash() -> None:
    moved = [RawRecord(0, 0, b"ab", b"c"), RawRecord(0, 0, b"a", b"bc")]
    assert len({extend(GENESIS, AUDIT, 0, one).chain for one in moved}) == 2


def test_a_head_names_the_one_before_it_signature_included() -> None:
    link = extend(GENESIS, AUDIT, 0, raw(0))
    first = SIGNER.sign(next_head(link, AUDIT, 0, None, 1))
    second = next_head(extend(link, AUDIT, 0, raw(1)), AUDIT, 0, first, 2)
    assert (first.number, first.previous, second.number) == (0, "", 1)
    assert second.previous == head_digest(first) != head_digest(replace(first, signature=b"\0" * 64))
