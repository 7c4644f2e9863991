"""The coordinator's process around its core: inputs in, checkpoints, and death at any point of one.

It keeps the order of ``apps/lane_partition.py``: records, effects, positions. What is in memory only is lost; a
successor begins from the records and positions that were durable. One that was cut off goes on deciding, and learns
from the log, once its records get there, that they are void.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from emergency_stop.coordinate.holds import hold_of
from emergency_stop.coordinate.partition import Coordinator
from emergency_stop.coordinate.publication import publishable
from emergency_stop.coordinate.published import PublishedHolds
from emergency_stop.coordinate.snapshot import scope_key, scope_of, scope_record
from emergency_stop.coordinate.state import Effect, ScopeState, World
from emergency_stop.coordinate.tables import RefusedMessageError
from emergency_stop.domain.messages import Ack, Command, ConditionAnswer, Hit, Hold, Request
from tests.simulation.instance import FORGED
from tests.simulation.leasing import Granting

if TYPE_CHECKING:
    from tests.simulation.world import SimulatedWorld

Input = Hit | Request | Ack | ConditionAnswer
#: How long one that stalls is away before it is succeeded, and how much longer until it wakes.
SUCCEEDED_AFTER_MS: Final = 3_000
WAKES_WITHIN_MS: Final = 6_000
#: One that was cut off looks at its inputs and deadlines so often.
CUT_OFF_POLL_MS: Final = 300


class Kept(NamedTuple):
    """A state record, its bytes still to be made: most records are replaced before anybody reads them."""

    state: ScopeState
    outbox: tuple[Effect, ...]

    def to_bytes(self) -> bytes:
        return scope_record(self.state, self.outbox)


class KeepingCoordinator(Coordinator):
    """The production core, whose records become bytes only where a successor reads them."""

    def _record(self, scope: str) -> bytes | None:
        state, outbox = self._scopes.get(scope), self._recorded.get(scope, [])
        if not state and not outbox:
            return None
        return cast("bytes", Kept(state or ScopeState(scope), tuple(outbox)))


class Durable:
    """What outlives every coordinator: its state log, and how far the inputs are applied.

    Of records under one key that of the newest fence stands, whenever it was written.
    """

    def __init__(self) -> None:
        self.records: dict[bytes, Kept] = {}
        self.positions: dict[str, int] = {}
        #: Of whoever took the log over last.
        self.fence = 0
        self._fences: dict[bytes, int] = {}
        #: Written under a fence that was not the newest any more.
        self._late: set[bytes] = set()

    def claim(self, *, settles: bool) -> int:
        """Take it over; whatever others write from now on counts only where nobody wrote under a newer fence.

        ``settles``: what was written late is written anew, so that nothing later replaces it.
        """
        self.fence += 1
        if settles:
            self._fences |= dict.fromkeys(self._late, self.fence)
        self._late.clear()
        return self.fence

    def copied(self) -> Durable:
        """As it is now."""
        copy = Durable()
        copy.records, copy.positions = dict(self.records), dict(self.positions)
        return copy

    def write(self, records: Sequence[tuple[bytes, Kept | None]], fence: int) -> None:
        for key, value in records:
            if fence < self._fences.get(key, 0):
                continue
            self._fences[key] = fence
            (self._late.add if fence < self.fence else self._late.discard)(key)
            if value is None:
                self.records.pop(key, None)
            else:
                self.records[key] = value

    def record(self, scope: str) -> Kept | None:
        return self.records.get(scope_key(scope))


class CoordinatorProcess:
    """One life of a coordinator, from its restoration to its death."""

    def __init__(self, world: SimulatedWorld, core: Coordinator, durable: Durable, found: Durable | None) -> None:
        """``found``: what it has read of ``durable`` already; ``None``: it reads behind its claim, as it must."""
        self._world = world
        self._engine = world.engine
        self._core = core
        self._durable = durable
        self._fence = durable.claim(settles=world.parts.settles)
        found = found or durable
        self._positions = dict(found.positions)
        core.restore((key, kept.to_bytes()) for key, kept in found.records.items())
        self._book = PublishedHolds()
        for hold in world.holds.records:
            self._book.take(hold, trusted=hold.signature != FORGED)
        for state in core.states():
            if state.epoch:
                self._book.restored(hold_of(state, "", 0))
        self._is_alive = True
        self._is_cut_off = False
        self.granting = Granting(world) if world.weather.leases else None
        #: Succeeded while it stalled: its records and positions no longer count, what it sends does.
        self.is_fenced = False
        self._is_awake = False
        self._is_writing = False
        self._touched = False
        self._armed_at: int | None = None

    def start(self) -> None:
        self.wake()
        if self.granting is not None:
            self.granting.go_on()

    def die(self) -> None:
        self._is_alive = False
        self._grants_no_more()

    def _grants_no_more(self) -> None:
        if self.granting is not None:
            self.granting.is_over = True

    @property
    def is_idle(self) -> bool:
        """Whether it has read all that there is, and published what follows."""
        unread = any(self._positions.get(topic, 0) < len(log) for topic, log in self._world.inputs.items())
        return not unread and not self._touched and not self._is_writing

    def hear(self, hold: Hold) -> None:
        """The next record of the holds' topic."""
        self._book.take(hold, trusted=hold.signature != FORGED)
        if self._core.is_called(self._book.overtaken, self._book.has):
            self.wake()

    def wake(self) -> None:
        """There is something to read."""
        if not self._is_awake and self._is_alive:
            self._is_awake = True
            self._engine.after(self._world.lag_ms(), self._poll)

    def _poll(self) -> None:
        self._is_awake = False
        if not self._is_alive or self.is_fenced:
            return
        where = self._world.seen_by_coordinator(self._book, counts=not self._is_cut_off)
        for topic in self._world.input_order():
            self._read(topic, where)
        self._pass_time(where)
        self._checkpoint()

    def _read(self, topic: str, where: World) -> None:
        log, start = self._world.inputs[topic], self._positions.get(topic, 0)
        if start == len(log):
            return
        at_once: list[Effect] = []
        for message in log.records[start:]:
            self._touched = True
            try:
                at_once += self._core.apply(message, self._engine.now_ms, where)
            except RefusedMessageError as error:
                self._world.note("coordinator refuses %s: %s", message, error)
        self._positions[topic] = len(log)
        for effect in publishable(at_once):
            if not self._is_cut_off:
                self._world.publish(effect, late=False)

    def _pass_time(self, where: World) -> None:
        due = self._core.next_deadline()
        is_called = self._core.is_called(where.overtaken, where.is_published)
        if is_called or (due is not None and due <= self._engine.now_ms):
            self._core.tick(self._engine.now_ms, where)
            self._touched = True

    def _timer(self, at: int) -> None:
        if self._armed_at == at:
            self._armed_at = None
            self._poll()

    def _arm(self) -> None:
        due = self._core.next_deadline()
        if due is not None:
            due = max(due, self._engine.now_ms + 1)
            if self._armed_at is None or due < self._armed_at:
                self._armed_at = due
                self._engine.after(due - self._engine.now_ms, self._timer, due)

    # ------------------------------------------------------------------------------------- the checkpoint

    def _checkpoint(self) -> None:
        if self._is_writing or not self._touched:
            return self._arm()
        self._touched = False
        self._is_writing = True
        dirty = self._take_dirty()
        positions = dict(self._positions)
        crash = self._crash_point()
        if crash == "before records":
            return self._world.coordinator_died(self, crash)
        if crash == "amid records":
            self._durable.write(dirty[: self._engine.random.randrange(len(dirty) + 1)], self._fence)
            return self._world.coordinator_died(self, crash)
        if not crash and self._engine.chance(self._world.weather.cut_off):
            return self._cut_off(dirty, positions)
        return self._later(self._records_written, dirty, positions, crash)

    def _take_dirty(self) -> list[tuple[bytes, Kept | None]]:
        dirty = cast("list[tuple[bytes, Kept | None]]", list(self._core.take_dirty()))
        for key, value in dirty:
            if value is None:
                self._book.forgotten(scope_of(key))
        return dirty

    def _crash_point(self) -> str:
        if not self._engine.chance(self._world.weather.crash):
            return ""
        return self._engine.random.choice(self._world.weather.crash_points)

    def _later(self, act: Callable[..., None], *args: object) -> None:
        """Writing takes time: other things may happen meanwhile."""
        if self._engine.chance(0.7):
            act(*args)
        else:
            self._engine.after(self._world.lag_ms(), act, *args)

    def _records_written(
        self, dirty: Sequence[tuple[bytes, Kept | None]], positions: dict[str, int], crash: str
    ) -> None:
        if not self._is_alive:
            return None
        if not self.is_fenced:
            self._durable.write(dirty, self._fence)
        if crash == "before effects":
            return self._world.coordinator_died(self, crash)
        effects = publishable(self._core.take_effects())
        if crash == "amid effects":
            for effect in self._some(effects):
                self._publish(effect, late=self.is_fenced)
            return self._world.coordinator_died(self, crash)
        if effects and not self.is_fenced and self._engine.chance(self._world.weather.stall):
            return self._stall(effects)
        return self._later(self._send, effects, positions, crash)

    def _some(self, effects: Sequence[Effect]) -> list[Effect]:
        """What a crash lets through: of each topic's partition a beginning."""
        cut: dict[str, bool] = {}
        through = []
        for effect in effects:
            where = _partition(effect)
            cut[where] = cut.get(where, False) or self._engine.chance(0.4)
            if not cut[where]:
                through.append(effect)
        return through

    def _stall(self, effects: list[Effect]) -> None:
        """It stands still with records on their way out; a successor takes over, then it wakes and dies, fenced."""
        self.is_fenced = True
        self._grants_no_more()
        self._world.note("coordinator stalls with %s effects on their way", len(effects))
        self._world.succeed_coordinator(self, SUCCEEDED_AFTER_MS)
        self._engine.after(
            SUCCEEDED_AFTER_MS + self._engine.random.randrange(WAKES_WITHIN_MS), self._last_words, effects
        )

    def _last_words(self, effects: list[Effect]) -> None:
        for effect in self._some(effects):
            self._publish(effect, late=True)
        self.die()

    def _cut_off(self, dirty: Sequence[tuple[bytes, Kept | None]], positions: dict[str, int]) -> None:
        """Its records do not get through yet, and it does not know; a successor takes over, mostly before they do.

        It reads on, and its deadlines pass, by what it knew of holds when it was cut off.
        """
        self._is_cut_off = True
        self._grants_no_more()
        self._world.note("coordinator is cut off with %s records on their way", len(dirty))
        self._world.succeed_coordinator(self, SUCCEEDED_AFTER_MS)
        healed_in_ms = self._engine.random.randrange(500, SUCCEEDED_AFTER_MS + WAKES_WITHIN_MS)
        self._engine.after(healed_in_ms, self._get_through, dirty, positions)
        self._decide_on()

    def _decide_on(self) -> None:
        if self._is_alive and self._is_cut_off:
            self._poll()
            self._engine.after(CUT_OFF_POLL_MS, self._decide_on)

    def _get_through(self, dirty: Sequence[tuple[bytes, Kept | None]], positions: dict[str, int]) -> None:
        """All at once: the checkpoint that was under way, and the one that waited for it; then the group tells it."""
        for number in range(2):
            self._durable.write(dirty, self._fence)
            is_lost = self._durable.fence != self._fence
            if is_lost and self._world.parts.proves:
                self._world.note("coordinator learns from the log that it was succeeded")
                break
            for effect in publishable(self._core.take_effects()):
                self._publish(effect, late=is_lost)
            if not is_lost:
                self._durable.positions = positions
            if number == 0:
                dirty, positions = self._take_dirty(), dict(self._positions)
        self.die()

    def _publish(self, effect: Effect, *, late: bool) -> None:
        if isinstance(effect, Hold):
            self._book.decided(effect, None)
        self._world.publish(effect, late=late)

    def _send(self, effects: Sequence[Effect], positions: dict[str, int], crash: str) -> None:
        if not self._is_alive:
            return None
        for effect in effects:
            self._publish(effect, late=self.is_fenced)
        if crash:
            return self._world.coordinator_died(self, crash)
        if not self.is_fenced:
            self._durable.positions = positions
        self._is_writing = False
        if self._touched:
            return self._checkpoint()
        return self._arm()


def _partition(effect: Effect) -> str:
    if isinstance(effect, Command):
        return f"commands.{effect.service}"
    return "holds" if isinstance(effect, Hold) else type(effect).__name__
