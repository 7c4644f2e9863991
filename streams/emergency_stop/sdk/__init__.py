"""For services: ``StopGuard`` and what goes with it. Installs without anything of the server."""

from emergency_stop.config.kafka import Brokers, KafkaSecurity
from emergency_stop.domain.messages import Lifecycle
from emergency_stop.domain.values import LifecycleKind
from emergency_stop.sdk.emergency_book import EmergencyEvent, SystemMetrics
from emergency_stop.sdk.events import EventsStartError, EventStats, EventStream, LifecycleEvents
from emergency_stop.sdk.gate import Shut, Stopped
from emergency_stop.sdk.guard import GuardStartError, GuardStats, StopGuard
from emergency_stop.sdk.handlers import current_stop
from emergency_stop.sdk.leases import LeaseStats
from emergency_stop.sdk.permit import OpenPermit, Permit, finish
from emergency_stop.sdk.system import (
    EmergencyStopSystem,
    NotWrittenError,
    RecoveryRefusedError,
    SystemStartError,
    SystemStatus,
)
from emergency_stop.sdk.telemetry import Loss, Telemetry, TelemetrySink, TelemetryStats
from emergency_stop.sdk.trigger_desk import TriggerChangeError, TriggerReader
from emergency_stop.wire.signing import KeyFileError, Verifier
from emergency_stop.wire.trusted_keys import KeyFileVerifier

__all__ = [
    "Brokers",
    "EmergencyEvent",
    "EmergencyStopSystem",
    "EventStats",
    "EventStream",
    "EventsStartError",
    "GuardStartError",
    "GuardStats",
    "KafkaSecurity",
    "KeyFileError",
    "KeyFileVerifier",
    "LeaseStats",
    "Lifecycle",
    "LifecycleEvents",
    "LifecycleKind",
    "Loss",
    "NotWrittenError",
    "OpenPermit",
    "Permit",
    "RecoveryRefusedError",
    "Shut",
    "StopGuard",
    "Stopped",
    "SystemMetrics",
    "SystemStartError",
    "SystemStatus",
    "Telemetry",
    "TelemetrySink",
    "TelemetryStats",
    "TriggerChangeError",
    "TriggerReader",
    "Verifier",
    "current_stop",
    "finish",
]
