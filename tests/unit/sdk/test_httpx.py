"""The guarded transport against a platform on loopback: what leaves, what is cut, and what telemetry is told.

::

    in flight  ──[begin ··· request ··· head ··· body ··· close]──
    a stop     cuts it wherever it is; ``Stopped`` reaches whoever waits, or reads on
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from httpx._utils import URLPattern

from emergency_stop.domain.telemetry import Outcome, PlatformEvent, PlatformKind, ProxyEvent
from emergency_stop.sdk import StopGuard, Stopped
from emergency_stop.sdk.gate import Gate
from emergency_stop.sdk.httpx import GuardedTransport, account_from_extensions, guard_client
from tests.platform_server import PlatformServer
from tests.unit.sdk.scenario import IMMEDIATE, Told, held, running


async def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.001)


@dataclass
class Scene:
    platform: PlatformServer
    client: httpx.AsyncClient
    guard: StopGuard
    transport: GuardedTransport
    gate: Gate
    told: Told

    def url(self, path: str) -> str:
        return self.platform.url + path

    def ask(self, path: str, account_id: str | None = "a", **more: Any) -> asyncio.Task[httpx.Response]:
        extensions = {"account_id": account_id, **more.pop("extensions", {})}
        return asyncio.create_task(self.client.get(self.url(path), extensions=extensions, **more))

    def stop(self, account_id: str = "a") -> None:
        """An immediate stop, as its hold brings it."""
        self.gate.apply_hold(held(f"account:{account_id}", level=IMMEDIATE), trusted=True)
        self.gate.revoke(f"account:{account_id}")


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    guard = StopGuard("sessionManager", "127.0.0.1:9")  # never started: no broker is asked
    guard._gate.loop = asyncio.get_running_loop()
    guard._gate.open()
    told = Told()
    inner = httpx.AsyncHTTPTransport()
    transport = GuardedTransport(guard, inner, account_of=account_from_extensions, telemetry=told)
    async with PlatformServer() as platform, httpx.AsyncClient(transport=transport, timeout=5) as client:
        yield Scene(platform, client, guard, transport, guard._gate, told)
        assert not guard._gate.in_flight_actions, "something was left in flight"
        assert not guard._gate.revoked


async def test_a_stopped_account_sends_nothing_and_others_do(scene: Scene) -> None:
    scene.gate.apply_hold(held("account:a"), trusted=True)
    with pytest.raises(Stopped, match="held at 1"):
        await scene.ask("/status/200")
    assert scene.platform.requests == []
    assert (await scene.ask("/status/200", "b")).status_code == 200
    scene.gate.apply_hold(running("account:a"), trusted=True)
    assert (await scene.ask("/status/200")).status_code == 200
    assert len(scene.platform.requests) == 2


async def test_a_stop_between_two_hops_ends_a_redirect(scene: Scene) -> None:
    async def stop_here(response: httpx.Response) -> None:
        scene.gate.apply_hold(held("account:a"), trusted=True)

    scene.client.event_hooks["response"] = [stop_here]
    with pytest.raises(Stopped):
        await scene.ask("/redirect", follow_redirects=True)
    assert scene.platform.asked_for("/status/200") == 0


@pytest.mark.parametrize("path", ["/silent", "/drip"])
async def test_an_immediate_stop_cuts_a_request_wherever_it_waits(scene: Scene, path: str) -> None:
    request = scene.ask(path)
    await until(lambda: scene.platform.asked_for(path), "the request is on the wire")
    assert scene.gate.in_flight("account:a") == 1
    scene.stop()
    with pytest.raises(Stopped):
        await request
    assert (request.cancelled(), scene.gate.in_flight("account:a")) == (False, 0)
    await until(lambda: scene.platform.open_connections == 0, "the connection was given up")


@pytest.mark.parametrize(("path", "failed"), [("/status/200", 0), ("/status/503", 0), ("/hangup", 1), ("/broken", 1)])
async def test_an_exchange_that_breaks_is_a_failed_action_and_an_answer_is_none(
    scene: Scene, path: str, failed: int
) -> None:
    """What the platform answers is for telemetry to judge."""
    with contextlib.suppress(httpx.TransportError):
        await scene.ask(path)
    await until(lambda: scene.gate.permitted == 1, "the exchange is over")
    assert scene.gate.failed_actions == failed


async def test_an_exchange_that_a_stop_cuts_is_no_failed_action(scene: Scene) -> None:
    request = scene.ask("/silent")
    await until(lambda: scene.platform.asked_for("/silent"), "the request is on the wire")
    scene.stop()
    with pytest.raises(Stopped):
        await request
    assert (scene.gate.permitted, scene.gate.failed_actions) == (1, 0)


async def test_the_requests_of_other_accounts_go_on(scene: Scene) -> None:
    request = scene.ask("/drip", "b")
    await until(lambda: scene.platform.asked_for("/drip"), "the request is on the wire")
    scene.stop("a")
    scene.platform.release.set()
    assert (await request).text == "first-last"


async def test_a_stream_is_in_flight_until_it_is_closed_not_only_until_its_head_came(scene: Scene) -> None:
    async with scene.client.stream("GET", scene.url("/drip"), extensions={"account_id": "a"}) as response:
        assert (response.status_code, scene.gate.in_flight("account:a")) == (200, 1)
        scene.platform.release.set()
        assert await response.aread() == b"first-last"
    assert scene.gate.in_flight("account:a") == 0
    assert scene.gate.last_at["a"] > 0


async def test_a_stop_closes_a_stream_that_nobody_reads_and_cancels_nobody(scene: Scene) -> None:
    """The task that holds the answer does something else meanwhile: that is not ours to cancel."""
    request = scene.client.build_request("GET", scene.url("/drip"), extensions={"account_id": "a"})
    response = await scene.client.send(request, stream=True)
    parts = response.aiter_raw()
    assert await anext(parts) == b"first"
    scene.stop()
    assert scene.gate.in_flight("account:a") == 1, "it counts until the connection was given up"
    await until(lambda: scene.gate.in_flight("account:a") == 0, "closed by the stop")
    await until(lambda: scene.platform.open_connections == 0, "the connection was given up")
    with pytest.raises(Stopped):
        await anext(parts)
    await response.aclose()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_stop_cuts_a_reader_in_another_task_than_the_sender_s(scene: Scene) -> None:
    request = scene.client.build_request("GET", scene.url("/drip"), extensions={"account_id": "a"})
    response = await scene.client.send(request, stream=True)
    reader = asyncio.create_task(response.aread())
    await until(lambda: response.num_bytes_downloaded == 5, "it reads")
    await asyncio.sleep(0)
    scene.stop()
    with pytest.raises(Stopped):
        await reader
    await response.aclose()


async def test_a_cancellation_that_is_not_ours_stays_one(scene: Scene) -> None:
    request = scene.ask("/silent")
    await until(lambda: scene.platform.asked_for("/silent"), "the request is on the wire")
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    both = scene.ask("/silent")
    await until(lambda: scene.platform.asked_for("/silent") == 2, "the request is on the wire")
    scene.stop()
    both.cancel()
    with pytest.raises(asyncio.CancelledError):
        await both


async def test_a_stop_repeated_while_the_cut_is_under_way_leaves_no_cancellation_behind(scene: Scene) -> None:
    async def work() -> int:
        with pytest.raises(Stopped):
            await scene.client.get(scene.url("/silent"), extensions={"account_id": "a"})
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    worker = asyncio.create_task(work())
    await until(lambda: scene.platform.asked_for("/silent"), "the request is on the wire")
    scene.stop()
    scene.gate.revoke("account:a", again=True)
    assert await worker == 0


async def test_a_request_that_names_no_account_is_not_sent(scene: Scene) -> None:
    with pytest.raises(LookupError, match=r'pass extensions=\{"account_id"'):
        await scene.client.get(scene.url("/status/200"))
    assert scene.platform.requests == []


# ------------------------------------------------------------------------------------------- telemetry


@pytest.mark.parametrize(
    ("status", "kind", "outcome"),
    [
        (200, PlatformKind.API_CALL, Outcome.OK),
        (404, PlatformKind.API_CALL, Outcome.OK),
        (401, PlatformKind.AUTHENTICATION, Outcome.FAILED),
        (403, PlatformKind.AUTHENTICATION, Outcome.FAILED),
        (408, PlatformKind.API_CALL, Outcome.FAILED),
        (429, PlatformKind.RATE_LIMIT, Outcome.FAILED),
        (500, PlatformKind.API_CALL, Outcome.FAILED),
        (503, PlatformKind.API_CALL, Outcome.FAILED),
    ],
)
async def test_an_answer_is_told_once_by_its_status(
    scene: Scene, status: int, kind: PlatformKind, outcome: Outcome
) -> None:
    await scene.ask(f"/status/{status}?token=secret", extensions={"correlation_id": "c-1"})
    endpoint = f"GET 127.0.0.1/status/{status}"
    expected = PlatformEvent(
        account_id="a", kind=kind, outcome=outcome, status_code=status, endpoint=endpoint, correlation_id="c-1"
    )
    assert scene.told.events == [expected]


async def test_the_correlation_id_may_come_in_a_header(scene: Scene) -> None:
    await scene.ask("/status/429", headers={"X-Correlation-Id": "c-2"})
    assert scene.told.events[0].correlation_id == "c-2"


@pytest.mark.parametrize(("path", "status"), [("/hangup", 0), ("/broken", 200)])
async def test_a_call_that_breaks_is_told_as_failed(scene: Scene, path: str, status: int) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await scene.ask(path)
    (event,) = scene.told.events
    assert isinstance(event, PlatformEvent)
    assert (event.kind, event.outcome, event.status_code) == (PlatformKind.API_CALL, Outcome.FAILED, status)
    assert event.detail.startswith("RemoteProtocolError")


async def test_a_platform_that_cannot_be_reached_is_a_failed_call(scene: Scene) -> None:
    with pytest.raises(httpx.ConnectError):
        await scene.client.get("http://127.0.0.1:9/", extensions={"account_id": "a"})
    (event,) = scene.told.events
    assert isinstance(event, PlatformEvent)
    assert (event.kind, event.outcome, event.status_code) == (PlatformKind.API_CALL, Outcome.FAILED, 0)


async def test_a_proxy_that_fails_is_told_by_its_address_without_its_credentials(scene: Scene) -> None:
    proxied = scene.transport.around(httpx.AsyncHTTPTransport(proxy="http://user:secret@127.0.0.1:9"))
    async with httpx.AsyncClient(transport=proxied) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("http://platform.test/", extensions={"account_id": "a"})
    (event,) = scene.told.events
    assert isinstance(event, ProxyEvent)
    assert (event.proxy_id, event.outcome) == ("127.0.0.1:9", Outcome.FAILED)
    assert "secret" not in repr(event)


async def test_what_no_account_asked_and_what_a_stop_cut_is_counted_and_not_told(scene: Scene) -> None:
    await scene.ask("/status/500", None)
    request = scene.ask("/silent")
    await until(lambda: scene.platform.asked_for("/silent"), "the request is on the wire")
    scene.stop()
    with pytest.raises(Stopped):
        await request
    assert scene.told.events == []
    assert scene.transport.untold == {"no account": 1, "Stopped": 1}


# --------------------------------------------------------------------------------- an existing client


async def test_an_existing_client_is_guarded_through_a_change_of_its_transports(scene: Scene) -> None:
    async with httpx.AsyncClient() as client:
        guard_client(client, scene.guard, account_of=account_from_extensions)
        assert (await client.get(scene.url("/status/200"), extensions={"account_id": "a"})).status_code == 200
        client._mounts = {URLPattern("all://"): httpx.AsyncHTTPTransport()}
        scene.stop()
        with pytest.raises(Stopped):
            await client.get(scene.url("/status/200"), extensions={"account_id": "a"})
        with pytest.raises(ValueError, match="guarded already"):
            guard_client(client, scene.guard, account_of=account_from_extensions)
    assert len(scene.platform.requests) == 1


def test_what_is_no_client_of_httpx_is_refused(scene: Scene) -> None:
    with pytest.raises(TypeError, match="pass GuardedTransport as its transport"):
        guard_client(object(), scene.guard, account_of=account_from_extensions)  # type: ignore[arg-type]
