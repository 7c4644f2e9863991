"""Broker, topics, keys, triggers and every process, in the order in which they need each other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from emergency_stop.adapters.clickhouse import EMBEDDED_FOLDER
from emergency_stop.adapters.clock import SystemClock
from emergency_stop.adapters.embedded_broker import EmbeddedBroker
from emergency_stop.apps.coordinator_keys import with_own_key
from emergency_stop.apps.preparation import PreparationError, prepare_topics
from emergency_stop.apps.stack.child import Child, StackError
from emergency_stop.config import Settings, SettingsError
from emergency_stop.config.kafka import PLAINTEXT

log = logging.getLogger(__name__)

READY_WITHIN_MS: Final = 120_000
_WATCH_MS: Final = 500
_BACKOFF_MS: Final = (500, 1_000, 2_000, 5_000, 10_000)
Say = Callable[[str], None]


class Stack:
    """An async context manager: everything is up and ready inside it, and ended after it.

    ``embedded`` starts the embedded broker; otherwise ``settings.brokers`` is used. ``accounts`` and
    ``rate`` are the reference services' work. Raises ``SettingsError`` for a sign-in at the embedded broker.
    """

    def __init__(self, settings: Settings, say: Say, *, embedded: bool, accounts: int, rate: float) -> None:
        if embedded and settings.kafka_security_protocol != PLAINTEXT:
            given = f"ESTOP_KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol!r}"
            other = "set ESTOP_BROKERS to brokers that speak it, or leave it out"
            raise SettingsError([f"{given} is nothing that the embedded broker speaks; {other}"])
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        self._say = say
        self._accounts = accounts
        self._rate = rate
        self._broker = EmbeddedBroker(settings.data_dir) if embedded else None
        self.settings = self._with_keys(replace(settings, brokers=self._broker.bootstrap) if self._broker else settings)
        self.children: dict[str, Child] = {}
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    def _with_keys(self, settings: Settings) -> Settings:
        """A signing key of this installation's own, unless the settings bring one."""
        if settings.signing_key_file is not None:
            return settings
        return with_own_key(settings, settings.data_dir)

    async def _start(self) -> None:
        if self._broker is not None:
            self._say(
                f"starting the embedded broker on {self._broker.bootstrap} (in memory only, and without idempotent"
                " producers: a retried record may appear twice, which ids make harmless)"
            )
            logging.getLogger("emergency_stop.adapters.kafka").setLevel(logging.ERROR)  # it would say so again
            put_aside(self.settings.data_dir)
            await asyncio.to_thread(self._broker.start)
        await self._prepare_topics()
        logs = self.settings.data_dir / "logs"
        logs.mkdir(exist_ok=True)
        for name, arguments in self._processes():
            self.children[name] = Child(name, arguments, self.settings, logs / f"{name}.log")
        self._say(f"starting {', '.join(self.children)} (logs in {logs}); the first time, kernels are compiled")
        for child in self.children.values():
            child.start()
        await asyncio.gather(*(child.ready(READY_WITHIN_MS) for child in self.children.values()))
        self._watcher = asyncio.create_task(self._watch())

    def _processes(self) -> list[tuple[str, list[str]]]:
        work = ["--accounts", str(self._accounts), "--rate", str(self._rate)]
        services = [(name, ["service", name, *work]) for name in self.settings.services]
        workers = [(name, [name]) for name in ("detector", "coordinator", "sink", "notifier")]
        return [*workers, *services]

    async def _prepare_topics(self) -> None:
        try:
            found = await prepare_topics(self.settings, SystemClock().now_ms())
        except PreparationError as error:
            raise StackError(str(error)) from error
        if found.triggers:
            self._say(f"created {len(found.created)} topics and wrote the default triggers")

    async def _watch(self) -> None:
        """A process that ends is started again, later each time."""
        loop = asyncio.get_running_loop()
        due: dict[str, float] = {}
        while True:
            await asyncio.sleep(_WATCH_MS / 1000)
            for child in self.children.values():
                if child.exit_code is None:
                    continue
                if child.name not in due:
                    delay_ms = _BACKOFF_MS[min(child.restarts, len(_BACKOFF_MS) - 1)]
                    due[child.name] = loop.time() + delay_ms / 1000
                    self._say(f"{child.name} ended with code {child.exit_code}; starting it again in {delay_ms} ms")
                elif loop.time() >= due[child.name]:
                    del due[child.name]
                    child.restarts += 1
                    child.start()

    async def _stop(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        services = [self.children[name] for name in self.settings.services if name in self.children]
        others = [child for child in self.children.values() if child not in services]
        await asyncio.gather(*(child.stop() for child in services))
        await asyncio.gather(*(child.stop() for child in others))
        if self._broker is not None:
            await asyncio.to_thread(self._broker.stop)


def put_aside(data_dir: Path) -> None:
    """Keep the database of a former run apart, as ``clickhouse.former``; an older one of that name goes.

    The broker in memory begins at offset 0 again, so its records would pass for rows that are stored already.
    """
    database = data_dir / EMBEDDED_FOLDER
    if database.exists():
        former = database.with_suffix(".former")
        shutil.rmtree(former, ignore_errors=True)
        database.rename(former)
