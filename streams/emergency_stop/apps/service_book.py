"""What all workers read from compacted topics: the services' announcements, and the holds published so far."""

from __future__ import annotations

import logging

from emergency_stop.coordinate.blast import RecentStops
from emergency_stop.coordinate.leases import Attendance
from emergency_stop.coordinate.published import PublishedHolds
from emergency_stop.coordinate.services import Services
from emergency_stop.domain.messages import Hold, ServiceInstance
from emergency_stop.wire.codec import Codec, WireError
from emergency_stop.wire.registry import UnknownSchemaError

log = logging.getLogger(__name__)


class ServiceBook:
    """The newest announcement per instance (``estop.services``), and when each was heard."""

    def __init__(self, known: tuple[str, ...], codec: Codec, attendance: Attendance | None = None) -> None:
        self._known = known
        self._codec = codec
        self._attendance = attendance
        self._instances: dict[bytes | None, ServiceInstance] = {}
        self._snapshot: Services | None = None

    def record(self, key: bytes | None, value: bytes | None, now_ms: int = 0) -> None:
        """One record of the topic; a tombstone strikes the instance out, a bad one is logged and skipped."""
        if value is None:
            self._instances.pop(key, None)
        else:
            try:
                self._instances[key] = instance = self._codec.decode(ServiceInstance, value)
            except (WireError, UnknownSchemaError) as error:
                log.warning("an announcement with key %r was skipped: %s", key, error)
            else:
                if self._attendance is not None:
                    self._attendance.hear(instance, now_ms)
        self._snapshot = None

    def services(self) -> Services:
        """An immutable view of now; the same object until something changes."""
        snapshot = self._snapshot
        if snapshot is None:
            snapshot = self._snapshot = Services(self._known, self._instances.values())
        return snapshot


class HoldBook:
    """What ``estop.holds`` tells, whoever wrote it."""

    def __init__(self, codec: Codec, stops_window_ms: int = 60_000) -> None:
        self._codec = codec
        self.published = PublishedHolds()
        self.stops = RecentStops(stops_window_ms)

    def record(self, value: bytes | None) -> None:
        """One record of the topic; what is no hold is logged and skipped."""
        try:
            hold = self._codec.decode(Hold, value)
        except (WireError, UnknownSchemaError) as error:
            log.warning("a hold was skipped: %s", error)
        else:
            self.published.take(hold)
            if hold.scope not in self.published.overtaken:  # else it is an older one, written late
                self.stops.take(hold)
