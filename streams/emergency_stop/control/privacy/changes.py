"""How accounts' keys change: erased, renewed, wrapped anew. Each step may be repeated, after a crash too."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from emergency_stop.control.privacy.key_log import Change, KeyLog, removed, written
from emergency_stop.domain.messages import AccountKey
from emergency_stop.wire.account_keys import AccountKeyBook, erasures_of, late_erasures_of
from emergency_stop.wire.privacy_keys import PrivacyKeys, UnwrapError
from emergency_stop.wire.sealing import KEY_BYTES, new_key_id

#: Producers may make keys while others are wrapped anew; as often as this it is looked whether one came in between.
ROUNDS_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class KeyErasure:
    """What became of an account's keys. ``master_ids`` wrapped one of them, now or in an earlier erasure."""

    keys: int
    master_ids: tuple[str, ...]


async def erase_keys(log: KeyLog, pseudonym: str, now_ms: int) -> KeyErasure:
    """Make every key of an account void, then take it out. The first of both decides, and is there before the second.

    Raises ``UnavailableError``.
    """
    book, erased = log.book, len(log.book.keys(pseudonym))
    await log.change(map(written, erasures_of(book, pseudonym, now_ms)))
    await log.change(map(written, late_erasures_of(book, pseudonym, now_ms)))
    await log.change(map(removed, book.void(pseudonym)))
    return KeyErasure(erased, tuple(sorted({one.master_id for one in book.erasures(pseudonym)})))


async def renew_key(log: KeyLog, keys: PrivacyKeys, pseudonym: str, now_ms: int) -> AccountKey:
    """Give an account a key of the next version; former ones go on opening. Raises ``UnavailableError``."""
    key = keys.wrap(secrets.token_bytes(KEY_BYTES), pseudonym, new_key_id(), log.book.next_version(pseudonym), now_ms)
    await log.change([written(key)])
    return key


@dataclass(frozen=True, slots=True)
class Rewrap:
    """``rewrapped`` keys are under the newest master key now; ``closed`` ones are under one that nobody has here."""

    rewrapped: int
    removed: int
    closed: int


async def rewrap_all(log: KeyLog, keys: PrivacyKeys, now_ms: int) -> Rewrap:
    """Wrap every live key with the newest master key, and tidy up what races left. Raises ``UnavailableError``.

    Keys that came second in a race go first: wrapping moves a key to the log's end, and who was first must stay it.
    """
    rewrapped = taken_out = closed = 0
    for _ in range(ROUNDS_MAX):
        taken_out += await _tidy(log, now_ms)
        fresh, closed = _rewrapped(log.book, keys)
        rewrapped += await log.change(map(written, fresh))
        if not fresh:
            break
    taken_out += await _tidy(log, now_ms)
    return Rewrap(rewrapped, taken_out, closed)


async def _tidy(log: KeyLog, now_ms: int) -> int:
    """Take out keys that lost a race, and keys that are void; the latter's master keys are on record before."""
    book = log.book
    await log.change(_each(book, lambda name: map(written, late_erasures_of(book, name, now_ms))))
    return await log.change(_each(book, lambda name: map(removed, (*book.losers(name), *book.void(name)))))


def _each(book: AccountKeyBook, changes: Callable[[str], Iterable[Change]]) -> list[Change]:
    return [change for pseudonym in book for change in changes(pseudonym)]


def _rewrapped(book: AccountKeyBook, keys: PrivacyKeys) -> tuple[list[AccountKey], int]:
    """(what is to be written; how many keys no master key here opens)."""
    fresh, closed = [], 0
    for pseudonym in book:
        for key in book.keys(pseudonym):
            try:
                anew = keys.rewrap(key)
            except UnwrapError:
                closed += 1
            else:
                fresh += [] if anew is key else [anew]
    return fresh, closed


def destroyable(book: AccountKeyBook, keys: PrivacyKeys) -> tuple[str, ...]:
    """The older master keys that wrap nothing that is live."""
    in_use = book.wrapped_by()
    return tuple(one for one in keys.master_ids[:-1] if not in_use[one])


def unshredded(book: AccountKeyBook, keys: PrivacyKeys) -> dict[str, list[AccountKey]]:
    """Erasures, by pseudonym, of keys that a master key which is still here could unwrap from an old copy."""
    here = set(keys.master_ids)
    found = {
        name: [one for one in book.erasures(name) if one.master_id in here] for name in book
    }  # fmt: skip
    return {name: erasures for name, erasures in found.items() if erasures}
