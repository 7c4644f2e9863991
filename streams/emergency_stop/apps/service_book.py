"""What the services announced, kept up to date from the compacted topic ``estop.services``."""

from __future__ import annotations

import logging

from emergency_stop.coordinate.services import Services
from emergency_stop.domain.messages import ServiceInstance
from emergency_stop.wire.codec import Codec, WireError
from emergency_stop.wire.registry import UnknownSchemaError

log = logging.getLogger(__name__)


class ServiceBook:
    """The newest announcement per instance. Written by the event loop, read by the cores' thread."""

    def __init__(self, known: tuple[str, ...], codec: Codec) -> None:
        self._known = known
        self._codec = codec
        self._instances: dict[bytes | None, ServiceInstance] = {}
        self._snapshot: Services | None = None

    def record(self, key: bytes | None, value: bytes | None) -> None:
        """One record of the topic; a tombstone strikes the instance out, a bad one is logged and skipped."""
        if value is None:
            self._instances.pop(key, None)
        else:
            try:
                self._instances[key] = self._codec.decode(ServiceInstance, value)
            except (WireError, UnknownSchemaError) as error:
                log.warning("an announcement with key %r was skipped: %s", key, error)
        self._snapshot = None

    def services(self) -> Services:
        """An immutable view of now; the same object until something changes."""
        snapshot = self._snapshot
        if snapshot is None:
            # copying a dict's values is one step of the interpreter, so the writer cannot interfere
            snapshot = self._snapshot = Services(self._known, list(self._instances.values()))
        return snapshot
