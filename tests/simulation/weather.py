"""How bad a schedule is: drawn from its seed, so that calm ones and stormy ones are all among them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from emergency_stop.coordinate.recovery_procedures import Gate, Procedure, When
from emergency_stop.coordinate.state import Policy

#: Deadlines as short as they may be without meeting each other: what matters is their order, not their length.
POLICY = Policy(
    immediate_stop_timeout_ms=2_000,
    graceful_stop_timeout_ms=6_000,
    heartbeat_lost_ms=3_000,
    max_concurrent_stops=2,
    retention_ms=45_000,
    issued_by="coordinator-simulated",
    # one person resumes here; two are needed where a schedule undoes, see UNDOING_POLICY
    global_resume_people=1,
)
#: Recoveries as short as they may be: two checks, three shares, and each phase with time for a late answer.
PROCEDURES: Final = tuple(
    Procedure(
        name, checks=2, check_interval_ms=400, validation_timeout_ms=2_500, preparation_timeout_ms=2_000,
        shares=shares, probe_timeout_ms=2_000, soak_ms=400, full_restore_timeout_ms=2_500, monitoring_ms=2_500,
        gates=gates, when=when,
    )
    for name, shares, gates, when in (
        ("careful", (10, 50, 100), (Gate.FAILED_ACTIONS, Gate.CONDITION), (When(priority_min=3),)),
        ("brisk", (50, 100), (Gate.FAILED_ACTIONS,), (When(),)),
    )
)  # fmt: skip
UNDOING_POLICY: Final = replace(
    POLICY, global_resume_people=2, approval_expiry_ms=20_000, condition_interval_ms=800, procedures=PROCEDURES
)
HEARTBEAT_MS = 1_000
#: Records of a compacted topic are kept at least so long, as long as their segment is written to.
COMPACTION_LAG_MS = 10_000


CRASH_POINTS: Final = ("before records", "amid records", "before effects", "amid effects", "before positions")
_CHAIN: Final = {"x": ("y",), "y": ("z",)}
_CIRCLE: Final = {"x": ("y",), "y": ("z",), "z": ("y",)}


@dataclass(frozen=True, slots=True)
class Undoing:
    """What a schedule with recoveries, drills, plans and latches meets besides."""

    #: A service says that it is not prepared, or not well.
    bad_probe: float
    #: An action that began fails.
    failing: float
    #: Whoever is asked about a condition says nothing, says it late, or says that it holds.
    deaf: float
    late: float
    holds: float
    #: The schedule is one stop that somebody tries to undo again and again.
    relentless: bool = False
    #: Share of the operations that undo something, after the first.
    undoes: float = 0.5
    #: Of these, so many plan a stop or call one off, besides those that do anyway.
    plans: float = 0.0
    #: Soon after a probe its instance is killed, and comes again at once under its own id.
    falls: float = 0.0


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
    undoing: Undoing | None = None
    #: Instances act by leases of so many partitions of the coordinator; 0: without.
    leases: int = 0
    #: Most instances that were killed or left come again under their own id.
    anew: bool = False
    #: With most stops an instance starts, a little before or after.
    crowd: bool = False
    #: Where in a checkpoint a crash comes.
    crash_points: tuple[str, ...] = CRASH_POINTS
    #: How far an instance's clock is from the coordinator's at the most.
    skew_ms: int = 0
    #: A coordinator's records stay on their way while it decides on, and a successor takes over from what is durable.
    cut_off: float = 0.0
    #: Share of the operations that write a hold which its owner has not decided, with the coordinator's key or without.
    impostors: float = 0.0


#: One schedule of so many undoes more than by a resume.
UNDOING_EVERY: Final = 3
#: One of so many meets each of these: the seeds that leave its rest. Those of multiples of three undo as well.
SPECIAL_EVERY: Final = 15
LEASES_AT: Final = 1
ANEW_AT: Final = 2
ANEW_UNDOING_AT: Final = 3
CROWD_AT: Final = 4
PLANS_AT: Final = 6
#: Coordinators crash all the time, and stay away, while instances come and go under their ids.
BEREFT_AT: Final = 7
CUT_OFF_AT: Final = 8
CUT_OFF_UNDOING_AT: Final = 9
#: Of those one in so many: each takes four times as long as another schedule.
CUT_OFF_TURNS: Final = 8
CUT_OFF_EVERY: Final = SPECIAL_EVERY * CUT_OFF_TURNS
SKEW_AT: Final = 10
IMPOSTOR_AT: Final = 11
SKEW_UNDOING_AT: Final = 12
#: Less than a third of what would make a live instance look lost.
SKEW_MS: Final = 900
PARTITIONS_MAX: Final = 3
#: Cohorts 8 and 37: the one is admitted at 10 %, the other at 50 %.
_COHORTS: Final = ("4", "2")


def special(seed: int, weather: Weather) -> Weather:
    """The weather with what only some schedules meet; all others are as they were drawn."""
    rest, turn = seed % SPECIAL_EVERY, seed // SPECIAL_EVERY
    if rest == LEASES_AT:
        weather = replace(weather, leases=1 + turn % PARTITIONS_MAX, anew=turn % 2 == 1)
    elif rest in (ANEW_AT, ANEW_UNDOING_AT):
        weather = replace(weather, anew=True)
    elif rest == CROWD_AT:
        weather = replace(weather, crowd=True)
    elif rest in (SKEW_AT, SKEW_UNDOING_AT):
        weather = replace(weather, skew_ms=SKEW_MS, anew=True)
    elif rest in (CUT_OFF_AT, CUT_OFF_UNDOING_AT) and turn % CUT_OFF_TURNS == 0:
        weather = replace(weather, cut_off=0.15, operations=12)
    elif rest == IMPOSTOR_AT:
        # the owner comes again before its topic is compacted: what is not signed again by then is all there is
        weather = replace(weather, impostors=0.3, operations=12, crash=0.0, downtime_ms=2_000, anew=True)
    elif rest == BEREFT_AT:
        weather = replace(
            weather, services=weather.services[:1], instances_each=1, accounts=("1",), operations=12, trouble=0.6,
            anew=True, crash=0.6, downtime_ms=8_000, crash_points=("before effects", "amid effects"),
        )  # fmt: skip
    if seed % UNDOING_EVERY:
        return weather
    drawn = random.Random(f"undoing {seed}")
    pick, relentless = drawn.choice, drawn.random() < 0.1
    more = Undoing(
        bad_probe=1.0 if relentless else pick((0.0, 0.0, 0.05, 0.2)),
        failing=pick((0.0, 0.0, 0.0, 0.4)),
        deaf=pick((0.0, 0.0, 0.2)),
        late=pick((0.0, 0.3)),
        holds=pick((0.0, 0.0, 0.2)),
        relentless=relentless,
        undoes=pick((0.5, 0.7, 0.9)),
        plans=0.6 if rest == PLANS_AT else 0.0,
    )
    if rest == ANEW_UNDOING_AT:
        more = replace(more, undoes=0.5, falls=0.1)
    return replace(
        weather, undoing=more, depends_on=_among(weather.services, weather.depends_on),
        accounts=_COHORTS[: len(weather.accounts)], trouble=0.6 if rest == ANEW_UNDOING_AT else pick((0.0, 0.1, 0.3)),
        bad_handler=0.0 if relentless else weather.bad_handler,
        instances_each=min(weather.instances_each, 1 + seed % 2),
    )  # fmt: skip


def _among(services: tuple[str, ...], needs: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
    """Needs of services that there are: no recovery waits for one that nobody runs."""
    return {name: tuple(one for one in needs.get(name, ()) if one in services) for name in services}


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
