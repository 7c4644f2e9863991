"""The topic of account keys as a command sees and changes it. A change counts once it was read back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Final

from emergency_stop.adapters.kafka_tail import TailRecord
from emergency_stop.control.errors import UnavailableError
from emergency_stop.control.installation import READ_WITHIN_S, RECORDS_PER_S_MIN, SCAN_WITHIN_S, Installation
from emergency_stop.domain.messages import AccountKey
from emergency_stop.domain.topics import ACCOUNT_KEYS
from emergency_stop.wire.account_keys import AccountKeyBook, record_name
from emergency_stop.wire.codec import WireError
from emergency_stop.wire.registry import UnknownSchemaError

#: How many records may be on their way at once.
UNDER_WAY_MAX: Final = 5_000
#: A record's name, and what is to stand there; ``None``: nothing any more.
Change = tuple[bytes, AccountKey | None]


def written(key: AccountKey) -> Change:
    return record_name(key), key


def removed(key: AccountKey) -> Change:
    return record_name(key), None


class KeyLog:
    """``book`` is up to date within ``following``; ``unreadable`` counts records that are no account keys."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self.book = AccountKeyBook()
        self.unreadable = 0

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """On entry all that the topic held was read. Raises ``UnavailableError``."""
        async with self._installation.reading(ACCOUNT_KEYS, self._take, SCAN_WITHIN_S):
            yield

    def _take(self, record: TailRecord) -> None:
        try:
            key = None if record.value is None else self._installation.codec.decode(AccountKey, record.value)
        except (WireError, UnknownSchemaError):
            self.unreadable += 1
            return
        self.book.take(record.key, key)

    async def change(self, changes: Iterable[Change]) -> int:
        """Write ``changes`` in order, and wait until they were read back; returns how many there were.

        Raises ``UnavailableError``; some may then stand, and writing the same again does no harm.
        """
        wanted = list(changes)
        if not wanted:
            return 0
        within_s = READ_WITHIN_S + len(wanted) / RECORDS_PER_S_MIN
        async with self._installation.writing(ACCOUNT_KEYS, within_s) as publisher:
            for start in range(0, len(wanted), UNDER_WAY_MAX):
                part = wanted[start : start + UNDER_WAY_MAX]
                await asyncio.gather(*(publisher.publish(ACCOUNT_KEYS, name, self._value(key)) for name, key in part))
        if not await self._installation.until(lambda: self._stands(wanted), within_s):
            raise UnavailableError(
                f"{ACCOUNT_KEYS}: what was written was not read back within {within_s:g} s; it may stand, and writing"
                " it again does no harm"
            )
        return len(wanted)

    def _value(self, key: AccountKey | None) -> bytes | None:
        return None if key is None else self._installation.codec.encode(key, ACCOUNT_KEYS)

    def _stands(self, wanted: list[Change]) -> bool:
        return all(self.book.record(name) == key for name, key in wanted)
