"""What every long-running process does once: signals become an event, and memory is set up for streaming."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

#: From malloc.h of glibc.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_KEPT_BYTES_MAX: Final = 64 * 1024 * 1024
_MMAP_BYTES_MIN: Final = 32 * 1024 * 1024  # glibc allows no more


def run_until_signal(serve: Callable[[asyncio.Event], Awaitable[int]]) -> int:
    """Run ``serve(stop)`` on a new event loop; SIGINT and SIGTERM set ``stop``. Returns its exit code."""

    async def main() -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        return await serve(stop)

    settle_memory()
    return asyncio.run(main())


async def unless_stopped(work: Coroutine[None, None, None], stop: asyncio.Event) -> bool:
    """Whether ``work`` ended before ``stop`` was set; else it is cancelled. Raises what it raises."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    both: set[asyncio.Future[Any]] = {working, stopping}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        return working.done()
    finally:
        for task in both:
            task.cancel()
        await asyncio.wait(both)


def settle_memory() -> None:
    """Spare the stream two costs of a tenth and more each: collecting what lives for ever, and clearing pages anew.

    What is loaded now (compilers and their types, mostly) is left out of every garbage collection. And glibc
    keeps the memory of one batch's columns for the next, instead of giving it back to the kernel in between; in one
    arena, because those of further threads (the consumer's) give back whole heaps all the same.
    """
    gc.collect()
    gc.freeze()
    if sys.platform.startswith("linux"):
        with contextlib.suppress(AttributeError, OSError):  # another C library decides for itself
            libc = ctypes.CDLL(None)
            libc.mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES_MIN)
            libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES_MAX)
            libc.mallopt(_M_ARENA_MAX, 1)
