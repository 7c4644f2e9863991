"""The user's TwikitRealtimeSync: ``eventReceived`` becomes telemetry, by its ``event_type``."""

from __future__ import annotations

from typing import ClassVar, Final, Protocol

from emergency_stop.domain.telemetry import DetectionEvent, Outcome, PlatformEvent, PlatformKind, Severity
from emergency_stop.integrations.links.link import Emits, Rules, Stoppable
from emergency_stop.integrations.links.mapping import ByType, EventMap
from emergency_stop.integrations.links.twikit_link import TwikitLink


def _platform(kind: PlatformKind) -> EventMap:
    return EventMap(
        PlatformEvent, {"detail": ("detail", "message", "reason")}, {"kind": kind, "outcome": Outcome.FAILED}
    )


RULES: Final[Rules] = {
    "eventReceived": ByType(
        "event_type",
        {
            # an immediate stop, by a trigger that is built in
            "ACCOUNT_SUSPENSION": _platform(PlatformKind.ACCOUNT_SUSPENSION),
            "RATE_LIMIT": _platform(PlatformKind.RATE_LIMIT),
            "RATE_LIMIT_EXCEEDED": _platform(PlatformKind.RATE_LIMIT),
            "AUTHENTICATION_FAILURE": _platform(PlatformKind.AUTHENTICATION),
            "ACCOUNT_LOCKED": EventMap(
                DetectionEvent, fixed={"severity": Severity.CRITICAL, "detection_type": "account_locked"}
            ),
        },
    )
}


class YourTwikitRealtimeSync(Emits, Stoppable, Protocol):
    """What is asked of it; ``emergencyStop`` or ``shutdown`` will do as well."""


class TwikitRealtimeSyncLink(TwikitLink):
    service: ClassVar[str] = "realtimeSync"
    rules: ClassVar[Rules] = RULES
    #: The guide stops this one by ``shutdown``.
    stop_methods: ClassVar[tuple[str, ...]] = ("emergency_stop", "emergencyStop", "shutdown")
