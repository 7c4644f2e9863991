"""A platform on loopback: real HTTP, answers by the path, and it remembers what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self


class PlatformServer:
    """Paths: ``/status/429`` answers so; ``/silent`` never; ``/drip`` begins a body and waits for ``release``;
    ``/broken`` breaks off in the body; ``/hangup`` before the answer; ``/redirect`` leads to ``/status/200``.
    Anything else is looked up in ``pages``, and is a 404 where it is not there.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.pages: dict[str, tuple[int, str]] = {}
        self.release = asyncio.Event()
        self.open_connections = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for talk in self._talks:
            talk.cancel()
        if self._talks:
            await asyncio.wait(self._talks)

    def asked_for(self, path: str) -> int:
        return sum(request.split(" ")[1].partition("?")[0] == path for request in self.requests)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.ensure_future(self._talk(reader, writer))
        self._talks.add(talk)
        talk.add_done_callback(self._talks.discard)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open_connections += 1
        try:
            while await self._answer_one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open_connections -= 1
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection stays open."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *headers = head.splitlines()
        lengths = [header.split(":")[1] for header in headers if header.lower().startswith("content-length:")]
        await reader.readexactly(int(lengths[0]) if lengths else 0)
        self.requests.append(line)
        path = line.split(" ")[1].partition("?")[0]
        match path.split("/")[1:]:
            case ["silent"]:
                await reader.read()  # until the client gives up
            case ["drip"]:
                writer.write(_head(200, 10) + b"first")
                gone = asyncio.ensure_future(reader.read())
                released = asyncio.ensure_future(self.release.wait())
                await asyncio.wait({gone, released}, return_when=asyncio.FIRST_COMPLETED)
                for waiting in (gone, released):
                    waiting.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await waiting
                writer.write(b"-last")
            case ["broken"]:
                writer.write(_head(200, 10) + b"half")
            case ["hangup"]:
                pass
            case ["redirect"]:
                writer.write(b"HTTP/1.1 302 Found\r\nLocation: /status/200\r\nContent-Length: 0\r\n\r\n")
                return True
            case ["status", number]:
                writer.write(_head(int(number), 2) + b"{}")
                return True
            case _:
                status, body = self.pages.get(path, (404, "{}"))
                writer.write(_head(status, len(body.encode())) + body.encode())
                return True
        return False


def _head(status: int, length: int) -> bytes:
    return f"HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n".encode()
