"""Every client of Kafka signs in: what the constructors are given, and that none is made without it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient

from emergency_stop.adapters.kafka_security import client_arguments
from emergency_stop.config.kafka import PROTOCOLS, Brokers, KafkaSecurity, KafkaSecurityError
from emergency_stop.testing.certificates import Authority

SOURCE = Path(__file__).parents[3] / "streams" / "emergency_stop"
CLIENTS = {"AIOKafkaProducer", "AIOKafkaConsumer", "AIOKafkaAdminClient", "AIOKafkaClient"}
SECRET = "correct-horse-battery"  # noqa: S105  # of nobody


@pytest.fixture
def securities(tmp_path: Path) -> dict[str, KafkaSecurity]:
    """One of each protocol."""
    (tmp_path / "ca.pem").write_text(Authority().cert_pem)
    (tmp_path / "password").write_text(SECRET)
    tls: dict[str, Any] = {"ca_file": tmp_path / "ca.pem"}
    sasl: dict[str, Any] = {
        "sasl_mechanism": "SCRAM-SHA-512", "user": "ann", "password_file": tmp_path / "password",
    }  # fmt: skip
    return {
        "PLAINTEXT": KafkaSecurity(),
        "SSL": KafkaSecurity(protocol="SSL", **tls),
        "SASL_PLAINTEXT": KafkaSecurity(protocol="SASL_PLAINTEXT", **sasl),
        "SASL_SSL": KafkaSecurity(protocol="SASL_SSL", **tls, **sasl),
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("make", [AIOKafkaProducer, AIOKafkaConsumer, AIOKafkaAdminClient, AIOKafkaClient])
async def test_every_constructor_takes_the_arguments(
    securities: dict[str, KafkaSecurity], protocol: str, make: Any
) -> None:
    security = securities[protocol]
    made = make(**client_arguments(Brokers("a:1,b:2", security)))
    client = getattr(made, "_client", None) or getattr(made, "client", made)
    assert client._bootstrap_servers == "a:1,b:2"
    assert client._security_protocol == protocol
    assert (client._ssl_context is not None) == security.encrypts
    if security.signs_in:
        told = (client._sasl_mechanism, client._sasl_plain_username, client._sasl_plain_password)
        assert told == ("SCRAM-SHA-512", "ann", SECRET)
    else:
        assert client._sasl_plain_password is None
    made._closed = True  # nothing was opened: there is nothing to complain of when it goes


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_fausts_own_producer_gets_the_same(securities: dict[str, KafkaSecurity], protocol: str) -> None:
    from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

    from emergency_stop.apps.lane_app import credentials_of

    brokers = Brokers("a:1", securities[protocol])
    ours = client_arguments(brokers)
    fausts = {name: value for name, value in credentials_to_aiokafka_auth(credentials_of(brokers)).items() if value}
    assert {"bootstrap_servers": "a:1", **fausts} == ours


def test_brokers_are_verified_and_must_name_their_host(securities: dict[str, KafkaSecurity]) -> None:
    import ssl

    context = client_arguments(Brokers("a:1", securities["SSL"]))["ssl_context"]
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_files_are_read_once_so_that_a_lost_one_stops_no_process(securities: dict[str, KafkaSecurity]) -> None:
    brokers = Brokers("a:1", securities["SASL_SSL"])
    before = client_arguments(brokers)
    for file in (brokers.security.ca_file, brokers.security.password_file):
        assert file is not None
        file.unlink()
    assert client_arguments(brokers) == before


def test_what_cannot_work_makes_no_client() -> None:
    with pytest.raises(KafkaSecurityError, match="needs ESTOP_KAFKA_USER, which is not set"):
        client_arguments(Brokers("a:1", KafkaSecurity(protocol="SASL_SSL", sasl_mechanism="PLAIN")))


# ------------------------------------------------------------------------------------- the source, read


def test_no_client_is_made_without_a_sign_in() -> None:
    """One that is forgotten works on every developer's machine, and on no secured cluster."""
    found = {path: list(clients(path.read_text())) for path in sorted(SOURCE.rglob("*.py"))}
    unsafe = [f"{path}:{line}" for path, calls in found.items() for line, is_safe in calls if not is_safe]
    assert unsafe == [], "pass **client_arguments(brokers)"
    assert sum(map(len, found.values())) >= 10, "the walk finds them"


def test_no_client_is_given_the_addresses_alone() -> None:
    """``settings.brokers`` is for messages; ``settings.kafka`` has the sign-in too."""
    unsafe = [f"{path}:{line}" for path in sorted(SOURCE.rglob("*.py")) for line in addresses_given(path.read_text())]
    assert unsafe == [], "pass settings.kafka"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("AIOKafkaConsumer(**client_arguments(brokers), group_id=None)", [True]),
        ("AIOKafkaConsumer(bootstrap_servers=brokers, group_id=None)", [False]),
        ("aiokafka.AIOKafkaProducer(**settings)", [False]),
        ("x = [AIOKafkaAdminClient(**client_arguments(b)), AIOKafkaClient()]", [True, False]),
        ("driver.AIOKafkaConsumerThread()", []),
    ],
)
def test_the_walk_tells_who_signs_in(source: str, expected: list[bool]) -> None:
    assert [is_safe for _, is_safe in clients(source)] == expected


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("KafkaPublisher(settings.brokers, client_id='x')", 1),
        ("Spec(brokers=self.settings.brokers)", 1),
        ("KafkaPublisher(settings.kafka, client_id='x')", 0),
        ("log.error('no broker at %s', settings.brokers)", 0),
        ("say(f'{settings.brokers} answers')", 0),
    ],
)
def test_the_walk_tells_who_is_given_addresses_alone(source: str, found: int) -> None:
    assert len(list(addresses_given(source))) == found


@cache
def calls_of(source: str) -> tuple[ast.Call, ...]:
    return tuple(node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))


def name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def clients(source: str) -> Iterator[tuple[int, bool]]:
    """(line, whether it takes ``client_arguments``) of every client that is made."""
    for call in calls_of(source):
        if name_of(call.func) in CLIENTS:
            spread = [word.value for word in call.keywords if word.arg is None]
            yield (
                call.lineno,
                any(isinstance(one, ast.Call) and name_of(one.func) == "client_arguments" for one in spread),
            )


def addresses_given(source: str) -> Iterator[int]:
    """Lines on which ``….settings.brokers`` is an argument of a call that does not log."""
    for call in calls_of(source):
        logs = isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") == "log"
        given = [*call.args, *(word.value for word in call.keywords)]
        if not logs and any(_is_addresses(one) for one in given):
            yield call.lineno


def _is_addresses(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "brokers" and name_of(node.value) == "settings"
