"""The file of master keys: they wrap accounts' keys, and one more key makes pseudonyms of account ids.

The newest master key wraps; the older ones only unwrap, until they are destroyed. Destroying one is what makes every
copy of what it wrapped unreadable, backups included, so no copy of the file may outlive it. The file is JSON,
readable by its owner alone, and is replaced as a whole: a reader sees the former keys or the new ones, never a part.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from emergency_stop.domain.messages import AccountKey
from emergency_stop.domain.values import AccountKeyState
from emergency_stop.wire.sealing import KEY_BYTES, NONCE_BYTES, Random
from emergency_stop.wire.signing import KeyFileError

WRAP_SCHEME: Final = "estop-account-key-v1"
MASTER_KEYS_MAX: Final = 100
_PSEUDONYM_HEX_DIGITS: Final = 32
_MASTER_ID_HEX_DIGITS: Final = 16
_OWNER_ONLY: Final = 0o600


class UnwrapError(ValueError):
    """A wrapped key does not open with the master keys that are here; the text says which one is missing, or more."""


@dataclass(frozen=True, slots=True)
class MasterKey:
    """One master key. Its id is derived from it, so files carry no names and ids cannot be confused."""

    secret: bytes = field(repr=False)
    created_at: int

    @property
    def master_id(self) -> str:
        return hashlib.sha256(b"estop-master-key-v1\n" + self.secret).hexdigest()[:_MASTER_ID_HEX_DIGITS]


@dataclass(frozen=True, slots=True)
class PrivacyKeys:
    """What a file of master keys holds; ``masters`` oldest first, at least one."""

    pseudonym_key: bytes = field(repr=False)
    masters: tuple[MasterKey, ...]

    @classmethod
    def generate(cls, now_ms: int, random: Random = secrets.token_bytes) -> PrivacyKeys:
        return cls(random(KEY_BYTES), (MasterKey(random(KEY_BYTES), now_ms),))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PrivacyKeys:
        """Read a file. Raises ``KeyFileError`` that says what is wrong with it, and nothing of what is in it."""
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            raise KeyFileError(f"privacy keys {path} cannot be read: {error.strerror}") from error
        try:
            return cls.from_json(json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
            # The chained error could quote a key.
            raise KeyFileError(
                f"privacy keys {path} are damaged or something else: needed is JSON with pseudonym_key and master_keys,"
                " created_at and key each, 32 bytes in base64; `estop privacy generate FILE` makes such a file"
            ) from None

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> PrivacyKeys:
        masters = tuple(MasterKey(_secret(one["key"]), int(one["created_at"])) for one in document["master_keys"])
        if not 0 < len(masters) <= MASTER_KEYS_MAX or len({one.master_id for one in masters}) != len(masters):
            raise ValueError("master_keys")
        return cls(_secret(document["pseudonym_key"]), masters)

    def as_json(self) -> dict[str, Any]:
        """With all secrets: for the file alone."""
        return {
            "pseudonym_key": base64.b64encode(self.pseudonym_key).decode(),
            "master_keys": [
                {"created_at": one.created_at, "key": base64.b64encode(one.secret).decode()} for one in self.masters
            ],
        }

    def save(self, path: Path, *, replace: bool) -> None:
        """Write the file, readable by the owner alone. Raises ``FileExistsError`` where it must not replace one."""
        data = json.dumps(self.as_json(), indent=2).encode() + b"\n"
        if not replace:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY), "wb") as file:
                _written(file, data)
            return
        beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY), "wb") as file:
                _written(file, data)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)

    @property
    def newest(self) -> MasterKey:
        return self.masters[-1]

    @property
    def master_ids(self) -> tuple[str, ...]:
        return tuple(one.master_id for one in self.masters)

    def with_new_master(self, now_ms: int, random: Random = secrets.token_bytes) -> PrivacyKeys:
        """With one more, which wraps from now on."""
        return PrivacyKeys(self.pseudonym_key, (*self.masters, MasterKey(random(KEY_BYTES), now_ms)))

    def without(self, master_ids: Iterable[str]) -> PrivacyKeys:
        """Without some of the older ones. Raises ``ValueError`` for the newest."""
        gone = frozenset(master_ids)
        if self.newest.master_id in gone:
            raise ValueError(f"master key {self.newest.master_id} is the newest; make another before it is destroyed")
        return PrivacyKeys(self.pseudonym_key, tuple(one for one in self.masters if one.master_id not in gone))

    def pseudonym(self, account_id: str) -> str:
        """HMAC-SHA256 of an account id, 32 hexadecimal digits: always the same, and only the file tells whose."""
        digest = hmac.digest(self.pseudonym_key, b"estop-pseudonym-v1\n" + account_id.encode(), "sha256")
        return digest.hex()[:_PSEUDONYM_HEX_DIGITS]

    def wrap(
        self,
        secret: bytes,
        pseudonym: str,
        key_id: str,
        version: int,
        now_ms: int,
        random: Random = secrets.token_bytes,
    ) -> AccountKey:
        """An account's key as it may lie on a topic: AES-256-GCM under the newest master key, the nonce in front."""
        nonce = random(NONCE_BYTES)
        bound = _bound(pseudonym, key_id, version)
        wrapped = nonce + AESGCM(self.newest.secret).encrypt(nonce, secret, bound)
        return AccountKey(pseudonym, AccountKeyState.KEY, key_id, version, self.newest.master_id, wrapped, now_ms)

    def unwrap(self, key: AccountKey) -> bytes:
        """The 32 bytes of an account's key. Raises ``UnwrapError``."""
        master = next((one for one in self.masters if one.master_id == key.master_id), None)
        if master is None:
            raise UnwrapError(
                f"account key {key.key_id} is wrapped by master key {key.master_id}, which is not among"
                f" {', '.join(self.master_ids)}: this file is older than that key, or it was destroyed"
            )
        bound = _bound(key.pseudonym, key.key_id, key.version)
        try:
            return AESGCM(master.secret).decrypt(key.wrapped[:NONCE_BYTES], key.wrapped[NONCE_BYTES:], bound)
        except (InvalidTag, ValueError) as error:
            raise UnwrapError(
                f"account key {key.key_id} was changed, or belongs to another account: it does not open with master"
                f" key {key.master_id}"
            ) from error

    def rewrap(self, key: AccountKey) -> AccountKey:
        """The same key under the newest master key; ``key`` itself where it is already. Raises ``UnwrapError``."""
        if key.master_id == self.newest.master_id:
            return key
        return self.wrap(self.unwrap(key), key.pseudonym, key.key_id, key.version, key.at)


def _bound(pseudonym: str, key_id: str, version: int) -> bytes:
    """What a wrapped key is for; authenticated."""
    return json.dumps([WRAP_SCHEME, pseudonym, key_id, version]).encode()


def _secret(text: str) -> bytes:
    data = base64.b64decode(text, validate=True)
    if len(data) != KEY_BYTES:
        raise ValueError("length")
    return data


def _written(file: Any, data: bytes) -> None:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())
