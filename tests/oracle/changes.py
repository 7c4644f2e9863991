"""Triggers that change while the detector runs, at random moments and through crashes, against a naive twin.

The twin keeps windows by their length for as long as some trigger needs them, and every trigger's cooldown and span by
its id and account for as long as the trigger is there; who watches whom it decides from the definitions alone. One
thing it takes from the design: an override with the window of what it replaces writes into the other's row, and that
is forgotten.
"""

from __future__ import annotations

import random
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from emergency_stop.detect.compile import Compiler
from emergency_stop.detect.detector import PartitionDetector
from emergency_stop.detect.plan import Plan
from emergency_stop.domain import topics
from emergency_stop.domain.messages import Hit
from emergency_stop.domain.triggers import Trigger
from emergency_stop.rules.definitions import stable_version
from tests.oracle.changing import ACCOUNTS, Changing, Triggers
from tests.oracle.naive import PANES, Event
from tests.oracle.streams import columns_of, new_detector, random_events

TOPIC = topics.TELEMETRY_HEALTH
Told = tuple[str, int, str, int, int]


@dataclass
class _State:
    """What is kept of one trigger and account."""

    until: int | None = None
    since: int | None = None
    suppressed: int = 0


@dataclass
class NaiveChanges:
    """Feed events and changes in order; ``hits`` fills with (trigger, version, account, offset, suppressed)."""

    triggers: Triggers = ()
    hits: list[Told] = field(default_factory=list)
    _windows: dict[int, dict[str, dict[int, list[float]]]] = field(default_factory=dict)
    _states: dict[tuple[str, str], _State] = field(default_factory=lambda: defaultdict(_State))

    def change(self, triggers: Triggers) -> None:
        self.triggers = triggers
        used = {
            one.time_window for trigger in triggers for one in (trigger, stable_version(trigger)) if one is not None
        }
        self._windows = {window: self._windows.get(window) or defaultdict(dict) for window in used}
        ids = {trigger.trigger_id for trigger in triggers}
        for key in [key for key in self._states if key[0] not in ids]:
            del self._states[key]
        for (trigger_id, account), state in self._states.items():
            if all(one.for_ms == 0 for one in self._watching(account) if one.trigger_id == trigger_id):
                state.since = None

    def feed(self, event: Event) -> None:
        seen = {window: _fold(accounts[event.account], window, event) for window, accounts in self._windows.items()}
        for trigger in sorted(self._watching(event.account), key=lambda one: one.trigger_id):
            folded = seen[trigger.time_window]
            if folded is not None:
                self._judge(trigger, event, *folded)

    def _watching(self, account: str) -> Iterator[Trigger]:
        replaced = {one.overrides for one in self.triggers if one.account_id == account}
        for trigger in self.triggers:
            if trigger.account_id is not None:
                if trigger.account_id == account:
                    yield trigger
            elif trigger.trigger_id not in replaced:
                inside = zlib.crc32(f"{trigger.trigger_id}/{account}".encode()) % 100 < trigger.canary_percent
                chosen = trigger if inside else stable_version(trigger)
                if chosen is not None:
                    yield chosen

    def _forget_replaced(self, override: Trigger, account: str) -> None:
        """Of several overrides of a trigger, with its window, for one account the first lies in its row."""
        for base in self.triggers:
            if base.trigger_id == override.overrides and base.time_window == override.time_window:
                beside = [
                    one.trigger_id
                    for one in self.triggers
                    if (one.overrides, one.account_id, one.time_window) == (base.trigger_id, account, base.time_window)
                ]
                if min(beside) == override.trigger_id:
                    self._states.pop((base.trigger_id, account), None)

    def _judge(self, trigger: Trigger, event: Event, average: float, samples: int) -> None:
        state = self._states[trigger.trigger_id, event.account]
        if average >= trigger.thresholds["healthScore"] or samples < trigger.min_samples:
            state.since = None
            return
        self._forget_replaced(trigger, event.account)
        state.since = event.at if state.since is None else state.since
        if trigger.for_ms and event.at - state.since < trigger.for_ms:
            return
        if not trigger.for_ms:
            state.since = None
        if state.until is not None and event.at < state.until:
            state.suppressed += 1
            return
        state.until = event.at + trigger.cooldown_period
        self.hits.append((trigger.trigger_id, trigger.version, event.account, event.offset, state.suppressed))
        state.suppressed = 0


def _fold(panes: dict[int, list[float]], window_ms: int, event: Event) -> tuple[float, int] | None:
    """(average, samples) once the event is in; ``None`` where it is too late."""
    pane_ms = -(-window_ms // PANES)
    pane = event.at // pane_ms
    newest = max(panes, default=pane)
    if pane <= newest - PANES:
        return None
    panes.setdefault(pane, []).append(event.values["health_score"])
    newest = max(newest, pane)
    inside = [value for number, values in panes.items() if number > newest - PANES for value in values]
    return sum(inside) / len(inside), len(inside)


class Run:
    """A detector whose triggers change between batches, and which dies at random, at whole checkpoints and between."""

    def __init__(self, rng: random.Random, plans: dict[int, Plan]) -> None:
        self._rng, self._plans = rng, plans
        self._records: dict[str, bytes] = {}
        self.hits: dict[str, Hit] = {}

    def run(self, events: Sequence[Event]) -> list[Hit]:
        """Batches end where triggers change, and a checkpoint is written there: what is replayed has one plan."""
        detector = new_detector(self._plans[0])
        bounds = [*sorted(self._plans), len(events)]
        for first, last in pairwise(bounds):
            detector = self._begun(detector, self._plans[first], first)
            detector = self._fed(detector, events, first, last)
        return list(self.hits.values())

    def _begun(self, detector: PartitionDetector, plan: Plan, at: int) -> PartitionDetector:
        """The change comes while it runs, or while it is away: then what was written is of the triggers before."""
        self._records |= {name: detector.write(name) for name in detector.dirty()}
        if self._rng.random() < 0.3:
            return self._loaded(plan, at)
        detector.replan(plan)
        return detector

    def _loaded(self, plan: Plan, at: int) -> PartitionDetector:
        detector = new_detector(plan)
        detector.load(self._records.items(), {TOPIC: at})
        return detector

    def _fed(self, detector: PartitionDetector, events: Sequence[Event], first: int, last: int) -> PartitionDetector:
        at = position = first
        while at < last:
            end = min(at + self._rng.randrange(1, 30), last)
            for hit in detector.on_batch(columns_of(TOPIC, events[at:end], at), 0):
                self.hits.setdefault(hit.hit_id, hit)
            at, fate = end, self._rng.random()
            if fate < 0.1:
                self._records |= {name: detector.write(name) for name in detector.dirty()}
                position = at
            elif fate < 0.2:
                detector, at = self._loaded(detector.plan, position), position
        return detector


def difference(seed: int, events: int) -> tuple[int, str | None]:
    """(how many hits were compared, what differs) for triggers that change while one random stream is read."""
    rng = random.Random(seed)
    stream = [
        replace(event, account=f"account-{rng.randrange(ACCOUNTS)}") for event in random_events(rng, TOPIC, events)
    ]
    changing = Changing(rng)
    changes = {0: tuple(changing.triggers.values())}
    for at in sorted(rng.sample(range(1, events), rng.randrange(1, 12))):
        changes[at] = changing.change()
    twin = NaiveChanges()
    for event in stream:
        if event.offset in changes:
            twin.change(changes[event.offset])
        twin.feed(event)
    compiler = Compiler(stable_version)
    found = Run(rng, {at: compiler.compile(triggers) for at, triggers in changes.items()}).run(stream)
    told = sorted(
        (hit.trigger_id, hit.trigger_version, hit.scope.partition(":")[2], hit.source_offset, hit.suppressed_before)
        for hit in found
    )
    wanted = sorted(twin.hits)
    if told == wanted:
        return len(wanted), None
    only = [one for one in told if one not in wanted][:3], [one for one in wanted if one not in told][:3]
    return len(wanted), f"{len(told)} hits, twin has {len(wanted)}; only found {only[0]}, only wanted {only[1]}"
