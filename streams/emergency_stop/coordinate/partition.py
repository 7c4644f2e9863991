"""All scopes of one partition: which of them is due, which stops may send their commands, what changed.

Holds go out as soon as their cause is known. Only orchestration is limited: at most
``max_concurrent_stops`` emergencies wait for their instances at once, the others queue by priority, then
age. A stop leaves its slot when no live instance owes its proof any more or its first deadline is over,
so that dead services cannot keep others waiting.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence

from emergency_stop.coordinate.instances import OWING
from emergency_stop.coordinate.lifecycle import Admit, Tick
from emergency_stop.coordinate.services import Liveness
from emergency_stop.coordinate.snapshot import read_scope, scope_key, scope_record
from emergency_stop.coordinate.state import Case, Effect, ScopeState, World
from emergency_stop.coordinate.step import step
from emergency_stop.coordinate.tables import UNDER_WAY, Phase, RefusedMessageError
from emergency_stop.domain.messages import Ack, Hit, Request
from emergency_stop.domain.values import Scope

#: How soon a change among the instances is noticed while a stop is under way.
WATCH_MS = 1_000
_TIMED = frozenset({*UNDER_WAY, Phase.RECOVERING})


def _takes_slot(case: Case) -> bool:
    return case.phase is Phase.STOPPING and any(target.standing in OWING for target in case.targets)


class Coordinator:
    """Not thread-safe. Every method but ``restore`` and ``take_dirty`` takes the time and the world."""

    def __init__(self, max_concurrent_stops: int, retention_ms: int) -> None:
        self._max_concurrent_stops = max_concurrent_stops
        self._retention_ms = retention_ms
        self._scopes: dict[str, ScopeState] = {}
        self._dirty: dict[str, None] = {}
        self._due: dict[str, int] = {}
        self._due_heap: list[tuple[int, str]] = []
        self._queued: dict[str, str] = {}
        self._queue: list[tuple[int, int, str]] = []
        self._slots: set[str] = set()
        self._timed: set[str] = set()
        self._membership: frozenset[tuple[str, str, Liveness]] = frozenset()
        self._watched_at = 0
        self._census: Counter[tuple[str, str]] = Counter()

    def state(self, scope: str) -> ScopeState:
        """The scope as it stands; a fresh one where nothing is remembered."""
        return self._scopes.get(scope) or ScopeState(scope)

    @property
    def queue_length(self) -> int:
        """Emergencies whose commands wait for a slot."""
        return len(self._queued)

    def census(self) -> Counter[tuple[str, str]]:
        """How many emergencies there are by (phase, level); for metrics."""
        return +self._census

    def apply(self, message: Hit | Request | Ack, now_ms: int, world: World) -> list[Effect]:
        """Apply one input. A repeated one gives nothing.

        Raises ``RefusedMessageError`` for one that does not fit, or whose scope is none; nothing is changed then.
        """
        try:
            Scope.parse(message.scope)
        except ValueError as error:
            raise RefusedMessageError(str(error)) from error
        before = self.state(message.scope)
        after, effects = step(before, message, now_ms, world)
        if after is not before:
            self._adopt(after)
        return [*effects, *self._fill_slots(now_ms, world)]

    def tick(self, now_ms: int, world: World) -> list[Effect]:
        """Apply the passing of time and what changed among the services since the last tick."""
        effects: list[Effect] = []
        for scope in self._scopes_to_visit(now_ms, world):
            after, more = step(self.state(scope), Tick(scope), now_ms, world)
            effects += more
            self._adopt(after)
            if not after.cases and not after.seen:
                self._retire(after)
        self._watched_at = now_ms
        return [*effects, *self._fill_slots(now_ms, world)]

    def next_deadline(self) -> int | None:
        """When ``tick`` is next due; ``None`` when nothing waits."""
        while self._due_heap and self._due.get(self._due_heap[0][1]) != self._due_heap[0][0]:
            heapq.heappop(self._due_heap)
        times = [self._due_heap[0][0]] if self._due_heap else []
        if self._timed:
            times.append(self._watched_at + WATCH_MS)
        if self._queued and len(self._slots) < self._max_concurrent_stops:
            times.append(0)
        return min(times, default=None)

    def restore(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Load what ``take_dirty`` gave. Raises ``SnapshotError``: to start without a hold is worse than not to."""
        for key, value in records:
            self._adopt(read_scope(key, value))
        self._dirty.clear()

    def take_dirty(self) -> Sequence[tuple[bytes, bytes | None]]:
        """State records changed since the last call, ``None`` for a scope that was forgotten."""
        states = [(scope, self._scopes.get(scope)) for scope in self._dirty]
        self._dirty.clear()
        return [(scope_key(scope), scope_record(state) if state else None) for scope, state in states]

    def _scopes_to_visit(self, now_ms: int, world: World) -> list[str]:
        membership = world.services.membership(now_ms, world.policy.heartbeat_lost_ms)
        visit = set(self._timed) if membership != self._membership else set[str]()
        self._membership = membership
        while self._due_heap and self._due_heap[0][0] <= now_ms:
            due, scope = heapq.heappop(self._due_heap)
            if self._due.get(scope) == due:
                del self._due[scope]
                visit.add(scope)
        return sorted(visit)

    def _adopt(self, state: ScopeState) -> None:
        """Make ``state`` the scope's, and bring every index in line with it."""
        former = self._scopes.get(state.scope)
        if former is not state:
            self._census.update((case.phase.value, case.level.value) for case in state.cases)
            self._census.subtract((case.phase.value, case.level.value) for case in (former.cases if former else ()))
            self._scopes[state.scope] = state
            self._dirty[state.scope] = None
        for case in state.cases:
            (self._slots.add if _takes_slot(case) else self._slots.discard)(case.emergency_id)
            if case.phase is not Phase.QUEUED:
                self._queued.pop(case.emergency_id, None)
            elif case.emergency_id not in self._queued:
                self._queued[case.emergency_id] = state.scope
                heapq.heappush(self._queue, (-case.priority, case.started_at, case.emergency_id))
        timed = any(case.phase in _TIMED for case in state.cases)
        (self._timed.add if timed else self._timed.discard)(state.scope)
        self._schedule(state)

    def _schedule(self, state: ScopeState) -> None:
        times = [case.deadline_at for case in state.cases if case.phase in _TIMED]
        times += [case.resolved_at + self._retention_ms for case in state.cases if case.resolved_at is not None]
        times += [entry.at + self._retention_ms for entry in state.seen[:1]]
        due = min(times, default=None)
        if due is None:
            self._due.pop(state.scope, None)
        elif self._due.get(state.scope) != due:
            self._due[state.scope] = due
            heapq.heappush(self._due_heap, (due, state.scope))

    def _fill_slots(self, now_ms: int, world: World) -> list[Effect]:
        effects: list[Effect] = []
        while self._queue and len(self._slots) < self._max_concurrent_stops:
            _, _, emergency_id = heapq.heappop(self._queue)
            scope = self._queued.get(emergency_id)
            if scope is None:
                continue  # resumed while it waited
            after, more = step(self.state(scope), Admit(scope, emergency_id), now_ms, world)
            self._adopt(after)
            effects += more
        return effects

    def _retire(self, state: ScopeState) -> None:
        """Forget a scope of which nothing is left but its epoch, which its hold on the broker keeps."""
        del self._scopes[state.scope]
        self._due.pop(state.scope, None)
        self._dirty[state.scope] = None
