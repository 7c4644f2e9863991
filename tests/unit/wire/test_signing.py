"""A signature covers every field, survives the wire, and names its key."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from emergency_stop.domain.messages import Command, Hold, HoldCause
from emergency_stop.domain.values import Action, HoldState, StopLevel
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from emergency_stop.wire.signing import (
    KeyFileError,
    SignatureVerdict,
    Signer,
    Verifier,
    canonical_bytes,
)
from emergency_stop.wire.trusted_keys import trust_keys

COMMAND = Command(
    command_id="c1",
    emergency_id="e1",
    correlation_id="k1",
    service="sessionManager",
    scope="account:zoë",
    epoch=7,
    action=Action.STOP,
    level=StopLevel.IMMEDIATE,
    reason='risk 0.97 > 0.85 "now"',
    issued_by="coordinator-1",
    issued_at=1_000,
    deadline_at=6_000,
    attempt=1,
)
HOLD = Hold(
    scope="account:zoë",
    epoch=7,
    state=HoldState.HELD,
    level=StopLevel.IMMEDIATE,
    causes=(HoldCause("e1", StopLevel.IMMEDIATE, ("all",), "risk", 7),),
    reason="risk",
    updated_at=1_000,
)


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer.generate()


def test_canonical_form_is_fixed() -> None:
    """The exact bytes are the contract with implementations in other languages."""
    assert canonical_bytes(HOLD).decode() == (
        "estop-ed25519-v1:Hold\n"
        '{"causes":[{"emergency_id":"e1","epoch":7,"level":"immediate","reason":"risk","services":["all"]}],'
        '"epoch":7,"level":"immediate","reason":"risk","scope":"account:zoë","state":"held","updated_at":1000}'
    )


@pytest.mark.parametrize("message", [COMMAND, HOLD])
def test_signed_message_is_valid_after_the_wire(signer: Signer, message: Command | Hold) -> None:
    codec = Codec(LocalRegistry())
    signed = signer.sign(message)
    read_back = codec.decode(type(signed), codec.encode(signed, "estop.holds"))
    assert read_back == signed
    assert Verifier([signer.public_key]).verify(read_back) is SignatureVerdict.VALID


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("action", Action.RESUME),
        ("scope", "global"),
        ("epoch", 8),
        ("level", StopLevel.GRACEFUL),
        ("service", "realtimeSync"),
        ("reason", ""),
        ("attempt", 2),
        ("deadline_at", 6_001),
    ],
)
def test_any_changed_field_makes_it_invalid(signer: Signer, field: str, value: object) -> None:
    forged = dataclasses.replace(signer.sign(COMMAND), **{field: value})  # type: ignore[arg-type]  # by name
    assert Verifier([signer.public_key]).verify(forged) is SignatureVerdict.INVALID


def test_verdicts(signer: Signer) -> None:
    signed, other = signer.sign(HOLD), Signer.generate()
    trusted = Verifier([signer.public_key])
    assert trusted.verify(HOLD) is SignatureVerdict.UNSIGNED
    assert trusted.verify(dataclasses.replace(signed, signature=b"")) is SignatureVerdict.UNSIGNED
    assert Verifier().verify(signed) is SignatureVerdict.UNKNOWN_KEY
    assert trusted.verify(other.sign(HOLD)) is SignatureVerdict.UNKNOWN_KEY
    assert trusted.verify(dataclasses.replace(signed, signature=b"short")) is SignatureVerdict.INVALID
    swapped = dataclasses.replace(other.sign(HOLD), key_id=signer.key_id)
    assert trusted.verify(swapped) is SignatureVerdict.INVALID


def test_a_signature_of_one_kind_is_not_one_of_the_other() -> None:
    """The record's name is signed: bytes of a hold can never pass for a command."""
    assert canonical_bytes(HOLD).split(b"\n")[0] != canonical_bytes(COMMAND).split(b"\n")[0]


def test_signing_again_replaces_the_former_signature(signer: Signer) -> None:
    assert signer.sign(Signer.generate().sign(COMMAND)) == signer.sign(COMMAND)


def test_keys_live_in_pem_files(tmp_path: Path, signer: Signer) -> None:
    private, public = tmp_path / "signing.pem", tmp_path / "trusted.pem"
    signer.save(private)
    assert private.stat().st_mode & 0o077 == 0
    with pytest.raises(FileExistsError):
        signer.save(private)
    second = Signer.generate()
    assert trust_keys(public, signer.public_pem()) == (signer.key_id,)
    assert trust_keys(public, second.public_pem()) == (second.key_id,)
    assert trust_keys(public, signer.public_pem()) == ()
    trusted = Verifier.load(public)
    assert trusted.key_ids == (signer.key_id, second.key_id)
    assert trusted.verify(Signer.load(private).sign(HOLD)) is SignatureVerdict.VALID


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_bad_key_files_are_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "keys.pem"
    if content is not None:
        path.write_bytes(content)
    for load in (Signer.load, Verifier.load):
        with pytest.raises(KeyFileError, match=r"keys\.pem"):
            load(path)
