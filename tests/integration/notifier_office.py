"""A real notifier process, a mail server and an HTTP endpoint that listen to it, and the coordinator's word."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any, Self

from emergency_stop.adapters.embedded_broker import die_with_parent, free_port
from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_tail import CompactedTail, TailRecord
from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.adapters.signed_post import KEY_HEADER, SIGNATURE_HEADER, signature
from emergency_stop.domain import topics
from emergency_stop.domain.messages import AuditRecord, Emergency, Notice, Silence
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry

SERVICES = ("alpha", "beta")
SECRET = "a-secret-that-both-sides-know"  # noqa: S105  # of this test


@dataclass
class MailSink:
    """As much of SMTP as a sender needs; ``accepts`` false: it answers 451 to every mail."""

    mails: list[EmailMessage] = field(default_factory=list)
    accepts: bool = True
    port: int = 0

    async def serve(self, stack: AsyncExitStack) -> None:
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        stack.push_async_callback(_close, server)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 sink\r\n")
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                writer.write(b"354 go on\r\n")
                raw = (await reader.readuntil(b"\r\n.\r\n"))[:-5].replace(b"\r\n..", b"\r\n.")
                if self.accepts:
                    parsed = email.message_from_bytes(raw, policy=email.policy.default)
                    assert isinstance(parsed, EmailMessage)
                    self.mails.append(parsed)
                writer.write(b"250 taken\r\n" if self.accepts else b"451 later\r\n")
            elif verb == b"QUIT":
                writer.write(b"221 bye\r\n")
                break
            else:
                writer.write(b"250 sink\r\n")
            await writer.drain()
        writer.close()


@dataclass(frozen=True)
class Post:
    path: str
    key: str
    document: dict[str, Any]


@dataclass
class HttpSink:
    """Takes signed posts; ``answers`` tells the status by path, 200 where it says nothing."""

    posts: list[Post] = field(default_factory=list)
    refused: list[Post] = field(default_factory=list)
    answers: dict[str, int] = field(default_factory=dict)
    bad_signatures: int = 0
    port: int = 0

    async def serve(self, stack: AsyncExitStack) -> None:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        stack.push_async_callback(_close, server)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers["content-length"]))
        path = first.split()[1]
        signed = headers[SIGNATURE_HEADER.lower()]
        at_ms = int(signed.partition(",")[0].removeprefix("t="))
        self.bad_signatures += signed != signature(SECRET.encode(), at_ms, body)
        status = self.answers.get(path, 200)
        post = Post(path, headers[KEY_HEADER.lower()], json.loads(body))
        (self.posts if status == 200 else self.refused).append(post)
        writer.write(f"HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    def to(self, path: str) -> list[Post]:
        return [post for post in self.posts if post.path == path]

    def notices(self) -> list[str]:
        """Ids of the notices that the webhook took, repeated ones too."""
        return [one["notice_id"] for post in self.to("/hook") for one in post.document["notices"]]


async def _close(server: asyncio.Server) -> None:
    server.close()
    await server.wait_closed()


class NotifierOffice:
    """Topics, sinks and readers around a notifier that can be killed and started again."""

    def __init__(self, brokers: str, folder: Path) -> None:
        self.brokers = brokers
        self._folder = folder
        self.codec = Codec(LocalRegistry())
        self.publisher = KafkaPublisher(brokers, client_id="notifier-office")
        self.mail, self.http = MailSink(), HttpSink()
        self.notices: list[Notice] = []
        self.audit: list[AuditRecord] = []
        self._stack = AsyncExitStack()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._starts = 0
        self.health_port = 0

    async def __aenter__(self) -> Self:
        await ensure_topics(self.brokers, topics.all_topics(SERVICES))
        (self._folder / "secret").write_text(SECRET + "\n")
        await self.mail.serve(self._stack)
        await self.http.serve(self._stack)
        await self.publisher.start()
        self._stack.push_async_callback(self.publisher.stop)
        await self._follow(topics.NOTICES, lambda r: self.notices.append(self.codec.decode(Notice, r.value)))
        await self._follow(topics.AUDIT, lambda r: self.audit.append(self.codec.decode(AuditRecord, r.value)))
        self._stack.callback(self.kill)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _follow(self, topic: str, take: Callable[[TailRecord], None]) -> None:
        tail = CompactedTail(self.brokers, topic, take, client_id=f"notifier-office-{topic}")
        await tail.start()
        self._stack.push_async_callback(tail.stop)

    def environment(self, **variables: str) -> dict[str, str]:
        secret, base = str(self._folder / "secret"), f"http://127.0.0.1:{self.http.port}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ESTOP_")}
        return kept | {
            "ESTOP_BROKERS": self.brokers,
            "ESTOP_SERVICES": ",".join(SERVICES),
            "ESTOP_INSTANCE_ID": "n1",
            "ESTOP_SESSION_TIMEOUT_MS": "3000",
            "ESTOP_METRICS_PORT": str(self.health_port),
            "ESTOP_NOTIFY_SMTP_URL": f"smtp://127.0.0.1:{self.mail.port}",
            "ESTOP_NOTIFY_EMAIL_FROM": "estop@example.org",
            "ESTOP_NOTIFY_EMAIL_TO": "ann@example.org,bob@example.org",
            "ESTOP_NOTIFY_WEBHOOK_URL": f"{base}/hook",
            "ESTOP_NOTIFY_WEBHOOK_SECRET_FILE": secret,
            "ESTOP_LAST_RESORT_URL": f"{base}/revoke",
            "ESTOP_LAST_RESORT_SECRET_FILE": secret,
            "ESTOP_NOTIFY_GROUP_MS": "200",
            "ESTOP_NOTIFY_PER_MINUTE_MAX": "600",
            **variables,
        }

    def start(self, **variables: str) -> None:
        self._starts += 1
        self.health_port = self.health_port or free_port()
        with (self._folder / f"notifier-{self._starts}.log").open("wb") as log:
            self._processes[variables.get("ESTOP_INSTANCE_ID", "n1")] = subprocess.Popen(
                [sys.executable, "-m", "emergency_stop.control.cli.main", "notifier"],
                env=self.environment(**variables), stdout=log, stderr=log, preexec_fn=die_with_parent,
            )  # fmt: skip

    async def types(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """An operator types ``estop …``."""
        command = [sys.executable, "-m", "emergency_stop.control.cli.main", *arguments]
        run = partial(subprocess.run, command, env=self.environment(), capture_output=True, text=True, timeout=90)
        return await asyncio.to_thread(run)

    def kill(self, *names: str) -> None:
        """As ``kill -9``, of those with these instance ids, or of all."""
        for name in names or list(self._processes):
            process = self._processes.pop(name)
            process.kill()
            process.wait()

    def log(self) -> str:
        """Of all its lives."""
        return "".join((self._folder / f"notifier-{n}.log").read_text() for n in range(1, self._starts + 1))

    async def write(self, message: Notice | Emergency | Silence) -> None:
        topic, key = {
            Notice: (topics.NOTICES, getattr(message, "subject", "")),
            Emergency: (topics.EMERGENCIES, getattr(message, "emergency_id", "")),
            Silence: (topics.SILENCES, getattr(message, "silence_id", "")),
        }[type(message)]
        await self.publisher.publish(topic, key.encode(), self.codec.encode(message, topic))
