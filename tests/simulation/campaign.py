"""Many schedules, shared over processes by ranges of seeds."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable, Generator, Iterator
from typing import Final

from tests.simulation.violation import Violation
from tests.simulation.world import Parts, SimulatedWorld

#: So many schedules are one piece of work: seconds, so that processes end together.
CHUNK: Final = 500


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


def run_campaign(seed: int, schedules: int, processes: int) -> Iterator[tuple[int, list[Violation]]]:
    """(how many schedules, their violations), piece by piece: seeds from ``seed`` on, one schedule each."""
    if processes == 1 or schedules <= CHUNK:
        yield from ((len(chunk), [*run_each(chunk)]) for chunk in _chunks(seed, schedules))
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(_counted, _chunks(seed, schedules))


def _counted(chunk: range) -> tuple[int, list[Violation]]:
    return len(chunk), [*run_each(chunk)]
