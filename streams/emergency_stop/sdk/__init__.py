"""For services: ``StopGuard`` and what goes with it. Installs without anything of the server."""

from emergency_stop.sdk.gate import Shut, Stopped
from emergency_stop.sdk.guard import GuardStartError, GuardStats, StopGuard, current_stop
from emergency_stop.sdk.permit import OpenPermit, Permit, finish
from emergency_stop.sdk.telemetry import Loss, Telemetry, TelemetrySink, TelemetryStats

__all__ = [
    "GuardStartError",
    "GuardStats",
    "Loss",
    "OpenPermit",
    "Permit",
    "Shut",
    "StopGuard",
    "Stopped",
    "Telemetry",
    "TelemetrySink",
    "TelemetryStats",
    "current_stop",
    "finish",
]
