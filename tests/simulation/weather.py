"""How bad a schedule is: drawn from its seed, so that calm ones and stormy ones are all among them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from emergency_stop.coordinate.state import Policy

#: Deadlines as short as they may be without meeting each other: what matters is their order, not their length.
POLICY = Policy(
    immediate_stop_timeout_ms=2_000,
    graceful_stop_timeout_ms=6_000,
    heartbeat_lost_ms=3_000,
    max_concurrent_stops=2,
    retention_ms=45_000,
    issued_by="coordinator-simulated",
    # one person resumes here; what two are for is tried in the core's own tests
    global_resume_people=1,
)
HEARTBEAT_MS = 1_000
#: Records of a compacted topic are kept at least so long, as long as their segment is written to.
COMPACTION_LAG_MS = 10_000


_CHAIN: Final = {"x": ("y",), "y": ("z",)}
_CIRCLE: Final = {"x": ("y",), "y": ("z",), "z": ("y",)}


@dataclass(frozen=True, slots=True)
class Weather:
    """Shares are probabilities per opportunity; 0 where a schedule is spared a fault."""

    services: tuple[str, ...]
    instances_each: int
    accounts: tuple[str, ...]
    operations: int
    #: Longest lag between a record and its reader; most lags are far shorter.
    lag_ms: int
    #: A coordinator's checkpoint ends in a crash; its process is then away for up to ``downtime_ms``.
    crash: float
    #: A coordinator stalls while it publishes, is succeeded, and publishes the rest when it wakes.
    stall: float
    downtime_ms: int
    #: An input is written twice, or delivered again.
    repeat: float
    #: An acknowledgement is late by seconds, or never arrives.
    late_ack: float
    drop_ack: float
    #: A stop command is lost on its way to one instance.
    drop_command: float
    #: An action ignores its cancellation, or runs for seconds.
    stubborn: float
    long_action: float
    #: The stop handler returns false, raises, or takes seconds.
    bad_handler: float
    #: Weight of crashes, cuts and lies among the operations, to causes and resumes.
    trouble: float
    #: What each service announces that it depends on: a chain, a circle, or nothing.
    depends_on: Mapping[str, tuple[str, ...]]


def draw(random: random.Random) -> Weather:
    """The weather of a schedule."""
    pick = random.choice
    services = ("x", "y", "z")[: pick((1, 2, 2, 3))]
    instances_each = pick((1, 1, 2))
    accounts = ("1", "2")[: pick((1, 1, 2))]
    operations = random.randrange(4, 13)
    return Weather(
        services=services,
        instances_each=instances_each,
        accounts=accounts,
        operations=operations,
        lag_ms=pick((5, 50, 50, 800)),
        crash=pick((0.0, 0.0, 0.05, 0.2)),
        stall=pick((0.0, 0.0, 0.0, 0.1)),
        downtime_ms=pick((100, 2_000, 8_000)),
        repeat=pick((0.0, 0.1, 0.3)),
        late_ack=pick((0.0, 0.05, 0.3)),
        drop_ack=pick((0.0, 0.0, 0.05)),
        drop_command=pick((0.0, 0.0, 0.1)),
        stubborn=pick((0.0, 0.1, 0.5)),
        long_action=pick((0.0, 0.1, 0.3)),
        bad_handler=pick((0.0, 0.0, 0.2)),
        trouble=pick((0.0, 0.2, 0.5)),
        # not drawn: every seed is the schedule that it was before there were tiers
        depends_on=({}, _CHAIN, _CHAIN, _CIRCLE)[operations % 4],
    )
