"""Holds that nobody can read yet, because a registry does not say how they were written: tried again until it does.

They stop meanwhile, in doubt, and do not keep the holds behind them waiting: a stop may be among those.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from emergency_stop.adapters.kafka_tail import TailRecord
from emergency_stop.wire.registry import SchemaUnansweredError

RETRY_MS: Final = 500


class Unanswered:
    """The newest such record of each key; ``take(record)`` raises ``SchemaUnansweredError`` as long as it is one.

    Belongs to one event loop.
    """

    def __init__(self, take: Callable[[TailRecord], None]) -> None:
        self._take = take
        self._waiting: dict[bytes | None, TailRecord] = {}
        #: The task that tries again; ``None`` where none was needed yet.
        self.trying: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """How many keys wait."""
        return len(self._waiting)

    def add(self, record: TailRecord) -> None:
        """Try again until it is taken, or a newer record of its key comes."""
        self._waiting[record.key] = record
        if self.trying is None or self.trying.done():
            self.trying = asyncio.get_running_loop().create_task(self._try_again(), name="read holds again")

    def newest(self, key: bytes | None) -> TailRecord | None:
        """What waits of ``key``."""
        return self._waiting.get(key)

    def overtake(self, key: bytes | None) -> None:
        """A newer record of ``key`` has come: what waits of it says nothing any more."""
        self._waiting.pop(key, None)

    def cancel(self) -> None:
        """Try nothing any more."""
        if self.trying is not None:
            self.trying.cancel()

    async def _try_again(self) -> None:
        while self._waiting:
            await asyncio.sleep(RETRY_MS / 1000)
            for record in [*self._waiting.values()]:
                try:
                    self._take(record)
                except SchemaUnansweredError:
                    continue
                self.overtake(record.key)
