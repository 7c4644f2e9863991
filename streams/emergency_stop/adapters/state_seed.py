"""A lane that has nothing, or has been away for long, begins from the state of the lane beside it.

State is a function of the log's prefix, and both lanes apply the same log: the one that is further on has applied all
that the other has, and its hits were published before its state was written. Without this, a new lane would replay
all telemetry that the broker keeps, and publish hits that were dealt with long ago.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from emergency_stop.adapters.state_log import RestoredState, StateCopy, read_state
from emergency_stop.config.kafka import Brokers

#: Well within the time that a coordinator recognises a repeated hit (``Policy.retention_ms``).
SEED_AFTER_MS: Final = 600_000


@dataclass(frozen=True, slots=True)
class StateSource:
    """Where a partition's state is read from: the worker's own topic, and that of the lane beside it, if it has one."""

    brokers: str | Brokers
    topic: str
    sibling_topic: str | None = None


@dataclass(frozen=True, slots=True)
class Seeded:
    """``own`` is what the worker's own log says; ``state`` what to start from. They are one unless it was seeded."""

    own: RestoredState
    state: RestoredState

    def changes(self) -> list[tuple[bytes, bytes | None]]:
        """What to write so that the own log says ``state``; ``None`` removes."""
        if self.state is self.own:
            return []
        gone = dict.fromkeys(self.own.records.keys() - self.state.records.keys())
        return [*gone.items(), *self.state.records.items()]


async def read_seeded(
    source: StateSource, partition: int, now_ms: int, copy: StateCopy | None, *, up_to: int = 0
) -> Seeded:
    """Read the own log, and where that is old the sibling's; ``copy`` and ``up_to`` as of ``read_state``.

    Raises ``KafkaError``.
    """
    client_id = f"estop-restore-{source.topic}"
    own = await read_state(source.brokers, source.topic, partition, client_id=client_id, copy=copy, up_to=up_to)
    if source.sibling_topic is None or not is_old(own, now_ms):
        return Seeded(own, own)
    other = await read_state(source.brokers, source.sibling_topic, partition, client_id=client_id)
    return Seeded(own, other if is_ahead(other, own) else own)


def is_old(state: RestoredState, now_ms: int) -> bool:
    """Whether the log has no position, or its newest was written over ``SEED_AFTER_MS`` ago."""
    return not state.positions or now_ms - state.position_at_ms > SEED_AFTER_MS


def is_ahead(other: RestoredState, own: RestoredState) -> bool:
    """Whether ``other`` has applied as much of every topic as ``own``, and more of one."""
    topics = other.positions.keys() | own.positions.keys()
    leads = [other.positions.get(topic, 0) - own.positions.get(topic, 0) for topic in topics]
    return min(leads, default=0) >= 0 and max(leads, default=0) > 0
