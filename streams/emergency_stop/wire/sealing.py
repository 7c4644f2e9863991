"""Sealed texts: one field's text under one account's key, printable, so that it travels where the text would.

    sealed:1:<r|d>:<key id>:<base64url>

``r`` is AES-256-GCM under a fresh nonce, which is in front of the ciphertext; the text is padded to whole blocks of
``PAD_BYTES``, so that its length tells little. ``d`` is AES-SIV (RFC 5297) without a nonce: equal texts of one field of
one account under one key are equal when sealed, and nothing else about them shows, so that they can be counted
apart. Both are bound to the place they were sealed for: moved to another field or account they do not open.

An account's key is 32 random bytes; each way of sealing uses a key of its own that HKDF-SHA256 (RFC 5869) derives.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SCHEME: Final = "estop-sealed-v1"
KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 8
NONCE_BYTES: Final = 12
PAD_BYTES: Final = 32
_SIV_KEY_BYTES: Final = 64
_PAD_MARK: Final = b"\x80"
_FORM: Final = re.compile(r"sealed:1:([rd]):([0-9a-f]{16}):([A-Za-z0-9_-]+)")

Random = Callable[[int], bytes]


class Sealing(StrEnum):
    """How a field is sealed."""

    #: Nothing shows, not even whether two texts are equal.
    RANDOM = "random"
    #: Equal texts of an account stay equal.
    DETERMINISTIC = "deterministic"


_LETTERS: Final = {Sealing.RANDOM: "r", Sealing.DETERMINISTIC: "d"}
_OF_LETTER: Final = {letter: sealing for sealing, letter in _LETTERS.items()}


class SealError(ValueError):
    """A text does not open; it says why, and never what the text or the key is."""


class UnknownKeyError(SealError):
    """The key that a text was sealed with is not there: erased, or never published."""


@dataclass(frozen=True, slots=True)
class SealedPlace:
    """Where a text belongs. All of it is authenticated."""

    record: str
    field: str
    account_id: str

    def bound_to(self, key_id: str) -> bytes:
        """The associated data."""
        return json.dumps([SCHEME, self.record, self.field, self.account_id, key_id], ensure_ascii=False).encode()


class SealingKey:
    """One version of an account's key, ready to seal. Holds secrets: it is neither printed nor compared."""

    __slots__ = ("_gcm", "_siv", "key_id")

    def __init__(self, key_id: str, secret: bytes) -> None:
        """``secret`` is the 32 bytes that the master key wraps. Raises ``ValueError`` for another length."""
        if len(secret) != KEY_BYTES:
            raise ValueError(f"an account's key has {len(secret)} bytes; {KEY_BYTES} are needed")
        self.key_id: Final = key_id
        self._gcm: Final = AESGCM(_derived(secret, "random", KEY_BYTES))
        self._siv: Final = AESSIV(_derived(secret, "deterministic", _SIV_KEY_BYTES))

    def seal(self, text: str, place: SealedPlace, sealing: Sealing, random: Random = secrets.token_bytes) -> str:
        """The sealed form of ``text``. What looks sealed already is sealed all the same: its sender chose the text."""
        data, bound = text.encode(), place.bound_to(self.key_id)
        if sealing is Sealing.DETERMINISTIC:
            sealed = self._siv.encrypt(data + _PAD_MARK, [bound])  # the library refuses to seal nothing at all
        else:
            nonce = random(NONCE_BYTES)
            sealed = nonce + self._gcm.encrypt(nonce, _padded(data), bound)
        return f"sealed:1:{_LETTERS[sealing]}:{self.key_id}:{base64.urlsafe_b64encode(sealed).decode().rstrip('=')}"

    def open(self, sealed: str, place: SealedPlace) -> str:
        """The text again. Raises ``SealError``: not sealed, sealed with another key, for another place, or changed."""
        sealing, key_id, data = _parts(sealed)
        if key_id != self.key_id:
            raise UnknownKeyError(f"{place.record}.{place.field} is sealed with key {key_id}, not with {self.key_id}")
        bound = place.bound_to(key_id)
        try:
            if sealing is Sealing.DETERMINISTIC:
                return _unpadded(self._siv.decrypt(data, [bound])).decode()
            return _unpadded(self._gcm.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], bound)).decode()
        except (InvalidTag, ValueError) as error:
            raise SealError(
                f"{place.record}.{place.field} does not open with key {key_id}: it was changed, or sealed for another"
                " account or field"
            ) from error


def is_sealed(text: str) -> bool:
    """Whether ``text`` has the form of a sealed one."""
    return _FORM.fullmatch(text) is not None


def sealed_with(sealed: str) -> str:
    """The id of the key that a text was sealed with. Raises ``SealError`` where it is not sealed."""
    return _parts(sealed)[1]


def new_key_id(random: Random = secrets.token_bytes) -> str:
    """16 hexadecimal digits. Random, so that a key made after an erasure never bears the name of an erased one."""
    return random(KEY_ID_BYTES).hex()


def _parts(sealed: str) -> tuple[Sealing, str, bytes]:
    found = _FORM.fullmatch(sealed)
    if found is None:
        raise SealError("the text is not sealed; allowed: sealed:1:, r or d, key id and base64url, separated by colons")
    text = found[3]
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise SealError(f"the text sealed with key {found[2]} is no base64url: it was cut off or changed") from error
    return _OF_LETTER[found[1]], found[2], data


def _derived(secret: bytes, use: str, size: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=size, salt=None, info=f"{SCHEME}:{use}".encode()).derive(secret)


def _padded(data: bytes) -> bytes:
    """ISO/IEC 7816-4: a mark, then zeros."""
    marked = data + _PAD_MARK
    return marked + b"\0" * (-len(marked) % PAD_BYTES)


def _unpadded(padded: bytes) -> bytes:
    data, mark, _ = padded.rpartition(_PAD_MARK)
    if not mark:
        raise ValueError("no padding")
    return data
