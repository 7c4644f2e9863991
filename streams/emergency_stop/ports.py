"""What the cores' shells need from the outside world."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Protocol


class Clock(Protocol):
    def now_ms(self) -> int:
        """Wall time, milliseconds since the epoch."""
        ...


class Publisher(Protocol):
    """Writes to the broker. Every awaited send is acknowledged by all in-sync replicas (``acks=all``)."""

    def publish(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        partition: int | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> Awaitable[None]:
        """Enqueue in order; the awaitable ends when the broker has acknowledged, or raises."""
        ...
