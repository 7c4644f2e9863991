"""Everything a campaign runs on: topics, triggers, and the commands and settings of the children."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Final

from confluent_kafka import Producer

from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.config import DEFAULT_SERVICES, Settings
from emergency_stop.domain.topics import TRIGGERS, all_topics
from emergency_stop.rules.definitions import read_trigger
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from tests.campaign.children import Child
from tests.campaign.triggers import watches

PROCESS: Final = [sys.executable, "-m", "tests.campaign.process"]
COMMANDS: Final = {
    "detector-a": ("detector",),
    "detector-b": ("detector",),
    "coordinator": ("coordinator",),
    "sink": ("sink",),
}
SERVICE_ACCOUNTS: Final = 20
#: Acts so seldom that the machine is left to those under test.
SERVICE_ACTIONS_PER_S: Final = 2


def settings(bootstrap: str, workdir: Path) -> Settings:
    """What all children share."""
    return Settings.from_env(
        {
            "ESTOP_BROKERS": bootstrap,
            "ESTOP_DATA_DIR": str(workdir / "data"),
            "HEALTH_MONITORING_INTERVAL": "2000",
            "GRACEFUL_STOP_TIMEOUT": "10000",
            "MAX_CONCURRENT_STOPS": "1000",
            "ESTOP_BLAST_PERCENT": "0",  # every hit is to be a stop of its own; a campaign stops many accounts
            "ESTOP_USAGE_REPORT_MS": "0",  # all telemetry is the campaign's
        }
    )


def children(shared: Settings, logs: Path) -> dict[str, Child]:
    """The processes under test, and the five reference services, which nobody disturbs."""
    numbers = [str(SERVICE_ACCOUNTS), str(SERVICE_ACTIONS_PER_S)]
    commands = {name: [*PROCESS, *command] for name, command in COMMANDS.items()}
    commands |= {name: [*PROCESS, "service", name, *numbers] for name in DEFAULT_SERVICES}
    environment = shared.as_env()
    return {
        name: Child(name, command, environment | {"ESTOP_INSTANCE_ID": name}, logs)
        for name, command in commands.items()
    }


def prepare(shared: Settings) -> None:
    """Create every topic, and publish the campaign's triggers before anybody reads them."""
    asyncio.run(ensure_topics(shared.brokers, all_topics(shared.services)))
    codec = Codec(LocalRegistry())
    producer = Producer({"bootstrap.servers": shared.brokers, "acks": "all", "log_level": 2})
    for watch in watches():
        trigger = read_trigger(watch.definition, services=shared.services, updated_by="campaign")
        producer.produce(TRIGGERS, codec.encode(trigger, TRIGGERS), trigger.trigger_id)
    left = producer.flush(30)
    if left:
        raise TimeoutError(f"{left} triggers were not acknowledged within 30 s")
