"""Carries out the agenda on the children while the load runs."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from tests.campaign.children import Child, Condition
from tests.campaign.disturbances import Kind, Step

TICK_S = 0.05


class Deadline(Exception):
    """A condition did not come true in time; the text says which and what was seen last."""


class Conductor:
    """Owns the children for the length of a run. Single-threaded: call from the main thread."""

    def __init__(self, children: Mapping[str, Child]) -> None:
        self._children = children
        #: KILL and PAUSE that really struck a running process, by (target, kind).
        self.struck: Counter[tuple[str, str]] = Counter()
        self._start_s = time.monotonic()

    @property
    def kills(self) -> int:
        return sum(self.struck.values())

    def perform(self, agenda: Sequence[Step]) -> None:
        """Do every step at its time, counted from now; restart whoever dies."""
        self._start_s = time.monotonic()
        for step in agenda:
            while time.monotonic() - self._start_s < step.at_s:
                self.look_after(TICK_S)
            self._do(step)

    def look_after(self, for_s: float) -> None:
        for child in self._children.values():
            child.look_after()
        time.sleep(for_s)

    def wait(self, what: str, true: Callable[[], bool], seen: Callable[[], object], deadline_s: float) -> None:
        """Look after the children until ``true()``. Raises ``Deadline`` after ``deadline_s`` seconds."""
        until_s = time.monotonic() + deadline_s
        while not true():
            if time.monotonic() > until_s:
                raise Deadline(f"not within {deadline_s:.0f} s: {what}; seen last: {seen()}")
            self.look_after(0.5)

    def resume_all(self) -> None:
        for child in self._children.values():
            child.resume()

    def _do(self, step: Step) -> None:
        child = self._children[step.target]
        before = child.condition
        match step.kind:
            case Kind.KILL if before in (Condition.UP, Condition.PAUSED):
                child.kill()
            case Kind.PAUSE if before is Condition.UP:
                child.pause()
            case Kind.RESUME:
                child.resume()
            case Kind.JOIN:
                self._await_gone(child)
                child.join()
            case Kind.LEAVE:
                child.leave()
        if step.kind in (Kind.KILL, Kind.PAUSE) and child.condition is not before:
            self.struck[step.target, step.kind] += 1
        self._say(f"{step.kind} {step.target}: {before} -> {child.condition}")

    def leave(self, *names: str) -> None:
        """Ask these children to go, all if none is named, and wait until they have."""
        leaving = [self._children[name] for name in names or self._children]
        for child in leaving:
            child.leave()
        for child in leaving:
            self._await_gone(child)

    def _await_gone(self, child: Child) -> None:
        while child.condition is Condition.LEAVING:  # bounded: look_after kills it when overdue
            self.look_after(TICK_S)

    def _say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._start_s:6.1f} s] {text}", file=sys.stderr, flush=True)
