"""From what was seen to one line of figures. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from emergency_stop.domain.messages import Ack, Activity, Emergency
from emergency_stop.domain.values import AckState

TIME_TO_STOP_MS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Percentiles:
    p50: int
    p99: int
    max: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The demo's result; ``failures`` says what is not as promised."""

    events_produced: int
    events_in_clickhouse: int
    duplicates_in_clickhouse: int
    hits: int
    emergencies: int
    services_stopped: int
    services_total: int
    side_effects_after_stop: int
    time_to_stop_ms: Percentiles
    bad_inputs: int
    dead_lettered: int
    resumed: int

    def as_json(self) -> dict[str, object]:
        return asdict(self)

    def failures(self) -> list[str]:
        """Every promise that was not kept, in words."""
        checks = {
            f"{self.events_produced} events produced, {self.events_in_clickhouse} in ClickHouse": (
                self.events_produced == self.events_in_clickhouse > 0
            ),
            f"{self.duplicates_in_clickhouse} duplicates in ClickHouse": self.duplicates_in_clickhouse == 0,
            f"{self.services_stopped} of {self.services_total} services stopped": (
                self.services_stopped == self.services_total > 0
            ),
            f"{self.side_effects_after_stop} side effects after a stop": self.side_effects_after_stop == 0,
            f"p99 time to stop {self.time_to_stop_ms.p99} ms": self.time_to_stop_ms.p99 < TIME_TO_STOP_MS_MAX,
            f"{self.bad_inputs} bad inputs, {self.dead_lettered} dead-lettered": self.bad_inputs == self.dead_lettered,
            "nothing resumed": self.resumed > 0,
            "no emergency": self.emergencies > 0,
        }
        return [text for text, kept in checks.items() if not kept]


def percentiles(values: Sequence[int]) -> Percentiles:
    """Nearest-rank percentiles; all -1 where there is no value."""
    ordered = sorted(values)
    if not ordered:
        return Percentiles(-1, -1, -1)

    def rank(share: float) -> int:
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

    return Percentiles(rank(0.5), rank(0.99), ordered[-1])


def times_to_stop_ms(emergencies: Iterable[Emergency], acks: Iterable[Ack]) -> list[int]:
    """Per emergency: from the causing event to the last instance's first STOPPED, read from the acks themselves."""
    proven = _proofs(acks)
    times = []
    for emergency in emergencies:
        moments = [proven.get((emergency.emergency_id, one.service, one.instance_id)) for one in emergency.instances]
        known = [moment for moment in moments if moment is not None]
        if known and len(known) == len(moments):
            times.append(max(known) - emergency.occurred_at)
    return times


def _proofs(acks: Iterable[Ack]) -> dict[tuple[str, str, str], int]:
    """(emergency, service, instance) → when its first STOPPED was sent, in ms."""
    proven: dict[tuple[str, str, str], int] = {}
    for ack in acks:
        if ack.state is AckState.STOPPED:
            key = (ack.emergency_id, ack.service, ack.instance_id)
            proven[key] = min(ack.acked_at, proven.get(key, ack.acked_at))
    return proven


def side_effects_after_stop(acks: Iterable[Ack], activity: Iterable[Activity]) -> int:
    """Actions of an instance in a scope between its STOPPED and its RESUMED there."""
    edges: dict[tuple[str, str], list[tuple[int, bool]]] = {}
    for ack in acks:
        if ack.state in (AckState.STOPPED, AckState.RESUMED):
            key = (ack.instance_id, ack.scope)
            edges.setdefault(key, []).append((ack.acked_at, ack.state is AckState.STOPPED))
    for moments in edges.values():
        moments.sort()
    return sum(_was_stopped(edges.get((one.instance_id, f"account:{one.account_id}"), ()), one) for one in activity)


def _was_stopped(edges: Iterable[tuple[int, bool]], activity: Activity) -> bool:
    stopped = False
    for moment, is_stop in edges:
        if moment < activity.performed_at:
            stopped = is_stop
    return stopped


def instances_stopped(emergencies: Iterable[Emergency], acks: Iterable[Ack]) -> tuple[int, int]:
    """(instances that proved their stop, instances that had to), over all emergencies; resumed since or not."""
    wanted = {
        (emergency.emergency_id, one.service, one.instance_id)
        for emergency in emergencies
        for one in emergency.instances
    }
    return len(wanted & _proofs(acks).keys()), len(wanted)
