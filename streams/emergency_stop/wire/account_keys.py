"""Accounts' keys as the log of ``estop.account-keys`` tells them: which one seals, which ones open, which are void.

Theory of operation. Every version of a key is a record under a name of its own, ``pseudonym/key id``: no writer can
overwrite another's key, because a key that is lost is text that is lost. Writers race without a lock; the first in
the log wins: of the live keys with the highest version, the one that was there first seals. Whoever lost has sealed
nothing yet (nobody seals with a key before reading it back) and takes his own out again. An erasure is a record too,
``pseudonym/erased/version/master key``: it makes all versions up to its own void wherever they come in the log, so a
key that is wrapped anew behind it, by somebody who did not know, stays void. A key made after an erasure has the next
version, and a random name as always.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from emergency_stop.domain.messages import AccountKey
from emergency_stop.domain.values import AccountKeyState

FIRST_VERSION: Final = 1


def record_name(key: AccountKey) -> bytes:
    """The record's key in the topic."""
    if key.state is AccountKeyState.ERASED:
        return f"{key.pseudonym}/erased/{key.version}/{key.master_id}".encode()
    return f"{key.pseudonym}/{key.key_id}".encode()


@dataclass(frozen=True, slots=True)
class _Account:
    """Tuples, because there are as many of these as accounts; ``keys`` are in the order of the log."""

    keys: tuple[AccountKey, ...] = ()
    erasures: tuple[AccountKey, ...] = ()

    def with_record(self, key: AccountKey) -> _Account:
        """With ``key`` in the place of what has its name, or behind all others."""
        if key.state is AccountKeyState.ERASED:
            return _Account(self.keys, _put(self.erasures, key))
        return _Account(_put(self.keys, key), self.erasures)

    def without(self, name: bytes) -> _Account:
        keys, erasures = (
            tuple(one for one in records if record_name(one) != name) for records in (self.keys, self.erasures)
        )
        return _Account(keys, erasures)


_NONE: Final = _Account()


def _put(records: tuple[AccountKey, ...], key: AccountKey) -> tuple[AccountKey, ...]:
    name = record_name(key)
    if all(record_name(one) != name for one in records):
        return (*records, key)
    return tuple(key if record_name(one) == name else one for one in records)


class AccountKeyBook:
    """Everything that the topic says, by pseudonym. Pure; feed it in the order of the log."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}

    def take(self, name: bytes | None, key: AccountKey | None) -> str:
        """Take a record in, or with ``None`` a tombstone; returns whose it is. A record under a wrong name is ignored:
        it could not be taken back by its name.
        """
        pseudonym = (name or b"").partition(b"/")[0].decode(errors="replace")
        if key is None:
            self._forget(pseudonym, name or b"")
        elif record_name(key) == name:
            # There are few master keys, and many accounts that name them.
            key = replace(key, master_id=sys.intern(key.master_id))
            self._accounts[key.pseudonym] = self._accounts.get(pseudonym, _NONE).with_record(key)
        return pseudonym

    def _forget(self, pseudonym: str, name: bytes) -> None:
        account = self._accounts.get(pseudonym, _NONE).without(name)
        if account == _NONE:
            self._accounts.pop(pseudonym, None)
        else:
            self._accounts[pseudonym] = account

    def __iter__(self) -> Iterator[str]:
        """The pseudonyms of all accounts."""
        return iter(tuple(self._accounts))

    def record(self, name: bytes) -> AccountKey | None:
        """What stands under a name; ``None`` where nothing does, or no more."""
        account = self._accounts.get(name.partition(b"/")[0].decode(errors="replace"), _NONE)
        return next((one for one in (*account.erasures, *account.keys) if record_name(one) == name), None)

    def keys(self, pseudonym: str) -> tuple[AccountKey, ...]:
        """Those that open: all live versions, in the order of the log."""
        account, erased = self._accounts.get(pseudonym, _NONE), self.erased_version(pseudonym)
        return tuple(key for key in account.keys if key.version > erased)

    def current(self, pseudonym: str) -> AccountKey | None:
        """The one that seals; ``None`` where one must be made, of ``next_version``."""
        return max(self.keys(pseudonym), key=lambda key: key.version, default=None)  # the first of equals

    def next_version(self, pseudonym: str) -> int:
        """What the next key is called: behind all that are live, and behind all that were erased."""
        current = self.current(pseudonym)
        return (current.version if current else self.erased_version(pseudonym)) + 1

    def losers(self, pseudonym: str) -> tuple[AccountKey, ...]:
        """Live keys that came second to one of their version: nothing was sealed with them, so they may go."""
        first: dict[int, str] = {}
        keys = self.keys(pseudonym)
        for key in keys:
            first.setdefault(key.version, key.key_id)
        return tuple(key for key in keys if first[key.version] != key.key_id)

    def void(self, pseudonym: str) -> tuple[AccountKey, ...]:
        """Keys that were erased and lie in the log still: to be taken out."""
        account, erased = self._accounts.get(pseudonym, _NONE), self.erased_version(pseudonym)
        return tuple(key for key in account.keys if key.version <= erased)

    def erased_version(self, pseudonym: str) -> int:
        """All versions up to this one are void; 0: none."""
        account = self._accounts.get(pseudonym, _NONE)
        return max((one.version for one in account.erasures), default=FIRST_VERSION - 1)

    def erasures(self, pseudonym: str) -> tuple[AccountKey, ...]:
        """The erasures of an account, one per version and master key."""
        return self._accounts.get(pseudonym, _NONE).erasures

    def wrapped_by(self) -> Counter[str]:
        """How many live keys each master key wraps."""
        return Counter(key.master_id for pseudonym in self for key in self.keys(pseudonym))


def erasures_of(book: AccountKeyBook, pseudonym: str, now_ms: int) -> tuple[AccountKey, ...]:
    """The records that erase every key of an account that is live; none where none is."""
    keys = book.keys(pseudonym)
    if not keys:
        return ()
    version = max(key.version for key in keys)
    return _missing(book, pseudonym, version, (*keys, *book.void(pseudonym)), now_ms)


def late_erasures_of(book: AccountKeyBook, pseudonym: str, now_ms: int) -> tuple[AccountKey, ...]:
    """The records that say which further master keys wrapped what was erased already: somebody wrapped it anew, not
    knowing. Until those master keys are destroyed, too, it is not gone.
    """
    return _missing(book, pseudonym, book.erased_version(pseudonym), book.void(pseudonym), now_ms)


def _missing(
    book: AccountKeyBook, pseudonym: str, version: int, keys: tuple[AccountKey, ...], now_ms: int
) -> tuple[AccountKey, ...]:
    known = {record_name(one) for one in book.erasures(pseudonym)}
    made = (
        AccountKey(pseudonym, AccountKeyState.ERASED, "", version, master_id, b"", now_ms)
        for master_id in sorted({key.master_id for key in keys})
    )
    return tuple(one for one in made if record_name(one) not in known)
