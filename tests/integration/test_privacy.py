"""``estop privacy`` on a real broker: erasures that meet rotations, keys that nobody has, and what is refused."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from emergency_stop.adapters import account_keys
from emergency_stop.adapters.account_keys import AccountKeyring
from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.config import Settings
from emergency_stop.control.cli import privacy_masters
from emergency_stop.control.cli.main import main
from emergency_stop.control.installation import Installation
from emergency_stop.control.privacy.changes import destroyable, erase_keys, rewrap_all, unshredded
from emergency_stop.control.privacy.key_log import KeyLog, written
from emergency_stop.domain.messages import AccountKey, AuditRecord
from emergency_stop.domain.topics import ACCOUNT_KEYS, AUDIT, TELEMETRY_PLATFORM, TELEMETRY_PROXY
from emergency_stop.testing.brokers import EmbeddedBroker
from emergency_stop.wire.privacy_keys import PrivacyKeys

pytestmark = pytest.mark.needs("broker", "chdb")

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    keys = tmp_path / "privacy.json"
    PrivacyKeys.generate(1_000).save(keys, replace=False)
    with EmbeddedBroker(tmp_path) as broker:
        places = {"ESTOP_DATA_DIR": str(tmp_path / "data"), "ESTOP_PRIVACY_KEYS": str(keys)}
        made = Settings.from_env({"ESTOP_BROKERS": broker.bootstrap} | places)
        asyncio.run(ensure_topics(made.brokers, made.topics()))
        with (
            mock.patch.dict(os.environ, made.as_env()),
            mock.patch.object(privacy_masters, "TAKEN_OVER_MS", 1),
            # a busy machine's broker may take longer than one in production ever should
            mock.patch.multiple(account_keys, FIRST_WAIT_MS=60_000, KEY_WAIT_MS=60_000),
        ):
            yield made


@pytest.fixture
def keys(settings: Settings) -> PrivacyKeys:
    assert settings.privacy_keys_file is not None
    return PrivacyKeys.load(settings.privacy_keys_file)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def carry_out(*arguments: str, code: int = 0) -> dict[str, Any]:
        assert main(["privacy", *arguments, "--json"]) == code, capsys.readouterr()
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return carry_out


def make_keys(settings: Settings, *accounts: str) -> None:
    async def make() -> None:
        assert settings.privacy_keys_file is not None
        ring = AccountKeyring(settings.brokers, settings.privacy_keys_file, client_id="test")
        await ring.start()
        try:
            for account in accounts:
                await ring.seal("ProxyEvent", {"account_id": account, "proxy_id": "p"})
            assert ring.unreadable == 0
        finally:
            await ring.stop()

    asyncio.run(make())


def audit_of(settings: Settings) -> list[AuditRecord]:
    installation, found = Installation(settings), []
    asyncio.run(installation.scan(AUDIT, lambda one: found.append(installation.codec.decode(AuditRecord, one.value))))
    return found


def test_a_rotation_wraps_everything_anew_and_destroys_the_former_master_key(
    settings: Settings, keys: PrivacyKeys, run: Run
) -> None:
    make_keys(settings, "a", "b", "c")
    said = run("rotate-master", "--reason", "monthly", "--by", "ann")
    assert said["rewrapped"] == 3
    assert said["destroyed"] == list(keys.master_ids)
    assert said["master_keys"] == [said["newest"]] != list(keys.master_ids)
    standing = run("status")
    assert [one["wraps"] for one in standing["master_keys"]] == [3]
    assert (standing["accounts"], standing["closed"], standing["problems"]) == (3, 0, [])
    (record,) = audit_of(settings)
    assert (record.action, record.actor, record.reason) == ("master_key_rotated", "ann", "monthly")


def test_the_steps_of_a_rotation_one_by_one(settings: Settings, keys: PrivacyKeys, run: Run) -> None:
    """Where each machine has its own copy of the file, it is handed out between the steps."""
    make_keys(settings, "a")
    added = run("rotate-master", "--step", "add")
    assert added["master_keys"] == [*keys.master_ids, added["newest"]]
    assert added["rewrapped"] == 0
    assert run("rotate-master", "--step", "destroy", code=1)["destroyed"] == [], "it wraps what is live"
    assert run("rotate-master", "--step", "rewrap")["rewrapped"] == 1
    assert run("rotate-master", "--step", "destroy")["destroyed"] == list(keys.master_ids)


def test_an_erasure_is_complete_when_the_master_keys_of_its_time_are_destroyed(settings: Settings, run: Run) -> None:
    make_keys(settings, "a", "b")
    said = run("erase", "a", "--keys-only", "--reason", "asked", "--by", "dpo")
    assert (said["keys"], said["shredded"]) == (1, False)
    assert run("status")["unshredded"] == 1
    run("rotate-master")
    assert run("status")["unshredded"] == 0
    said = run("erase", "a", "--keys-only", "--reason", "asked again")
    assert (said["keys"], said["shredded"]) == (0, True)


def test_the_audit_of_an_erasure_does_not_name_the_account(settings: Settings, keys: PrivacyKeys, run: Run) -> None:
    make_keys(settings, "acc-1")
    run("erase", "acc-1", "--reason", "asked to be forgotten", "--by", "dpo")
    run("rotate-account", "acc-1", "--reason", "just in case")
    records = audit_of(settings)
    assert [one.action for one in records] == ["account_keys_erased", "account_rows_erased", "account_key_rotated"]
    for record in records:
        assert record.subject == f"pseudonym:{keys.pseudonym('acc-1')}"
        assert "acc-1" not in repr(record)


def test_a_rotation_that_did_not_know_of_an_erasure_brings_nothing_back(settings: Settings, keys: PrivacyKeys) -> None:
    """It read the key before, and wraps it anew behind the erasure: the key stays void, and its new master key is
    told.
    """
    make_keys(settings, "a", "b")
    more, pseudonym = keys.with_new_master(2_000), keys.pseudonym("a")

    async def race() -> None:
        slow, log = KeyLog(Installation(settings)), KeyLog(Installation(settings))
        async with slow.following():
            (stale,) = slow.book.keys(pseudonym)
        async with log.following():
            assert (await erase_keys(log, pseudonym, 3_000)).master_ids == (keys.newest.master_id,)
            await log.change([written(more.rewrap(stale))])
            assert log.book.current(pseudonym) is None
            assert len(log.book.void(pseudonym)) == 1
            await rewrap_all(log, more, 4_000)
            assert log.book.void(pseudonym) == ()
            assert [one.master_id for one in log.book.erasures(pseudonym)] == list(more.master_ids)
            assert destroyable(log.book, more) == (keys.newest.master_id,)
            shorter = more.without([keys.newest.master_id])
            assert set(unshredded(log.book, shorter)) == {pseudonym}, "it lies under the new master key as well"
            newest = shorter.with_new_master(5_000)
            await rewrap_all(log, newest, 6_000)
            assert unshredded(log.book, newest.without([shorter.newest.master_id])) == {}

    asyncio.run(race())


def test_an_erasure_that_broke_off_is_told_and_finished(settings: Settings, keys: PrivacyKeys, run: Run) -> None:
    make_keys(settings, "a")

    async def break_off() -> None:
        log = KeyLog(Installation(settings))
        async with log.following():
            from emergency_stop.wire.account_keys import erasures_of

            await log.change(map(written, erasures_of(log.book, keys.pseudonym("a"), 1_000)))

    asyncio.run(break_off())
    standing = run("status", code=1)
    assert standing["unfinished"] == 1
    assert "1 erasures broke off" in standing["problems"][0]
    run("erase", "a", "--keys-only", "--reason", "asked")
    standing = run("status", code=1)
    assert standing["unfinished"] == 0
    assert "can be unwrapped from old copies" in standing["problems"][0], "it was made in 1970"


def test_keys_under_a_master_key_that_is_not_here_are_told_and_kept(
    settings: Settings, keys: PrivacyKeys, run: Run
) -> None:
    make_keys(settings, "a", "b")
    assert settings.privacy_keys_file is not None
    other = PrivacyKeys(keys.pseudonym_key, PrivacyKeys.generate(9_000).masters)
    other.save(settings.privacy_keys_file, replace=True)
    assert (
        "2 keys of accounts are wrapped by master keys that are not in this file"
        in run("status", code=1)["problems"][0]
    )
    said = run("rotate-master", code=1)
    assert (said["closed"], said["rewrapped"]) == (2, 0)
    run("rotate-account", "a", "--reason", "its key is lost")
    keys.save(settings.privacy_keys_file, replace=True)
    assert run("status", code=1)["accounts"] == 2, "what was there is there still"


def test_rows_wait_until_the_sink_gives_chdb_up_and_the_keys_do_not(
    settings: Settings, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    make_keys(settings, "a")
    sink = ClickHouse(None, settings.data_dir)
    arguments = ["erase", "a", "--reason", "asked"]
    assert main(["privacy", *arguments]) == 69
    text = capsys.readouterr().err
    assert "the account's keys are erased" in text
    assert "another process has the embedded ClickHouse" in text
    assert "run the same command again" in text
    sink.close()
    assert main(["produce", "--accounts", "2", "--count", "20", "--rate", "1000"]) == 0
    capsys.readouterr()
    said = run(*arguments)
    assert said["keys"] == 0
    # The embedded broker says of a batch that it ends behind its first record.
    assert 0 < said["not_stored"] <= 20, "no sink has stored them: rows may still come"


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["erase", "acc-1", "--reason", "acc-1 asked"], 65, "--reason names the account itself"),
        (["rotate-account", "acc-1", "--reason", "x", "--by", "acc-1"], 65, "--by names the account itself"),
        (["generate", "{privacy}"], 77, "exists; it is never overwritten"),
        (["export", "acc-1", "--file", "{privacy}"], 77, "exists; it is never overwritten"),
        (["generate", "{missing}/privacy.json"], 78, "cannot be written: No such file or directory"),
    ],
)
def test_what_is_refused_changes_nothing(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, text: str
) -> None:
    places = {"privacy": tmp_path / "privacy.json", "missing": tmp_path / "missing"}
    before = (tmp_path / "privacy.json").read_bytes()
    assert main(["privacy", *(one.format(**places) for one in arguments)]) == code
    assert text in capsys.readouterr().err
    assert (tmp_path / "privacy.json").read_bytes() == before
    assert audit_of(settings) == []


def test_without_keys_nothing_can_be_erased_and_the_text_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ESTOP_PRIVACY_KEYS", raising=False)
    assert main(["privacy", "erase", "acc-1", "--reason", "x"]) == 78
    assert "ESTOP_PRIVACY_KEYS is not set" in capsys.readouterr().err


def test_check_and_produce_refuse_a_damaged_key_file(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "privacy.json").write_text("{}")
    assert main(["check"]) == 78
    assert "ESTOP_PRIVACY_KEYS=" in capsys.readouterr().out
    assert main(["produce", "--count", "1"]) == 78
    assert main(["privacy", "status"]) == 78
    assert "are damaged or something else" in capsys.readouterr().err


def test_what_estop_produce_sends_is_sealed(
    settings: Settings, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    replayed = tmp_path / "replay.jsonl"
    fields = {
        "event_id": "e",
        "account_id": "from-a-file",
        "occurred_at": 1,
        "kind": "other",
        "outcome": "ok",
        "detail": "a word",
    }
    replayed.write_text(json.dumps({"topic": TELEMETRY_PLATFORM, "fields": fields}))
    assert main(["produce", "--accounts", "20", "--count", "300", "--rate", "3000", "--incident", "proxy:culprit"]) == 0
    assert main(["produce", "--replay", str(replayed)]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["sent"] for one in said] == [306, 1]
    assert [one["unreadable"] for one in said] == [0, 0]
    values: list[bytes] = []
    installation = Installation(settings)
    for topic in (TELEMETRY_PLATFORM, TELEMETRY_PROXY):
        asyncio.run(installation.scan(topic, lambda one: values.append(one.value or b"")))
    assert len(values) > 20
    for word in (b"timeline", b"proxy-", b"connection refused", b"a word"):
        assert not any(word in value for value in values), word
    made: list[AccountKey] = []
    asyncio.run(
        installation.scan(ACCOUNT_KEYS, lambda one: made.append(installation.codec.decode(AccountKey, one.value)))
    )
    assert len({one.pseudonym for one in made}) == 22
