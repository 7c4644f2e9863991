"""What the links of services on twikit add: its clients under guard, and its exceptions as telemetry.

twikit itself is not imported: a client is anything with httpx's client as ``http``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final, Protocol

import httpx

from emergency_stop.domain.telemetry import (
    DetectionEvent,
    Outcome,
    PlatformEvent,
    PlatformKind,
    Severity,
    TelemetryEvent,
)
from emergency_stop.integrations.links.link import ServiceLink
from emergency_stop.sdk.httpx import GuardedTransport, guard_client

DETAIL_LENGTH_MAX: Final = 200


class TwikitClient(Protocol):
    """``twikit.Client``: signed in as one account."""

    http: httpx.AsyncClient


class TwikitLink(ServiceLink):
    """A link whose service acts through clients of twikit."""

    def guard_client(self, account_id: str, client: TwikitClient) -> GuardedTransport:
        """Every request of ``client`` is ``account_id``'s, and needs leave; see ``sdk.httpx.guard_client``.

        Do not pass the guard as ``twikit.Client(transport=...)``: it sets a transport of its own, which goes first.
        """
        return guard_client(client.http, self.guard, account_of=lambda _: account_id, telemetry=self.telemetry)

    @contextlib.contextmanager
    def watch(self, account_id: str) -> Iterator[None]:
        """Put this around calls of twikit: what only its exceptions tell becomes telemetry. They go on."""
        try:
            yield
        except Exception as error:
            event = event_of_error(account_id, error)
            if event is not None:
                self.tell(type(error).__name__, event)
            raise


def event_of_error(account_id: str, error: BaseException) -> TelemetryEvent | None:
    """What an exception of twikit means; ``None`` for those that the guarded client has told by their status."""
    detail = str(error)[:DETAIL_LENGTH_MAX]
    match type(error).__name__:
        case "AccountSuspended":
            return PlatformEvent(
                account_id=account_id, kind=PlatformKind.ACCOUNT_SUSPENSION, outcome=Outcome.FAILED, detail=detail
            )
        case "AccountLocked":
            return DetectionEvent(account_id=account_id, severity=Severity.CRITICAL, detection_type="account_locked")
    return None
