"""The systems side by side: how each is started on a job."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emergency_stop.domain.default_triggers import default_pack
from emergency_stop.domain.topics import HITS, TELEMETRY_HEALTH
from tests.bench import stage
from tests.bench.peers import java

ROOT: Final = Path(__file__).resolve().parents[3]
BENCH_PYTHON: Final = ROOT / ".venv-bench" / "bin" / "python"
OURS: Final = "ours"
#: Room for the state of every account beside what Kafka Streams keeps with each entry.
LARGE_CACHE_BYTES: Final = 512 << 20
#: One stream thread, its producer's I/O thread and the broker share two cores; a second one was slower (README.md).
KAFKA_STREAMS_THREADS: Final = 1
#: Kafka Streams' own default.
DEFAULT_CACHE_BYTES: Final = 10 << 20


@dataclass(frozen=True, slots=True)
class Job:
    """One run: ``events`` of ``topic`` to the end, or with 0 until SIGTERM; hits go to ``hits``. ``folder`` exists."""

    name: str
    bootstrap: str
    topic: str
    hits: str
    events: int
    folder: Path


@dataclass(frozen=True, slots=True)
class Launch:
    """A command line and what it needs in its environment."""

    command: list[str]
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class Part:
    """The part of the load that a system gets, so that a slow one's run ends too.

    ``share`` of the events, the first ones of all accounts; or, ``by_accounts``, all events of a share of the accounts:
    so few events that of all accounts hardly one would have enough of them to fire.
    """

    share: float
    by_accounts: bool = False

    @property
    def topic(self) -> str:
        if self.share >= 1:
            return TELEMETRY_HEALTH
        return f"bench.{'accounts' if self.by_accounts else 'first'}-{self.share:g}"


@dataclass(frozen=True, slots=True)
class System:
    """What is measured: its part of the load, and how it is started on a job."""

    name: str
    part: Part
    launch: Callable[[Job], Launch]

    def topic(self, live: str | None = None) -> str:
        """What it reads: ours reads its own topic always, because that is how it ships."""
        return TELEMETRY_HEALTH if self.name == OURS else live or self.part.topic

    def hits_topic(self) -> str:
        return HITS if self.name == OURS else f"bench.hits.{self.name.replace('_', '-')}"


def systems(build: Path, names: Iterable[str] | None = None) -> list[System]:
    """The wanted systems, ours first; compiles what they need into ``build``.

    Raises ``SystemExit`` for a name that is none of theirs.
    """
    whole, half = Part(1), Part(0.5)
    makers: dict[str, tuple[Part, Callable[[Path], Callable[[Job], Launch]]]] = {
        OURS: (whole, lambda _: _ours),
        "flink": (whole, lambda folder: _flink(folder, parallelism=2, exchange=True)),
        "flink_chained": (whole, lambda folder: _flink(folder, parallelism=1, exchange=False)),
        "kafka_streams_memory": (half, lambda folder: _kafka_streams(folder, "memory", cache_bytes=0)),
        "kafka_streams_rocksdb": (half, lambda folder: _kafka_streams(folder, "rocksdb", DEFAULT_CACHE_BYTES)),
        "kafka_streams_rocksdb_cached": (half, lambda folder: _kafka_streams(folder, "rocksdb", LARGE_CACHE_BYTES)),
        "quix": (Part(0.1, by_accounts=True), lambda _: _quix),
        "plain_faust": (Part(0.02, by_accounts=True), lambda _: _plain_faust),
    }
    wanted = list(names or makers)
    if unknown := [name for name in wanted if name not in makers]:
        raise SystemExit(f"no such system: {', '.join(unknown)}; known: {', '.join(makers)}")
    return [System(name, part, make(build)) for name, (part, make) in makers.items() if name in wanted]


def _ours(job: Job) -> Launch:
    role = ["tests.bench.subject", str(job.events)] if job.events else ["tests.campaign.process", "detector"]
    return Launch([sys.executable, "-m", *role], stage.settings_for(job.bootstrap, job.folder).as_env())


def _plain_faust(job: Job) -> Launch:
    arguments = [job.bootstrap, str(job.events), job.topic, job.hits]
    return Launch([sys.executable, "-m", "tests.bench.plain_faust", *arguments], {})


def _quix(job: Job) -> Launch:
    arguments = [*_common(job), f"state-dir={job.folder}"]
    return Launch([str(BENCH_PYTHON), "-m", "tests.bench.peers.quix", *arguments], {"PYTHONPATH": str(ROOT)})


def _kafka_streams(build: Path, store: str, cache_bytes: int) -> Callable[[Job], Launch]:
    base = java.command(java.compiled("streams", java.KAFKA_STREAMS, build / "streams"), "streams.KafkaStreamsPeer")

    def launch(job: Job) -> Launch:
        own = [
            f"state-dir={job.folder}",
            f"store={store}",
            f"cache-bytes={cache_bytes}",
            f"threads={KAFKA_STREAMS_THREADS}",
        ]
        return Launch([*base, *_common(job), *own], {})

    return launch


def _flink(build: Path, *, parallelism: int, exchange: bool) -> Callable[[Job], Launch]:
    base = java.command(java.compiled("flink", java.FLINK, build / "flink"), "flink.FlinkPeer")

    def launch(job: Job) -> Launch:
        own = [f"checkpoints={job.folder}", f"parallelism={parallelism}", f"exchange={str(exchange).lower()}"]
        return Launch([*base, *_common(job), *own], {})

    return launch


def _common(job: Job) -> list[str]:
    health, risk = default_pack(0)[:2]
    health_limits = (health.thresholds["healthScore"], health.time_window, health.min_samples, health.cooldown_period)
    risk_limits = (risk.thresholds["riskScore"], risk.time_window, risk.cooldown_period)
    return [
        f"bootstrap={job.bootstrap}",
        f"topic={job.topic}",
        f"hits={job.hits}",
        f"events={job.events}",
        f"app={job.name}",
        f"health={','.join(map(str, (health.trigger_id, *health_limits)))}",
        f"risk={','.join(map(str, (risk.trigger_id, *risk_limits)))}",
    ]
