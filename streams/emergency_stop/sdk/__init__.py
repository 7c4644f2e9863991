"""For services: ``StopGuard`` and what goes with it. Installs without anything of the server."""

from emergency_stop.sdk.gate import Shut, Stopped
from emergency_stop.sdk.guard import GuardStartError, GuardStats, StopGuard
from emergency_stop.sdk.permit import Permit, finish

__all__ = ["GuardStartError", "GuardStats", "Permit", "Shut", "StopGuard", "Stopped", "finish"]
