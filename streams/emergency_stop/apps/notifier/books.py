"""What the notifier knows from compacted topics: silences, triggers' channels, and emergencies in force."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from emergency_stop.adapters.kafka_tail import TailRecord
from emergency_stop.apps.notifier.hiding import problem_with
from emergency_stop.domain.default_triggers import builtin_triggers
from emergency_stop.domain.messages import Emergency, Silence
from emergency_stop.domain.triggers import Trigger
from emergency_stop.domain.values import EmergencyState, StopLevel
from emergency_stop.wire.codec import Codec, WireError
from emergency_stop.wire.registry import UnknownSchemaError
from emergency_stop.wire.registry_http import RegistryError

log = logging.getLogger(__name__)

M = TypeVar("M")
#: How long an expired silence stays in memory: other clocks may be behind.
_EXPIRED_KEPT_MS: Final = 3_600_000


def _decoded(codec: Codec, kind: type[M], record: TailRecord) -> M | None:
    try:
        return codec.decode(kind, record.value)
    except (WireError, UnknownSchemaError) as error:
        log.warning("record %r was skipped: %s", record.key, error)
        return None


class SilenceBook:
    """The silences that stand, expired ones too. One that lacks author, reason or end hides nothing, and is told."""

    def __init__(self, codec: Codec, refused: Callable[[], None]) -> None:
        self._codec = codec
        self._refused = refused
        self._silences: dict[bytes, Silence] = {}

    def record(self, record: TailRecord) -> None:
        key = record.key or b""
        self._silences.pop(key, None)
        silence = None if record.value is None else _decoded(self._codec, Silence, record)
        problem = problem_with(silence) if silence else ""
        if problem:
            self._refused()
            log.warning("silence %r hides nothing: %s", key, problem)
        elif silence:
            self._silences[key] = silence

    def silences(self, now_ms: int) -> list[Silence]:
        """Those that have not expired long ago; the others are forgotten."""
        for key in [key for key, one in self._silences.items() if one.expires_at < now_ms - _EXPIRED_KEPT_MS]:
            del self._silences[key]
        return list(self._silences.values())


class ChannelBook:
    """The channels that triggers name for their notices (``estop.triggers``, and the built-in ones)."""

    def __init__(self, codec: Codec, preventive_level: StopLevel) -> None:
        self._codec = codec
        self._builtin = {one.trigger_id: one.notification_channels for one in builtin_triggers(preventive_level)}
        self._channels: dict[str, tuple[str, ...]] = {}

    def record(self, record: TailRecord) -> None:
        trigger = None if record.value is None else _decoded(self._codec, Trigger, record)
        if trigger is not None:  # of a trigger that is removed, notices may still be under way
            self._channels[(record.key or b"").decode(errors="replace")] = trigger.notification_channels

    def named_by(self, trigger_id: str | None) -> tuple[str, ...]:
        """Empty where nobody named any: then all are meant."""
        if trigger_id is None:
            return ()
        return self._builtin.get(trigger_id) or self._channels.get(trigger_id, ())


class EmergencyBook:
    """The newest record of every emergency that is not resolved, and what changed since somebody asked."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._standing: dict[str, Emergency] = {}
        self._changed: dict[str, Emergency] = {}
        self._under_way: set[str] = set()
        #: Why a record could not be looked at. Its emergency may need the last resort: the topic must be read anew.
        self.failure: RegistryError | None = None

    def record(self, record: TailRecord) -> None:
        try:
            emergency = None if record.value is None else _decoded(self._codec, Emergency, record)
        except RegistryError as error:
            self.failure = error
            return
        if emergency is None:
            return
        emergency_id = emergency.emergency_id
        self._changed[emergency_id] = emergency
        if emergency.state is EmergencyState.RESOLVED:
            self._standing.pop(emergency_id, None)
            self._under_way.discard(emergency_id)
        else:
            self._standing[emergency_id] = emergency
            if not emergency.drill:
                self._under_way.add(emergency_id)

    @property
    def standing(self) -> Mapping[str, Emergency]:
        return self._standing

    @property
    def under_way(self) -> set[str]:
        """Ids of emergencies that have not ended, without drills; to be read only."""
        return self._under_way

    def take_changed(self) -> list[Emergency]:
        """The newest record of each that changed since the last call."""
        changed, self._changed = self._changed, {}
        return list(changed.values())
