"""How a bug is planted, and how long it is looked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from unittest import mock

from tests.simulation.campaign import run_each
from tests.simulation.violation import Violation
from tests.simulation.world import Parts

#: A bug that so many schedules do not bring to light counts as missed.
SCHEDULES_MAX: Final = 10_000
Patch = tuple[object, str, Any]
#: A side effect that must not have been, whoever is to blame.
SDK_KINDS: Final = frozenset({"acted_after_proof", "acted_while_held", "acted_after_stop"})


@dataclass(frozen=True, slots=True)
class Planted:
    name: str
    #: The violations that it must lead to; others do not count.
    kinds: frozenset[str]
    parts: Parts = field(default_factory=Parts)
    patches: tuple[Patch, ...] = ()
    #: It can show only in one schedule of so many, whose seeds leave ``at`` as their rest; no others are tried.
    every: int = 1
    at: int = 0

    @contextlib.contextmanager
    def planted(self) -> Iterator[Parts]:
        with contextlib.ExitStack() as stack:
            for owner, name, mutant in self.patches:
                stack.enter_context(mock.patch.object(owner, name, mutant))
            yield self.parts

    def find(self, seed: int) -> Violation | None:
        """The first violation within the bound that is one of those that the bug must lead to."""
        first = seed + (self.at - seed) % self.every
        seeds = range(first, first + SCHEDULES_MAX * self.every, self.every)
        with self.planted() as parts, contextlib.closing(run_each(seeds, parts)) as found:
            return next((violation for violation in found if violation.kind in self.kinds), None)
