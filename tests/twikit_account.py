"""``twikit.Client`` as it is, signed in as nobody, whose platform is a server on loopback."""

from __future__ import annotations

from typing import Any

import httpx
from httpx._utils import URLPattern

from tests.platform_server import PlatformServer

#: What ``client.user_id()`` asks for.
SETTINGS = "/1.1/account/settings.json"


class ToLoopback(httpx.AsyncBaseTransport):
    """httpx's own transport, led to the server whatever host is asked for."""

    def __init__(self, platform: PlatformServer) -> None:
        self._platform = platform
        self._http = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url.copy_with(scheme="http", host="127.0.0.1", port=self._platform.port)
        request.headers["host"] = url.netloc.decode()
        twin = httpx.Request(request.method, url, headers=request.headers, stream=request.stream)
        twin.extensions = request.extensions
        return await self._http.handle_async_request(twin)

    async def aclose(self) -> None:
        await self._http.aclose()


class NoTransactionIds:
    """In place of the ids that twikit works out of the platform's scripts, which loopback does not have."""

    home_page_response = "there"

    def generate_transaction_id(self, method: str, path: str) -> str:
        return f"{method} {path}"


def twikit_client(platform: PlatformServer) -> Any:
    import twikit

    client = twikit.Client()
    client.client_transaction = NoTransactionIds()
    client.http._mounts = {URLPattern("all://"): ToLoopback(platform)}
    return client
