"""Bounds on what decisions take in: a scope's account is kept whole, and copies what it was told into many places.

A message is bounded once, where it comes in. Nothing is refused for its length: a stop is carried out with a shorter
reason, and says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from emergency_stop.domain.frozen import replace
from emergency_stop.domain.messages import Ack, ConditionAnswer, Hit, Request, ServiceInstance
from emergency_stop.domain.texts import NAME_LENGTH_MAX, TEXT_LENGTH_MAX, fit, fit_name
from emergency_stop.domain.values import ALL_SERVICES, DEPENDS_ON_MAX, SERVICE_NAME_LENGTH_MAX, SERVICES_NAMED_MAX

#: Of what a hit's window held, which explains it and is in no account; JSON, so it is kept whole or not at all.
WINDOW_LENGTH_MAX: Final = 100_000
#: Of many things that a text names so many are named.
LISTED_MAX: Final = 20

M = TypeVar("M", bound=Hit | Request | Ack | ConditionAnswer)

_TEXTS: Final[Mapping[type[Any], tuple[str, ...]]] = {
    Hit: ("reason", "trigger_name"),
    Request: ("reason",),
    Ack: ("reason", "saved_state"),
    ConditionAnswer: ("detail",),
}
#: Of two that are too long, different ones must stay different: they are compared.
_NAMES: Final[Mapping[type[Any], tuple[str, ...]]] = {
    Hit: ("hit_id", "trigger_id", "account_id", "correlation_id", "source_topic"),
    Request: ("request_id", "requested_by", "correlation_id", "emergency_id", "procedure"),
    Ack: ("ack_id", "command_id", "emergency_id", "correlation_id", "service", "instance_id"),
    ConditionAnswer: ("question_id", "trigger_id", "emergency_id", "correlation_id"),
}
#: Where a stop says whom it is for.
_SERVICES: Final[Mapping[type[Any], str]] = {Hit: "target_services", Request: "services"}


def bounded(message: M) -> M:
    """``message`` as decisions take it in; the same object where nothing of it is too long.

    Its scope is as it was: one that is too long is none, and is refused where it is read.
    """
    changes = _cut(message, _TEXTS, TEXT_LENGTH_MAX, fit) | _cut(message, _NAMES, NAME_LENGTH_MAX, fit_name)
    if isinstance(message, Hit) and len(message.window_contents) > WINDOW_LENGTH_MAX:
        changes["window_contents"] = json.dumps({"too_long": len(message.window_contents)})
    if isinstance(message, (Hit, Request)):
        name = _SERVICES[type(message)]
        services, note = _services(getattr(message, name))
        if services is not None:
            changes[name] = services
        if note:
            changes["reason"] = fit(message.reason, TEXT_LENGTH_MAX - len(note)) + note
    return replace(message, **changes) if changes else message


def _cut(
    message: Any, names: Mapping[type[Any], tuple[str, ...]], length_max: int, made_fit: Callable[[str], str]
) -> dict[str, Any]:
    """Those of the named texts that are too long, made fit, by name."""
    texts = ((name, getattr(message, name)) for name in names[type(message)])
    return {name: made_fit(text) for name, text in texts if text is not None and len(text) > length_max}


def _services(named: tuple[str, ...]) -> tuple[tuple[str, ...] | None, str]:
    """(the services to name instead, ``None``: the same; what to add to the reason)."""
    if len(named) > SERVICES_NAMED_MAX:
        return (ALL_SERVICES,), f" ({len(named)} services were named, more than {SERVICES_NAMED_MAX}: taken for all)"
    if any(len(name) > SERVICE_NAME_LENGTH_MAX for name in named):
        return tuple(fit_name(name, SERVICE_NAME_LENGTH_MAX) for name in named), ""
    return None, ""


def bounded_instance(instance: ServiceInstance) -> ServiceInstance:
    """An announcement as decisions take it in; an equal one where nothing of it is too long."""
    return replace(
        instance,
        service=fit_name(instance.service, SERVICE_NAME_LENGTH_MAX),
        instance_id=fit_name(instance.instance_id),
        version=fit_name(instance.version),
        problem=fit(instance.problem),
        depends_on=tuple(fit_name(other, SERVICE_NAME_LENGTH_MAX) for other in instance.depends_on[:DEPENDS_ON_MAX]),
    )


def listed(names: Sequence[str], separator: str = ", ") -> str:
    """The first of ``names``, and how many more there are: thousands of instances make no text for people."""
    more = len(names) - LISTED_MAX
    shown = separator.join(names[:LISTED_MAX])
    return f"{shown}{separator}and {more} more" if more > 0 else shown
