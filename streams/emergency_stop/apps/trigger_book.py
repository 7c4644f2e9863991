"""The triggers in force, kept up to date from the compacted topic ``estop.triggers``."""

from __future__ import annotations

import logging
import time
from typing import Final

from emergency_stop.adapters.kafka_tail import TailRecord
from emergency_stop.detect.compile import Compiler, compile_plan
from emergency_stop.detect.evaluations import NO_OFFSET
from emergency_stop.detect.plan import Plan
from emergency_stop.domain.default_triggers import builtin_triggers
from emergency_stop.domain.triggers import Trigger
from emergency_stop.domain.values import StopLevel
from emergency_stop.rules.definitions import check_version, stable_version
from emergency_stop.wire.codec import Codec, WireError
from emergency_stop.wire.registry import UnknownSchemaError

log = logging.getLogger(__name__)

_PAUSES: Final = 4
_PAUSE_S_MAX: Final = 5.0


def check_usable(trigger: Trigger) -> None:
    """Raise ``ValueError`` or ``KeyError`` where a detector cannot watch for this version."""
    if not trigger.removed:
        check_version(trigger)
        compile_plan([trigger])


class TriggerBook:
    """The newest version per trigger, beside the built-in ones, which no record can replace."""

    def __init__(self, codec: Codec, preventive_level: StopLevel) -> None:
        self._codec = codec
        self._builtin = {trigger.trigger_id: trigger for trigger in builtin_triggers(preventive_level)}
        self._triggers: dict[str, Trigger] = {}
        self._offsets: dict[str, int] = {}
        self._compiler = Compiler(stable_version)
        self._plan: Plan | None = None
        self._changed = True
        self._compile_again_at_s = 0.0
        self.refused = 0

    def record(self, record: TailRecord) -> None:
        """One record of the topic. A bad one is counted and logged; the version before it stays in force."""
        key = (record.key or b"").decode(errors="replace")
        if record.value is None:
            self._triggers.pop(key, None)
        else:
            try:
                trigger = self._codec.decode(Trigger, record.value)
                check_usable(trigger)
            except (WireError, UnknownSchemaError, KeyError, ValueError) as error:
                self.refused += 1
                text = "trigger %r at offset %d was not taken: %s"
                log.error(text, key, record.offset, error)  # noqa: TRY400  # the text says all
                return
            self._triggers[trigger.trigger_id] = trigger
            self._offsets[trigger.trigger_id] = record.offset
        self._changed = True

    def triggers(self) -> tuple[Trigger, ...]:
        """Everything that is known, removed ones left out, sorted by id."""
        known = self._triggers | self._builtin
        return tuple(known[name] for name in sorted(known) if not known[name].removed)

    def count_active(self) -> int:
        """Triggers that can fire, the built-in ones left out: those are in force whatever an operator does."""
        return sum(one.is_active and one.trigger_id not in self._builtin for one in self.triggers())

    def offset_of(self, trigger_id: str) -> int:
        """Where the newest version lies on the topic; -1 for what is built in."""
        return self._offsets.get(trigger_id, NO_OFFSET)

    def plan(self) -> Plan:
        """The compiled plan; the same object until something changes.

        While a hundred thousand triggers come in, compiling for each of them would leave no time for telemetry: so
        after each time, changes wait for ``_PAUSES`` times as long as it took.
        """
        now_s = time.monotonic()
        if self._plan is None or (self._changed and now_s >= self._compile_again_at_s):
            self._changed = False
            self._plan = self._compiler.compile(self.triggers())
            took_s = time.monotonic() - now_s
            self._compile_again_at_s = now_s + min(took_s * (1 + _PAUSES), _PAUSE_S_MAX)
        return self._plan
