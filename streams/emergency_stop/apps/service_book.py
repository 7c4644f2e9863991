"""What all workers read from compacted topics: the services' announcements, and the holds published so far."""

from __future__ import annotations

import contextlib
import logging
from typing import Final

from emergency_stop.coordinate.blast import RecentStops
from emergency_stop.coordinate.bounds import bounded_instance
from emergency_stop.coordinate.leases import Attendance
from emergency_stop.coordinate.published import PublishedHolds
from emergency_stop.coordinate.services import Services
from emergency_stop.domain.messages import Hold, ServiceInstance
from emergency_stop.domain.topics import HOLDS
from emergency_stop.domain.values import InstanceState, Scope
from emergency_stop.wire.codec import Codec, WireError
from emergency_stop.wire.registry import UnknownSchemaError
from emergency_stop.wire.signing import SignatureVerdict, Verifier

log = logging.getLogger(__name__)

#: How often it is looked who may be forgotten: that goes through all of them.
FORGET_EVERY_MS: Final = 60_000
#: After a key was retired, every hold that it signed is untrusted: so many are told one by one.
TOLD_MAX: Final = 20


class ServiceBook:
    """The newest announcement per instance (``estop.services``), and when each was heard.

    ``lost_ms`` is after how long without a heartbeat an instance is lost, ``may_act_ms`` how long it may act without
    one. Whoever is not counted any more is forgotten; so are most of those that left.
    """

    def __init__(
        self,
        known: tuple[str, ...],
        codec: Codec,
        attendance: Attendance | None = None,
        *,
        lost_ms: int = 30_000,
        may_act_ms: int = 0,
    ) -> None:
        self._codec = codec
        self._attendance = attendance
        self._services = Services(known, may_act_ms=may_act_ms)
        self._counts_ms = self._services.counts_ms(lost_ms)
        #: Which instance each record's key stands for.
        self._of_key: dict[bytes | None, tuple[str, str]] = {}
        #: When what has been read of the past was written at the earliest.
        self._log_at = 0
        self._forgot_at = 0

    def record(self, key: bytes | None, value: bytes | None, now_ms: int = 0, *, written_at: int | None = None) -> None:
        """One record of the topic; a tombstone strikes the instance out, a bad one is logged and skipped.

        ``written_at`` is the timestamp of one that was there before its reader; ``None``: it was just written.
        """
        if value is None:
            self._strike_out(key)
            return
        try:
            instance = self._codec.decode(ServiceInstance, value)
        except (WireError, UnknownSchemaError) as error:
            log.warning("an announcement with key %r was skipped: %s", key, error)
            return
        self._take(key, instance, now_ms, written_at)
        if now_ms - self._forgot_at > FORGET_EVERY_MS:
            self._forget(now_ms)

    def services(self) -> Services:
        """Who there is now; changes with the next record."""
        return self._services

    def _take(self, key: bytes | None, instance: ServiceInstance, now_ms: int, written_at: int | None) -> None:
        counted = bounded_instance(instance)
        named = (counted.service, counted.instance_id)
        if self._of_key.get(key, named) != named:
            self._strike_out(key)
        self._of_key[key] = named
        heard_at = now_ms if written_at is None else self._past(max(written_at, instance.heartbeat_at), now_ms)
        self._services.put(counted, heard_at)
        if self._attendance is None:
            return
        if named != (instance.service, instance.instance_id):
            log.error("%s/%s is too long a name for a lease, so it stops; its ids need be shorter", *named)
        elif instance.state is InstanceState.LEFT or now_ms - max(heard_at, instance.heartbeat_at) <= self._counts_ms:
            # a lease is for those alone who count, so that no stop is claimed without one who may act
            self._attendance.hear(instance, now_ms)

    def _past(self, dated: int, now_ms: int) -> int:
        """When a record of the past was written at the earliest: not before any that lies before it in the log.

        So an instance whose clock is behind is known to have been there lately, if anybody else was before it.
        """
        self._log_at = min(max(self._log_at, dated), now_ms)
        return self._log_at

    def _strike_out(self, key: bytes | None) -> None:
        named = self._of_key.pop(key, None)
        if named is not None:
            self._services.remove(*named)

    def _forget(self, now_ms: int) -> None:
        self._forgot_at = now_ms
        gone = set(self._services.forget(now_ms - self._counts_ms))
        if gone:
            self._of_key = {key: named for key, named in self._of_key.items() if named not in gone}


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
