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

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from emergency_stop.domain.messages import AccountKey
from emergency_stop.domain.values import AccountKeyState

FIRST_VERSION: Final = 1


def record_name(key: AccountKey) -> bytes:
    """The record's key in the topic."""
    if key.state is AccountKeyState.ERASED:
        return f"{key.pseudonym}/erased/{key.version}/{key.master_id}".encode()
    return f"{key.pseudonym}/{key.key_id}".encode()


@dataclass(slots=True)
class _Account:
    #: In the order of the log; by key id.
    keys: dict[str, AccountKey] = field(default_factory=dict)
    erasures: dict[bytes, AccountKey] = field(default_factory=dict)


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
            account = self._accounts.setdefault(pseudonym, _Account())
            if key.state is AccountKeyState.ERASED:
                account.erasures[name] = key
            else:
                account.keys[key.key_id] = key
        return pseudonym

    def _forget(self, pseudonym: str, name: bytes) -> None:
        account = self._accounts.get(pseudonym)
        if account is None:
            return
        account.erasures.pop(name, None)
        account.keys.pop(name.partition(b"/")[2].decode(errors="replace"), None)
        if not account.keys and not account.erasures:
            del self._accounts[pseudonym]

    def __iter__(self) -> Iterator[str]:
        """The pseudonyms of all accounts."""
        return iter(tuple(self._accounts))

    def record(self, name: bytes) -> AccountKey | None:
        """What stands under a name; ``None`` where nothing does, or no more."""
        pseudonym, _, rest = name.partition(b"/")
        account = self._accounts.get(pseudonym.decode(errors="replace"), _NONE)
        return account.erasures.get(name) or account.keys.get(rest.decode(errors="replace"))

    def keys(self, pseudonym: str) -> tuple[AccountKey, ...]:
        """Those that open: all live versions, in the order of the log."""
        account, erased = self._accounts.get(pseudonym, _NONE), self.erased_version(pseudonym)
        return tuple(key for key in account.keys.values() if key.version > erased)

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
        return tuple(key for key in account.keys.values() if key.version <= erased)

    def erased_version(self, pseudonym: str) -> int:
        """All versions up to this one are void; 0: none."""
        account = self._accounts.get(pseudonym, _NONE)
        return max((one.version for one in account.erasures.values()), default=FIRST_VERSION - 1)

    def erasures(self, pseudonym: str) -> tuple[AccountKey, ...]:
        """The erasures of an account, one per version and master key."""
        return tuple(self._accounts.get(pseudonym, _NONE).erasures.values())

    def wrapped_by(self) -> Counter[str]:
        """How many live keys each master key wraps."""
        return Counter(key.master_id for pseudonym in self for key in self.keys(pseudonym))


_NONE: Final = _Account()


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
