"""How much of its processors and of memory a process uses, and whether that is past its bounds. Pure.

A resource is over its bound from the first sample above it until its use has been ``CALM_PERCENT`` of the bound or less
for ``CALM_MS``: so a process at its bound does not change its mind all the time. Processor time counts over the last
``WINDOW_MS``, because a moment of it is always all or nothing; memory counts as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Final

WINDOW_MS: Final = 10_000
CALM_PERCENT: Final = 90
CALM_MS: Final = 30_000
_PERCENT: Final = 100.0


@unique
class Resource(StrEnum):
    CPU = "cpu"
    MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class Sample:
    """``at_ms`` is on a clock that never jumps, ``cpu_ms`` the processor time of all threads since the start."""

    at_ms: int
    cpu_ms: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Bounds:
    """``cpu_percent_max`` is of all the ``processors`` that the process may use, which need not be a whole number."""

    cpu_percent_max: float
    memory_bytes_max: int
    processors: float

    def of(self, resource: Resource) -> float:
        """Percent, or bytes."""
        return self.cpu_percent_max if resource is Resource.CPU else float(self.memory_bytes_max)


@dataclass(frozen=True, slots=True)
class Over:
    """Since when a resource is over its bound, and, where it is calm by now, since when that."""

    since_ms: int
    calm_since_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Crossing:
    """A resource went over its bound, or is back. ``used`` and ``bound`` are percent, or bytes."""

    resource: Resource
    is_over: bool
    used: float
    bound: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What is known after some samples; ``samples`` are those of the window, oldest first."""

    samples: tuple[Sample, ...] = ()
    over: Mapping[Resource, Over] = field(default_factory=dict)
    #: When something was over its bound last.
    over_at_ms: int | None = None

    def is_over(self, *resources: Resource) -> bool:
        """Whether one of ``resources``, or any where none is named, is over its bound."""
        return any(one in self.over for one in resources or Resource)

    def over_for_ms(self, resource: Resource) -> int:
        """For how long it has been over its bound; 0 where it is not."""
        over = self.over.get(resource)
        return 0 if over is None else self.samples[-1].at_ms - over.since_ms

    def was_over(self, within_ms: int) -> bool:
        """Whether something is over its bound, or was within the last ``within_ms``."""
        return self.over_at_ms is not None and self.samples[-1].at_ms - self.over_at_ms <= within_ms

    @property
    def cpu_percent(self) -> float | None:
        """Percent of one processor over the window; ``None`` before there is a whole one."""
        if not self.samples or self.samples[-1].at_ms - self.samples[0].at_ms < WINDOW_MS:
            return None
        first, last = self.samples[0], self.samples[-1]
        return max(0.0, _PERCENT * (last.cpu_ms - first.cpu_ms) / (last.at_ms - first.at_ms))

    @property
    def memory_bytes(self) -> int:
        """As of the newest sample; 0 before the first."""
        return self.samples[-1].memory_bytes if self.samples else 0


def observe(usage: Usage, sample: Sample, bounds: Bounds) -> tuple[Usage, tuple[Crossing, ...]]:
    """``usage`` after one sample more, and what crossed its bound by it. One that is not newer changes nothing."""
    if usage.samples and sample.at_ms <= usage.samples[-1].at_ms:
        return usage, ()
    seen = Usage(_window(usage.samples, sample), usage.over, usage.over_at_ms)
    over, crossings = dict(usage.over), list[Crossing]()
    for resource, used in _used(seen, bounds):
        before, bound = over.pop(resource, None), bounds.of(resource)
        after = _judged(before, used, bound, sample.at_ms)
        if after is not None:
            over[resource] = after
        if (before is None) is not (after is None):
            crossings.append(Crossing(resource, after is not None, used, bound))
    return Usage(seen.samples, over, sample.at_ms if over else seen.over_at_ms), tuple(crossings)


def _window(samples: tuple[Sample, ...], newest: Sample) -> tuple[Sample, ...]:
    """From the newest sample that is a whole window old, or from the first one where none is."""
    kept = (*samples, newest)
    old = [index for index, one in enumerate(kept) if newest.at_ms - one.at_ms >= WINDOW_MS]
    return kept[old[-1] if old else 0 :]


def _used(usage: Usage, bounds: Bounds) -> Iterator[tuple[Resource, float]]:
    """Percent of all processors where that is known yet, and bytes. Rounded clocks make no more than all of them."""
    if usage.cpu_percent is not None:
        yield Resource.CPU, min(_PERCENT, usage.cpu_percent / bounds.processors)
    yield Resource.MEMORY, float(usage.memory_bytes)


def _judged(before: Over | None, used: float, bound: float, at_ms: int) -> Over | None:
    if before is None:
        return Over(at_ms) if used > bound else None
    if used * _PERCENT > bound * CALM_PERCENT:
        return Over(before.since_ms)
    calm_since_ms = at_ms if before.calm_since_ms is None else before.calm_since_ms
    return None if at_ms - calm_since_ms >= CALM_MS else Over(before.since_ms, calm_since_ms)
