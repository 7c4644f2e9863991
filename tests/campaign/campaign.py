"""One campaign from the first topic to the verdict."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from emergency_stop.apps.sink.main import stored_topics
from emergency_stop.config import DEFAULT_SERVICES, Settings
from tests.campaign import stack
from tests.campaign.children import Child
from tests.campaign.conductor import Conductor, Deadline
from tests.campaign.disturbances import CORE, plan
from tests.campaign.judge import Published, find_truth, read_published
from tests.campaign.log import Log, Sender
from tests.campaign.rows import count_rows
from tests.campaign.telemetry import TOPICS, Load, records
from tests.campaign.verdict import Findings

COORDINATOR_INPUTS = ("estop.hits", "estop.requests", "estop.acks")
DETECTOR_GROUP = "estop-detector"
COORDINATOR_GROUP = "estop-coordinator"
SINK_GROUP = "estop-sink"
#: Not restarted by a disturbance, an orderly end of a process has to come within this time.
SETTLE_S = 120.0
ORACLE_PROCESSES = 2
#: A process that is asked to go before it has set up its own handler ends by the signal itself.
ORDERLY = (0, -signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Scale:
    """How long and how hard. ``gap_s`` is the least and the most between disturbances, in seconds."""

    load: Load
    gap_s: tuple[float, float]
    kills_least: int


def run(scale: Scale, bootstrap: str, workdir: Path) -> Findings:
    """Load, disturb, let settle, judge. What goes wrong is in the findings; needs an empty broker."""
    seed = scale.load.seed
    logs = workdir / "logs"
    logs.mkdir(parents=True)
    shared = stack.settings(bootstrap, workdir)
    stack.prepare(shared)
    sender = Sender(bootstrap, records(scale.load, int(time.time() * 1000)))
    sender.send_backlog(scale.load.backlog)
    children = stack.children(shared, logs)
    conductor = Conductor(children)
    troubles: list[str] = []
    with Log(bootstrap) as log:
        try:
            _load_and_disturb(scale, children, conductor, sender)
            _settle(conductor, log, tuple(stored_topics(shared.services)))
        except Deadline as late:
            troubles.append(str(late))
        finally:
            conductor.leave()
        troubles += [*sender.failures, *_ill_manners(children)]
        return _judge(scale, shared, conductor.kills, log, seed, troubles)


def _load_and_disturb(scale: Scale, children: dict[str, Child], conductor: Conductor, sender: Sender) -> None:
    for name in (*DEFAULT_SERVICES, *CORE):
        children[name].join()
    sender.start()
    conductor.perform(plan(scale.load.seed, scale.load.duration_s, scale.gap_s))
    conductor.resume_all()
    conductor.wait("everything sent", lambda: not sender.is_alive(), lambda: sender.sent, SETTLE_S)


def _settle(conductor: Conductor, log: Log, stored: tuple[str, ...]) -> None:
    """Wait until everybody is through; those whose work is over leave, so that the sink sees an end."""

    def lag(group: str, topics: tuple[str, ...]) -> Callable[[], int]:
        return lambda: sum(at.lag for at in log.positions(group, topics))

    def unfinished() -> int:
        return len(read_published(log).unfinished)

    detector, coordinator = lag(DETECTOR_GROUP, tuple(TOPICS)), lag(COORDINATOR_GROUP, COORDINATOR_INPUTS)
    sink = lag(SINK_GROUP, stored)
    conductor.wait("detector has no lag", lambda: detector() == 0, detector, SETTLE_S)
    conductor.wait("coordinator has no lag", lambda: coordinator() == 0, coordinator, SETTLE_S)
    conductor.wait("emergencies are over", lambda: unfinished() == 0, unfinished, SETTLE_S)
    conductor.leave("detector-a", "detector-b", "coordinator", *DEFAULT_SERVICES)
    conductor.wait("sink has no lag", lambda: sink() == 0, sink, SETTLE_S)


def _ill_manners(children: dict[str, Child]) -> list[str]:
    """Deaths that nobody caused, and refusals to leave."""
    troubles = []
    for child in children.values():
        for at_s, status in child.own_exits:
            print(f"{child.name} ended by itself with status {status} at {at_s:.3f}", file=sys.stderr)
        bad = [status for status in child.leave_statuses if status not in ORDERLY]
        troubles += [f"{child.name} left with status {status}, not 0" for status in bad]
    return troubles


def _judge(scale: Scale, shared: Settings, kills: int, log: Log, seed: int, troubles: list[str]) -> Findings:
    truth = find_truth(shared.brokers, ORACLE_PROCESSES)
    published: Published = read_published(log)
    return Findings(
        seed=seed,
        kills=kills,
        kills_least=scale.kills_least,
        tables=count_rows(shared, log, truth.good),
        bad_inputs=truth.bad,
        dead_letters=published.dead_letters,
        oracle_hits=truth.hits,
        hits=published.hits,
        opening_hit_ids=set(published.opening.values()),
        joins_expected=published.joins_expected,
        joins_found=published.joined_audits,
        emergencies=published.emergencies,
        unfinished_emergencies=published.unfinished,
        troubles=troubles,
    )
