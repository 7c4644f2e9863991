"""The file of trusted keys: changed as a whole, in the right order, under the eyes of who reads it."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from emergency_stop.domain.messages import Hold
from emergency_stop.domain.values import HoldState
from emergency_stop.wire.signing import KeyFileError, SignatureVerdict, Signer, Verifier
from emergency_stop.wire.trusted_keys import (
    CHECK_MS,
    UNKNOWN_KEY_CHECK_MS,
    KeyFileVerifier,
    KeyRefusedError,
    UnknownKeyError,
    retire_key,
    trust_keys,
)

VALID, UNKNOWN = SignatureVerdict.VALID, SignatureVerdict.UNKNOWN_KEY
HOLD = Hold("account:a", 2, HoldState.RUNNING, None, (), "resumed", 0)


class Clock:
    """Milliseconds that only a test moves."""

    def __init__(self) -> None:
        self.now_ms = 0

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trusted.pem"


@pytest.fixture
def old() -> Signer:
    return Signer.generate()


@pytest.fixture
def new() -> Signer:
    return Signer.generate()


def trusting(path: Path, *signers: Signer) -> Path:
    for signer in signers:
        trust_keys(path, signer.public_pem())
    return path


def test_a_key_that_is_trusted_stands_beside_the_others(path: Path, tmp_path: Path, old: Signer, new: Signer) -> None:
    third, private = Signer.generate(), tmp_path / "private.pem"
    new.save(private)
    assert trust_keys(path, old.public_pem()) == (old.key_id,)
    assert trust_keys(path, private.read_bytes()) == (new.key_id,), "of a private key, the public half"
    assert b"PRIVATE" not in path.read_bytes()
    assert trust_keys(path, old.public_pem() + third.public_pem()) == (third.key_id,)
    assert Verifier.load(path).key_ids == (old.key_id, new.key_id, third.key_id)
    assert list(tmp_path.glob(".*")) == [], "nothing is left beside it"


@pytest.mark.parametrize("pem", [b"", b"nonsense", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
                                 b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])  # fmt: skip
def test_what_is_no_key_is_not_trusted(path: Path, old: Signer, pem: bytes) -> None:
    before = trusting(path, old).read_bytes()
    with pytest.raises(KeyFileError, match="the key holds"):
        trust_keys(path, pem)
    assert path.read_bytes() == before


def test_a_damaged_file_is_not_written_over(path: Path, old: Signer) -> None:
    path.write_bytes(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    with pytest.raises(KeyFileError, match=r"trusted\.pem holds a damaged public key"):
        trust_keys(path, old.public_pem())
    assert b"AAAA" in path.read_bytes()


def test_a_link_and_the_mode_stay(path: Path, tmp_path: Path, old: Signer, new: Signer) -> None:
    real = trusting(tmp_path / "real.pem", old)
    real.chmod(0o640)
    path.symlink_to(real)
    trust_keys(path, new.public_pem())
    assert path.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert Verifier.load(real).key_ids == (old.key_id, new.key_id)


def test_a_retired_key_is_named_by_how_it_begins(path: Path, old: Signer, new: Signer) -> None:
    trusting(path, old, new)
    length = next(n for n in range(1, 17) if old.key_id[:n] != new.key_id[:n])
    assert retire_key(path, old.key_id[:length]) == old.key_id
    assert Verifier.load(path).key_ids == (new.key_id,)


def test_a_key_that_is_needed_is_not_retired(path: Path, old: Signer, new: Signer) -> None:
    before = trusting(path, old).read_bytes()
    with pytest.raises(KeyRefusedError, match=r"is the only one in .*First trust another"):
        retire_key(path, old.key_id)
    assert path.read_bytes() == before
    trusting(path, new)

    def in_use(key_id: str) -> str:
        return "a coordinator signs with it" if key_id == new.key_id else ""

    with pytest.raises(KeyRefusedError, match=r"is in use: a coordinator signs with it.*First sign with another"):
        retire_key(path, new.key_id, in_use=in_use)
    assert retire_key(path, old.key_id, in_use=in_use) == old.key_id


def test_a_key_that_is_not_there_is_not_retired(path: Path, old: Signer, new: Signer) -> None:
    trusting(path, old, new)
    swapped = old.key_id[:6] + ("0" if old.key_id[6] != "0" else "1") + old.key_id[7:]
    with pytest.raises(UnknownKeyError, match=f"no key .*did you mean {old.key_id}"):
        retire_key(path, swapped)
    with pytest.raises(UnknownKeyError, match="no key ''"):
        retire_key(path, "")
    with pytest.raises(KeyFileError, match="cannot be read"):
        retire_key(path.with_name("none.pem"), old.key_id)


def test_several_keys_of_one_beginning_are_told_apart(path: Path) -> None:
    signers = [Signer.generate() for _ in range(17)]  # two of them begin alike
    trusting(path, *signers)
    beginnings = [signer.key_id[0] for signer in signers]
    twice = next(digit for digit in beginnings if beginnings.count(digit) > 1)
    with pytest.raises(UnknownKeyError, match="give more digits"):
        retire_key(path, twice)


def test_a_reader_never_sees_a_part_of_the_file(path: Path, old: Signer, new: Signer) -> None:
    trusting(path, old, new)
    done = threading.Event()
    broken: list[str] = []

    def read() -> None:
        while not done.is_set():
            try:
                if old.key_id not in Verifier.load(path).key_ids:
                    broken.append("a key was missing")
            except KeyFileError as error:
                broken.append(str(error))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(200):
        retire_key(path, new.key_id)
        trust_keys(path, new.public_pem())
    done.set()
    reader.join()
    assert broken == []


def test_a_verifier_takes_up_a_new_key_when_it_meets_one(path: Path, old: Signer, new: Signer) -> None:
    """Looking costs a call of the system; a flood of forgeries must not become a flood of those."""
    clock = Clock()
    verifier = KeyFileVerifier(trusting(path, old), clock)
    clock.now_ms = UNKNOWN_KEY_CHECK_MS
    assert verifier.verify(new.sign(HOLD)) is UNKNOWN
    trusting(path, new)
    clock.now_ms += UNKNOWN_KEY_CHECK_MS - 1
    assert verifier.verify(new.sign(HOLD)) is UNKNOWN, "looked at just now"
    clock.now_ms += 1
    assert verifier.verify(new.sign(HOLD)) is VALID
    assert verifier.verify(old.sign(HOLD)) is VALID


def test_a_verifier_drops_a_retired_key(path: Path, old: Signer, new: Signer) -> None:
    clock = Clock()
    verifier = KeyFileVerifier(trusting(path, old, new), clock)
    signed = old.sign(HOLD)
    retire_key(path, old.key_id)
    assert verifier.verify(signed) is VALID
    clock.now_ms = CHECK_MS
    assert verifier.verify(signed) is UNKNOWN
    assert verifier.verify(new.sign(HOLD)) is VALID
    assert verifier.key_ids == (new.key_id,)


@pytest.mark.parametrize("damage", [b"", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", None])
def test_a_broken_file_leaves_the_former_keys_in_force(
    path: Path, old: Signer, new: Signer, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    verifier = KeyFileVerifier(trusting(path, old), clock)
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            clock.now_ms += CHECK_MS
            assert verifier.verify(old.sign(HOLD)) is VALID
    assert len(caplog.records) == 1, "said once, not for every message"
    assert old.key_id in caplog.text
    path.unlink(missing_ok=True)
    trusting(path, new)
    clock.now_ms += CHECK_MS
    assert verifier.verify(new.sign(HOLD)) is VALID


def test_a_verifier_without_a_file_does_not_start(path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"trusted\.pem"):
        KeyFileVerifier(path)
