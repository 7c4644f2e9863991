"""How a service signs in: as it is told, else as its environment says, and what is wrong comes out at construction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emergency_stop.sdk import Brokers, EmergencyStopSystem, KafkaSecurity, LifecycleEvents, StopGuard, Telemetry
from emergency_stop.sdk.sign_in import signed_in


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text("correct-horse-battery")
    return file


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, password_file: Path) -> pytest.MonkeyPatch:
    """Of a service on a cluster that asks for a sign-in."""
    monkeypatch.setenv("ESTOP_KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")
    monkeypatch.setenv("ESTOP_KAFKA_SASL_MECHANISM", "SCRAM-SHA-256")
    monkeypatch.setenv("ESTOP_KAFKA_USER", "service-alpha")
    monkeypatch.setenv("ESTOP_KAFKA_PASSWORD_FILE", str(password_file))
    return monkeypatch


def of_environment(password_file: Path) -> KafkaSecurity:
    return KafkaSecurity(
        protocol="SASL_PLAINTEXT", sasl_mechanism="SCRAM-SHA-256", user="service-alpha", password_file=password_file
    )


def test_addresses_alone_sign_in_as_the_environment_says(environment: pytest.MonkeyPatch, password_file: Path) -> None:
    assert signed_in("a:1,b:2") == Brokers("a:1,b:2", of_environment(password_file))


def test_what_is_told_counts_more_than_the_environment(environment: pytest.MonkeyPatch) -> None:
    told = Brokers("a:1", KafkaSecurity(protocol="SSL"))
    assert signed_in(told) is told
    assert signed_in(Brokers("a:1")).security == KafkaSecurity()


def test_where_nobody_says_anything_brokers_ask_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESTOP_UNHEARD_OF", "1")  # what is no concern of the sign-in is none of ours here
    assert signed_in("a:1") == Brokers("a:1")


def test_a_misspelled_variable_is_refused(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ESTOP_KAFKA_USERS", "bob")
    with pytest.raises(ValueError, match="did you mean 'ESTOP_KAFKA_USER'"):
        signed_in("a:1")


MAKERS: list[Callable[[Any], Any]] = [
    lambda brokers: StopGuard("alpha", brokers),
    lambda brokers: Telemetry("alpha", brokers),
    LifecycleEvents,
    EmergencyStopSystem,
]


@pytest.mark.parametrize("make", MAKERS, ids=["guard", "telemetry", "events", "system"])
async def test_every_entrance_takes_both_and_refuses_what_cannot_work(
    environment: pytest.MonkeyPatch, make: Callable[[Any], Any]
) -> None:
    assert make("a:1") is not None
    assert make(Brokers("a:1")) is not None
    with pytest.raises(ValueError, match="ESTOP_KAFKA_PASSWORD_FILE, which is not set"):
        make(Brokers("a:1", KafkaSecurity(protocol="SASL_SSL", sasl_mechanism="PLAIN", user="ann")))
    environment.delenv("ESTOP_KAFKA_PASSWORD_FILE")
    with pytest.raises(ValueError, match="ESTOP_KAFKA_PASSWORD_FILE, which is not set"):
        make("a:1")


@pytest.mark.parametrize("make", MAKERS[:2], ids=["guard", "telemetry"])
async def test_what_the_environment_says_reaches_the_connection(
    environment: pytest.MonkeyPatch, password_file: Path, make: Callable[[Any], Any]
) -> None:
    assert make("a:1")._publisher._brokers.security == of_environment(password_file)
