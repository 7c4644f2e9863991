"""Answers in ClickHouse's Native format are read as they were written, and damaged ones are refused."""

from __future__ import annotations

import random

import pytest

from emergency_stop.columnar.decoder import key_hash
from emergency_stop.columnar.native import NativeFormatError, read_native
from tests.oracle.native import block

SEED = 20261125


def columns(rng: random.Random, rows: int) -> list[tuple[str, str, list[object]]]:
    texts = [rng.randbytes(rng.choice((0, 1, 7, 8, 127, 128, 300, 20_000))) for _ in range(rows)]
    return [
        ("whole", "Int64", [rng.randrange(-(2**63), 2**63) for _ in range(rows)]),
        ("text", "String", list(texts)),
        ("real", "Float64", [rng.choice((0.0, rng.uniform(-1e9, 1e9), float("inf"))) for _ in range(rows)]),
    ]


@pytest.mark.parametrize("seed", range(SEED, SEED + 20))
def test_all_blocks_are_one_answer(seed: int) -> None:
    rng = random.Random(seed)
    blocks = [columns(rng, rng.choice((0, 1, 3, 200))) for _ in range(rng.randrange(1, 5))]
    answer = read_native(b"".join(block(one) for one in blocks))
    whole, texts, real = (
        [value for one in blocks for value in one[index][2]] for index in range(3)
    )  # fmt: skip
    assert answer.n == len(whole)
    assert answer.longs["whole"].tolist() == whole
    assert answer.doubles["real"].tolist() == real
    assert [answer.texts["text"].at(row) for row in range(answer.n)] == texts
    hashes = answer.texts["text"].hashes().tolist()
    assert hashes == [key_hash(one) for one in texts if isinstance(one, bytes)]


def test_nothing_is_an_answer_without_rows() -> None:
    assert read_native(b"").n == 0


def test_an_answer_that_is_cut_off_anywhere_is_refused() -> None:
    whole = block(columns(random.Random(SEED), 2))
    for size in range(1, len(whole)):
        with pytest.raises(NativeFormatError, match="cut off"):
            read_native(whole[:size])


@pytest.mark.parametrize("length", [b"\xff\xff\xff\xff\x7f", b"\x80\x80\x80\x80\x80\x01", b"\x05"])
def test_a_text_longer_than_the_answer_is_refused(length: bytes) -> None:
    start = block([("text", "String", [b""])])[:-1]
    with pytest.raises(NativeFormatError, match=r"'text' .* fewer than 1 texts"):
        read_native(start + length + b"abcd")


def test_another_type_is_refused_by_name() -> None:
    with pytest.raises(NativeFormatError, match=r"'small' has type UInt8; ask for one of Int64, Float64, String"):
        read_native(block([("small", "UInt8", [])]))
