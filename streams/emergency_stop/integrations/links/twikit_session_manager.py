"""The user's TwikitSessionManager: what happens to sessions becomes telemetry."""

from __future__ import annotations

from typing import ClassVar, Final, Protocol

from emergency_stop.domain.telemetry import Outcome, PlatformEvent, PlatformKind
from emergency_stop.integrations.links.link import Emits, Rules, Stoppable
from emergency_stop.integrations.links.mapping import EventMap
from emergency_stop.integrations.links.twikit_link import TwikitLink


def _platform(kind: PlatformKind, outcome: Outcome) -> EventMap:
    words = {"detail": ("detail", "message", "error", "reason"), "status_code": ("status_code", "status")}
    return EventMap(PlatformEvent, words, {"kind": kind, "outcome": outcome})


RULES: Final[Rules] = {
    "sessionCreated": _platform(PlatformKind.AUTHENTICATION, Outcome.OK),
    "authenticationFailed": _platform(PlatformKind.AUTHENTICATION, Outcome.FAILED),
    "rateLimited": _platform(PlatformKind.RATE_LIMIT, Outcome.FAILED),
    "accountSuspended": _platform(PlatformKind.ACCOUNT_SUSPENSION, Outcome.FAILED),
}


class YourTwikitSessionManager(Emits, Stoppable, Protocol):
    """What is asked of it; ``emergencyStop`` will do as well."""


class TwikitSessionManagerLink(TwikitLink):
    service: ClassVar[str] = "sessionManager"
    rules: ClassVar[Rules] = RULES
