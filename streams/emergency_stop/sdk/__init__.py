"""For services: ``StopGuard`` and what goes with it. Installs without anything of the server."""

from emergency_stop.sdk.gate import Shut, Stopped
from emergency_stop.sdk.guard import GuardStartError, GuardStats, StopGuard
from emergency_stop.sdk.handlers import current_stop
from emergency_stop.sdk.leases import LeaseStats
from emergency_stop.sdk.permit import OpenPermit, Permit, finish
from emergency_stop.sdk.telemetry import Loss, Telemetry, TelemetrySink, TelemetryStats
from emergency_stop.wire.signing import KeyFileError, Verifier
from emergency_stop.wire.trusted_keys import KeyFileVerifier

__all__ = [
    "GuardStartError",
    "GuardStats",
    "KeyFileError",
    "KeyFileVerifier",
    "LeaseStats",
    "Loss",
    "OpenPermit",
    "Permit",
    "Shut",
    "StopGuard",
    "Stopped",
    "Telemetry",
    "TelemetrySink",
    "TelemetryStats",
    "Verifier",
    "current_stop",
    "finish",
]
