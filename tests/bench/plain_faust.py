"""The same job as a Faust user writes it: an agent, a table with changelog, fastavro, one event at a time.

``python -m tests.bench.plain_faust BROKER EVENTS TOPIC HITS_TOPIC``; with 0 events it works until SIGTERM. Windows
are the detector's: twelve panes, average of the health score and maximum of the risk score, minimum of samples,
cooldown in event time.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import tempfile
from typing import Any, Final

import faust
from fastavro import parse_schema, schemaless_reader

from emergency_stop.domain.default_triggers import default_pack
from tests.bench.meter import Meter
from tests.campaign.telemetry import SCHEMAS

APP_ID: Final = "plain-faust"
TABLE: Final = "windows"
CHANGELOG: Final = f"{APP_ID}-{TABLE}-changelog"
PANES: Final = 12
FRAME_BYTES: Final = 5


def build(broker: str, events: int, topic_name: str, hits_name: str) -> faust.App:
    app = faust.App(
        APP_ID,
        broker=f"kafka://{broker}",
        store="memory://",
        datadir=tempfile.mkdtemp(prefix="plain-faust-"),  # nothing is kept in it: the store is in memory
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=4,
        consumer_auto_offset_reset="earliest",
        producer_acks=-1,
    )
    schema = parse_schema(json.loads((SCHEMAS / "HealthEvent.avsc").read_text()), named_schemas={})
    telemetry = app.topic(topic_name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
    hits = app.topic(hits_name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
    windows = app.Table(TABLE, default=_fresh, partitions=4)
    health, risk = (trigger for trigger in default_pack(0)[:2])
    meter = Meter(events)
    seen = 0

    @app.on_partitions_assigned.connect(weak=False)
    async def begin(*_: Any, **__: Any) -> None:
        meter.start()

    @app.agent(telemetry)
    async def detect(stream: Any) -> None:
        nonlocal seen
        async for message in stream.events():
            event: Any = schemaless_reader(io.BytesIO(message.value[FRAME_BYTES:]), schema, None)
            state = windows[event["account_id"]]
            moment = event["occurred_at"]
            average, samples = _average(state["health"], moment, event["health_score"], health.time_window)
            worst = _maximum(state["risk"], moment, event["risk_score"], risk.time_window)
            found = []
            if samples >= health.min_samples and average < health.thresholds["healthScore"]:
                found.append((health, "health"))
            if worst > risk.thresholds["riskScore"]:
                found.append((risk, "risk"))
            for trigger, name in found:
                if moment >= state["until"][name]:
                    state["until"][name] = moment + trigger.cooldown_period
                    at = message.message
                    place = {"account_id": event["account_id"], "partition": at.partition, "offset": at.offset}
                    hit = {"trigger_id": trigger.trigger_id} | place
                    await hits.send(key=message.key, value=json.dumps(hit).encode())
            windows[event["account_id"]] = state
            seen += 1
            meter.note(seen)
            if seen == events:
                meter.stop()
                os.kill(os.getpid(), signal.SIGTERM)

    return app


def _fresh() -> dict[str, Any]:
    return {"health": {}, "risk": {}, "until": {"health": 0, "risk": 0}}


def _average(panes: dict[str, list[float]], moment: int, value: float, window_ms: int) -> tuple[float, int]:
    pane, kept = _pane(panes, moment, window_ms)
    total_count = panes.setdefault(pane, [0.0, 0])
    total_count[0] += value
    total_count[1] += 1
    samples = sum(int(panes[number][1]) for number in kept if number in panes)
    return sum(panes[number][0] for number in kept if number in panes) / samples, samples


def _maximum(panes: dict[str, list[float]], moment: int, value: float, window_ms: int) -> float:
    pane, kept = _pane(panes, moment, window_ms)
    panes[pane] = [max(value, *panes.get(pane, [value]))]
    return max(panes[number][0] for number in kept if number in panes)


def _pane(panes: dict[str, list[float]], moment: int, window_ms: int) -> tuple[str, list[str]]:
    """The moment's pane, and the names of the window's panes; older ones are dropped. JSON has only text keys."""
    number = moment // -(-window_ms // PANES)
    kept = [str(index) for index in range(number - PANES + 1, number + 1)]
    for old in [name for name in panes if int(name) <= number - PANES]:
        del panes[old]
    return str(number), kept


def main() -> int:
    broker, events, topic, hits = sys.argv[1:]
    app = build(broker, int(events), topic, hits)
    worker = faust.Worker(app, loglevel="WARN", redirect_stdouts=False)
    worker.execute_from_commandline()
    return 0


if __name__ == "__main__":
    sys.exit(main())
