"""Links to the user's own services: what their events mean, and how a stop reaches them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import pytest

from emergency_stop.config import DEFAULT_SERVICES
from emergency_stop.domain.telemetry import (
    BehavioralEvent,
    DetectionEvent,
    HealthEvent,
    Outcome,
    PlatformEvent,
    PlatformKind,
    ProxyEvent,
    Severity,
    TelemetryEvent,
)
from emergency_stop.integrations.links import account_health_monitor
from emergency_stop.integrations.links.account_health_monitor import AccountHealthMonitorLink
from emergency_stop.integrations.links.advanced_behavioral_pattern_engine import AdvancedBehavioralPatternEngineLink
from emergency_stop.integrations.links.enterprise_anti_detection_manager import EnterpriseAntiDetectionManagerLink
from emergency_stop.integrations.links.link import NAMES_COUNTED_MAX, ServiceLink
from emergency_stop.integrations.links.mapping import EventMap
from emergency_stop.integrations.links.twikit_link import event_of_error
from emergency_stop.integrations.links.twikit_realtime_sync import TwikitRealtimeSyncLink
from emergency_stop.integrations.links.twikit_session_manager import TwikitSessionManagerLink
from emergency_stop.sdk import StopGuard
from emergency_stop.sdk.effects import RunHandler
from tests.unit.sdk.scenario import Told, command

LINKS: tuple[type[ServiceLink], ...] = (
    AccountHealthMonitorLink,
    TwikitRealtimeSyncLink,
    EnterpriseAntiDetectionManagerLink,
    AdvancedBehavioralPatternEngineLink,
    TwikitSessionManagerLink,
)
FAILED = Outcome.FAILED


class Emitter:
    """The guide's shape: ``on`` and an ``emergencyStop`` that says true."""

    def __init__(self) -> None:
        self.handlers: dict[str, list[Callable[[Any], Any]]] = {}
        self.stopped_by: list[str] = []

    def on(self, event: str, handler: Callable[[Any], Any], /) -> None:
        self.handlers.setdefault(event, []).append(handler)

    def emit(self, event: str, payload: object) -> list[Any]:
        return [handler(payload) for handler in self.handlers.get(event, [])]

    async def emergencyStop(self, correlation_id: str) -> bool:  # noqa: N802  # the guide's name
        self.stopped_by.append(correlation_id)
        return True


def linked(kind: type[ServiceLink], yours: object | None = None, **more: Any) -> tuple[ServiceLink, Emitter, Told]:
    emitter, told = Emitter(), Told()
    guard = StopGuard(kind.service, "127.0.0.1:9")  # never started: no broker is asked
    return kind(guard, told, emitter if yours is None else yours, **more), emitter, told


class SocketEvent(Enum):
    ACCOUNT_SUSPENSION = "account_suspension"


@dataclass
class Alert:
    accountId: str  # noqa: N815  # as a JavaScript service has it
    metrics: dict[str, float]


def test_the_links_are_those_of_the_settings_services() -> None:
    assert tuple(kind.service for kind in LINKS) == DEFAULT_SERVICES


@pytest.mark.parametrize(
    ("kind", "event", "payload", "expected"),
    [
        (
            AccountHealthMonitorLink, "healthAlert", {"account_id": "a", "health_score": 12, "risk_score": 40},
            HealthEvent(account_id="a", health_score=12, risk_score=40),
        ),
        (
            AccountHealthMonitorLink, "healthAlert", Alert("a", {"healthScore": 12.5, "suspensionRisk": 3}),
            HealthEvent(account_id="a", health_score=12.5, risk_score=3),
        ),
        (
            AccountHealthMonitorLink, "preventiveMeasureTriggered",
            {"accountId": "a", "measure": "pause_posting", "correlationId": "c"},
            PlatformEvent(
                account_id="a", kind=PlatformKind.PREVENTIVE_MEASURE, outcome=Outcome.OK, detail="pause_posting",
                correlation_id="c",
            ),
        ),
        (
            TwikitRealtimeSyncLink, "eventReceived", {"event_type": "ACCOUNT_SUSPENSION", "account_id": "a"},
            PlatformEvent(account_id="a", kind=PlatformKind.ACCOUNT_SUSPENSION, outcome=FAILED),
        ),
        (
            TwikitRealtimeSyncLink, "eventReceived",
            {"event_type": SocketEvent.ACCOUNT_SUSPENSION, "account_id": "a", "message": "see you"},
            PlatformEvent(account_id="a", kind=PlatformKind.ACCOUNT_SUSPENSION, outcome=FAILED, detail="see you"),
        ),
        (
            TwikitRealtimeSyncLink, "eventReceived", {"eventType": "account_locked", "account_id": "a"},
            DetectionEvent(account_id="a", severity=Severity.CRITICAL, detection_type="account_locked"),
        ),
        (
            EnterpriseAntiDetectionManagerLink, "detectionEvent",
            {"account_id": "a", "severity": "Warning", "type": "captcha", "confidence": 0.5, "timestamp": 17e8},
            DetectionEvent(
                account_id="a", severity=Severity.MEDIUM, detection_type="captcha", confidence=0.5,
                occurred_at=1_700_000_000_000,
            ),
        ),
        (
            EnterpriseAntiDetectionManagerLink, "proxyFailure",
            {"account_id": "a", "proxyId": "p1", "error": "refused", "timestamp": datetime(2024, 1, 1, tzinfo=UTC)},
            ProxyEvent(account_id="a", proxy_id="p1", outcome=FAILED, error="refused", occurred_at=1_704_067_200_000),
        ),
        (
            AdvancedBehavioralPatternEngineLink, "behavioralAnomaly",
            {"accountId": "a", "anomalyScore": 97, "pattern": "cadence", "timestamp": "2024-01-01T00:00:00+00:00"},
            BehavioralEvent(account_id="a", anomaly_score=97, pattern="cadence", occurred_at=1_704_067_200_000),
        ),
        (
            TwikitSessionManagerLink, "authenticationFailed", {"accountId": "a", "statusCode": 401, "error": "no"},
            PlatformEvent(
                account_id="a", kind=PlatformKind.AUTHENTICATION, outcome=FAILED, status_code=401, detail="no"
            ),
        ),
    ],
)  # fmt: skip
async def test_an_event_of_the_service_becomes_telemetry(
    kind: type[ServiceLink], event: str, payload: object, expected: TelemetryEvent
) -> None:
    link, emitter, told = linked(kind)
    link.attach()
    for result in emitter.emit(event, payload):
        await result  # an emitter that awaits its handlers finds something to await
    assert told.events == [expected]
    assert sum(link.stats.told.values()) == 1


def test_an_alert_about_one_score_keeps_the_other_as_it_last_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_health_monitor, "REMEMBERED_ACCOUNTS_MAX", 2)
    link, _, told = linked(AccountHealthMonitorLink)
    told_scores = []
    for account_id, scores in [
        ("a", {"risk_score": 90}),  # health was never told
        ("a", {"health_score": 20}),
        ("a", {"risk_score": 95}),
        ("b", {"health_score": 50}),
        ("c", {"health_score": 60}),  # forgets a
        ("a", {"risk_score": 95}),
    ]:
        link.handle("healthAlert", {"account_id": account_id, **scores})
        event = told.events[-1]
        assert isinstance(event, HealthEvent)
        told_scores.append((event.account_id, event.health_score, event.risk_score))
    assert told_scores == [("a", 100, 90), ("a", 20, 90), ("a", 20, 95), ("b", 50, 0), ("c", 60, 0), ("a", 100, 95)]


@pytest.mark.parametrize(
    ("kind", "event", "payload", "complaint"),
    [
        (AccountHealthMonitorLink, "healthAlert", {"health_score": 1}, "healthAlert: account_id"),
        (AccountHealthMonitorLink, "healthAlert", {"account_id": "a"}, "healthAlert: health_score"),
        (AccountHealthMonitorLink, "healthAlert", None, "healthAlert: account_id"),
        (
            AccountHealthMonitorLink, "healthAlert", {"account_id": "a", "health_score": "bad"},
            "healthAlert: health_score",
        ),
        (
            EnterpriseAntiDetectionManagerLink, "detectionEvent",
            {"account_id": "a", "severity": "purple", "type": "captcha"}, "detectionEvent: severity",
        ),
        (
            EnterpriseAntiDetectionManagerLink, "proxyFailure",
            {"account_id": "a", "proxy_id": "p", "timestamp": "yesterday"}, "proxyFailure: occurred_at",
        ),
        (TwikitRealtimeSyncLink, "eventReceived", {"account_id": "a"}, "eventReceived: event_type"),
    ],
)  # fmt: skip
def test_a_malformed_event_is_counted_by_its_field_and_does_not_raise(
    kind: type[ServiceLink], event: str, payload: object, complaint: str
) -> None:
    link, _, told = linked(kind)
    link.handle(event, payload)
    assert (told.events, dict(link.stats.malformed)) == ([], {complaint: 1})


def test_a_payload_that_raises_is_counted_too() -> None:
    class Hostile:
        @property
        def account_id(self) -> str:
            raise OSError("no database")

    link, _, _ = linked(AccountHealthMonitorLink)
    link.handle("healthAlert", Hostile())
    assert link.stats.malformed == {"healthAlert: (raised)": 1}


def test_unknown_events_are_counted_by_name_within_a_bound() -> None:
    link, _, told = linked(TwikitRealtimeSyncLink)
    link.handle("somethingElse", {})
    for number in range(NAMES_COUNTED_MAX + 50):
        link.handle("eventReceived", {"event_type": f"kind-{number}", "account_id": "a"})
    assert told.events == []
    assert link.stats.unmapped["somethingElse"] == 1
    assert link.stats.unmapped["(others)"] == 51
    assert sum(link.stats.unmapped.values()) == NAMES_COUNTED_MAX + 51


def test_what_telemetry_does_not_take_is_counted() -> None:
    link, _, told = linked(AccountHealthMonitorLink)
    told.is_full = True
    link.handle("healthAlert", {"account_id": "a", "health_score": 1})
    assert (link.stats.lost, link.stats.told) == ({"healthAlert": 1}, {})


def test_rules_of_one_s_own_are_added_and_replace() -> None:
    also = {"moodSwing": EventMap(BehavioralEvent, {"anomaly_score": ("mood",)})}
    link, emitter, told = linked(AdvancedBehavioralPatternEngineLink, also=also)
    link.attach()
    emitter.emit("moodSwing", {"account_id": "a", "mood": 80})
    assert told.events == [BehavioralEvent(account_id="a", anomaly_score=80)]


# --------------------------------------------------------------------------------------------- stops


async def handle_stop(link: ServiceLink, scope: str = "account:a", epoch: int = 1) -> bool | str:
    """As the guard does it on a command: whether the handler succeeded, or what was wrong."""
    guard = link.guard
    guard._gate.loop = asyncio.get_running_loop()
    guard._gate.open()
    effects = guard._stops.on_command(command(scope=scope, epoch=epoch), trusted=True, note="", now_ms=0)
    assert isinstance(effects[-1], RunHandler)
    answers: list[Any] = []
    guard._outgoing.perform = answers.extend  # type: ignore[assignment,method-assign]  # the answers, instead of sending them
    await guard._outgoing.handle(effects[-1].command)
    return True if answers[-1].state.value == "stopped" else str(answers[-1].reason)


@pytest.mark.parametrize("kind", LINKS)
async def test_a_stop_command_calls_the_service_s_emergency_stop(kind: type[ServiceLink]) -> None:
    link, emitter, _ = linked(kind)
    assert await handle_stop(link) is True
    assert emitter.stopped_by == ["corr"]


async def test_a_method_that_takes_an_account_is_told_which() -> None:
    class Narrow:
        def __init__(self) -> None:
            self.calls: list[tuple[str, str | None]] = []

        def emergency_stop(self, correlation_id: str, account_id: str | None = None) -> bool:
            self.calls.append((correlation_id, account_id))
            return True

    narrow = Narrow()
    link, _, _ = linked(TwikitSessionManagerLink, narrow)
    assert await handle_stop(link, "account:a") is True
    assert await handle_stop(link, "global", 2) is True
    assert narrow.calls == [("corr", "a"), ("corr", None)]


async def test_the_realtime_sync_may_be_stopped_by_shutdown_which_promises_no_verdict() -> None:
    class Sync:
        is_down = False

        async def shutdown(self) -> None:
            self.is_down = True

    sync = Sync()
    link, _, _ = linked(TwikitRealtimeSyncLink, sync)
    assert await handle_stop(link) is True
    assert sync.is_down


@pytest.mark.parametrize(
    ("outcome", "reason"), [(False, "returned false"), (None, "must return True or False"), (OSError("full"), "full")]
)
async def test_a_stop_that_fails_is_not_proven(outcome: object, reason: str) -> None:
    class Failing:
        def emergency_stop(self, correlation_id: str) -> object:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

    link, _, _ = linked(AccountHealthMonitorLink, Failing())
    assert reason in str(await handle_stop(link))


def test_an_object_that_cannot_be_stopped_is_refused_with_the_nearest_name() -> None:
    class Misspelt:
        def emergencystop(self, correlation_id: str) -> bool:
            return True

    with pytest.raises(TypeError, match=r"no method emergency_stop or emergencyStop \(did you mean 'emergencystop'"):
        linked(AccountHealthMonitorLink, Misspelt())


def test_an_object_that_emits_nothing_is_told_how_to_hand_events_over() -> None:
    class Silent:
        def emergency_stop(self, correlation_id: str) -> bool:
            return True

    link, _, _ = linked(AccountHealthMonitorLink, Silent())
    with pytest.raises(TypeError, match=r"hand its events to AccountHealthMonitorLink.handle"):
        link.attach()


# --------------------------------------------------------------------------------------------- twikit


async def test_what_only_an_exception_of_twikit_tells_becomes_telemetry() -> None:
    errors = pytest.importorskip("twikit.errors")
    link, _, told = linked(TwikitSessionManagerLink)
    assert isinstance(link, TwikitSessionManagerLink)
    for kind in (errors.AccountSuspended, errors.AccountLocked, errors.TooManyRequests, asyncio.CancelledError):
        with pytest.raises(kind), link.watch("a"):
            raise kind("so it is")
    assert told.events == [
        PlatformEvent(account_id="a", kind=PlatformKind.ACCOUNT_SUSPENSION, outcome=FAILED, detail="so it is"),
        DetectionEvent(account_id="a", severity=Severity.CRITICAL, detection_type="account_locked"),
    ]


def test_other_errors_mean_nothing() -> None:
    assert event_of_error("a", ValueError("x")) is None
