"""The coordinator's key changes while it runs, and only to one that services trust."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from emergency_stop.apps.coordinator import run
from emergency_stop.apps.coordinator_keys import SigningKey, following, load_signing_key
from emergency_stop.config import EXIT_CONFIG, Settings
from emergency_stop.domain.messages import Hold
from emergency_stop.domain.values import HoldState
from emergency_stop.wire.signing import SignatureVerdict, Signer, Verifier
from emergency_stop.wire.trusted_keys import KeyFileVerifier, retire_key, trust_keys
from tests.integration.coordinator_office import until

HOLD = Hold("account:a", 2, HoldState.RUNNING, None, (), "resumed", 0)


class Keys:
    """A signing key in a file, and a file of trusted ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.signing, self.trusted = folder / "signing.pem", folder / "trusted.pem"
        self.old, self.new = Signer.generate(), Signer.generate()
        self.old.save(self.signing)
        trust_keys(self.trusted, self.old.public_pem())

    def replace(self, signer: Signer) -> None:
        beside = self.folder / "next.pem"
        signer.save(beside)
        beside.replace(self.signing)

    def settings(self) -> Settings:
        return Settings(data_dir=self.folder, signing_key_file=self.signing, verify_keys_file=self.trusted)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


def test_a_key_takes_over_once_it_is_trusted(keys: Keys) -> None:
    key = load_signing_key(keys.settings())
    assert key.key_id == keys.old.key_id
    assert key.reload() is False
    keys.replace(keys.new)
    assert key.reload() is False
    assert key.key_id == keys.old.key_id
    assert "does not trust: services would refuse every resume. First run `estop keys trust" in key.refused
    trust_keys(keys.trusted, keys.new.public_pem())
    assert key.reload() is True
    assert (key.key_id, key.refused) == (keys.new.key_id, "")
    assert Verifier.load(keys.trusted).verify(key.sign(HOLD)) is SignatureVerdict.VALID


def test_without_a_file_of_trusted_keys_the_key_takes_over_at_once(keys: Keys) -> None:
    key = SigningKey(keys.old, keys.signing)
    keys.replace(keys.new)
    assert key.reload() is True
    assert key.key_id == keys.new.key_id


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", None])
def test_a_broken_file_leaves_the_former_key_signing(keys: Keys, content: bytes | None) -> None:
    key = load_signing_key(keys.settings())
    keys.signing.unlink()
    if content is not None:
        keys.signing.write_bytes(content)
    assert key.reload() is False
    assert "signing.pem" in key.refused
    assert key.sign(HOLD).key_id == keys.old.key_id
    trust_keys(keys.trusted, keys.new.public_pem())
    keys.replace(keys.new)
    assert key.reload() is True


def test_the_three_steps_leave_no_moment_without_trust(keys: Keys) -> None:
    """Trust new, sign with new, retire old: every message on the way is valid to who follows the file."""
    key, now_ms = load_signing_key(keys.settings()), 0

    def verdict(signed: Hold) -> SignatureVerdict:
        nonlocal now_ms
        now_ms += 1_000
        return service.verify(signed)

    service = KeyFileVerifier(keys.trusted, lambda: now_ms)
    recorded = key.sign(HOLD)
    assert verdict(recorded) is SignatureVerdict.VALID
    trust_keys(keys.trusted, keys.new.public_pem())
    assert verdict(key.sign(HOLD)) is SignatureVerdict.VALID
    keys.replace(keys.new)
    assert key.reload()
    assert verdict(key.sign(HOLD)) is SignatureVerdict.VALID
    assert verdict(recorded) is SignatureVerdict.VALID, "still good while the new one takes over"
    retire_key(keys.trusted, keys.old.key_id)
    assert verdict(key.sign(HOLD)) is SignatureVerdict.VALID
    assert verdict(recorded) is SignatureVerdict.UNKNOWN_KEY


async def test_a_signal_makes_it_look_at_once(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emergency_stop.apps.coordinator_keys.WATCH_S", 3_600.0)
    await _takes_over(keys, lambda: os.kill(os.getpid(), signal.SIGHUP))


async def test_without_a_signal_it_looks_again_and_again(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emergency_stop.apps.coordinator_keys.WATCH_S", 0.001)
    await _takes_over(keys, lambda: None)


async def _takes_over(keys: Keys, then: Callable[[], None]) -> None:
    """The new key is trusted, and in its file; ``then`` something, and it signs."""
    key = load_signing_key(keys.settings())
    async with following(key):
        trust_keys(keys.trusted, keys.new.public_pem())
        keys.replace(keys.new)
        then()
        await until(lambda: key.key_id == keys.new.key_id, "the new key signs")


@pytest.mark.parametrize("file", ["signing", "trusted"])
def test_wrong_key_files_keep_a_coordinator_from_starting(keys: Keys, file: str) -> None:
    """Exit 78, before any broker is asked."""
    (keys.folder / f"{file}.pem").write_bytes(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    assert run(keys.settings()) == EXIT_CONFIG
