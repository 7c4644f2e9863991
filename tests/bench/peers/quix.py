"""The same job as a Quix Streams application: a stateful function, RocksDB with changelog, fastavro.

``.venv-bench/bin/python -m tests.bench.peers.quix NAME=VALUE...`` with ``bootstrap topic hits events app state-dir
health risk``; with ``events=0`` it works until SIGTERM. Runs in a virtual environment of its own, so it imports
nothing that needs ours.
"""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fastavro import parse_schema, schemaless_reader
from quixstreams import Application, State, message_context
from quixstreams.models import Deserializer, SerializationContext

from tests.bench.meter import Meter

SCHEMA: Final = Path(__file__).resolve().parents[3] / "schemas" / "avro" / "HealthEvent.avsc"
PANES: Final = 12
FRAME_BYTES: Final = 5
NEVER: Final = -(2**62)


class HealthDeserializer(Deserializer):  # type: ignore[misc]  # Quix Streams is not in the venv of the checks
    """Avro behind the five bytes of Confluent's framing."""

    def __init__(self) -> None:
        super().__init__()
        self._schema = parse_schema(json.loads(SCHEMA.read_text()))

    def __call__(self, value: bytes, ctx: SerializationContext) -> Any:
        return schemaless_reader(io.BytesIO(value[FRAME_BYTES:]), self._schema, None)


@dataclass(frozen=True, slots=True)
class Rules:
    """The two triggers; panes in milliseconds."""

    health_id: str
    health_below: float
    health_pane_ms: int
    health_samples_min: int
    health_cooldown_ms: int
    risk_id: str
    risk_above: float
    risk_pane_ms: int
    risk_cooldown_ms: int


def rules(options: dict[str, str]) -> Rules:
    health_id, below, window_ms, samples_min, health_cooldown_ms = options["health"].split(",")
    risk_id, above, risk_window_ms, risk_cooldown_ms = options["risk"].split(",")
    return Rules(
        health_id, float(below), -(-int(window_ms) // PANES), int(samples_min), int(health_cooldown_ms),
        risk_id, float(above), -(-int(risk_window_ms) // PANES), int(risk_cooldown_ms),
    )  # fmt: skip


class Detect:
    """The stateful function. An account's state: (health's cooldown end, risk's, health's panes, risk's).

    Only panes with samples are kept, oldest first: (number, sum, count) and (number, maximum). So a
    value is short, and Python loops over what is there instead of twelve places.
    """

    def __init__(self, limits: Rules, meter: Meter, total: int, app: Application) -> None:
        self._limits = limits
        self._meter = meter
        self._total = total
        self._app = app
        self._seen = 0

    def __call__(self, event: Any, key: bytes, _timestamp: int, _headers: Any, state: State) -> list[dict[str, Any]]:
        limits = self._limits
        self._meter.start()
        kept = state.get("account") or [NEVER, NEVER, [], []]
        moment = event["occurred_at"]
        fired = []
        if _fold_health(kept[2], moment, event["health_score"], limits) and moment >= kept[0]:
            kept[0] = moment + limits.health_cooldown_ms
            fired.append(limits.health_id)
        if _fold_risk(kept[3], moment, event["risk_score"], limits) and moment >= kept[1]:
            kept[1] = moment + limits.risk_cooldown_ms
            fired.append(limits.risk_id)
        state.set("account", kept)
        self._count()
        return [_hit(trigger_id, event["account_id"]) for trigger_id in fired] if fired else []

    def _count(self) -> None:
        self._seen += 1
        self._meter.note(self._seen)
        if self._seen == self._total:
            self._app.stop()  # ends with a checkpoint


def _fold_health(panes: list[list[Any]], moment: int, value: float, limits: Rules) -> bool:
    pane = _open(panes, moment // limits.health_pane_ms, [0.0, 0])
    if pane is None:
        return False
    pane[1] += value
    pane[2] += 1
    total, samples = 0.0, 0
    for _, subtotal, count in panes:
        total += subtotal
        samples += count
    return samples >= limits.health_samples_min and total / samples < limits.health_below


def _fold_risk(panes: list[list[Any]], moment: int, value: float, limits: Rules) -> bool:
    pane = _open(panes, moment // limits.risk_pane_ms, [value])
    if pane is None:
        return False
    pane[1] = max(pane[1], value)
    return any(worst > limits.risk_above for _, worst in panes)


def _open(panes: list[list[Any]], number: int, empty: list[Any]) -> list[Any] | None:
    """The pane of this number, made where it is missing; older panes than the window's go. ``None``: too late."""
    newest = panes[-1][0] if panes else number
    if number == newest and panes:
        return panes[-1]
    if number <= newest - PANES:
        return None
    place = len(panes)
    while place > 0 and panes[place - 1][0] >= number:
        place -= 1
        if panes[place][0] == number:
            return panes[place]
    panes.insert(place, [number, *empty])
    while panes[0][0] <= panes[-1][0] - PANES:
        del panes[0]
        place -= 1
    return panes[place]


def _hit(trigger_id: str, account_id: str) -> dict[str, Any]:
    at = message_context()
    return {"trigger_id": trigger_id, "account_id": account_id, "partition": at.partition, "offset": at.offset}


def main() -> int:
    options = dict(argument.split("=", 1) for argument in sys.argv[1:])
    events = int(options["events"])
    app = Application(
        broker_address=options["bootstrap"],
        consumer_group=options["app"],
        auto_offset_reset="earliest",
        state_dir=options["state-dir"],
        auto_create_topics=True,  # the changelog
        loglevel="WARNING",
        consumer_extra_config={"queued.min.messages": 200_000, "fetch.message.max.bytes": 4 << 20},
        producer_extra_config={"linger.ms": 5, "compression.type": "lz4"},
    )
    telemetry = app.topic(options["topic"], key_deserializer="bytes", value_deserializer=HealthDeserializer())
    hits = app.topic(options["hits"], key_serializer="bytes", value_serializer="json")
    meter = Meter(events)
    frame = app.dataframe(telemetry)
    frame = frame.apply(Detect(rules(options), meter, events, app), stateful=True, metadata=True, expand=True)
    frame.to_topic(hits)
    app.run()
    if events > 0:
        meter.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
