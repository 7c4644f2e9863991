"""What every benchmark of detection needs: settings, topics, triggers, a metered run, and hits read back."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from confluent_kafka import Producer

from emergency_stop.adapters.embedded_broker import die_with_parent
from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.config import Settings
from emergency_stop.domain.default_triggers import default_pack
from emergency_stop.domain.messages import Hit
from emergency_stop.domain.topics import HITS, TRIGGERS, TopicSpec, all_topics
from emergency_stop.domain.triggers import Trigger
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from tests.bench.meter import Reading
from tests.bench.oracle import Place
from tests.campaign.log import Log

PARTITIONS: Final = 4
TIMEOUT_S: Final = 600
_LOG_TAIL_CHARS: Final = 2_000


def settings_for(bootstrap: str, folder: Path) -> Settings:
    return Settings.from_env(
        {
            "ESTOP_BROKERS": bootstrap,
            "ESTOP_DATA_DIR": str(folder / "data"),
            "ESTOP_METRICS_PORT": "0",
            "ESTOP_USAGE_REPORT_MS": "0",  # all telemetry is the load's
        }
    )


def prepare(settings: Settings, others: Sequence[TopicSpec], more_triggers: Sequence[Trigger] = ()) -> None:
    """Our topics and ``others``, and the default triggers and more beside the built-in ones."""
    ours = tuple(settings.partitioned(spec) for spec in all_topics(settings.services))
    asyncio.run(ensure_topics(settings.brokers, (*ours, *others)))
    codec = Codec(LocalRegistry())
    producer = Producer({"bootstrap.servers": settings.brokers, "acks": "all", "log_level": 2})
    for trigger in (*default_pack(0), *more_triggers):
        producer.produce(TRIGGERS, codec.encode(trigger, TRIGGERS), trigger.trigger_id)
    if producer.flush(30):
        raise TimeoutError("the triggers were not acknowledged within 30 s")


def run_metered(command: Sequence[str], environment: Mapping[str, str], log_path: Path) -> Reading:
    """Run a metered process to its end; its reading is the last JSON line that it printed."""
    with log_path.open("wb") as log:
        done = subprocess.run(
            command,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=log,
            timeout=TIMEOUT_S,
            check=False,
            text=True,
            preexec_fn=die_with_parent,  # a benchmark that is killed leaves no peer behind
        )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        end = log_path.read_text(errors="replace")[-_LOG_TAIL_CHARS:]
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode} and no reading:\n{end}")
    return Reading.from_line(lines[-1])


def our_hits(bootstrap: str) -> list[Place]:
    """Every hit in our topic; a doubled one shows as two."""
    codec = Codec(LocalRegistry())
    with Log(bootstrap) as log:
        hits = [codec.decode(Hit, message.value()) for message in log.read(HITS)]
    return [(hit.trigger_id, hit.account_id or "", hit.source_partition, hit.source_offset) for hit in hits]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
