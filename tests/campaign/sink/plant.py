"""What the sink's campaign runs on: topics, sinks, a database that can fail, and who asks it."""

from __future__ import annotations

import asyncio
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from emergency_stop.adapters.embedded_broker import free_port
from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.apps.demo.witness import Analyst
from emergency_stop.config import Settings
from tests.campaign.children import Child
from tests.campaign.rows import TABLE_OF_TELEMETRY

SINK: Final = [sys.executable, "-m", "tests.campaign.process", "sink"]
#: Short, so that the group soon goes on without one that is gone; long enough for a machine with much else to do.
SESSION_TIMEOUT_MS: Final = 6_000
TICK_S: Final = 0.05
#: Asking costs the database's time, of which a busy machine has little.
POLL_S: Final = 0.3
TABLES: Final = (*TABLE_OF_TELEMETRY.values(), "dead_letters")
WITHIN_S: Final = 240.0
_ANSWER_S: Final = 60


class Deadline(Exception):
    """A condition did not come true in time."""


@dataclass
class Plant:
    """Sinks and, unless each sink has chDB in itself, the database's server. Use from the main thread."""

    bootstrap: str
    folder: Path
    embedded: bool
    #: One sink only.
    alone: bool = False
    sinks: list[Child] = field(default_factory=list)
    server: Child | None = None
    settings: Settings = field(init=False)
    #: The server is down on purpose and is not restarted.
    outage: bool = False

    def __post_init__(self) -> None:
        self._port = free_port()
        shared = {
            "ESTOP_BROKERS": self.bootstrap,
            "ESTOP_DATA_DIR": str(self.folder / "data"),
            "ESTOP_SESSION_TIMEOUT_MS": str(SESSION_TIMEOUT_MS),
            "RETAIN_EVENT_HISTORY": "3650",
            "ESTOP_USAGE_REPORT_MS": "0",  # all telemetry is the campaign's
        }
        if not self.embedded:
            shared["ESTOP_CLICKHOUSE_URL"] = f"http://127.0.0.1:{self._port}/default?compress=False"
            command = [sys.executable, "-m", "tests.campaign.sink.server", str(self._port), str(self.folder / "server")]
            self.server = Child("server", command, {}, self.folder)
        self.settings = Settings.from_env(shared)
        self._analyst = Analyst(self.settings.data_dir)
        names = ("sink-a",) if self.embedded or self.alone else ("sink-a", "sink-b")
        for name in names:
            own = {"ESTOP_INSTANCE_ID": name, "ESTOP_DATA_DIR": str(self.settings.data_dir / name)}
            environment = self.settings.as_env() | ({} if self.embedded else own)
            self.sinks.append(Child(name, SINK, environment, self.folder))

    @property
    def children(self) -> list[Child]:
        return [*self.sinks, *([self.server] if self.server else [])]

    def start(self) -> None:
        """Create the topics, then start the database and the sinks."""
        asyncio.run(ensure_topics(self.bootstrap, self.settings.topics()))
        if self.server is not None:
            self.server.join()
            self.until(lambda: self.ask("SELECT 1"), "the database answers")
        for sink in self.sinks:
            sink.join()

    def close(self) -> None:
        """End everything; returns when nothing runs any more."""
        for child in self.children:
            child.resume()
            child.kill()

    def look_after(self, for_s: float = TICK_S) -> None:
        """Restart who is dead, for that long."""
        until_s = time.monotonic() + for_s
        while True:
            for child in self.children:
                if not (self.outage and child is self.server):
                    child.look_after()
            if time.monotonic() >= until_s:
                return
            time.sleep(TICK_S)

    def until(self, true: Callable[[], object], what: str, within_s: float = WITHIN_S) -> None:
        """Look after the children until ``true()``. Raises ``Deadline``."""
        until_s = time.monotonic() + within_s
        while not true():
            if time.monotonic() > until_s:
                tails = "\n".join(f"{one.name}:\n{one.log_path.read_text()[-2500:]}" for one in self.sinks)
                raise Deadline(f"not within {within_s:.0f} s: {what}\n{tails}")
            self.look_after(POLL_S)

    def fault(self, name: str) -> None:
        """The server's next insert of rows suffers this; none, if it is empty. Obliges: it answers."""
        self._post(f"/fault/{name}", b"")

    def release(self) -> int:
        """Let the server store the inserts that it holds; returns how many they were."""
        return int(self._post("/release", b"")) if self.server else 0

    def fault_waits(self) -> bool:
        return bool(self._post("/fault", b""))

    def ask(self, sql: str) -> list[list[Any]]:
        """The answer, or nothing while nobody answers."""
        try:
            if self.embedded:
                return self._analyst.ask(sql)
            return [line.split("\t") for line in self._post("/", sql.encode()).decode().splitlines()]
        except (OSError, ValueError):
            return []

    def _post(self, path: str, body: bytes) -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}{path}", body, method="POST")
        with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:  # noqa: S310  (our own loopback address)
            data: bytes = answer.read()
        return data

    def rows(self) -> dict[str, tuple[int, int]]:
        """(count(), uniqExact of the origins) by table; nothing while nobody answers."""
        parts = [f"SELECT '{table}', count(), uniqExact(_topic, _partition, _offset) FROM {table}" for table in TABLES]  # noqa: S608
        return {row[0]: (int(row[1]), int(row[2])) for row in self.ask(" UNION ALL ".join(parts))}

    def settled(self) -> int:
        """Rows of telemetry and dead inputs, which is cheap to ask for; 0 while nobody answers."""
        parts = [f"SELECT count() AS n FROM {table}" for table in TABLE_OF_TELEMETRY.values()]  # noqa: S608
        found = self.ask(f"SELECT sum(n) FROM ({' UNION ALL '.join(parts)})")  # noqa: S608  (names are ours)
        return int(found[0][0]) + self.dead_inputs() if found else 0

    def dead_inputs(self) -> int:
        """Different inputs among the dead letters: one may be written again after a crash, with the same origin."""
        found = self.ask("SELECT uniqExact(source_topic, source_partition, source_offset) FROM dead_letters")
        return int(found[0][0]) if found else 0
