"""Ed25519 signatures on commands and holds.

What is signed is the **canonical form**: a line that names the scheme and the record, then JSON as in
RFC 8785 (keys sorted, no blanks, UTF-8) of every field but ``signature``. A field that has its default
is left out, so that a field added later (with a default, as the schemas demand) does not break the
signatures of older writers. ``key_id`` is signed too: it says which key, and cannot be swapped.

A key's id is derived from its public half, so key files carry no names and ids cannot be confused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from emergency_stop.domain.messages import Command, Hold, Lease

Signed = TypeVar("Signed", bound=Command | Hold | Lease)

SCHEME: Final = "estop-ed25519-v1"
KEY_ID_HEX_DIGITS: Final = 16
_PEM_END: Final = b"-----END PUBLIC KEY-----"


class KeyFileError(ValueError):
    """A key file is missing, unreadable or holds something else; the text says which and what to do."""


class SignatureVerdict(StrEnum):
    VALID = "valid"
    UNSIGNED = "unsigned"
    UNKNOWN_KEY = "unknown_key"
    INVALID = "invalid"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {f.name: _plain(v) for f, v in fields if f.name != "signature" and v != f.default}
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return value


def canonical_bytes(message: Command | Hold | Lease) -> bytes:
    """What a signature covers: equal messages give equal bytes, and no two different ones do."""
    body = json.dumps(_plain(message), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"{SCHEME}:{type(message).__name__}\n{body}".encode()


def key_id_of(public_key: Ed25519PublicKey) -> str:
    """The key's name: the first 16 hexadecimal digits of SHA-256 over its 32 raw bytes."""
    raw = public_key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:KEY_ID_HEX_DIGITS]


class Signer:
    """Signs with one private key. About 50 µs a signature; no I/O after construction."""

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self._private_key = private_key
        self.public_key: Final = private_key.public_key()
        self.key_id: Final = key_id_of(self.public_key)

    @classmethod
    def generate(cls) -> Signer:
        """A signer with a fresh key that exists nowhere else."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Signer:
        """The signer of a PEM file (PKCS#8, unencrypted). Raises ``KeyFileError``."""
        try:
            key = load_pem_private_key(_read(path), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyFileError(f"{path} holds no unencrypted private key in PEM form: {error}") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyFileError(f"{path} holds a key of type {type(key).__name__}; an Ed25519 key is needed")
        return cls(key)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the private key as PEM, readable by the owner alone. Never overwrites: raises ``FileExistsError``."""
        pem = self._private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)

    def public_pem(self) -> bytes:
        """The public half as PEM; files of several are plain concatenations."""
        return self.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, message: Signed) -> Signed:
        """The message with this key's id and signature, whatever it carried before."""
        named = dataclasses.replace(message, key_id=self.key_id, signature=b"")
        return dataclasses.replace(named, signature=self._private_key.sign(canonical_bytes(named)))


class Verifier:
    """Checks signatures against a set of public keys. Immutable; safe to share between threads."""

    def __init__(self, public_keys: Iterable[Ed25519PublicKey] = ()) -> None:
        self._keys = {key_id_of(key): key for key in public_keys}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Verifier:
        """All public keys of a PEM file, one after the other. Raises ``KeyFileError``."""
        blocks = [block + _PEM_END for block in _read(path).split(_PEM_END)[:-1]]
        if not blocks:
            raise KeyFileError(f"{path} holds no public key; write the signer's public half there (PEM)")
        return cls(_public_key(block, path) for block in blocks)

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The trusted keys; empty where none are configured, and every message is then UNKNOWN_KEY or UNSIGNED."""
        return tuple(self._keys)

    def verify(self, message: Command | Hold | Lease) -> SignatureVerdict:
        """What the signature is worth. Obeying is the caller's decision: a stop is obeyed even when it is bad."""
        if not message.key_id or not message.signature:
            return SignatureVerdict.UNSIGNED
        key = self._keys.get(message.key_id)
        if key is None:
            return SignatureVerdict.UNKNOWN_KEY
        try:
            key.verify(message.signature, canonical_bytes(message))
        except InvalidSignature:
            return SignatureVerdict.INVALID
        return SignatureVerdict.VALID


def publish_public_key(signer: Signer, path: str | os.PathLike[str]) -> bool:
    """Add the signer's public half to a file of trusted keys; ``False`` where it was there already.

    Other keys stay: a message signed with the former key is still good while a new one takes over.
    """
    pem = signer.public_pem()
    if Path(path).is_file() and pem in Path(path).read_bytes():
        return False
    with Path(path).open("ab") as file:
        file.write(pem)
    return True


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise KeyFileError(f"key file {path} cannot be read: {error.strerror}") from error


def _public_key(pem: bytes, path: str | os.PathLike[str]) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"{path} holds a damaged public key: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(f"{path} holds a public key of type {type(key).__name__}; an Ed25519 key is needed")
    return key
