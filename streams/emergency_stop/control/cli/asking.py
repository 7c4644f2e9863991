"""Requests as commands make them, and the coordinator's word about one, as the audit topic has it."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.adapters.kafka_tail import TailRecord
from emergency_stop.config import Settings
from emergency_stop.control.cli.output import say
from emergency_stop.control.errors import EXIT_NOT_PROVEN, EXIT_OK, EXIT_REFUSED
from emergency_stop.control.installation import Installation
from emergency_stop.domain.messages import AuditRecord, Request
from emergency_stop.domain.texts import TEXT_LENGTH_MAX, fit, fit_name
from emergency_stop.domain.topics import AUDIT
from emergency_stop.domain.values import Action, StopLevel
from emergency_stop.wire.codec import WireError
from emergency_stop.wire.registry import UnknownSchemaError

#: How long after its own deadline a stop or a drill may take to be judged.
JUDGED_WITHIN_S: Final = 10.0
ANSWERED_WITHIN_S: Final = 30.0
#: The request is durable, and a coordinator that comes later reads it.
UNANSWERED: Final = "no coordinator has answered; the request is in the log and may still be carried out"


def request_of(options: argparse.Namespace, action: Action, scope: str, **more: Any) -> Request:
    """What ``options`` (``reason``, ``by``) ask for, now."""
    request_id, reason = str(uuid.uuid4()), fit(options.reason)
    if reason != options.reason:  # a stop is not refused for its form
        allowed = f"at most {TEXT_LENGTH_MAX} that UTF-8 can carry"
        say(f"--reason has {len(options.reason)} characters, allowed are {allowed}; it goes out as: {reason}")
    return Request(
        request_id=request_id,
        action=action,
        scope=scope,
        reason=reason,
        requested_by=fit_name(options.by or f"cli:{getpass.getuser()}"),
        requested_at=SystemClock().now_ms(),
        correlation_id=request_id,
        **more,
    )


@contextlib.asynccontextmanager
async def hearing(installation: Installation, request: Request) -> AsyncIterator[Callable[[], AuditRecord | None]]:
    """Within this context the yielded function gives the first decision about ``request``; ``None`` until it comes.

    Send the request inside. Raises ``UnavailableError`` where the audit topic cannot be read.
    """
    heard: list[AuditRecord] = []

    def take(record: TailRecord) -> None:
        with contextlib.suppress(WireError, UnknownSchemaError):
            decision = installation.codec.decode(AuditRecord, record.value)
            if decision.correlation_id == request.correlation_id:
                heard.append(decision)

    async with installation.listening(AUDIT, take):
        yield lambda: heard[0] if heard else None


def judged_within_s(settings: Settings, level: StopLevel) -> float:
    """How long a stop or drill at ``level`` may take until it is judged, escalation left out."""
    if level is StopLevel.IMMEDIATE:
        return settings.immediate_stop_timeout_ms / 1000 + JUDGED_WITHIN_S
    rounds = {StopLevel.CASCADING: len(settings.services), StopLevel.MAINTENANCE: 2}.get(level, 1)
    return rounds * settings.graceful_stop_timeout_ms / 1000 + JUDGED_WITHIN_S


def how_it_ended(answer: AuditRecord | None, *, done: bool) -> int:
    """The exit code of a request: done, refused by a coordinator, or unanswered, and then perhaps carried out later."""
    if done:
        return EXIT_OK
    return EXIT_NOT_PROVEN if answer is None else EXIT_REFUSED
