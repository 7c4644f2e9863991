"""Master keys: what they wrap opens for its account alone, files keep their secrets, and the newest stays."""

from __future__ import annotations

import dataclasses
import json
import logging
import stat
from pathlib import Path

import pytest

from emergency_stop.wire import privacy_key_file
from emergency_stop.wire.privacy_key_file import PrivacyKeyFile
from emergency_stop.wire.privacy_keys import PrivacyKeys, UnwrapError
from emergency_stop.wire.signing import KeyFileError

SECRET = bytes(range(32))


@pytest.fixture
def keys() -> PrivacyKeys:
    return PrivacyKeys.generate(1_000)


def test_a_wrapped_key_comes_back(keys: PrivacyKeys) -> None:
    wrapped = keys.wrap(SECRET, "p", "k", 1, 2_000)
    assert SECRET not in wrapped.wrapped
    assert wrapped.master_id == keys.newest.master_id
    assert keys.unwrap(wrapped) == SECRET


@pytest.mark.parametrize("change", [{"pseudonym": "q"}, {"key_id": "l"}, {"version": 2}, {"wrapped": bytes(60)}])
def test_a_wrapped_key_of_another_account_or_version_does_not_open(keys: PrivacyKeys, change: dict[str, str]) -> None:
    wrapped = dataclasses.replace(keys.wrap(SECRET, "p", "k", 1, 2_000), **change)  # type: ignore[arg-type]
    with pytest.raises(UnwrapError, match="was changed, or belongs to another account"):
        keys.unwrap(wrapped)


def test_a_rotation_rewraps_and_a_destroyed_master_key_opens_nothing_any_more(keys: PrivacyKeys) -> None:
    old = keys.wrap(SECRET, "p", "k", 1, 2_000)
    both = keys.with_new_master(3_000)
    new = both.rewrap(old)
    assert (new.key_id, new.version, new.at) == (old.key_id, old.version, old.at)
    assert new.master_id != old.master_id
    assert both.unwrap(old) == both.unwrap(new) == SECRET
    assert both.rewrap(new) is new
    left = both.without([old.master_id])
    assert left.unwrap(new) == SECRET
    with pytest.raises(UnwrapError, match=f"master key {old.master_id}, which is not among {new.master_id}"):
        left.unwrap(old)


def test_the_newest_master_key_is_not_destroyed(keys: PrivacyKeys) -> None:
    with pytest.raises(ValueError, match="is the newest; make another before"):
        keys.without(keys.master_ids)


def test_a_pseudonym_is_the_same_after_a_rotation_and_differs_between_installations(keys: PrivacyKeys) -> None:
    assert keys.pseudonym("acc-1") == keys.with_new_master(2_000).pseudonym("acc-1")
    assert keys.pseudonym("acc-1") != keys.pseudonym("acc-2")
    assert keys.pseudonym("acc-1") != PrivacyKeys.generate(1_000).pseudonym("acc-1")


def test_nothing_that_is_printed_shows_a_secret(keys: PrivacyKeys) -> None:
    shown = repr(keys)
    for secret in (keys.pseudonym_key, keys.newest.secret):
        assert secret.hex() not in shown
        assert repr(secret) not in shown


def test_a_file_keeps_everything_for_its_owner_alone(keys: PrivacyKeys, tmp_path: Path) -> None:
    path = tmp_path / "privacy.json"
    keys.save(path, replace=False)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert PrivacyKeys.load(path) == keys
    with pytest.raises(FileExistsError):
        keys.save(path, replace=False)
    more = keys.with_new_master(5_000)
    more.save(path, replace=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert PrivacyKeys.load(path) == more
    assert [entry.name for entry in tmp_path.iterdir()] == ["privacy.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "[]",
        '{"pseudonym_key": "QUJD", "master_keys": []}',
        '{"pseudonym_key": "!!", "master_keys": [{"created_at": 1, "key": "!!"}]}',
    ],
)
def test_a_damaged_file_is_refused_and_not_quoted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "privacy.json"
    path.write_text(text)
    with pytest.raises(KeyFileError, match="are damaged or something else") as refused:
        PrivacyKeys.load(path)
    assert refused.value.__cause__ is None
    assert "QUJD" not in str(refused.value)


def test_the_same_master_key_twice_is_refused(keys: PrivacyKeys) -> None:
    document = keys.as_json()
    document["master_keys"] *= 2
    with pytest.raises(ValueError, match="master_keys"):
        PrivacyKeys.from_json(json.loads(json.dumps(document)))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"privacy keys .*missing\.json cannot be read: No such file"):
        PrivacyKeys.load(tmp_path / "missing.json")


def test_a_file_is_followed_and_a_damaged_one_changes_nothing(
    keys: PrivacyKeys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(privacy_key_file, "CHECK_MS", -1)
    path = tmp_path / "privacy.json"
    keys.save(path, replace=False)
    followed = PrivacyKeyFile(path)
    assert followed.keys == keys
    more = keys.with_new_master(5_000)
    more.save(path, replace=True)
    assert followed.keys == more
    path.write_text("{")
    with caplog.at_level(logging.ERROR):
        assert followed.keys == more
        assert followed.keys == more
    assert caplog.text.count("the former privacy keys stay in force") == 1
