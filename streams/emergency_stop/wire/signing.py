"""Ed25519 signatures on commands, holds, leases and heads of the audit.

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
from typing import Any, Final, Protocol, TypeVar

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

from emergency_stop.domain.messages import AuditHead, Command, Hold, Lease

#: What carries a signature.
Signable = Command | Hold | Lease | AuditHead
Signed = TypeVar("Signed", bound=Signable)

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


def canonical_bytes(message: Signable) -> bytes:
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
        return cls.from_pem(_read(path), str(path))

    @classmethod
    def from_pem(cls, pem: bytes, source: str) -> Signer:
        """The same of bytes; ``source`` says in errors where they are from."""
        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyFileError(f"{source} holds no unencrypted private key in PEM form: {error}") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyFileError(f"{source} holds a key of type {type(key).__name__}; an Ed25519 key is needed")
        return cls(key)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the private key as PEM, readable by the owner alone. Never overwrites: raises ``FileExistsError``."""
        pem = self._private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)

    def public_pem(self) -> bytes:
        """The public half as PEM; files of several are plain concatenations."""
        return public_pem(self.public_key)[1]

    def sign(self, message: Signed) -> Signed:
        """The message with this key's id and signature, whatever it carried before."""
        named = dataclasses.replace(message, key_id=self.key_id, signature=b"")
        return dataclasses.replace(named, signature=self._private_key.sign(canonical_bytes(named)))


class MessageSigner(Protocol):
    """Who signs; a ``Signer`` is one, with the same key for ever."""

    def sign(self, message: Signed) -> Signed:
        """The message with a key's id and signature."""
        ...


class Verifier:
    """Checks signatures against a set of public keys. Safe to share between threads.

    The set stays as it is; ``wire.trusted_keys.KeyFileVerifier`` follows a file.
    """

    def __init__(self, public_keys: Iterable[Ed25519PublicKey] = ()) -> None:
        self._trust(public_keys)

    def _trust(self, public_keys: Iterable[Ed25519PublicKey]) -> None:
        self._keys = {key_id_of(key): key for key in public_keys}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Verifier:
        """All public keys of a PEM file, one after the other. Raises ``KeyFileError``."""
        return cls(public_keys_of(path))

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The trusted keys; empty where none are configured, and every message is then UNKNOWN_KEY or UNSIGNED."""
        return tuple(self._keys)

    def verify(self, message: Signable) -> SignatureVerdict:
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


def public_keys_of(source: str | os.PathLike[str] | bytes) -> list[Ed25519PublicKey]:
    """All public keys of a PEM file, or of its bytes, one after the other; at least one. Raises ``KeyFileError``."""
    text, name = (source, "the key") if isinstance(source, bytes) else (_read(source), str(source))
    blocks = [block + _PEM_END for block in text.split(_PEM_END)[:-1]]
    if not blocks:
        raise KeyFileError(f"{name} holds no public key; write the signer's public half there (PEM)")
    return [_public_key(block, name) for block in blocks]


def public_pem(key: Ed25519PublicKey) -> tuple[str, bytes]:
    """(the key's id, the key as PEM)."""
    return key_id_of(key), key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def is_private_pem(text: bytes) -> bool:
    """Whether PEM holds a private key."""
    return b"PRIVATE KEY-----" in text


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise KeyFileError(f"key file {path} cannot be read: {error.strerror}") from error


def _public_key(pem: bytes, path: str) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"{path} holds a damaged public key: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(f"{path} holds a public key of type {type(key).__name__}; an Ed25519 key is needed")
    return key
