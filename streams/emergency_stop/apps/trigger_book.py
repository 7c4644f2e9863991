"""The triggers in force, kept up to date from the compacted topic ``estop.triggers``."""

from __future__ import annotations

import logging
import time
from typing import Final

from emergency_stop.adapters.kafka_tail import TailRecord
from emergency_stop.detect.compile import Compiler
from emergency_stop.detect.evaluations import NO_OFFSET
from emergency_stop.detect.page_budget import check_fits, page_problem, that_fit
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
#: Triggers without room that the log names.
_NAMED_MAX: Final = 10


def check_usable(trigger: Trigger) -> None:
    """Raise ``ValueError`` or ``KeyError`` where a detector cannot watch for this version."""
    if not trigger.removed:
        check_version(trigger)
        check_fits([trigger], stable_version)


class TriggerBook:
    """The newest version per trigger, beside the built-in ones, which no record can replace.

    Where all of them together would keep more of accounts than a record of state takes, those that there is no room for
    are left out, the least urgent first: a detector that watches for most is worth more than none.
    """

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
        #: Ids of triggers that are known, and that there is no room for.
        self.left_out: frozenset[str] = frozenset()

    def record(self, record: TailRecord) -> None:
        """One record of the topic. A bad one is counted and logged; the version before it stays in force.

        Raises ``SchemaUnansweredError``, and has changed nothing then.
        """
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
        """Everything that is known and that there is room for, removed ones left out, sorted by id."""
        return tuple(one for one in self._known() if one.trigger_id not in self.left_out)

    def _known(self) -> tuple[Trigger, ...]:
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
            self._plan = self._compiled()
            took_s = time.monotonic() - now_s
            self._compile_again_at_s = now_s + min(took_s * (1 + _PAUSES), _PAUSE_S_MAX)
        return self._plan

    def _compiled(self) -> Plan:
        known = self._known()
        plan = self._compiler.compile(known)
        problem = page_problem(plan)
        left_out = frozenset[str]()
        if problem:
            room = that_fit(known, stable_version)
            plan = self._compiler.compile(room)
            left_out = frozenset(one.trigger_id for one in known) - {one.trigger_id for one in room}
        if left_out - self.left_out:
            names = ", ".join(sorted(left_out)[:_NAMED_MAX])
            text = "%d triggers are not watched for, because there is no room: %s. %s"
            log.error(text, len(left_out), names, problem)
        self.left_out = left_out
        return plan
