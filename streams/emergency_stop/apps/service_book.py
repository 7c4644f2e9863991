"""What all workers read from compacted topics: the services' announcements, and the holds published so far."""

from __future__ import annotations

import contextlib
import logging
from typing import Final

from emergency_stop.coordinate.blast import RecentStops
from emergency_stop.coordinate.leases import Attendance
from emergency_stop.coordinate.published import PublishedHolds
from emergency_stop.coordinate.services import Services
from emergency_stop.domain.messages import Hold, ServiceInstance
from emergency_stop.domain.topics import HOLDS
from emergency_stop.domain.values import Scope
from emergency_stop.wire.codec import Codec, WireError
from emergency_stop.wire.registry import UnknownSchemaError
from emergency_stop.wire.signing import SignatureVerdict, Verifier

log = logging.getLogger(__name__)

#: After a key was retired, every hold that it signed is untrusted: so many are told one by one.
TOLD_MAX: Final = 20


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
    """What ``estop.holds`` tells, whoever wrote it, and what of it new readers can rely on.

    Without a ``verifier`` nothing is verified, as in services that have none.
    """

    def __init__(self, codec: Codec, stops_window_ms: int = 60_000, verifier: Verifier | None = None) -> None:
        self._codec = codec
        self._verifier = verifier
        self.published = PublishedHolds()
        self.stops = RecentStops(stops_window_ms)
        #: Holds whose signature was not good.
        self.untrusted = 0

    def record(self, value: bytes | None, key: bytes | None = None) -> None:
        """One record of the topic; one that says nothing of the scope that its key names may hide what did."""
        try:
            hold = self._codec.decode(Hold, value)
        except (WireError, UnknownSchemaError) as error:
            text = "a record of %s with key %r is no hold, and hides the one before it: %s"
            log.error(text, HOLDS, key, error)  # noqa: TRY400  # the text says all
            self._spoil(key)
            return
        if key is not None and key != hold.scope.encode():
            log.error("a hold of %s lies under key %r of %s, and hides the one before it", hold.scope, key, HOLDS)
            self._spoil(key)
        if self.published.take(hold, trusted=self._is_trusted(hold, value)):
            self.stops.take(hold)

    def _spoil(self, key: bytes | None) -> None:
        with contextlib.suppress(ValueError):  # of no scope: then it hides none
            self.published.spoiled(str(Scope.parse((key or b"").decode())))

    def _is_trusted(self, hold: Hold, value: bytes | None) -> bool:
        if self._verifier is None or self.published.is_own(hold.scope, value):
            return True
        verdict = self._verifier.verify(hold)
        if verdict is SignatureVerdict.VALID:
            return True
        self.untrusted += 1
        if self.untrusted <= TOLD_MAX:
            further = "; further ones are counted only" if self.untrusted == TOLD_MAX else ""
            text = "the hold of %s at epoch %d counts as none: signature %s%s"
            log.error(text, hold.scope, hold.epoch, verdict.value, further)
        return False
