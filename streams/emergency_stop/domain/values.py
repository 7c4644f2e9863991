"""The small closed vocabularies of the field, and scopes.

Every name here is the name on the wire, in JSON, in metrics and in the documentation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final


class TriggerType(StrEnum):
    HEALTH_SCORE_CRITICAL = "health_score_critical"
    ACCOUNT_SUSPENSION_RISK = "account_suspension_risk"
    DETECTION_EVENT_CRITICAL = "detection_event_critical"
    RATE_LIMIT_VIOLATION = "rate_limit_violation"
    BEHAVIORAL_ANOMALY_SEVERE = "behavioral_anomaly_severe"
    AUTHENTICATION_FAILURE = "authentication_failure"
    PROXY_FAILURE_CASCADE = "proxy_failure_cascade"
    MANUAL_TRIGGER = "manual_trigger"
    TIME_BASED_TRIGGER = "time_based_trigger"
    CUSTOM_RULE_TRIGGER = "custom_rule_trigger"
    SYSTEM_RESOURCE_CRITICAL = "system_resource_critical"
    EXTERNAL_API_FAILURE = "external_api_failure"


class StopLevel(StrEnum):
    IMMEDIATE = "immediate"
    GRACEFUL = "graceful"
    SERVICE_SPECIFIC = "service_specific"
    CASCADING = "cascading"
    MAINTENANCE = "maintenance"


#: How severe a level is for a gate: the highest wins where several holds apply.
LEVEL_SEVERITY: Final[dict[StopLevel, int]] = {
    StopLevel.MAINTENANCE: 1,
    StopLevel.SERVICE_SPECIFIC: 2,
    StopLevel.GRACEFUL: 2,
    StopLevel.CASCADING: 2,
    StopLevel.IMMEDIATE: 3,
}


class Mode(StrEnum):
    """What a hit of a trigger may do: record only, notify, or stop."""

    SHADOW = "shadow"
    WARN = "warn"
    ENFORCE = "enforce"


class OnBlind(StrEnum):
    """What a trigger wants while its detector cannot see: tell somebody, or hold what it watches."""

    ALERT = "alert"
    HOLD = "hold"


class ClearRule(StrEnum):
    WHEN_CONDITION_CLEARS = "when_condition_clears"
    AFTER_OPERATOR_RESET = "after_operator_reset"
    NEVER_AUTOMATICALLY = "never_automatically"


class Action(StrEnum):
    """What is asked of the coordinator, or ordered of a service; the last two are asked only.

    ``probe`` orders a service to admit a share of its work, and to say whether it is well at that share.
    """

    STOP = "stop"
    RESUME = "resume"
    PROBE = "probe"
    DRILL = "drill"
    RECOVER = "recover"
    RESET = "reset"


class AckState(StrEnum):
    """What one instance of a service says, or what its silence means, about one command."""

    RECEIVED = "received"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    UNKNOWN = "unknown"
    RESUMED = "resumed"
    REFUSED = "refused"
    READY = "ready"


class EmergencyState(StrEnum):
    SCHEDULED = "scheduled"
    STOPPING = "stopping"
    STOPPED = "stopped"
    PARTIAL = "partial"
    RECOVERING = "recovering"
    RESOLVED = "resolved"


class RecoveryPhase(StrEnum):
    VALIDATION = "validation"
    PREPARATION = "preparation"
    GRADUAL_RESTORE = "gradual_restore"
    FULL_RESTORE = "full_restore"
    MONITORING = "monitoring"


class RecoveryOutcome(StrEnum):
    """What became of a recovery; an abandoned one was overtaken by a newer stop or a person's resume."""

    UNDER_WAY = "under_way"
    COMPLETED = "completed"
    ROLLED_BACK = "rolled_back"
    ABANDONED = "abandoned"


class ConditionState(StrEnum):
    """Whether a trigger's condition holds for a scope now; ``unknown`` where nothing fresh tells."""

    CLEAR = "clear"
    HOLDS = "holds"
    UNKNOWN = "unknown"


class EvaluationOutcome(StrEnum):
    """What became of an evaluation, or of many: see ``Evaluation.avsc``."""

    SUPPRESSED = "suppressed"
    BECAME_TRUE = "became_true"
    CLEARED = "cleared"
    UNCHANGED = "unchanged"
    OTHERS = "others"
    IN_FORCE = "in_force"


class LifecycleKind(StrEnum):
    """The guide's events, under the guide's names."""

    EMERGENCY_STARTED = "emergencyStarted"
    EMERGENCY_COMPLETED = "emergencyCompleted"
    RECOVERY_COMPLETED = "recoveryCompleted"
    TRIGGER_EVALUATED = "triggerEvaluated"
    SERVICE_STOP_ATTEMPTED = "serviceStopAttempted"


class NoticeKind(StrEnum):
    """How urgently people are told: a page wakes somebody."""

    PAGE = "page"
    WARNING = "warning"
    INFO = "info"


class HoldState(StrEnum):
    HELD = "held"
    RUNNING = "running"


class InstanceState(StrEnum):
    UP = "up"
    LEFT = "left"


class WithoutLease(StrEnum):
    """What an instance does without the coordinator's lease."""

    STOP = "stop"
    #: Warns, and goes on.
    RUN = "run"
    #: Asks for none.
    IGNORE = "ignore"


class AccountKeyState(StrEnum):
    """What a record about an account's keys says."""

    KEY = "key"
    ERASED = "erased"


class ScopeKind(StrEnum):
    GLOBAL = "global"
    SERVICE = "service"
    ACCOUNT = "account"


#: How the system's own processes name themselves in ``telemetry.system``. They take no commands: who stops others is
#: not stopped by what it sends, and no service may have such a name.
OWN_PROCESSES: Final = ("estop-detector", "estop-coordinator", "estop-sink", "estop-notifier")

#: Stands for every service in ``services`` and ``target_services``.
ALL_SERVICES: Final = "all"

#: Characters (code points, not bytes) of a scope's wire form.
SCOPE_LENGTH_MAX: Final = 256
#: Of an account's id: with its kind before it, it is a scope.
ACCOUNT_ID_LENGTH_MAX: Final = SCOPE_LENGTH_MAX - len("account:")
#: Of a service's name: with ``estop.commands.`` before it, it is the name of a topic, of 249 characters at most.
SERVICE_NAME_LENGTH_MAX: Final = 234
#: Services that one is announced to depend on.
DEPENDS_ON_MAX: Final = 256
#: Services that a stop may name; one that names more stops all of them.
SERVICES_NAMED_MAX: Final = 256
#: A message's scope is read again by everybody whom it passes; so many newest are remembered.
_SCOPES_REMEMBERED: Final = 4_096
_SERVICE_NAME: Final = re.compile(rf"[A-Za-z0-9._-]{{1,{SERVICE_NAME_LENGTH_MAX}}}")


def is_account_id(text: str) -> bool:
    """Whether an account of this id can be stopped.

    The one rule for every id: what the decoder lets in, what triggers name, and what the coordinator stops.
    ``columnar.name_kernels`` asks the same of bytes.
    """
    return 0 < len(text) <= ACCOUNT_ID_LENGTH_MAX and text.strip() == text


def is_service_name(text: str) -> bool:
    """Whether a service of this name can be stopped: its commands need a topic."""
    return _SERVICE_NAME.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, order=True)
class Scope:
    """What a hold covers: everything, one service, or one account. ``str()`` is its wire form."""

    kind: ScopeKind
    name: str = ""

    def __str__(self) -> str:
        return self.kind.value if self.kind is ScopeKind.GLOBAL else f"{self.kind.value}:{self.name}"

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Read ``global``, ``service:<name>`` or ``account:<id>``.

        Raises ``ValueError`` that names the text and the three allowed forms.
        """
        return _read_scope(text)

    @classmethod
    def account(cls, account_id: str) -> Scope:
        return cls(ScopeKind.ACCOUNT, account_id)

    @classmethod
    def service(cls, name: str) -> Scope:
        return cls(ScopeKind.SERVICE, name)


@lru_cache(maxsize=_SCOPES_REMEMBERED)
def _read_scope(text: str) -> Scope:
    kind, _, name = text.partition(":")
    is_account = kind == "account" and is_account_id(name)
    if text != "global" and not is_account and not (kind == "service" and is_service_name(name)):
        raise ValueError(
            f"scope {text[:SCOPE_LENGTH_MAX]!r} is not one of: global, service:<name>, account:<id>; a name has"
            f" at most {SERVICE_NAME_LENGTH_MAX} letters, digits, '.', '-' and '_', an id at most"
            f" {ACCOUNT_ID_LENGTH_MAX} characters without white space at the ends"
        )
    return Scope(ScopeKind(kind), name)


GLOBAL_SCOPE: Final = Scope(ScopeKind.GLOBAL)


def is_scope(text: str) -> bool:
    """Whether ``Scope.parse`` reads it."""
    try:
        Scope.parse(text)
    except ValueError:
        return False
    return True
