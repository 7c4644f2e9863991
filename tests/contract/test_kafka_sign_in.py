"""Who is refused is told why, and no password is logged; the seam is private, so an upgrade must fail here."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError

from emergency_stop.adapters.embedded_broker import free_port
from emergency_stop.adapters.kafka_security import client_arguments
from emergency_stop.adapters.kafka_sign_in import KafkaSignInError, _refusal
from emergency_stop.adapters.kafka_topics import describe_topics
from emergency_stop.config.kafka import Brokers, KafkaSecurity
from emergency_stop.testing.certificates import Authority

_HEAD = struct.Struct(">hhi")
_VERSIONS, _HANDSHAKE, _AUTHENTICATE, _METADATA = 18, 17, 36, 3
_ALL_VERSIONS = struct.pack(">hi", 0, 4) + b"".join(
    struct.pack(">hhh", api, 0, 1 if api == _HANDSHAKE else 0)
    for api in (_VERSIONS, _HANDSHAKE, _AUTHENTICATE, _METADATA)
)
PASSWORD = "correct-horse-battery"  # noqa: S105  # of nobody


class Door:
    """A broker as far as the sign-in: it knows ``mechanism`` alone, and lets nobody in."""

    def __init__(self, mechanism: str = "PLAIN") -> None:
        self._mechanism = mechanism
        self.heard = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                request = await reader.readexactly(size)
                api, _, correlation = _HEAD.unpack_from(request)
                self.heard += request
                answer = struct.pack(">i", correlation) + self._answer(api)
                writer.write(struct.pack(">i", len(answer)) + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _answer(self, api: int) -> bytes:
        if api == _VERSIONS:
            return _ALL_VERSIONS
        if api == _HANDSHAKE:
            known = self._mechanism.encode()
            code = 0 if known in self.heard else 33
            return struct.pack(">hih", code, 1, len(known)) + known
        why = b"Authentication failed: Invalid username or password"
        return struct.pack(">hh", 58, len(why)) + why + struct.pack(">i", 0)


class Impostor(Door):
    """Speaks SCRAM, and does not know the password: it makes its signature up."""

    def __init__(self) -> None:
        super().__init__("SCRAM-SHA-512")
        self._steps = 0

    def _answer(self, api: int) -> bytes:
        if api != _AUTHENTICATE:
            return super()._answer(api)
        self._steps += 1
        (nonce,) = re.findall(rb"n,,n=ann,r=([0-9a-f]+)", self.heard)
        said = b"v=bWFkZSB1cA==" if self._steps == 2 else b"r=" + nonce + b"more,s=c2FsdA==,i=4096"
        return struct.pack(">hhi", 0, -1, len(said)) + said


@asynccontextmanager
async def listening(door: Door, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Yields the address."""
    server = await asyncio.start_server(door.serve, host, 0, ssl=tls)
    async with server:
        yield f"{host}:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
def sign_in(tmp_path: Path) -> KafkaSecurity:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    return KafkaSecurity(
        protocol="SASL_PLAINTEXT", sasl_mechanism="PLAIN", user="ann", password_file=tmp_path / "password"
    )


async def refused(brokers: Brokers) -> str:
    """What whoever connects is told."""
    with pytest.raises(KafkaSignInError) as told:
        await describe_topics(brokers, ["any"])
    return str(told.value)


async def test_a_wrong_password_is_told_with_the_user_and_where_to_look(sign_in: KafkaSecurity) -> None:
    async with listening(Door()) as address:
        told = await refused(Brokers(address, sign_in))
    assert f"{address} refuses the sign-in of 'ann' (Authentication failed: Invalid username or password)" in told
    assert "ESTOP_KAFKA_USER and ESTOP_KAFKA_PASSWORD_FILE" in told


async def test_a_mechanism_that_the_broker_lacks_is_told(sign_in: KafkaSecurity) -> None:
    async with listening(Door("SCRAM-SHA-512")) as address:
        told = await refused(Brokers(address, sign_in))
    assert told == f"{address} does not take sign-ins by PLAIN; look at ESTOP_KAFKA_SASL_MECHANISM"


async def test_a_broker_that_does_not_know_the_password_is_no_broker_of_ours(sign_in: KafkaSecurity) -> None:
    async with listening(Impostor()) as address:
        told = await refused(Brokers(address, replace(sign_in, sasl_mechanism="SCRAM-SHA-512")))
    assert told.startswith(f"{address} does not prove that it knows the password of 'ann'")


async def test_a_broker_that_is_only_away_is_no_refusal(sign_in: KafkaSecurity) -> None:
    with pytest.raises(KafkaConnectionError) as told:
        await describe_topics(Brokers(f"127.0.0.1:{free_port()}", sign_in), ["any"])
    assert not isinstance(told.value, KafkaSignInError)


async def test_a_refusal_is_told_though_another_address_is_away(sign_in: KafkaSecurity) -> None:
    async with listening(Door()) as address:
        told = await refused(Brokers(f"127.0.0.1:{free_port()},{address}", sign_in))
    assert told.startswith(f"{address} refuses the sign-in")


def server_side(authority: Authority, folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.sign("broker").save(folder, "broker"))
    return context


async def test_a_certificate_of_a_stranger_is_told(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(Authority().cert_pem)
    stranger = server_side(Authority("a stranger"), tmp_path)
    async with listening(Door(), stranger) as address:
        told = await refused(Brokers(address, KafkaSecurity(protocol="SSL", ca_file=tmp_path / "ca.pem")))
    assert told.startswith(f"{address} is not trusted: ")
    assert "ESTOP_KAFKA_CA_FILE" in told


async def test_a_certificate_of_another_host_is_told(tmp_path: Path) -> None:
    authority = Authority()
    (tmp_path / "ca.pem").write_text(authority.cert_pem)
    async with listening(Door(), server_side(authority, tmp_path), "127.0.0.2") as address:
        told = await refused(Brokers(address, KafkaSecurity(protocol="SSL", ca_file=tmp_path / "ca.pem")))
    assert told.startswith(f"{address} is not trusted: IP address mismatch")


async def test_a_password_is_in_no_log_however_talkative(
    sign_in: KafkaSecurity, caplog: pytest.LogCaptureFixture
) -> None:
    """Aiokafka shows each request at the level debug; this one is the password."""
    door = Door()
    with caplog.at_level(logging.DEBUG, logger="aiokafka.conn"):
        async with listening(door) as address:
            client = AIOKafkaClient(**client_arguments(Brokers(address, sign_in)))
            with pytest.raises(KafkaConnectionError):
                await client.bootstrap()
            await client.close()
    assert PASSWORD.encode() in door.heard, "it was sent"
    assert "SaslHandShakeRequest" in caplog.text, "requests are logged"
    assert PASSWORD not in caplog.text


class Asked:
    """A connection, as far as its refusal is told."""

    host, port = "broker", 9093


def test_a_certificate_that_a_broker_misses_is_told_though_the_handshake_was_over() -> None:
    """With TLS 1.3 the alert comes when the client waits for its first answer: aiokafka names it as the cause."""
    lost = KafkaConnectionError("Connection at broker:9093 closed")
    assert _refusal(Asked(), lost) is None
    lost.__cause__ = ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required")
    told = _refusal(Asked(), lost)
    assert told is not None
    assert "certificate required" in told
    assert "ESTOP_KAFKA_CERT_FILE" in told


@pytest.mark.parametrize(
    "error", [ConnectionRefusedError(111, "refused"), KafkaConnectionError("closed"), ssl.SSLEOFError(8, "went away")]
)
def test_what_may_pass_is_no_refusal(error: Exception) -> None:
    assert _refusal(Asked(), error) is None
