"""The embedded broker with all topics, and a sink on chDB: what campaigns against stored data stand on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from emergency_stop.adapters.embedded_broker import EmbeddedBroker
from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.config import Settings
from tests.campaign.children import Child

ESTOP: Final = [sys.executable, "-m", "emergency_stop.control.cli.main"]


@dataclass
class EmbeddedSink(AbstractContextManager["EmbeddedSink"]):
    """Inside it both are up; ``own_settings`` says what a campaign sets beside."""

    folder: Path
    settings: Settings = field(init=False)
    sink: Child = field(init=False)

    def own_settings(self) -> Mapping[str, str]:
        """Variables beside the broker's address and the data's folder."""
        return {}

    def __enter__(self) -> Self:
        self._broker = EmbeddedBroker(self.folder)
        self._broker.start()
        self.settings = Settings.from_env({
            "ESTOP_BROKERS": self._broker.bootstrap,
            "ESTOP_DATA_DIR": str(self.folder / "data"),
            "ESTOP_USAGE_REPORT_MS": "0",  # all telemetry is the campaign's
            **self.own_settings(),
        })  # fmt: skip
        asyncio.run(ensure_topics(self.settings.brokers, self.settings.topics()))
        self.sink = Child("sink", [*ESTOP, "sink"], self.settings.as_env(), self.folder)
        self.sink.join()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sink.kill()
        self._broker.stop()
