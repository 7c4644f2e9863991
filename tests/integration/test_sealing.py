"""Telemetry is sealed on its way out: on a real broker, with races for keys, erasures, and keys that do not come."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import fastavro
import pytest

from emergency_stop.adapters import account_keys
from emergency_stop.adapters.account_keys import AccountKeyring
from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_tail import CompactedTail, TailRecord
from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.domain.messages import AccountKey
from emergency_stop.domain.telemetry import HealthEvent, Outcome, PlatformEvent, PlatformKind, ProxyEvent
from emergency_stop.domain.topics import ACCOUNT_KEYS, TELEMETRY_PLATFORM, TELEMETRY_PROXY, TopicSpec, all_topics
from emergency_stop.sdk import KeyFileError, Telemetry
from emergency_stop.testing.brokers import EmbeddedBroker
from emergency_stop.wire.account_keys import AccountKeyBook, erasures_of, record_name
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.privacy_keys import PrivacyKeys
from emergency_stop.wire.registry import LocalRegistry
from emergency_stop.wire.schemas import load_record_schema
from emergency_stop.wire.sealing import SealingKey, is_sealed
from emergency_stop.wire.sensitive import open_fields

pytestmark = pytest.mark.needs("broker")

WITHIN_S = 60
CODEC = Codec(LocalRegistry())
RECORDS = {TELEMETRY_PLATFORM: "PlatformEvent", TELEMETRY_PROXY: "ProxyEvent"}


@pytest.fixture
def broker(tmp_path: Path) -> Any:
    """One for each test: what is in its topics is what the test wrote."""
    with EmbeddedBroker(tmp_path) as running:
        yield running.bootstrap


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is busy with other tests, a broker may take longer than one in production ever should."""
    monkeypatch.setattr(account_keys, "FIRST_WAIT_MS", 60_000)
    monkeypatch.setattr(account_keys, "KEY_WAIT_MS", 60_000)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "privacy.json"
    PrivacyKeys.generate(1_000).save(path, replace=False)
    return path


async def make_topics(broker: str, *, but: str = "") -> None:
    wanted: list[TopicSpec] = [spec for spec in all_topics(("alpha",)) if spec.name != but]
    await ensure_topics(broker, wanted)


class Reader:
    """Everything that some topics hold, as it comes."""

    def __init__(self) -> None:
        self.book = AccountKeyBook()
        self.keys: list[AccountKey] = []
        self.events: list[dict[str, Any]] = []

    def take_key(self, record: TailRecord) -> None:
        key = None if record.value is None else CODEC.decode(AccountKey, record.value)
        self.book.take(record.key, key)
        if key is not None:
            self.keys.append(key)

    def take_event(self, record_name: str, record: TailRecord) -> None:
        schema = fastavro.parse_schema(load_record_schema(record_name), named_schemas={})
        assert record.value is not None
        event: Any = fastavro.schemaless_reader(io.BytesIO(record.value[5:]), schema, None)
        self.events.append(event)

    def opened(self, record: str, keys: PrivacyKeys) -> list[dict[str, Any]]:
        known = {
            key.key_id: SealingKey(key.key_id, keys.unwrap(key)) for name in self.book for key in self.book.keys(name)
        }
        return [open_fields(record, event, known.get)[0] for event in self.events]


@contextlib.asynccontextmanager
async def reading(broker: str, *topics: str) -> AsyncIterator[Reader]:
    reader = Reader()
    tails = [CompactedTail(broker, ACCOUNT_KEYS, reader.take_key, client_id="test")] if ACCOUNT_KEYS in topics else []
    tails += [
        CompactedTail(broker, topic, partial(reader.take_event, RECORDS[topic]), client_id="test")
        for topic in set(topics) - {ACCOUNT_KEYS}
    ]
    for tail in tails:
        await tail.start()
    try:
        yield reader
    finally:
        for tail in tails:
            await tail.stop()


async def until(holds: Any, what: str) -> None:
    try:
        async with asyncio.timeout(WITHIN_S):
            while not holds():  # noqa: ASYNC110  (what is waited for has no event)
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"not within {WITHIN_S} s: {what}")


def says(account: str, detail: str) -> PlatformEvent:
    return PlatformEvent(account_id=account, kind=PlatformKind.OTHER, outcome=Outcome.FAILED, detail=detail)


async def test_what_the_sdk_sends_is_sealed_and_opens_with_the_account_s_key(broker: str, key_file: Path) -> None:
    await make_topics(broker)
    async with (
        reading(broker, TELEMETRY_PLATFORM, ACCOUNT_KEYS) as reader,
        Telemetry("alpha", broker, privacy_keys=key_file) as telemetry,
    ):
        for number in range(50):
            assert telemetry.offer(says(f"acc-{number % 5}", f"captcha {number}"))
            assert telemetry.offer(HealthEvent(account_id="other", health_score=50.0, risk_score=1.0))
        await until(lambda: len(reader.events) == 50 and len(list(reader.book)) >= 5, "50 events and their keys")
        assert all(is_sealed(event["detail"]) and event["endpoint"] == "" for event in reader.events)
        opened = reader.opened("PlatformEvent", PrivacyKeys.load(key_file))
        assert sorted(event["detail"] for event in opened) == sorted(f"captcha {number}" for number in range(50))
        assert len(list(reader.book)) == 5, "an account without texts needs no key"
        await until(lambda: telemetry.stats.delivered == 100, "all acknowledged")
        assert telemetry.stats.unreadable == 0


async def test_equal_proxies_of_an_account_stay_equal_and_no_others_do(broker: str, key_file: Path) -> None:
    """Distinct proxies are counted over what the detector sees."""
    await make_topics(broker)
    async with (
        reading(broker, TELEMETRY_PROXY) as reader,
        Telemetry("alpha", broker, privacy_keys=key_file) as telemetry,
    ):
        for account in ("a", "b"):
            for proxy in ("p1", "p2", "p1"):
                telemetry.offer(ProxyEvent(account_id=account, proxy_id=proxy, outcome=Outcome.FAILED, error="refused"))
        await until(lambda: len(reader.events) == 6, "6 events")
    seen = [[event["proxy_id"] for event in reader.events if event["account_id"] == one] for one in ("a", "b")]
    assert [len(set(proxies)) for proxies in seen] == [2, 2]
    assert not set(seen[0]) & set(seen[1])
    assert len({event["error"] for event in reader.events}) == 6


async def test_of_writers_that_race_the_first_in_the_log_wins_for_all(broker: str, key_file: Path) -> None:
    await make_topics(broker)
    rings = [AccountKeyring(broker, key_file, client_id=f"ring-{number}") for number in range(6)]
    accounts = [f"acc-{number}" for number in range(20)]
    async with reading(broker, ACCOUNT_KEYS) as reader:
        for ring in rings:
            await ring.start()
        try:
            await until(lambda: all(ring._known_at is not None for ring in rings), "every ring knows the topic")
            for ring in rings:
                for account in accounts:
                    ring.want(account)
            plain = {"proxy_id": "p", "error": ""}
            for account in accounts:
                sealed = [await ring.seal("ProxyEvent", {"account_id": account, **plain}) for ring in rings]
                assert len({one["proxy_id"] for one in sealed}) == 1, "they would not count as one proxy"
            await until(lambda: len(reader.keys) > len(accounts), "somebody raced; else the test shows nothing")
            await until(
                lambda: all(len(reader.book.keys(name)) == 1 for name in reader.book), "losers take their keys out"
            )
            assert sum(ring.unreadable for ring in rings) == 0
        finally:
            for ring in rings:
                await ring.stop()


async def test_after_an_erasure_the_next_event_has_a_new_key(broker: str, key_file: Path) -> None:
    await make_topics(broker)
    keys = PrivacyKeys.load(key_file)
    pseudonym = keys.pseudonym("acc-1")
    publisher = KafkaPublisher(broker, client_id="eraser")
    await publisher.start()
    async with (
        reading(broker, TELEMETRY_PLATFORM, ACCOUNT_KEYS) as reader,
        Telemetry("alpha", broker, privacy_keys=key_file) as telemetry,
    ):
        telemetry.offer(says("acc-1", "before"))
        await until(lambda: len(reader.events) == 1 and len(reader.keys) == 1, "the first event and its key")
        (first,) = reader.book.keys(pseudonym)
        for one in erasures_of(reader.book, pseudonym, 2_000):
            await publisher.publish(ACCOUNT_KEYS, record_name(one), CODEC.encode(one, ACCOUNT_KEYS))

        def renewed() -> bool:
            telemetry.offer(says("acc-1", "after"))
            return any(first.key_id not in event["detail"] for event in reader.events)

        await until(renewed, "an event with another key")
        await publisher.stop()
        await until(lambda: [key.version for key in reader.book.keys(pseudonym)] == [2], "the second key, and only it")
        details = {event["detail"] for event in reader.opened("PlatformEvent", keys)}
        assert "after" in details
        assert "before" not in details


async def test_without_the_topic_of_keys_telemetry_goes_on_and_nothing_is_in_the_clear(
    broker: str, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not wait for privacy: detectors still tell proxies apart, and the texts are lost, not shown."""
    monkeypatch.setattr(account_keys, "FIRST_WAIT_MS", 100)
    monkeypatch.setattr(account_keys, "KEY_WAIT_MS", 1_000)
    await make_topics(broker, but=ACCOUNT_KEYS)
    async with (
        reading(broker, TELEMETRY_PROXY) as reader,
        Telemetry("alpha", broker, privacy_keys=key_file) as telemetry,
    ):
        for proxy in ("p1", "p2", "p1"):
            telemetry.offer(ProxyEvent(account_id="a", proxy_id=proxy, outcome=Outcome.FAILED, error="refused"))
        await until(lambda: len(reader.events) == 3, "3 events")
        assert telemetry.stats.unreadable == 3
        assert all(is_sealed(event["proxy_id"]) and is_sealed(event["error"]) for event in reader.events)
        assert len({event["proxy_id"] for event in reader.events}) == 2
        await make_topics(broker)

        def has_key() -> bool:
            telemetry.offer(ProxyEvent(account_id="b", proxy_id="p1", outcome=Outcome.OK))
            return telemetry.stats.delivered > telemetry.stats.unreadable

        await until(has_key, "events are readable once the topic is there")


async def test_a_key_under_an_unknown_master_key_is_not_replaced_and_nothing_waits(
    broker: str, key_file: Path, tmp_path: Path
) -> None:
    """The file here is older than the one elsewhere: what is sealed here meanwhile is lost, what is there stays."""
    await make_topics(broker)
    newer = tmp_path / "newer.json"
    PrivacyKeys.load(key_file).with_new_master(2_000).save(newer, replace=False)
    plain = {"account_id": "a", "endpoint": "login", "detail": ""}
    there = AccountKeyring(broker, newer, client_id="there")
    here = AccountKeyring(broker, key_file, client_id="here")
    async with reading(broker, ACCOUNT_KEYS) as reader:
        try:
            await there.start()
            sealed = await there.seal("PlatformEvent", plain)
            await here.start()
            assert is_sealed((await here.seal("PlatformEvent", plain))["endpoint"])
            assert (here.unreadable, there.unreadable) == (1, 0)
            newer.replace(key_file)  # the file arrives
            await until(lambda: here._key_of("a") is not None, "the file is read anew")
            again = await here.seal("PlatformEvent", plain)
            assert again["endpoint"].split(":")[3] == sealed["endpoint"].split(":")[3]
            await until(lambda: reader.keys, "the key")
            assert len(reader.keys) == 1
        finally:
            await here.stop()
            await there.stop()


async def test_unwrapped_keys_are_bounded(broker: str, key_file: Path) -> None:
    await make_topics(broker)
    ring = AccountKeyring(broker, key_file, client_id="ring", unwrapped_max=3)
    await ring.start()
    try:
        first = await ring.seal("ProxyEvent", {"account_id": "acc-0", "proxy_id": "p"})
        for number in range(10):
            await ring.seal("ProxyEvent", {"account_id": f"acc-{number}", "proxy_id": "p"})
        assert len(ring._unwrapped) == 3
        assert await ring.seal("ProxyEvent", {"account_id": "acc-0", "proxy_id": "p"}) == first
    finally:
        await ring.stop()


def test_a_key_file_that_is_missing_or_named_wrong_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESTOP_PRIVACY_KEYS", str(tmp_path / "missing.json"))
    with pytest.raises(KeyFileError, match=r"missing\.json cannot be read"):
        Telemetry("alpha", "127.0.0.1:9")
