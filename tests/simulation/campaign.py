"""Many schedules, shared over processes by ranges of seeds."""

from __future__ import annotations

import gc
import multiprocessing
import time
from collections.abc import Callable, Generator, Iterator
from typing import Final, NamedTuple

from tests.simulation.violation import Violation
from tests.simulation.world import Parts, SimulatedWorld

#: So many schedules are one piece of work: seconds, so that processes end together.
CHUNK: Final = 500
#: After so many pieces a process is succeeded by a fresh one, and its worlds end with it: about 0.1 MB each.
CHUNKS_PER_PROCESS: Final = 8


def run_schedule(seed: int, parts: Parts | None = None, tell: Callable[[str], None] | None = None) -> list[Violation]:
    """One schedule; what was violated. A core that raises has violated what it promises, too."""
    world = SimulatedWorld(seed, parts or Parts(), tell)
    try:
        return world.run()
    except Exception as error:  # noqa: BLE001  # whatever it is, it is a finding, and its seed repeats it
        return [Violation(seed, world.engine.now_ms, "raised", f"{type(error).__name__}: {error}")]


def run_each(seeds: range, parts: Parts | None = None) -> Generator[Violation]:
    """The first violation of each schedule that has one, in their order."""
    gc.disable()
    try:
        for seed in seeds:
            yield from run_schedule(seed, parts)[:1]
            # a finished world is a knot of cycles, all of it young: to end it at once costs a third of doing so later
            gc.collect(0)
    finally:
        gc.enable()


def _chunks(seed: int, schedules: int) -> Iterator[range]:
    for first in range(seed, seed + schedules, CHUNK):
        yield range(first, min(first + CHUNK, seed + schedules))


class Piece(NamedTuple):
    """Some schedules that were run, the first violation of each that had one, and the processor time of all."""

    schedules: int
    violations: list[Violation]
    cpu_s: float


def run_campaign(seed: int, schedules: int, processes: int) -> Iterator[Piece]:
    """Seeds from ``seed`` on, one schedule each, piece by piece."""
    if processes == 1 or schedules <= CHUNK:
        yield from map(_run, _chunks(seed, schedules))
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with context.Pool(processes, maxtasksperchild=CHUNKS_PER_PROCESS) as pool:
        yield from pool.imap_unordered(_run_uncollected, _chunks(seed, schedules))


def _run(chunk: range) -> Piece:
    started = time.process_time()
    return Piece(len(chunk), [*run_each(chunk)], time.process_time() - started)


def _run_uncollected(chunk: range) -> Piece:
    """To collect what is over would be a tenth of the time, and this process ends soon."""
    started = time.process_time()
    gc.disable()
    violations = [violation for seed in chunk for violation in run_schedule(seed)[:1]]
    return Piece(len(chunk), violations, time.process_time() - started)
