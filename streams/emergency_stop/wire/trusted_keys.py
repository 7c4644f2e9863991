"""The file of trusted public keys: who is trusted, from one moment to the next, while readers go on reading.

The file is PEM, one key after the other. It is replaced as a whole, so a reader sees the former keys or the new ones,
never a part. A change of keys is three steps, in this order: trust the new one, sign with it, retire the old one.
"""

from __future__ import annotations

import difflib
import logging
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from emergency_stop.wire.signing import (
    KeyFileError,
    Signable,
    SignatureVerdict,
    Signer,
    Verifier,
    is_private_pem,
    public_keys_of,
    public_pem,
)

log = logging.getLogger(__name__)

#: How long a key that was taken out of the file may still be trusted by who reads it.
CHECK_MS: Final = 1_000
#: After a message by an unknown key the file is looked at sooner, and yet no flood of forgeries keeps the disk busy.
UNKNOWN_KEY_CHECK_MS: Final = 50
_READABLE_BY_ALL: Final = 0o644

#: What tells one state of a file from the next; ``None`` where there is none.
FileState = tuple[int, int, int] | None


class KeyRefusedError(ValueError):
    """The change would leave services with the wrong keys; nothing was changed. The text says what to do first."""


class UnknownKeyError(KeyRefusedError):
    """No key, or several, are called that."""


def file_state(path: Path | None) -> FileState:
    """Changes when the file is replaced or written; without a path, never."""
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def trust_keys(path: Path, pem: bytes) -> tuple[str, ...]:
    """Add public keys to the file at ``path``; returns the ids of those that it did not have.

    ``pem`` may be public keys, or a private one, of which the public half is taken. Other keys stay: a message that
    was signed with the former key is still good while a new one takes over. Raises ``KeyFileError``.
    """
    fresh = _keys_in(pem)
    known = _keys_of_file(path) if path.exists() else {}
    added = tuple(key_id for key_id in fresh if key_id not in known)
    if added:
        _write(path, known | fresh)
    return added


def retire_key(path: Path, wanted: str, *, in_use: Callable[[str], str] = lambda _key_id: "") -> str:
    """Take one key out of the file at ``path``; ``wanted`` is its id, or how it begins. Returns the id.

    ``in_use(key_id)`` says who still signs with it; empty where nobody is known to. Raises ``KeyRefusedError`` for a
    key that is unknown, in use or the last one, ``KeyFileError`` for a file that cannot be read or written.
    """
    known = _keys_of_file(path)
    key_id = _one_of(tuple(known), wanted, path)
    if user := in_use(key_id):
        raise KeyRefusedError(
            f"key {key_id} is in use: {user}; services that no longer trust it would refuse every resume."
            " First sign with another key that they trust"
        )
    if len(known) == 1:
        raise KeyRefusedError(
            f"key {key_id} is the only one in {path}: without it every resume would be refused."
            " First trust another: estop keys trust FILE"
        )
    _write(path, {name: pem for name, pem in known.items() if name != key_id})
    return key_id


class KeyFileVerifier(Verifier):
    """Trusts the keys that a file names now, not those that it named when the service started.

    The file is looked at when a message comes, every ``CHECK_MS`` at most, and sooner for one by an unknown key. One
    that cannot be read leaves the former keys in force, and is logged once. Safe to share between threads.
    """

    def __init__(self, path: str | os.PathLike[str], monotonic_ms: Callable[[], int] | None = None) -> None:
        """Raises ``KeyFileError`` for a file that holds no public keys."""
        self._path = Path(path)
        self._monotonic_ms = monotonic_ms or (lambda: time.monotonic_ns() // 1_000_000)
        self._seen = file_state(self._path)
        self._looked_at_ms = self._monotonic_ms()
        super().__init__(public_keys_of(self._path))

    def verify(self, message: Signable) -> SignatureVerdict:
        """See ``Verifier.verify``. May read the file."""
        unknown = bool(message.key_id) and message.key_id not in self._keys
        now_ms = self._monotonic_ms()
        if now_ms - self._looked_at_ms >= (UNKNOWN_KEY_CHECK_MS if unknown else CHECK_MS):
            self._looked_at_ms = now_ms
            self._look()
        return super().verify(message)

    def _look(self) -> None:
        state = file_state(self._path)
        if state == self._seen:
            return
        self._seen = state
        before = frozenset(self._keys)
        try:
            self._trust(public_keys_of(self._path))
        except KeyFileError as error:
            log.error("%s; the former keys stay trusted: %s", error, ", ".join(before))  # noqa: TRY400  # the text says all
            return
        now = frozenset(self._keys)
        log.info("%s was read anew: now trusted %s, retired %s", self._path, sorted(now - before), sorted(before - now))


def _keys_in(pem: bytes) -> dict[str, bytes]:
    keys = [Signer.from_pem(pem, "the key").public_key] if is_private_pem(pem) else public_keys_of(pem)
    return dict(map(public_pem, keys))


def _keys_of_file(path: Path) -> dict[str, bytes]:
    return dict(map(public_pem, public_keys_of(path)))


def _one_of(known: tuple[str, ...], wanted: str, path: Path) -> str:
    found = [key_id for key_id in known if key_id.startswith(wanted)] if wanted else []
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownKeyError(f"{wanted!r} is how {len(found)} keys begin: {', '.join(found)}; give more digits")
    near = difflib.get_close_matches(wanted, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UnknownKeyError(f"no key {wanted!r} in {path}{hint}; it has {', '.join(known)}")


def _write(path: Path, keys: dict[str, bytes]) -> None:
    path = path.resolve()  # a link stays one
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = path.stat().st_mode & 0o777 if path.exists() else _READABLE_BY_ALL
        beside.write_bytes(b"".join(keys.values()))
        beside.chmod(mode)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise KeyFileError(f"key file {path} cannot be written: {error.strerror}") from error
