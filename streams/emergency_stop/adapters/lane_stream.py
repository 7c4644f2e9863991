"""Reading megabytes of a fetch response with one copy: the second, smaller part of the seam into aiokafka.

``asyncio.StreamReader`` collects a long answer in a growing bytearray: every chunk is copied in, the whole
is moved as it grows, sliced, and copied again, and the socket is paused and resumed for every chunk. A
``ChunkReader`` keeps the chunks of a long answer as they came and joins them once. Short answers go the
standard way. ``tests/contract/test_lane_stream.py`` compares the two on random streams.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiokafka import conn

LONG_BYTES_MIN: Final = 64 * 1024


class ChunkReader(asyncio.StreamReader):
    """A ``StreamReader`` whose ``readexactly`` of much is cheap. One reading coroutine at a time, as ever."""

    _chunks: list[bytes]
    #: Bytes that a waiting long read still lacks; 0 where none waits.
    _missing = 0

    def feed_data(self, data: Any) -> None:
        if self._missing == 0:
            super().feed_data(data)
        elif len(data) > self._missing:  # the rest goes where all that follows it will go
            self._chunks.append(data[: self._missing])
            rest, self._missing = data[self._missing :], 0
            super().feed_data(rest)
        else:
            self._chunks.append(data)
            self._missing -= len(data)
            if self._missing == 0:
                self._wakeup_waiter()  # type: ignore[attr-defined]

    async def readexactly(self, n: int) -> bytes:
        buffer: bytearray = self._buffer  # type: ignore[attr-defined]
        if n < LONG_BYTES_MIN or len(buffer) >= n or self.exception() is not None:
            return await super().readexactly(n)
        self._chunks = [bytes(buffer)]
        self._missing = n - len(buffer)
        buffer.clear()
        try:
            await self._filled(n)
            return b"".join(self._chunks)
        except asyncio.IncompleteReadError:
            raise
        except BaseException:  # cancelled, or the connection broke: what came stays to be read
            buffer[:0] = b"".join(self._chunks)
            raise
        finally:
            self._missing, self._chunks = 0, []

    async def _filled(self, n: int) -> None:
        while self._missing > 0:
            if self._eof:  # type: ignore[attr-defined]
                raise asyncio.IncompleteReadError(b"".join(self._chunks), n)
            await self._wait_for_data("readexactly")  # type: ignore[attr-defined]


class _Protocol(conn.AIOKafkaProtocol):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka makes the reader itself and hands it to its protocol: the moment to make it a better one."""

    def __init__(self, closed_fut: Any, reader: asyncio.StreamReader, *args: Any, loop: Any, **kwargs: Any) -> None:
        if type(reader) is asyncio.StreamReader:
            reader.__class__ = ChunkReader
        super().__init__(closed_fut, reader, *args, loop=loop, **kwargs)


def install_stream() -> None:
    """From now on aiokafka's new connections read with a ``ChunkReader``. Idempotent."""
    conn.AIOKafkaProtocol = _Protocol
