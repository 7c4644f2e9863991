"""A ``ChunkReader`` gives the same bytes and the same errors as ``asyncio.StreamReader``, however they arrive."""

from __future__ import annotations

import asyncio
import random

import pytest
from aiokafka import conn

from emergency_stop.adapters.lane_fetch import install_seam
from emergency_stop.adapters.lane_stream import LONG_BYTES_MIN, ChunkReader


def test_aiokafka_reads_through_it() -> None:
    """Of aiokafka: it still makes a StreamReader and hands it to the protocol named in its module."""

    async def connected() -> asyncio.StreamReader:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        conn.AIOKafkaProtocol(loop.create_future(), reader, loop=loop)
        return reader

    install_seam()
    assert type(asyncio.run(connected())) is ChunkReader


async def _read(reader: asyncio.StreamReader, data: bytes, cuts: list[int], sizes: list[int], *, late: bool) -> object:
    """What a sequence of ``readexactly`` returns while ``data`` arrives in chunks and ends."""

    async def feed() -> None:
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            reader.feed_data(data[start:end])
            if late:
                await asyncio.sleep(0)
        reader.feed_eof()

    async def read() -> list[bytes | tuple[str, bytes]]:
        found: list[bytes | tuple[str, bytes]] = []
        for size in sizes:
            try:
                found.append(await reader.readexactly(size))
            except asyncio.IncompleteReadError as error:
                found.append(("incomplete", error.partial))
                break
        return found

    feeding = asyncio.create_task(feed())
    found = await read()
    await feeding
    return found


@pytest.mark.parametrize("seed", range(60))
def test_it_reads_what_a_stream_reader_reads(seed: int) -> None:
    rng = random.Random(seed)
    sizes = [rng.choice((0, 1, 4, 900, LONG_BYTES_MIN - 1, LONG_BYTES_MIN, 3 * LONG_BYTES_MIN + 7)) for _ in range(12)]
    total = sum(sizes) - rng.choice((0, 0, 1, LONG_BYTES_MIN))
    data = rng.randbytes(max(total, 0))
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(1, 60)))
    late = bool(rng.randrange(2))

    async def both() -> tuple[object, object]:
        return (
            await _read(asyncio.StreamReader(), data, cuts, sizes, late=late),
            await _read(ChunkReader(), data, cuts, sizes, late=late),
        )

    wanted, found = asyncio.run(both())
    assert found == wanted


def test_a_read_that_is_cancelled_loses_nothing() -> None:
    async def scenario() -> bytes:
        reader = ChunkReader()
        waiting = asyncio.create_task(reader.readexactly(2 * LONG_BYTES_MIN))
        await asyncio.sleep(0)
        reader.feed_data(b"a" * LONG_BYTES_MIN)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        reader.feed_data(b"b" * LONG_BYTES_MIN)
        return await reader.readexactly(2 * LONG_BYTES_MIN)

    assert asyncio.run(scenario()) == b"a" * LONG_BYTES_MIN + b"b" * LONG_BYTES_MIN
