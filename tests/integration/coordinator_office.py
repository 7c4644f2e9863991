"""A real coordinator process on a real broker, watched from outside through what it publishes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar

from emergency_stop.adapters.embedded_broker import die_with_parent
from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_tail import CompactedTail, TailRecord
from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.domain import topics
from emergency_stop.domain.messages import AuditRecord, Command, Emergency, Hit, Hold, Lease, Notice, Request
from emergency_stop.domain.values import NoticeKind
from emergency_stop.sdk import StopGuard
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from emergency_stop.wire.signing import Signer, Verifier

M = TypeVar("M")
SERVICES = ("alpha", "beta")
_PROGRAM = (
    "import logging, sys; logging.basicConfig(level='INFO');"
    "from emergency_stop.apps.coordinator import run; from emergency_stop.config import Settings;"
    "sys.exit(run(Settings.from_env()))"
)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def until(condition: Callable[[], object], what: str, within_s: float = 90.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.01)


class CoordinatorOffice:
    """Topics, keys and readers around a coordinator that can be killed and started again."""

    def __init__(self, brokers: str, folder: Path) -> None:
        self.brokers = brokers
        self._folder = folder
        self.codec = Codec(LocalRegistry())
        self.publisher = KafkaPublisher(brokers, client_id="office")
        self.holds: list[Hold] = []
        self.emergencies: list[Emergency] = []
        self.audit: list[AuditRecord] = []
        self.commands: list[Command] = []
        self.leases: list[Lease] = []
        self.hits: list[Hit] = []
        self.notices: list[Notice] = []
        self.verifier = Verifier()
        #: One instance of each service.
        self.guards: dict[str, StopGuard] = {}
        #: By instance id.
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._starts = 0
        self._tails = [
            self._tail(topics.HOLDS, Hold, self.holds),
            self._tail(topics.EMERGENCIES, Emergency, self.emergencies),
            self._tail(topics.AUDIT, AuditRecord, self.audit),
            self._tail(topics.LEASES, Lease, self.leases),
            self._tail(topics.HITS, Hit, self.hits),
            self._tail(topics.NOTICES, Notice, self.notices),
            *(self._tail(topics.commands_topic(name), Command, self.commands) for name in SERVICES),
        ]

    def _tail(self, topic: str, kind: type[M], into: list[M]) -> CompactedTail:
        def take(record: TailRecord) -> None:
            into.append(self.codec.decode(kind, record.value))

        return CompactedTail(self.brokers, topic, take, client_id=f"office-{topic}")

    async def __aenter__(self) -> Self:
        await ensure_topics(self.brokers, topics.all_topics(SERVICES))
        signer = Signer.generate()
        signer.save(self._folder / "signing.pem")
        (self._folder / "verify.pem").write_bytes(signer.public_pem())
        self.verifier = Verifier.load(self._folder / "verify.pem")
        await self.publisher.start()
        for tail in self._tails:
            await tail.start()
        await asyncio.gather(*(tail.caught_up() for tail in self._tails))
        self.leases.clear()  # of coordinators before this office's
        return self

    async def __aexit__(self, *_: object) -> None:
        for name in [*self._processes]:
            self.kill(name)
        await asyncio.gather(*(tail.stop() for tail in self._tails))
        await self.publisher.stop()

    def start(self, name: str = "c1", **variables: str) -> None:
        self._starts += 1
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ESTOP_")}
        environment |= {
            "ESTOP_BROKERS": self.brokers,
            "ESTOP_SERVICES": ",".join(SERVICES),
            "ESTOP_SIGNING_KEY_FILE": str(self._folder / "signing.pem"),
            "ESTOP_INSTANCE_ID": name,
            "ESTOP_SESSION_TIMEOUT_MS": "6000",
            # tests of one broker stop many accounts within a minute, each for itself
            "ESTOP_BLAST_PERCENT": "0",
            **variables,
        }
        with (self._folder / f"coordinator-{self._starts}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM],
                env=environment, stdout=log, stderr=log, preexec_fn=die_with_parent,
            )  # fmt: skip

    def kill(self, name: str = "c1") -> None:
        """As ``kill -9``."""
        process = self._processes.pop(name, None)
        if process is not None:
            process.kill()
            process.wait()

    def is_running(self, name: str = "c1") -> bool:
        """Whether the process has not ended by itself."""
        return self._processes[name].poll() is None

    def hang_up(self) -> None:
        """As ``kill -HUP``: look at the key files now."""
        for process in self._processes.values():
            process.send_signal(signal.SIGHUP)

    def log(self) -> str:
        """Of the one that was started last."""
        return (self._folder / f"coordinator-{self._starts}.log").read_text()

    async def send(self, message: Hit | Request, *, key: str | None = None, partition: int | None = None) -> None:
        topic = topics.HITS if isinstance(message, Hit) else topics.REQUESTS
        value = self.codec.encode(message, topic)
        await self.publisher.publish(topic, (key or message.scope).encode(), value, partition=partition)

    def emergency(self, emergency_id: str) -> Emergency | None:
        """The newest account of it."""
        return next((e for e in reversed(self.emergencies) if e.emergency_id == emergency_id), None)

    def lessors(self) -> dict[int, str]:
        """Who published the newest lease of each partition."""
        return {lease.partition: lease.issued_by for lease in self.leases}

    def told(self, emergency_id: str) -> set[NoticeKind]:
        """The kinds of notices of it."""
        return {one.kind for one in self.notices if one.emergency_id == emergency_id}

    def hold(self, scope: str) -> Hold | None:
        return next((hold for hold in reversed(self.holds) if hold.scope == scope), None)
