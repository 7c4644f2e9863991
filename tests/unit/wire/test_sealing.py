"""Sealed texts: they open where they were sealed, with the key that sealed them, and nowhere else."""

from __future__ import annotations

import random
import re
import string

import pytest

from emergency_stop.wire.sealing import (
    PAD_BYTES,
    SealedPlace,
    SealError,
    Sealing,
    SealingKey,
    UnknownKeyError,
    is_sealed,
    new_key_id,
    sealed_with,
)
from emergency_stop.wire.sensitive import has_sensitive, open_fields, seal_fields, sensitive_fields, sensitive_fields_of

PLACE = SealedPlace("PlatformEvent", "detail", "acc-1")
KEY = SealingKey("00112233445566aa", bytes(range(32)))
BOTH = pytest.mark.parametrize("sealing", Sealing)


@BOTH
def test_random_texts_come_back_and_are_printable(sealing: Sealing) -> None:
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    alphabet = string.printable + "äß\0\x80€😀"
    for _ in range(500):
        text = "".join(rng.choices(alphabet, k=rng.randrange(200)))
        sealed = KEY.seal(text, PLACE, sealing)
        assert is_sealed(sealed), seed
        assert re.fullmatch(r"[A-Za-z0-9:_-]+", sealed), seed
        assert sealed_with(sealed) == KEY.key_id
        assert KEY.open(sealed, PLACE) == text, seed


@BOTH
@pytest.mark.parametrize(
    "elsewhere",
    [
        SealedPlace("ProxyEvent", "detail", "acc-1"),
        SealedPlace("PlatformEvent", "endpoint", "acc-1"),
        SealedPlace("PlatformEvent", "detail", "acc-10"),
    ],
    ids=["record", "field", "account"],
)
def test_a_text_that_was_moved_does_not_open(sealing: Sealing, elsewhere: SealedPlace) -> None:
    with pytest.raises(SealError, match="sealed for another account or field"):
        KEY.open(KEY.seal("captcha", PLACE, sealing), elsewhere)


@BOTH
def test_another_key_of_the_same_name_does_not_open_it(sealing: Sealing) -> None:
    impostor = SealingKey(KEY.key_id, bytes(32))
    with pytest.raises(SealError, match="does not open with key"):
        impostor.open(KEY.seal("captcha", PLACE, sealing), PLACE)


@BOTH
def test_another_key_says_which_one_is_needed(sealing: Sealing) -> None:
    with pytest.raises(UnknownKeyError, match=f"sealed with key {KEY.key_id}, not with ffffffffffffffff"):
        SealingKey("f" * 16, bytes(32)).open(KEY.seal("captcha", PLACE, sealing), PLACE)


@BOTH
def test_no_changed_character_goes_unnoticed(sealing: Sealing) -> None:
    """Each character of the ciphertext in turn; the last may carry bits that base64 ignores, and so decides nothing."""
    sealed = KEY.seal("captcha", PLACE, sealing)
    start = sealed.rindex(":") + 1
    for at in range(start, len(sealed) - 1):
        changed = sealed[:at] + ("A" if sealed[at] != "A" else "B") + sealed[at + 1 :]
        with pytest.raises(SealError):
            KEY.open(changed, PLACE)


def test_equal_texts_are_equal_only_where_they_are_sealed_deterministically() -> None:
    assert KEY.seal("p", PLACE, Sealing.DETERMINISTIC) == KEY.seal("p", PLACE, Sealing.DETERMINISTIC)
    assert KEY.seal("p", PLACE, Sealing.DETERMINISTIC) != KEY.seal("q", PLACE, Sealing.DETERMINISTIC)
    assert KEY.seal("p", PLACE, Sealing.RANDOM) != KEY.seal("p", PLACE, Sealing.RANDOM)


def test_two_accounts_with_one_proxy_do_not_show_it() -> None:
    """Even under one key, the account is part of what is sealed."""
    places = [SealedPlace("ProxyEvent", "proxy_id", account) for account in ("a", "b")]
    first, second = (KEY.seal("proxy-1", place, Sealing.DETERMINISTIC) for place in places)
    assert first != second


def test_a_random_seal_hides_the_length_within_its_block() -> None:
    lengths = {len(KEY.seal("x" * count, PLACE, Sealing.RANDOM)) for count in range(PAD_BYTES)}
    assert len(lengths) == 1


def test_what_looks_sealed_already_is_sealed_again_and_comes_back_as_it_was() -> None:
    forged = KEY.seal("captcha", PLACE, Sealing.RANDOM)
    assert KEY.open(KEY.seal(forged, PLACE, Sealing.RANDOM), PLACE) == forged


@pytest.mark.parametrize("text", ["", "captcha", "sealed:1:r:short:AAAA", "sealed:2:r:00112233445566aa:AAAA"])
def test_what_is_not_sealed_is_told_from_what_does_not_open(text: str) -> None:
    assert not is_sealed(text)
    with pytest.raises(SealError, match="is not sealed"):
        KEY.open(text, PLACE)


def test_what_was_cut_off_is_refused() -> None:
    with pytest.raises(SealError):
        KEY.open("sealed:1:r:00112233445566aa:AAAAA", PLACE)
    with pytest.raises(SealError):
        KEY.open("sealed:1:d:00112233445566aa:AAAA", PLACE)


def test_a_key_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes; 32 are needed"):
        SealingKey("00112233445566aa", bytes(16))


def test_key_names_are_random_and_unlike_each_other() -> None:
    assert len({new_key_id() for _ in range(1_000)}) == 1_000


# ---------------------------------------------------------------------------------------------- fields of records


def test_the_schemas_say_what_is_sensitive() -> None:
    """Numbers, kinds and outcomes decide about stops, so they are in the clear; proxies are counted apart."""
    assert sensitive_fields("PlatformEvent") == {"endpoint": Sealing.RANDOM, "detail": Sealing.RANDOM}
    assert sensitive_fields("ProxyEvent") == {"proxy_id": Sealing.DETERMINISTIC, "error": Sealing.RANDOM}
    for record in ("HealthEvent", "DetectionEvent", "BehavioralEvent", "SystemEvent"):
        assert sensitive_fields(record) == {}


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        ({"name": "score", "type": "double", "sensitive": "random"}, "R.score is sensitive and no string"),
        ({"name": "text", "type": "string", "sensitive": "yes"}, "'yes' is not a valid Sealing"),
    ],
)
def test_a_mark_that_means_nothing_is_refused(field: dict[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        sensitive_fields_of({"name": "R", "fields": [field]})


def test_an_event_is_sealed_and_opened_and_the_rest_of_it_stays() -> None:
    plain = {"account_id": "acc-1", "kind": "api_call", "status_code": 500, "endpoint": "login", "detail": ""}
    sealed = seal_fields("PlatformEvent", plain, KEY)
    assert plain["endpoint"] == "login"
    assert is_sealed(sealed["endpoint"])
    assert {name: value for name, value in sealed.items() if name != "endpoint"} == {
        "account_id": "acc-1", "kind": "api_call", "status_code": 500, "detail": "",
    }  # fmt: skip
    assert open_fields("PlatformEvent", sealed, {KEY.key_id: KEY}.get) == (plain, {})


def test_what_no_key_opens_is_named_and_stays_sealed() -> None:
    sealed = seal_fields("PlatformEvent", {"account_id": "acc-1", "endpoint": "login", "detail": "x"}, KEY)
    opened, closed = open_fields("PlatformEvent", sealed, lambda _key_id: None)
    assert opened == sealed
    assert set(closed) == {"endpoint", "detail"}
    assert f"key {KEY.key_id} is gone" in closed["detail"]


def test_what_was_never_sealed_is_left_alone_when_opened() -> None:
    plain = {"account_id": "acc-1", "endpoint": "login", "detail": "sealed: no"}
    assert open_fields("PlatformEvent", plain, lambda _key_id: None) == (plain, {})


def test_an_event_without_texts_has_nothing_to_seal() -> None:
    assert not has_sensitive("PlatformEvent", {"account_id": "a", "endpoint": "", "detail": ""})
    assert has_sensitive("PlatformEvent", {"account_id": "a", "endpoint": "x", "detail": ""})
    assert not has_sensitive("HealthEvent", {"account_id": "a", "health_score": 1.0})
