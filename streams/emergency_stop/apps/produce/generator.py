"""Plausible telemetry of many accounts. Pure and seeded: the same seed and moments make the same events."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from emergency_stop.domain import topics

RECORDS: Final = {spec.name: spec.record or "" for spec in topics.TELEMETRY}
_WEIGHTS: Final = {
    topics.TELEMETRY_HEALTH: 40,
    topics.TELEMETRY_BEHAVIORAL: 20,
    topics.TELEMETRY_PROXY: 15,
    topics.TELEMETRY_PLATFORM: 15,
    topics.TELEMETRY_DETECTION: 5,
    topics.TELEMETRY_SYSTEM: 5,
}
_HOSTS: Final = ("host-a", "host-b")
_SERVICES: Final = ("sessionManager", "behavioralEngine")


@dataclass(frozen=True, slots=True)
class TelemetryEvent:
    """One event, not yet encoded. Its key is ``fields["account_id"]``."""

    topic: str
    fields: dict[str, Any]

    @property
    def record(self) -> str:
        return RECORDS[self.topic]


class TelemetryGenerator:
    """Each account has a level of health of its own, which wanders but stays good; incidents are asked for."""

    def __init__(self, seed: int, accounts: Sequence[str]) -> None:
        self._rng = random.Random(seed)
        self._accounts = tuple(accounts)
        self._health = {account: self._rng.uniform(70, 95) for account in accounts}
        self._next_account = 0

    def normal(self, now_ms: int) -> TelemetryEvent:
        """An event of a healthy account."""
        topic = self._rng.choices(tuple(_WEIGHTS), tuple(_WEIGHTS.values()))[0]
        account = self._accounts[self._next_account % len(self._accounts)]
        self._next_account += 1
        make: Callable[[str], dict[str, Any]] = {
            topics.TELEMETRY_HEALTH: self._healthy,
            topics.TELEMETRY_BEHAVIORAL: self._human,
            topics.TELEMETRY_PROXY: self._proxy,
            topics.TELEMETRY_PLATFORM: self._platform,
            topics.TELEMETRY_DETECTION: self._detection,
            topics.TELEMETRY_SYSTEM: self._system,
        }[topic]
        fields = make(account)
        return self._event(topic, str(fields.pop("account_id", account)), now_ms, fields)

    def incident(self, kind: str, account: str, now_ms: int) -> list[TelemetryEvent]:
        """The events that make ``kind`` fire for ``account`` under the default triggers. Raises ``KeyError``."""
        return [self._event(topic, account, now_ms, fields) for topic, fields in INCIDENTS[kind](self._rng)]

    def _event(self, topic: str, account: str, now_ms: int, fields: dict[str, Any]) -> TelemetryEvent:
        event_id = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        base = {"event_id": event_id, "account_id": account, "occurred_at": now_ms, "source": "estop-produce"}
        return TelemetryEvent(topic, {**base, "correlation_id": f"corr-{event_id[:8]}", **fields})

    def _healthy(self, account: str) -> dict[str, Any]:
        level = min(98.0, max(65.0, self._health[account] + self._rng.gauss(0, 1.5)))
        self._health[account] = level
        return {"health_score": level, "risk_score": max(0.0, min(60.0, 100 - level + self._rng.gauss(0, 5)))}

    def _human(self, account: str) -> dict[str, Any]:
        return {"anomaly_score": abs(self._rng.gauss(15, 10)) % 70, "pattern": "posting_cadence"}

    def _proxy(self, account: str) -> dict[str, Any]:
        proxy = f"proxy-{self._rng.randrange(20):02d}"
        return {"proxy_id": proxy, "outcome": "ok", "latency_ms": self._rng.uniform(40, 400), "error": ""}

    def _platform(self, account: str) -> dict[str, Any]:
        return {"kind": "api_call", "outcome": "ok", "status_code": 200, "endpoint": "timeline", "detail": ""}

    def _detection(self, account: str) -> dict[str, Any]:
        return {"severity": self._rng.choice(("low", "medium")), "detection_type": "captcha", "confidence": 0.4}

    def _system(self, account: str) -> dict[str, Any]:
        service, host = self._rng.choice(_SERVICES), self._rng.choice(_HOSTS)
        usage = {"cpu_percent": self._rng.uniform(5, 60), "memory_bytes": self._rng.uniform(1e8, 4e8)}
        return {"account_id": f"{service}@{host}", "service": service, "host": host, "open_connections": 3, **usage}


Script = Callable[[random.Random], list[tuple[str, dict[str, Any]]]]


def _health_collapse(rng: random.Random) -> list[tuple[str, dict[str, Any]]]:
    """Enough bad scores to pull a minute's average down past all good ones."""
    scores = [rng.uniform(0, 5) for _ in range(60)]
    return [(topics.TELEMETRY_HEALTH, {"health_score": score, "risk_score": 40.0}) for score in scores]


def _proxy_cascade(rng: random.Random) -> list[tuple[str, dict[str, Any]]]:
    fields = {"outcome": "failed", "latency_ms": 0.0, "error": "connection refused"}
    first = rng.randrange(17)
    return [(topics.TELEMETRY_PROXY, {**fields, "proxy_id": f"proxy-{first + n % 3:02d}"}) for n in range(6)]


def _risk(rng: random.Random) -> list[tuple[str, dict[str, Any]]]:
    return [(topics.TELEMETRY_HEALTH, {"health_score": 75.0, "risk_score": rng.uniform(90, 99)})]


def _detected(rng: random.Random) -> list[tuple[str, dict[str, Any]]]:
    fields = {"severity": "critical", "detection_type": "challenge", "confidence": rng.uniform(0.9, 1)}
    return [(topics.TELEMETRY_DETECTION, fields)]


def _machine_like(rng: random.Random) -> list[tuple[str, dict[str, Any]]]:
    return [(topics.TELEMETRY_BEHAVIORAL, {"anomaly_score": rng.uniform(93, 99), "pattern": "posting_cadence"})]


def _suspended(rng: random.Random) -> list[tuple[str, dict[str, Any]]]:
    fields = {"outcome": "failed", "status_code": rng.choice((401, 403)), "endpoint": "", "detail": "suspended"}
    return [(topics.TELEMETRY_PLATFORM, {"kind": "account_suspension", **fields})]


def _platform_says(count: int, kind: str, **fields: Any) -> Script:
    event = {"kind": kind, "outcome": "failed", "endpoint": "timeline", "detail": "", **fields}
    return lambda _rng: [(topics.TELEMETRY_PLATFORM, event)] * count


INCIDENTS: Final[dict[str, Script]] = {
    "health": _health_collapse,
    "suspension-risk": _risk,
    "detection": _detected,
    "behavior": _machine_like,
    "proxy": _proxy_cascade,
    "suspension": _suspended,
    "rate-limit": _platform_says(3, "rate_limit", status_code=429),
    "authentication": _platform_says(3, "authentication", status_code=401, endpoint="login"),
    # Enough to outweigh the calls that went well in the same window.
    "api-failure": _platform_says(60, "api_call", status_code=503),
    "preventive": _platform_says(1, "preventive_measure", status_code=0, detail="reduce activity"),
}
