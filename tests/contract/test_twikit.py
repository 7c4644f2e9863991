"""The real ``twikit.Client`` under guard, on loopback: tells when a seam of twikit or httpx moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import twikit
from twikit import errors

from emergency_stop.domain.telemetry import Outcome, PlatformEvent, PlatformKind, ProxyEvent
from emergency_stop.integrations.links.twikit_session_manager import TwikitSessionManagerLink
from emergency_stop.sdk import StopGuard, Stopped
from tests.platform_server import PlatformServer
from tests.twikit_account import SETTINGS, twikit_client
from tests.unit.sdk.scenario import Told, held, running

SUSPENDED = '{"errors": [{"code": 64, "message": "Your account is suspended"}]}'


class Manager:
    def emergency_stop(self, correlation_id: str) -> bool:
        return True


@dataclass
class Scene:
    platform: PlatformServer
    client: Any
    link: TwikitSessionManagerLink
    told: Told

    def said(self, status: int, body: str = "{}") -> None:
        self.platform.pages[SETTINGS] = (status, body)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    guard = StopGuard("sessionManager", "127.0.0.1:9")  # never started: no broker is asked
    guard._gate.loop = asyncio.get_running_loop()
    guard._gate.open()
    told = Told()
    link = TwikitSessionManagerLink(guard, told, Manager())
    async with PlatformServer() as platform:
        client = twikit_client(platform)
        link.guard_client("a", client)
        async with client.http:
            yield Scene(platform, client, link, told)
    assert not guard._gate.in_flight_actions


async def test_a_stopped_account_sends_no_request_until_it_is_resumed(scene: Scene) -> None:
    gate = scene.link.guard._gate
    gate.apply_hold(held("account:a"), trusted=True)
    with pytest.raises(Stopped):
        await scene.client.user_id()
    assert scene.platform.requests == []
    gate.apply_hold(running("account:a"), trusted=True)
    scene.said(200, '{"screen_name": "me"}')
    settings, _ = await scene.client.v11.settings()
    assert settings == {"screen_name": "me"}


@pytest.mark.parametrize(
    ("status", "raised", "kind"),
    [
        (401, errors.Unauthorized, PlatformKind.AUTHENTICATION),
        (403, errors.Forbidden, PlatformKind.AUTHENTICATION),
        (503, errors.ServerError, PlatformKind.API_CALL),
    ],
)
async def test_a_refusal_of_the_platform_becomes_telemetry(
    scene: Scene, status: int, raised: type[Exception], kind: PlatformKind
) -> None:
    scene.said(status)
    with pytest.raises(raised), scene.link.watch("a"):
        await scene.client.v11.settings()
    (event,) = scene.told.events
    assert isinstance(event, PlatformEvent)
    assert (event.account_id, event.kind, event.outcome, event.status_code) == ("a", kind, Outcome.FAILED, status)
    assert event.endpoint == f"GET {httpx.URL(twikit.client.v11.Endpoint.SETTINGS).host}{SETTINGS}"


async def test_a_rate_limit_becomes_telemetry_and_so_does_what_twikit_asks_because_of_it(scene: Scene) -> None:
    """On 429 twikit asks for the user's state, by a request of its own: that one needs leave, too."""
    scene.said(429)
    with pytest.raises(errors.TwitterException):
        await scene.client.v11.settings()
    statuses = [event.status_code for event in scene.told.events if isinstance(event, PlatformEvent)]
    assert statuses[0] == 429
    assert len(statuses) == len(scene.platform.requests) == 2


async def test_a_suspension_that_hides_in_the_body_is_told_by_the_watch(scene: Scene) -> None:
    scene.said(200, SUSPENDED)
    with pytest.raises(errors.AccountSuspended), scene.link.watch("a"):
        await scene.client.v11.settings()
    kinds = [event.kind for event in scene.told.events if isinstance(event, PlatformEvent)]
    assert PlatformKind.ACCOUNT_SUSPENSION in kinds


async def test_a_new_proxy_is_guarded_too_though_twikit_replaces_the_transport(scene: Scene) -> None:
    scene.client.proxy = "http://user:secret@127.0.0.1:9"
    with pytest.raises(httpx.ConnectError):
        await scene.client.v11.settings()
    (event,) = scene.told.events
    assert isinstance(event, ProxyEvent)
    assert (event.account_id, event.proxy_id, event.outcome) == ("a", "127.0.0.1:9", Outcome.FAILED)
    scene.link.guard._gate.apply_hold(held("account:a"), trusted=True)
    with pytest.raises(Stopped):
        await scene.client.v11.settings()


async def test_a_transport_handed_to_twikit_is_not_the_one_that_it_uses(scene: Scene) -> None:
    """Why ``guard_client`` exists: this would look guarded, and is not."""

    class Never(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            raise AssertionError("used")

    client = twikit.Client(transport=Never())
    assert not isinstance(client.http._transport_for_url(httpx.URL("https://x.com")), Never)
