"""All scopes of one partition: which of them is due, which stops may send their commands, what changed.

**Decisions are recorded before they are published.** What follows from a change of state goes to an outbox
that lies in the same state record as the change, and is handed out only after ``take_dirty`` gave that
record away to be written. A successor after a crash therefore repeats exactly what was decided, with the
same epochs and ids, and never decides the same input differently because time went on.

**Holds go out at once; only orchestration is limited.** At most ``max_concurrent_stops`` emergencies wait
for their instances, the others queue by priority, then age. A stop leaves its slot when no live instance
owes its proof any more or its first deadline is over, so that dead services cannot keep others waiting.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from emergency_stop.coordinate.holds import hold_of
from emergency_stop.coordinate.instances import OWING, all_proved
from emergency_stop.coordinate.lifecycle import Admit, Change, Tick
from emergency_stop.coordinate.oversize import STATE_BYTES_MAX, held_whole
from emergency_stop.coordinate.services import Member
from emergency_stop.coordinate.snapshot import read_scope, scope_key, scope_record
from emergency_stop.coordinate.state import Case, Effect, ScopeState, World
from emergency_stop.coordinate.step import step
from emergency_stop.coordinate.tables import TIMED, UNPROVEN, Phase, RefusedMessageError
from emergency_stop.domain.frozen import replace
from emergency_stop.domain.messages import Ack, ConditionAnswer, Emergency, Hit, Hold, Request
from emergency_stop.domain.values import HoldState, Scope

#: How soon a change among the instances is noticed while a stop is under way.
WATCH_MS: Final = 1_000
#: How long deadlines wait after a restart: answers that came meanwhile are read first.
RESTART_GRACE_MS: Final = 2_000
#: Phases in which a change among the instances matters.
_WATCHED: Final = frozenset({*TIMED, Phase.RESTORING})


def _takes_slot(case: Case) -> bool:
    return not case.drill and case.phase is Phase.STOPPING and any(target.standing in OWING for target in case.targets)


def _stops(effects: list[Effect]) -> bool:
    return any(isinstance(effect, Hold) and effect.state is HoldState.HELD for effect in effects)


def _newest(effects: list[Effect]) -> list[Effect]:
    """Without accounts of an emergency that a later one in the same state replaces."""
    newest = {(e.emergency_id, e.state): e for e in effects if isinstance(e, Emergency)}
    return [e for e in effects if not isinstance(e, Emergency) or newest[e.emergency_id, e.state] is e]


def _kinds(state: ScopeState | None) -> list[tuple[str, str]]:
    return [(case.phase, case.level) for case in state.cases if not case.drill] if state else []


class Coordinator:
    """Not thread-safe. The cycle is ``apply`` or ``tick``, then ``take_dirty``, and once that is durable
    ``take_effects``.
    """

    def __init__(self, max_concurrent_stops: int, retention_ms: int) -> None:
        self._max_concurrent_stops = max_concurrent_stops
        self._retention_ms = retention_ms
        self._scopes: dict[str, ScopeState] = {}
        self._dirty: dict[str, None] = {}
        #: Effects per scope: decided since the last ``take_dirty``, and given away with it.
        self._fresh: dict[str, list[Effect]] = {}
        self._recorded: dict[str, list[Effect]] = {}
        self._due: dict[str, int] = {}
        self._due_heap: list[tuple[int, str]] = []
        self._queued: dict[str, str] = {}
        self._queue: list[tuple[int, int, str]] = []
        self._slots: set[str] = set()
        self._timed: set[str] = set()
        self._membership: frozenset[Member] = frozenset()
        self._watched_at = 0
        self._deadlines_from: int | None = 0
        self._census: Counter[tuple[str, str]] = Counter()
        #: Scopes of which every proof is in and the hold is not yet read back, with its epoch.
        self._unconcluded: dict[str, int] = {}
        #: The last occasion on which each scope's hold was said again.
        self._restated: dict[str, int] = {}
        #: When something was applied last.
        self._now_ms = 0
        #: Some lifting is to be said again, and waits until input that came before a restart is read.
        self._restates_late = False

    def state(self, scope: str) -> ScopeState:
        """The scope as it stands; a fresh one where nothing is remembered."""
        return self._scopes.get(scope) or ScopeState(scope)

    def states(self) -> Iterable[ScopeState]:
        """Every scope that is remembered."""
        return self._scopes.values()

    @property
    def queue_length(self) -> int:
        """Emergencies whose commands wait for a slot."""
        return len(self._queued)

    @property
    def unrecorded(self) -> int:
        """Scopes with a stop that every instance has proven, whose hold has not been read back."""
        return len(self._unconcluded)

    def census(self) -> Counter[tuple[str, str]]:
        """How many emergencies there are by (phase, level), without drills; for metrics."""
        return +self._census

    def apply(self, message: Hit | Request | Ack | ConditionAnswer, now_ms: int, world: World) -> list[Effect]:
        """Apply one input; a repeated one changes nothing. Returns effects that rest on no change of state.

        Raises ``RefusedMessageError`` for one that does not fit, or whose scope is none; nothing is changed then.
        """
        try:
            Scope.parse(message.scope)
        except ValueError as error:
            raise RefusedMessageError(str(error)) from error
        self._now_ms = now_ms
        before = self.state(message.scope)
        change = step(before, message, now_ms, self._seen(world))
        if change[0] is before:
            return change[1]
        self._adopt(change)
        self._fill_slots(now_ms, world)
        return []

    def tick(self, now_ms: int, world: World) -> None:
        """Apply the passing of time and what changed among the services since the last tick."""
        self._now_ms = now_ms
        if self._deadlines_from is None:
            self._deadlines_from = now_ms + RESTART_GRACE_MS
        if now_ms >= self._deadlines_from:
            for scope in self._scopes_to_visit(now_ms, world, self.to_conclude(world.is_published)):
                change = step(self.state(scope), Tick(scope), now_ms, self._seen(world))
                self._adopt(change)
                if not change[0].cases and not change[0].seen:
                    self._retire(change[0])
            self._watched_at = now_ms
        late = self.to_restate(world.overtaken)
        for scope in [scope for scope in late if self.state(scope).in_force or now_ms >= self._deadlines_from]:
            late.remove(scope)
            self._restated[scope] = world.overtaken[scope]
            self._restate(scope, now_ms, world)
        self._restates_late = bool(late)
        self._fill_slots(now_ms, world)

    def to_restate(self, overtaken: Mapping[str, int]) -> list[str]:
        """Scopes of ``overtaken`` whose hold is to be said again; one that lifts, once a restart has read its input."""
        return [scope for scope, occasion in overtaken.items() if self._restated.get(scope) != occasion]

    def to_conclude(self, is_published: Callable[[str, int], bool]) -> list[str]:
        """Scopes with a stop that every instance has proven, whose hold is on record now; a tick then ends the stop."""
        return [scope for scope, epoch in self._unconcluded.items() if is_published(scope, epoch)]

    def is_called(self, overtaken: Mapping[str, int], is_published: Callable[[str, int], bool]) -> bool:
        """Whether what the topic of holds tells is news, and a tick is due for it."""
        return bool(self.to_restate(overtaken) or self.to_conclude(is_published))

    def take_effects(self) -> list[Effect]:
        """What may be published now: everything decided before the last ``take_dirty``.

        Scopes that are to stop come first; within a scope the order is that of the decisions.
        """
        recorded, self._recorded = self._recorded, {}
        self._dirty |= dict.fromkeys(recorded)
        by_urgency = sorted(recorded.values(), key=lambda effects: not _stops(effects))
        return [effect for effects in by_urgency for effect in effects]

    def next_deadline(self) -> int | None:
        """When ``tick`` is next due; ``None`` when nothing waits. At once after a restart: its outbox waits."""
        if self._deadlines_from is None:
            return 0
        if self._queued and len(self._slots) < self._max_concurrent_stops:
            return 0
        while self._due_heap and self._due.get(self._due_heap[0][1]) != self._due_heap[0][0]:
            heapq.heappop(self._due_heap)
        times = [self._due_heap[0][0]] if self._due_heap else []
        if self._timed or self._dirty:  # a tick also gets emptied outboxes on record
            times.append(self._watched_at + WATCH_MS)
        if self._restates_late:
            times.append(self._deadlines_from)
        return max(min(times), self._deadlines_from) if times else None

    def restore(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Load what ``take_dirty`` gave. Raises ``SnapshotError``: to start without a hold is worse than not to."""
        for key, value in records:
            state, outbox = read_scope(key, value)
            self._adopt((state, []))
            if outbox:
                self._recorded[state.scope] = outbox
            self._deadlines_from = None
        self._dirty.clear()

    def take_dirty(self) -> Sequence[tuple[bytes, bytes | None]]:
        """State records changed since the last call, ``None`` for a scope that was forgotten.

        Once they are durable, ``take_effects`` may be called.
        """
        for scope, effects in self._fresh.items():
            self._recorded.setdefault(scope, []).extend(effects)
        self._fresh = {}
        dirty, self._dirty = self._dirty, {}
        return [(scope_key(scope), self._record(scope)) for scope in dirty]

    def _record(self, scope: str) -> bytes | None:
        state, outbox = self._scopes.get(scope), self._recorded.get(scope, [])
        if not state and not outbox:
            return None
        record = scope_record(state or ScopeState(scope), outbox)
        return record if len(record) <= STATE_BYTES_MAX else self._record_whole(state or ScopeState(scope), outbox)

    def _record_whole(self, state: ScopeState, outbox: Sequence[Effect]) -> bytes:
        """Of a scope whose record no broker takes: one stop of everything in the place of all that there was."""
        for case in state.cases:
            self._slots.discard(case.emergency_id)
            self._queued.pop(case.emergency_id, None)
        state, effects = held_whole(state, outbox, self._now_ms)
        self._adopt((state, []))
        self._recorded[state.scope] = effects
        return scope_record(state, effects)

    def _seen(self, world: World) -> World:
        return replace(world, stops_wait=True) if self._queued else world

    def _scopes_to_visit(self, now_ms: int, world: World, concluded: Iterable[str]) -> list[str]:
        membership = world.services.membership(now_ms, world.policy.heartbeat_lost_ms)
        visit = set(self._timed) if membership != self._membership else set(concluded)
        self._membership = membership
        while self._due_heap and self._due_heap[0][0] <= now_ms:
            due, scope = heapq.heappop(self._due_heap)
            if self._due.get(scope) == due:
                del self._due[scope]
                visit.add(scope)
        return sorted(visit)

    def _adopt(self, change: Change) -> None:
        """Make the new state the scope's, bring every index in line with it, and keep its effects."""
        state, effects = change
        former = self._scopes.get(state.scope)
        if former is not state:
            kinds, former_kinds = _kinds(state), _kinds(former)
            if kinds != former_kinds:
                self._census.update(kinds)
                self._census.subtract(former_kinds)
            self._scopes[state.scope] = state
            self._dirty[state.scope] = None
        if effects:
            self._fresh[state.scope] = _newest([*self._fresh.get(state.scope, ()), *effects])
            self._dirty[state.scope] = None
        for case in state.cases:
            (self._slots.add if _takes_slot(case) else self._slots.discard)(case.emergency_id)
            if case.phase is not Phase.QUEUED:
                self._queued.pop(case.emergency_id, None)
            elif case.emergency_id not in self._queued:
                self._queued[case.emergency_id] = state.scope
                heapq.heappush(self._queue, (-case.priority, case.started_at, case.emergency_id))
        unconcluded = [case.epoch for case in state.cases if case.phase in UNPROVEN and all_proved(case)]
        if unconcluded:
            self._unconcluded[state.scope] = min(unconcluded)
        else:
            self._unconcluded.pop(state.scope, None)
        timed = any(case.phase in _WATCHED for case in state.cases)
        (self._timed.add if timed else self._timed.discard)(state.scope)
        self._schedule(state)

    def _schedule(self, state: ScopeState) -> None:
        times = [at for case in state.cases for at in (case.due_at, case.recovery_due_at) if at is not None]
        times += [case.resolved_at + self._retention_ms for case in state.cases if case.resolved_at is not None]
        times += [entry.at + self._retention_ms for entry in state.seen[:1]]
        due = min(times, default=None)
        if due is None:
            self._due.pop(state.scope, None)
        elif self._due.get(state.scope) != due:
            self._due[state.scope] = due
            heapq.heappush(self._due_heap, (due, state.scope))

    def _fill_slots(self, now_ms: int, world: World) -> None:
        while self._queue and len(self._slots) < self._max_concurrent_stops:
            _, _, emergency_id = heapq.heappop(self._queue)
            scope = self._queued.get(emergency_id)
            if scope is not None:  # else it was resumed while it waited
                self._adopt(step(self.state(scope), Admit(scope, emergency_id), now_ms, world))

    def _restate(self, scope: str, now_ms: int, world: World) -> None:
        """Publish the scope's hold once more, under an epoch beyond every one that was read: so every gate takes it."""
        state = self.state(scope)
        state = replace(state, epoch=world.next_epoch(state))
        hold = hold_of(state, "said again, because another record came after it that must not stand", now_ms)
        self._adopt((state, [hold]))
        if not state.cases and not state.seen:  # it was forgotten before, and is again
            self._due[scope] = now_ms + self._retention_ms
            heapq.heappush(self._due_heap, (self._due[scope], scope))

    def _retire(self, state: ScopeState) -> None:
        """Forget a scope of which nothing is left but its epoch, which its hold on the broker keeps."""
        del self._scopes[state.scope]
        self._due.pop(state.scope, None)
        self._dirty[state.scope] = None
