"""``make bench-latency``: from an event's production to the stop command that a service can read, on Apache Kafka.

Prints one line of JSON. Each level of background load runs beside the detector, the coordinator, one guarded service
and the broker, all on this machine. A probe is one event of an account of its own whose risk is critical; both ends
of its measurement are read on one clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_tail import CompactedTail, TailRecord
from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.apps.stack.child import Child
from emergency_stop.config import Settings
from emergency_stop.domain.default_triggers import default_pack
from emergency_stop.domain.messages import Command
from emergency_stop.domain.topics import TELEMETRY_HEALTH, TRIGGERS, all_topics, commands_topic
from emergency_stop.sdk import StopGuard
from emergency_stop.testing.brokers import ApacheKafka
from emergency_stop.wire.codec import Codec, encode_record
from emergency_stop.wire.registry import LocalRegistry

SERVICE: Final = "alpha"
RATES: Final = (1_000, 20_000, 200_000)
_WARM_UP_PER_S: Final = 10_000
_SETTLE_S: Final = 3.0
_GAP_S: Final = 0.04
READY_MS: Final = 120_000
_ANSWER_S: Final = 60.0


@dataclass
class Probes:
    """When each account's event was sent, and its consequence first read; seconds of one clock."""

    codec: Codec = field(default_factory=lambda: Codec(LocalRegistry()))
    sent: dict[str, float] = field(default_factory=dict)
    read: dict[str, float] = field(default_factory=dict)

    def take_command(self, record: TailRecord) -> None:
        now = time.monotonic()
        command = self.codec.decode(Command, record.value)
        self.note(command.scope.partition(":")[2], now)

    def note(self, account: str, now_s: float) -> None:
        """The consequence of ``account``'s event was read at ``now_s``; only the first time counts."""
        self.read.setdefault(account, now_s)

    def latencies_ms(self, prefix: str) -> list[float]:
        return sorted((self.read[name] - at) * 1_000 for name, at in self.sent.items() if name.startswith(prefix))

    def missing(self) -> int:
        return len(self.sent.keys() - self.read.keys())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.latency", description=__doc__)
    parser.add_argument("--probes", type=int, default=400, help="per level of background load")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="estop-latency-") as folder:
        (Path(folder) / "kafka").mkdir()
        with ApacheKafka(Path(folder) / "kafka") as kafka:
            report = asyncio.run(_bench(kafka.bootstrap, Path(folder), options.probes))
    print(json.dumps(report))
    return 0


async def _bench(bootstrap: str, folder: Path, count: int) -> dict[str, Any]:
    # every probe is an account of its own that is stopped: no common cause
    settings = Settings(brokers=bootstrap, data_dir=folder, services=(SERVICE,), blast_percent=0)
    await ensure_topics(bootstrap, [settings.partitioned(spec) for spec in all_topics(settings.services)])
    probes = Probes()
    async with AsyncExitStack() as stack:
        publisher = KafkaPublisher(bootstrap, client_id="bench-latency")
        await publisher.start()
        stack.push_async_callback(publisher.stop)
        await publish_default_triggers(publisher, probes.codec)
        for name in ("detector", "coordinator"):
            child = Child(name, [name], replace(settings, instance_id=name), folder / f"{name}.log")
            child.start()
            stack.push_async_callback(child.stop)
            await child.ready(READY_MS)
        guard = StopGuard(SERVICE, bootstrap)
        guard.handle_stops(_obey)
        await stack.enter_async_context(guard)
        tail = CompactedTail(bootstrap, commands_topic(SERVICE), probes.take_command, client_id="bench", from_end=True)
        await tail.start()
        stack.push_async_callback(tail.stop)
        await tail.caught_up()
        # Not reported: a broker whose code the JVM still interprets would be what is measured.
        await level(bootstrap, publisher, probes, _WARM_UP_PER_S, 2 * count)
        levels = {rate: await level(bootstrap, publisher, probes, rate, count) for rate in RATES}
    return _report(levels, count)


async def publish_default_triggers(publisher: KafkaPublisher, codec: Codec) -> None:
    for trigger in default_pack(0):
        await publisher.publish(TRIGGERS, trigger.trigger_id.encode(), codec.encode(trigger, TRIGGERS))


async def _obey(_correlation_id: str) -> bool:
    return True


async def level(
    bootstrap: str,
    publisher: KafkaPublisher,
    probes: Probes,
    rate_per_s: int,
    count: int,
    *,
    topic: str = TELEMETRY_HEALTH,
    prefix: str = "probe",
) -> tuple[list[float], int]:
    """(latencies of the probes in ms, sorted; rate that the background reached) under one level of load.

    Names of the probes begin with ``prefix``; give every call for the same rate another one. Raises
    ``TimeoutError`` when a probe has no consequence within ``_ANSWER_S`` after the last one was sent.
    """
    seconds = _SETTLE_S + count * _GAP_S
    arguments = ["-m", "tests.bench.background", bootstrap, str(rate_per_s), str(seconds), topic]
    _say(f"{count} probes beside {rate_per_s} events/s")
    background = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    await asyncio.sleep(_SETTLE_S)
    prefix = f"{prefix}-{rate_per_s}-"
    for number in range(count):
        probes.sent[f"{prefix}{number}"] = time.monotonic()
        await asyncio.gather(probe(publisher, f"{prefix}{number}", topic), asyncio.sleep(_GAP_S))
    out, _ = await background.communicate()
    deadline = time.monotonic() + _ANSWER_S
    while probes.missing():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{probes.missing()} probes had no consequence within {_ANSWER_S:g} s")
        await asyncio.sleep(_GAP_S)
    return probes.latencies_ms(prefix), int(json.loads(out)["events_per_s"])


async def probe(publisher: KafkaPublisher, account: str, topic: str = TELEMETRY_HEALTH) -> None:
    """One event of ``account`` that must fire."""
    event = {
        "event_id": account, "account_id": account, "occurred_at": time.time_ns() // 1_000_000, "health_score": 80.0,
        "risk_score": 99.0, "source": "probe", "correlation_id": account,
    }  # fmt: skip
    value = encode_record("HealthEvent", event, LocalRegistry().schema_id("HealthEvent", TELEMETRY_HEALTH))
    await publisher.publish(topic, account.encode(), value)


def _report(levels: dict[int, tuple[list[float], int]], count: int) -> dict[str, Any]:
    def at(share: float) -> dict[str, float]:
        return {
            str(rate): round(found[min(int(len(found) * share), len(found) - 1)], 1)
            for rate, (found, _) in levels.items()
        }

    return {
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
        "max_ms": at(1.0),
        "probes": count,
        "background_events_per_s": {str(rate): reached for rate, (_, reached) in levels.items()},
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
