"""httpx under guard: a stopped account sends no request, and what the platform answers becomes telemetry.

Needs the extra ``httpx``. The guard sits in the transport, below retries, redirects and authentication of
the client: each request that would leave, leaves by it, or not at all.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import httpx

from emergency_stop.domain.values import is_account_id
from emergency_stop.sdk.exchange import Exchange
from emergency_stop.sdk.guard import StopGuard
from emergency_stop.sdk.http_events import Call, Failure, event_of_failure, event_of_status
from emergency_stop.sdk.telemetry import TelemetrySink

AccountOf = Callable[[httpx.Request], str | None]

ACCOUNT_EXTENSION: Final = "account_id"
CORRELATION_EXTENSION: Final = "correlation_id"
CORRELATION_HEADER: Final = "x-correlation-id"
#: An answer of this status or above is told at once, not when it has been read.
ERROR_STATUS_MIN: Final = 400
_FAILURES: Final[dict[type[httpx.TransportError], Failure]] = {
    httpx.ProxyError: Failure.PROXY,
    httpx.ConnectError: Failure.CONNECT,
    httpx.ConnectTimeout: Failure.CONNECT,
    httpx.ReadError: Failure.CONVERSATION,
    httpx.ReadTimeout: Failure.CONVERSATION,
    httpx.WriteError: Failure.CONVERSATION,
    httpx.WriteTimeout: Failure.CONVERSATION,
    httpx.RemoteProtocolError: Failure.CONVERSATION,
}


def account_from_extensions(request: httpx.Request) -> str | None:
    """For a client that serves many accounts: ``client.get(url, extensions={"account_id": "a"})``.

    ``None`` must be said, too: it stands for a request on no account's behalf. Raises ``LookupError`` where
    nothing is said, because a request whose account is unknown would slip through that account's stop.
    """
    try:
        account_id: str | None = request.extensions[ACCOUNT_EXTENSION]
    except KeyError:
        raise LookupError(
            f"{request.method} {request.url.host} names no account; pass"
            f' extensions={{"{ACCOUNT_EXTENSION}": ...}} with the request (None: on no account\'s behalf)'
        ) from None
    return account_id


class GuardedTransport(httpx.AsyncBaseTransport):
    """``inner`` under ``guard``; for ``httpx.AsyncClient(transport=...)``.

    ``account_of(request)`` names the account on whose behalf a request is sent (``None``: no account's).
    A request that a stop forbids raises ``Stopped`` and never reaches ``inner``. Others are in flight until
    their answer is closed, and a stop cuts them: whoever waits for them gets ``Stopped``. With ``telemetry``
    every call is told of once (see ``sdk.http_events``), at once where it failed; calls of no account, and
    errors that are not the platform's, are only counted, in ``untold``.
    """

    def __init__(
        self,
        guard: StopGuard,
        inner: httpx.AsyncBaseTransport,
        *,
        account_of: AccountOf,
        telemetry: TelemetrySink | None = None,
        proxy_id: str | None = None,
    ) -> None:
        """``proxy_id`` names the proxy that ``inner`` uses; without it, host and port of httpx's own are taken."""
        self._guard = guard
        self._inner = inner
        self._account_of = account_of
        self._telemetry = telemetry
        self._proxy_id = proxy_id
        #: Calls of which telemetry was not told, by the reason.
        self.untold: Counter[str] = Counter()

    def around(self, inner: httpx.AsyncBaseTransport) -> GuardedTransport:
        """The same guard, with the same counts, around another transport."""
        twin = copy.copy(self)
        twin._inner = inner  # noqa: SLF001  # its own kind
        return twin

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        account_id = self._account_of(request)
        if account_id is not None and not is_account_id(account_id):
            raise ValueError(f"account {account_id!r:.80} could not be stopped, so no request is sent for it")
        exchange = Exchange(self._guard, account_id)
        report = _Report(self._telemetry, self.untold, self._call_of(request, account_id))
        try:
            with exchange.awaiting():
                response = await self._inner.handle_async_request(request)
                body = _asynchronous(response.stream)
                exchange.answered(body.aclose)
        except BaseException as error:
            report.failed(error)
            await exchange.close(error)
            raise
        report.answered(response.status_code)
        response.stream = _GuardedStream(exchange, body, report)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()

    def _call_of(self, request: httpx.Request, account_id: str | None) -> Call:
        correlation_id = request.extensions.get(CORRELATION_EXTENSION) or request.headers.get(CORRELATION_HEADER)
        endpoint = f"{request.method} {request.url.host}{request.url.path}"
        return Call(account_id or "", endpoint, self._proxy_id or _proxy_of(self._inner), correlation_id)


class _GuardedStream(httpx.AsyncByteStream):
    """An answer's body; the exchange is in flight until it is closed."""

    def __init__(self, exchange: Exchange, inner: httpx.AsyncByteStream, report: _Report) -> None:
        self._exchange = exchange
        self._inner = inner
        self._report = report

    async def __aiter__(self) -> AsyncIterator[bytes]:
        parts = aiter(self._inner)
        try:
            while True:
                with self._exchange.awaiting():
                    part = await anext(parts, None)
                if part is None:
                    return
                yield part
        except GeneratorExit:
            raise
        except BaseException as error:
            self._report.failed(error)
            await self._exchange.close(error)
            raise

    async def aclose(self) -> None:
        try:
            await self._exchange.close()
        finally:
            self._report.closed()


class _Report:
    """Tells telemetry of one call, once."""

    def __init__(self, telemetry: TelemetrySink | None, untold: Counter[str], call: Call) -> None:
        self._telemetry = telemetry
        self._untold = untold
        self._call = call
        self._status_code = 0
        self._is_told = False

    def answered(self, status_code: int) -> None:
        self._status_code = status_code
        if status_code >= ERROR_STATUS_MIN:
            self._tell_status()

    def closed(self) -> None:
        self._tell_status()

    def failed(self, error: BaseException) -> None:
        """An error that is not the platform's doing, a stop or a cancellation for example, is none of its failures."""
        failure = next((_FAILURES[kind] for kind in type(error).__mro__ if kind in _FAILURES), None)
        if self._is_told or self._telemetry is None:
            return
        self._is_told = True
        if failure is None:
            self._untold[type(error).__name__] += 1
        elif not self._call.account_id:
            self._untold["no account"] += 1
        else:
            text = f"{type(error).__name__}: {error}"
            self._telemetry.offer(event_of_failure(self._call, failure, text, self._status_code))

    def _tell_status(self) -> None:
        if self._is_told or self._telemetry is None:
            return
        self._is_told = True
        if self._call.account_id:
            self._telemetry.offer(event_of_status(self._call, self._status_code))
        else:
            self._untold["no account"] += 1


def guard_client(
    client: httpx.AsyncClient,
    guard: StopGuard,
    *,
    account_of: AccountOf,
    telemetry: TelemetrySink | None = None,
    proxy_id: str | None = None,
) -> GuardedTransport:
    """Put every request of an existing ``client`` under ``guard``; the arguments are ``GuardedTransport``'s.

    Its transports stay as they are, and those that replace them later (a new proxy, say) are guarded, too. The
    result counts for all of them. Raises ``ValueError`` where the client is guarded already, ``TypeError``
    where this cannot be done.
    """
    choose: Any = getattr(client, "_transport_for_url", None)
    if choose is None:
        raise TypeError(
            f"{type(client).__name__} has no _transport_for_url, by which httpx chooses a transport; pass"
            " GuardedTransport as its transport= instead"
        )
    if "_transport_for_url" in vars(client):
        raise ValueError("the client is guarded already; one guard per client")
    guarded = GuardedTransport(
        guard,
        client._transport,  # noqa: SLF001
        account_of=account_of,
        telemetry=telemetry,
        proxy_id=proxy_id,
    )

    def chosen(url: httpx.URL) -> httpx.AsyncBaseTransport:
        inner = choose(url)
        return inner if isinstance(inner, GuardedTransport) else guarded.around(inner)

    client._transport_for_url = chosen  # type: ignore[method-assign]  # noqa: SLF001  # a contract test holds the seam
    return guarded


def _asynchronous(stream: object) -> httpx.AsyncByteStream:
    if not isinstance(stream, httpx.AsyncByteStream):
        raise TypeError(f"the transport answered with a {type(stream).__name__}, which is not an AsyncByteStream")
    return stream


def _proxy_of(transport: httpx.AsyncBaseTransport) -> str:
    """Host and port, never credentials, of the proxy that httpx's transport goes through; empty where none."""
    url: Any = getattr(getattr(transport, "_pool", None), "_proxy_url", None)
    return "" if url is None else f"{url.host.decode()}:{url.port}"
