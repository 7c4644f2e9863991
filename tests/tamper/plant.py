"""A real audit: decisions of the coordinator's core, on a broker, stored and chained by a sink that is killed."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Producer

from emergency_stop.apps.demo.witness import Analyst
from emergency_stop.coordinate.lifecycle import Admit
from emergency_stop.coordinate.state import ScopeState
from emergency_stop.coordinate.step import step
from emergency_stop.domain import topics
from emergency_stop.domain.messages import AuditRecord
from emergency_stop.domain.values import AckState
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from tests.campaign.children import Condition
from tests.campaign.embedded_sink import ESTOP, EmbeddedSink
from tests.unit.coordinate.scenario import ack, command_to, hit, instance, resume, world

WITHIN_S: Final = 120.0
#: Asking takes the sink's time.
POLL_S: Final = 0.1
RECORDS_PER_SCOPE: Final = 4


def decisions(scope: str, at: int) -> list[AuditRecord]:
    """What one emergency leaves in the audit: opened, stopped, a resume that is refused, and one that is not."""
    known = world(*(instance(name, heartbeat_at=at) for name in ("x", "y")))
    state, effects = step(ScopeState(scope), hit(f"hit-{scope}", scope), at, known)
    found = list(effects)
    state, effects = step(state, Admit(scope, state.cases[0].emergency_id), at, known)
    found += effects
    for service in ("x", "y"):
        state, effects = step(
            state, ack(command_to(state.cases[0], service), AckState.STOPPED, at=at + 5), at + 5, known
        )
        found += effects
    for number, epoch in enumerate((99, 1)):
        state, effects = step(state, resume(f"resume-{scope}-{number}", epoch, scope=scope), at + 9, known)
        found += effects
    return [effect for effect in found if isinstance(effect, AuditRecord)]


@dataclass
class Plant(EmbeddedSink):
    """Broker, sink, and the files that the sink ships its heads to."""

    head_records: int = 7
    sent: int = 0

    def own_settings(self) -> dict[str, str]:
        return {
            "ESTOP_AUDIT_HEADS_FILE": str(self.heads_file),
            "ESTOP_AUDIT_HEAD_RECORDS": str(self.head_records),
            "ESTOP_AUDIT_HEAD_INTERVAL_MS": "500",
            "ESTOP_CONTROL_PARTITIONS": "3",
            # the group soon goes on without a sink that was killed
            "ESTOP_SESSION_TIMEOUT_MS": "3000",
        }

    @property
    def heads_file(self) -> Path:
        return self.folder / "heads.jsonl"

    def decide(self, first_scope: int, scopes: int) -> None:
        """Publish the decisions about so many scopes, and one value among them that is no record."""
        codec = Codec(LocalRegistry())
        # A record per batch: the embedded broker says of a batch that it ends behind its first record, and a sink that
        # had stored all of it would take the topic for another one.
        own = {"acks": "all", "batch.num.messages": 1}
        producer = Producer({"bootstrap.servers": self.settings.brokers, **own})
        for number in range(first_scope, first_scope + scopes):
            for one in decisions(f"account:acc-{number}", 1_700_000_000_000 + number):
                producer.produce(topics.AUDIT, codec.encode(one, topics.AUDIT), one.subject.encode())
                self.sent += 1
        producer.produce(topics.AUDIT, b"no record", b"stranger")
        self.sent += 1
        assert producer.flush(20) == 0

    def stored(self) -> int:
        """Chained records; 0 while the sink is down."""
        return self._count("SELECT count() FROM audit_chain")

    def covered(self) -> int:
        """Records that a signed head covers; 0 while the sink is down."""
        newest = "SELECT max(records) AS covered FROM audit_heads GROUP BY topic, partition"
        return self._count(f"SELECT sum(covered) FROM ({newest})")  # noqa: S608  (the test's own words)

    def _count(self, sql: str) -> int:
        try:
            return int(Analyst(self.settings.data_dir).ask(sql)[0][0])
        except (OSError, ValueError):
            return 0

    def until(self, holds: Callable[[], bool], what: str, poll_s: float = POLL_S) -> None:
        """Wait, and start the sink again where it was killed."""
        deadline = time.monotonic() + WITHIN_S
        while not holds():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {WITHIN_S} s\n{self.sink.log_path.read_text()[-3000:]}")
            self.sink.look_after()
            time.sleep(poll_s)

    def leave(self) -> None:
        """End the sink in good order: its last heads cover everything."""
        self.sink.leave()
        self.until(lambda: self.sink.condition is Condition.OUT, "the sink has left")

    def audit(self, *arguments: str) -> tuple[int, str]:
        """``estop audit …``: its exit code and what it said."""
        done = subprocess.run(
            [*ESTOP, "audit", *arguments], env={**os.environ, **self.settings.as_env()}, capture_output=True,
            text=True, timeout=120, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr


def verified(said: str) -> dict[str, Any]:
    """The document that ``estop audit verify --json`` printed."""
    found: dict[str, Any] = json.loads(said.splitlines()[0])
    return found
