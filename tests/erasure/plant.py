"""A real installation with sealed telemetry: a broker, a sink on chDB, services that seal, and people who type
commands.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest import mock

from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_tail import TailRecord
from emergency_stop.apps.demo.witness import Analyst
from emergency_stop.control.cli.main import main
from emergency_stop.control.installation import Installation
from emergency_stop.domain import topics
from emergency_stop.domain.telemetry import (
    HealthEvent,
    Outcome,
    PlatformEvent,
    PlatformKind,
    ProxyEvent,
    TelemetryEvent,
)
from emergency_stop.sdk import Telemetry
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from tests.campaign.children import Condition
from tests.campaign.embedded_sink import ESTOP, EmbeddedSink
from tests.tamper.plant import decisions

WITHIN_S: Final = 120.0
SERVICE: Final = "sessionManager"
#: Every secret text begins so, and nothing else does: where it is found, something was in the clear.
CANARY: Final = "canary-"


@dataclass
class Plant(EmbeddedSink):
    """``secrets`` are the texts that were sealed, by account, as often as each was sent."""

    rng: random.Random
    secrets: dict[str, list[str]] = field(default_factory=dict)
    sent: int = 0
    letters: int = 0

    def own_settings(self) -> dict[str, str]:
        return {"ESTOP_PRIVACY_KEYS": str(self.key_file)}

    @property
    def key_file(self) -> Path:
        return self.folder / "privacy.json"

    def privacy(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """``estop privacy … --json``: the document that it printed. Fails on another exit code than ``code``."""
        found: dict[str, Any] = json.loads(self.estop("privacy", *arguments, "--json", code=code))
        return found

    def estop(self, *arguments: str, code: int = 0) -> str:
        """A command, carried out in this process; what it printed. Fails on another exit code than ``code``."""
        printed, said = io.StringIO(), io.StringIO()
        environment = {**os.environ, **self.settings.as_env()}
        with (
            mock.patch.dict(os.environ, environment),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(said),
        ):
            ended = main(arguments)
        assert ended == code, f"estop {arguments}: {ended}\n{printed.getvalue()}{said.getvalue()}"
        return printed.getvalue()

    def command_killed(self, after_s: float, *arguments: str) -> bool:
        """Whether the command was still running when it was killed."""
        process = subprocess.Popen(
            [*ESTOP, *arguments], env={**os.environ, **self.settings.as_env()}, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            process.wait(after_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return True
        return False

    # ------------------------------------------------------------------------------------------------- what is sent

    def tell(self, accounts: list[str], events: int) -> None:
        """Each account's service sends so many events; everything that is text in them is a secret."""
        asyncio.run(self._tell(accounts, events))

    async def _tell(self, accounts: list[str], events: int) -> None:
        # One record after the other: the embedded broker says of a batch that it ends behind its first record.
        async with Telemetry(SERVICE, self.settings.brokers, privacy_keys=self.key_file) as telemetry:
            for _ in range(events):
                for account in accounts:
                    for event in self._events(account):
                        assert telemetry.offer(event)
                        self.sent += 1
            await _until(lambda: telemetry.stats.waiting == 0, "all telemetry is acknowledged")
            assert telemetry.stats.delivered == telemetry.stats.offered
            assert telemetry.stats.unreadable == 0

    def _events(self, account: str) -> list[TelemetryEvent]:
        secret = [self._secret(account) for _ in range(3)]
        proxy = f"{CANARY}proxy-{account}-{self.rng.randrange(3)}"
        self.secrets[account].append(proxy)
        return [
            HealthEvent(account_id=account, health_score=80.0, risk_score=5.0),
            PlatformEvent(
                account_id=account,
                kind=PlatformKind.API_CALL,
                outcome=Outcome.FAILED,
                endpoint=secret[0],
                detail=secret[1],
            ),
            ProxyEvent(account_id=account, proxy_id=proxy, outcome=Outcome.FAILED, error=secret[2]),
        ]

    def _secret(self, account: str) -> str:
        text = f"{CANARY}{self.rng.getrandbits(64):016x}" + "x" * self.rng.randrange(60)
        self.secrets.setdefault(account, []).append(text)
        return text

    def decide(self, accounts: list[str]) -> None:
        """What emergencies leave in the audit, and sealed telemetry again under a wrong key: dead letters."""
        asyncio.run(self._decide(accounts))

    async def _decide(self, accounts: list[str]) -> None:
        codec, publisher = Codec(LocalRegistry()), KafkaPublisher(self.settings.brokers, client_id="plant")
        raw = [one for one in await self.records(topics.TELEMETRY_PLATFORM) if one.key is not None]
        await publisher.start()
        for account in accounts:
            for one in decisions(f"account:{account}", 1_700_000_000_000):
                await publisher.publish(topics.AUDIT, one.subject.encode(), codec.encode(one, topics.AUDIT))
            refused = next(record for record in raw if record.key == account.encode())
            await publisher.publish(topics.TELEMETRY_PLATFORM, b"somebody else", refused.value)
            self.letters += 1
        await publisher.stop()

    async def records(self, topic: str) -> list[TailRecord]:
        """Everything that a topic holds, as it lies there."""
        found: list[TailRecord] = []
        await Installation(self.settings).scan(topic, found.append)
        return found

    # --------------------------------------------------------------------------------------------- what is kept

    def until_stored(self) -> None:
        tables = ("health_events", "platform_events", "proxy_events")
        self._until(lambda: sum(map(self._count, tables)) >= self.sent, f"{self.sent} events are stored")
        self._until(lambda: self._count("dead_letters") >= self.letters, f"{self.letters} dead letters are stored")

    def _count(self, table: str) -> int:
        try:
            return int(Analyst(self.settings.data_dir).ask(f"SELECT count() FROM {table}")[0][0])  # noqa: S608  (ours)
        except (OSError, ValueError):
            return 0

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + WITHIN_S
        while not holds():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {WITHIN_S} s\n{self.sink.log_path.read_text()[-3000:]}")
            self.sink.look_after()
            time.sleep(0.05)

    def stop_sink(self) -> None:
        """ChDB belongs to one process: from here on to whoever types commands."""
        self.sink.leave()
        self._until(lambda: self.sink.condition is Condition.OUT, "the sink has left")

    def back_up_tables(self) -> Path:
        """A copy of the database's files, as they lie on the disk."""
        target = self.folder / "backup"
        shutil.copytree(self.settings.data_dir / "clickhouse", target / "clickhouse", symlinks=True)
        return target

    def back_up_topics(self) -> dict[str, list[TailRecord]]:
        """A copy of every topic's records."""
        return asyncio.run(self._all_records())

    async def _all_records(self) -> dict[str, list[TailRecord]]:
        names = [spec.name for spec in self.settings.topics()]
        return dict(zip(names, await asyncio.gather(*map(self.records, names)), strict=True))


async def _until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {WITHIN_S} s")
        await asyncio.sleep(0.02)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
