"""What a call to the platform means as telemetry: pure, and a table.

=====================  =========================  =======
the platform said      event                      outcome
=====================  =========================  =======
401, 403               platform, authentication   failed
429                    platform, rate_limit       failed
407                    proxy                      failed
408, 5xx               platform, api_call         failed
anything else          platform, api_call         ok
no answer: proxy       proxy                      failed
no answer: otherwise   platform, api_call         failed
=====================  =========================  =======

Calls that went well are told too: a rate of failures needs them. A 404 is an answer, so that the platform works.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from emergency_stop.domain.telemetry import Outcome, PlatformEvent, PlatformKind, ProxyEvent, TelemetryEvent

DETAIL_LENGTH_MAX: Final = 200
_KINDS: Final = {
    401: PlatformKind.AUTHENTICATION,
    403: PlatformKind.AUTHENTICATION,
    429: PlatformKind.RATE_LIMIT,
}
PROXY_AUTHENTICATION_REQUIRED: Final = 407
REQUEST_TIMEOUT: Final = 408
SERVER_ERROR_MIN: Final = 500


class Failure(Enum):
    """Where a call without an answer failed."""

    #: The connection was not established; through a proxy, that is the proxy's failure.
    CONNECT = auto()
    #: The proxy said so itself.
    PROXY = auto()
    #: The connection was established, and broke or fell silent.
    CONVERSATION = auto()


@dataclass(frozen=True, slots=True)
class Call:
    """A call as telemetry tells of it: ``endpoint`` without query, ``proxy_id`` empty where there is none."""

    account_id: str
    endpoint: str
    proxy_id: str = ""
    correlation_id: str | None = None


def event_of_status(call: Call, status_code: int) -> TelemetryEvent:
    """The event of an answer."""
    if status_code == PROXY_AUTHENTICATION_REQUIRED:
        return _proxy_event(call, "the proxy wants other credentials (407)")
    is_failure = status_code in _KINDS or status_code == REQUEST_TIMEOUT or status_code >= SERVER_ERROR_MIN
    return _platform_event(
        call,
        _KINDS.get(status_code, PlatformKind.API_CALL),
        Outcome.FAILED if is_failure else Outcome.OK,
        status_code=status_code,
    )


def event_of_failure(call: Call, failure: Failure, error: str, status_code: int = 0) -> TelemetryEvent:
    """The event of a call without an answer, or (then with its ``status_code``) with an answer that broke off."""
    if failure is Failure.PROXY or (failure is Failure.CONNECT and call.proxy_id):
        return _proxy_event(call, error)
    return _platform_event(call, PlatformKind.API_CALL, Outcome.FAILED, status_code=status_code, detail=error)


def _platform_event(
    call: Call, kind: PlatformKind, outcome: Outcome, *, status_code: int, detail: str = ""
) -> PlatformEvent:
    return PlatformEvent(
        account_id=call.account_id,
        kind=kind,
        outcome=outcome,
        status_code=status_code,
        endpoint=call.endpoint[:DETAIL_LENGTH_MAX],
        detail=detail[:DETAIL_LENGTH_MAX],
        correlation_id=call.correlation_id,
    )


def _proxy_event(call: Call, error: str) -> ProxyEvent:
    return ProxyEvent(
        account_id=call.account_id,
        proxy_id=call.proxy_id or "unknown",
        outcome=Outcome.FAILED,
        error=error[:DETAIL_LENGTH_MAX],
        correlation_id=call.correlation_id,
    )
