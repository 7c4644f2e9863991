"""Services on httpx and twikit under a real guard on a real broker: requests, evidence and telemetry."""

from __future__ import annotations

import asyncio
import io
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import fastavro
import httpx
import pytest

from emergency_stop.adapters.embedded_broker import free_port
from emergency_stop.adapters.kafka_tail import CompactedTail, TailRecord
from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.domain import topics
from emergency_stop.domain.telemetry import HealthEvent
from emergency_stop.domain.values import AckState, Action, StopLevel
from emergency_stop.integrations.links.twikit_session_manager import TwikitSessionManagerLink
from emergency_stop.sdk import StopGuard, Stopped, Telemetry
from emergency_stop.sdk.httpx import GuardedTransport, account_from_extensions
from emergency_stop.testing.brokers import EmbeddedBroker
from emergency_stop.wire.schemas import committed_ids, load_record_schema
from tests.integration.sdk_office import PROMPT_MS, Office, until
from tests.platform_server import PlatformServer
from tests.twikit_account import SETTINGS, twikit_client

pytestmark = pytest.mark.needs("broker")
NUMBERS = itertools.count(1)


@pytest.fixture
async def office(broker: str) -> AsyncIterator[Office]:
    async with Office(broker, f"linked{next(NUMBERS)}") as opened:
        yield opened


class Manager:
    """The user's own session manager, in the guide's shape."""

    def __init__(self) -> None:
        self.stopped_by: list[str] = []

    async def emergencyStop(self, correlation_id: str) -> bool:  # noqa: N802  # the guide's name
        self.stopped_by.append(correlation_id)
        return True


class Reader:
    """Reads one telemetry topic with fastavro and the committed schema alone."""

    def __init__(self, brokers: str, topic: str, record: str) -> None:
        self.events: list[dict[str, Any]] = []
        self._record = record
        self._schema = fastavro.parse_schema(load_record_schema(record), named_schemas={})
        self._tail = CompactedTail(brokers, topic, self._read, client_id="reader")

    async def __aenter__(self) -> Self:
        await self._tail.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tail.stop()

    def of(self, account_id: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["account_id"] == account_id]

    def _read(self, record: TailRecord) -> None:
        value = record.value or b""
        assert value[:5] == b"\0" + committed_ids()[self._record].to_bytes(4, "big")
        event: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), self._schema, None)
        assert record.key == event["account_id"].encode()
        self.events.append(event)


@asynccontextmanager
async def session(office: Office) -> AsyncIterator[tuple[TwikitSessionManagerLink, Telemetry, Manager]]:
    guard = StopGuard(office.service, office.brokers)
    manager = Manager()
    async with Telemetry(office.service, office.brokers) as telemetry:
        link = TwikitSessionManagerLink(guard, telemetry, manager)
        async with guard:
            yield link, telemetry, manager


async def test_a_stop_command_ends_the_requests_of_twikit_and_a_resume_lets_them_go_on(office: Office) -> None:
    account_id = f"acc-{next(NUMBERS)}"
    scope = f"account:{account_id}"
    async with PlatformServer() as platform, session(office) as (link, _, manager):
        client = twikit_client(platform)
        link.guard_client(account_id, client)
        platform.pages[SETTINGS] = (200, "{}")
        await client.v11.settings()
        under_way = asyncio.create_task(client.http.get("https://x.com/silent"))
        await until(lambda: platform.asked_for("/silent"), "a request is on the wire")
        await office.hold(scope, 1, level=StopLevel.IMMEDIATE)
        stop = await office.command(scope, 1)
        proof = await office.answered(stop, AckState.STOPPED)
        with pytest.raises(Stopped):
            await under_way
        assert (proof.in_flight, manager.stopped_by) == (0, ["corr"])
        assert proof.last_side_effect_at is not None
        assert proof.acked_at - stop.issued_at < PROMPT_MS
        asked = len(platform.requests)
        with pytest.raises(Stopped, match="a test"):
            await client.v11.settings()
        assert len(platform.requests) == asked
        await office.hold(scope, 2, level=None)
        await office.answered(await office.command(scope, 2, Action.RESUME), AckState.RESUMED)
        await client.v11.settings()
        assert len(platform.requests) == asked + 1
        await client.http.aclose()


async def test_a_graceful_stop_is_proven_only_when_the_last_stream_is_closed(office: Office) -> None:
    account_id = f"acc-{next(NUMBERS)}"
    async with PlatformServer() as platform, StopGuard(office.service, office.brokers) as guard:
        transport = GuardedTransport(guard, httpx.AsyncHTTPTransport(), account_of=account_from_extensions)
        async with httpx.AsyncClient(transport=transport) as client:
            asking = {"account_id": account_id}
            async with client.stream("GET", f"{platform.url}/drip", extensions=asking) as response:
                stop = await office.command(f"account:{account_id}", 1, level=StopLevel.GRACEFUL, within_ms=60_000)
                await office.answered(stop, AckState.STOPPING)
                assert office.answer(stop, AckState.STOPPING).in_flight == 1
                assert AckState.STOPPED not in office.answers(stop)
                platform.release.set()
                assert await response.aread() == b"first-last"
            proof = await office.answered(stop, AckState.STOPPED)
            assert proof.in_flight == 0
            assert proof.last_side_effect_at is not None
            assert proof.last_side_effect_at >= office.answer(stop, AckState.STOPPING).acked_at


async def test_a_stream_that_nobody_reads_is_closed_by_an_immediate_stop(office: Office) -> None:
    async with PlatformServer() as platform, StopGuard(office.service, office.brokers) as guard:
        transport = GuardedTransport(guard, httpx.AsyncHTTPTransport(), account_of=account_from_extensions)
        async with httpx.AsyncClient(transport=transport) as client:
            request = client.build_request("GET", f"{platform.url}/drip", extensions={"account_id": "acc-idle"})
            response = await client.send(request, stream=True)
            proof = await office.answered(await office.command("account:acc-idle", 1), AckState.STOPPED)
            assert proof.in_flight == 0
            await until(lambda: platform.open_connections == 0, "the connection is gone")
            with pytest.raises(Stopped):
                await response.aread()


async def test_what_the_platform_answers_lands_on_its_topic(office: Office) -> None:
    account_id = f"acc-{next(NUMBERS)}"
    async with (
        PlatformServer() as platform,
        session(office) as (link, telemetry, _),
        Reader(office.brokers, topics.TELEMETRY_PLATFORM, "PlatformEvent") as read,
    ):
        client = twikit_client(platform)
        link.guard_client(account_id, client)
        for status in (200, 401, 503):
            platform.pages[SETTINGS] = (status, "{}")
            await client.request("GET", f"https://api.x.com{SETTINGS}?secret=1", raise_exception=False)
        link.handle("rateLimited", {"accountId": account_id, "statusCode": 429, "correlationId": "c-9"})
        await until(lambda: len(read.of(account_id)) == 4, "all four are on the topic")
        told = [(event["kind"], event["outcome"], event["status_code"]) for event in read.of(account_id)]
        assert sorted(told) == [
            ("api_call", "failed", 503),
            ("api_call", "ok", 200),
            ("authentication", "failed", 401),
            ("rate_limit", "failed", 429),
        ]
        by_status = {event["status_code"]: event for event in read.of(account_id)}
        assert by_status[401]["endpoint"] == f"GET api.x.com{SETTINGS}"
        assert by_status[429]["correlation_id"] == "c-9"
        assert len({event["event_id"] for event in read.of(account_id)}) == 4
        assert all(event["source"] == office.service and event["occurred_at"] > 0 for event in read.of(account_id))
        await until(lambda: telemetry.stats.waiting == 0, "all are acknowledged")
        assert (telemetry.stats.delivered, sum(telemetry.stats.lost.values())) == (4, 0)
        await client.http.aclose()


async def test_what_is_told_before_the_broker_is_there_arrives_when_it_is(tmp_path: Path) -> None:
    port = free_port()
    async with Telemetry("accountHealthMonitor", f"127.0.0.1:{port}") as telemetry:
        for number in range(50):
            assert telemetry.offer(HealthEvent(account_id=f"early-{number}", health_score=50.0, risk_score=1.0))
        with EmbeddedBroker(tmp_path, port=port) as broker:
            await ensure_topics(broker.bootstrap, topics.TELEMETRY)
            async with Reader(broker.bootstrap, topics.TELEMETRY_HEALTH, "HealthEvent") as read:
                await until(lambda: len(read.events) == 50, "all that waited has arrived")
            await until(lambda: telemetry.stats.waiting == 0, "all are acknowledged")
            assert telemetry.stats.delivered == 50
            await telemetry.stop()
