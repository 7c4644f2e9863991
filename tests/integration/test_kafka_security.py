"""A real Apache Kafka that asks for a sign-in: who has it gets all the way to a stop, and who has not is told why."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest
from aiokafka.errors import KafkaConnectionError

from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_sign_in import KafkaSignInError
from emergency_stop.adapters.kafka_tail import CompactedTail, TailRecord
from emergency_stop.adapters.kafka_topics import describe_topics, ensure_topics
from emergency_stop.adapters.trigger_publishing import publish_versions
from emergency_stop.apps.coordinator_keys import with_own_key
from emergency_stop.apps.stack.child import Child
from emergency_stop.config import EXIT_CONFIG, Settings
from emergency_stop.config.kafka import Brokers, KafkaSecurity
from emergency_stop.domain.default_triggers import default_pack
from emergency_stop.domain.telemetry import DetectionEvent, Severity
from emergency_stop.domain.topics import TopicSpec
from emergency_stop.sdk import (
    EmergencyStopSystem,
    EventsStartError,
    GuardStartError,
    LifecycleEvents,
    StopGuard,
    SystemStartError,
    Telemetry,
)
from emergency_stop.testing.brokers import ApacheKafka
from emergency_stop.testing.certificates import Authority
from emergency_stop.testing.secured_listener import SecuredListener
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from emergency_stop.wire.trusted_keys import KeyFileVerifier
from tests.integration.sdk_office import until

pytestmark = pytest.mark.needs("java", "maven")
USER: Final = "estop"
SECRET: Final = "correct-horse-battery"  # noqa: S105  # of a broker that lives as long as these tests
READY_MS: Final = 180_000
#: Refused at once; the time is Python's, to start, and numba's, to be imported.
REFUSED_WITHIN_S: Final = 60
ACCOUNT: Final = "acc-1"
MECHANISMS: Final = {"SASL_SSL": "SCRAM-SHA-512", "SASL_PLAINTEXT": "PLAIN"}


@dataclass(frozen=True)
class Doors:
    """The addresses of a broker by the protocol that it speaks there, and what its clients show."""

    addresses: dict[str, str]
    ca_file: Path
    cert_file: Path
    key_file: Path
    password_file: Path
    wrong_password_file: Path

    def settings(self, protocol: str = "SASL_SSL") -> Settings:
        """With all that is right."""
        tls, sasl = protocol.endswith("SSL"), protocol.startswith("SASL_")
        shows = protocol == "SSL"
        return Settings(
            brokers=self.addresses[protocol],
            kafka_security_protocol=protocol,
            kafka_ca_file=self.ca_file if tls else None,
            kafka_cert_file=self.cert_file if shows else None,
            kafka_key_file=self.key_file if shows else None,
            kafka_sasl_mechanism=MECHANISMS[protocol] if sasl else None,
            kafka_user=USER if sasl else None,
            kafka_password_file=self.password_file if sasl else None,
            services=("alpha",),
        )


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """One broker with a door of each kind; a password opens two of them, a certificate of our authority the third."""
    folder = tmp_path_factory.mktemp("secured")
    authority, users = Authority(), {USER: SECRET}
    shown = authority.sign("broker")
    listeners = [
        SecuredListener(protocol="SSL", certificate=shown, client_authority=authority.cert_pem),
        *(
            SecuredListener(protocol=protocol, mechanism=mechanism, users=users, certificate=shown)
            for protocol, mechanism in MECHANISMS.items()
        ),
    ]
    (folder / "ca.pem").write_text(authority.cert_pem)
    (folder / "password").write_text(f"{SECRET}\n")
    (folder / "wrong").write_text("a-guess\n")
    (folder / "kafka").mkdir()
    with ApacheKafka(folder / "kafka", short_lived=True, secured=listeners):
        yield Doors(
            {listener.protocol: listener.bootstrap for listener in listeners},
            folder / "ca.pem",
            *authority.sign("detector").save(folder, "detector"),
            folder / "password",
            folder / "wrong",
        )


@pytest.mark.parametrize("protocol", ["SSL", *MECHANISMS])
async def test_who_signs_in_makes_topics_writes_and_reads(doors: Doors, protocol: str) -> None:
    brokers, topic, seen = doors.settings(protocol).kafka, f"of-{protocol.lower()}", list[TailRecord]()
    assert await ensure_topics(brokers, [TopicSpec(topic, None)]) == (topic,)
    assert (await describe_topics(brokers, [topic]))[topic].partitions == 4
    publisher = KafkaPublisher(brokers, client_id="test")
    await publisher.start()
    await publisher.publish(topic, b"key", b"value")
    await publisher.stop()
    tail = CompactedTail(brokers, topic, seen.append, client_id="test")
    await tail.start()
    await tail.caught_up(or_refused=True)
    await tail.stop()
    assert [record.value for record in seen] == [b"value"]


def typed(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ESTOP_")}
    command = [sys.executable, "-m", "emergency_stop.control.cli.main", *arguments]
    return subprocess.run(
        command, env=environment | settings.as_env(), capture_output=True, text=True, timeout=REFUSED_WITHIN_S,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [("check",), ("status",), ("coordinator",), ("detector",), ("notifier",), ("service", "realtimeSync")],
    ids=" ".join,
)
def test_a_wrong_password_ends_every_process_with_the_code_of_wrong_settings(
    doors: Doors, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    settings = replace(doors.settings(), kafka_password_file=doors.wrong_password_file, data_dir=tmp_path)
    ended = typed(settings, *arguments)
    told = ended.stdout + ended.stderr
    assert ended.returncode == EXIT_CONFIG, told
    assert f"refuses the sign-in of '{USER}'" in told
    assert "ESTOP_KAFKA_PASSWORD_FILE" in told
    assert "a-guess" not in told
    assert "Traceback" not in told


def test_not_even_the_most_talkative_log_shows_the_password(doors: Doors, tmp_path: Path) -> None:
    """PLAIN sends it as it is; the log shows every other request."""
    settings = replace(doors.settings("SASL_PLAINTEXT"), log_level="debug", data_dir=tmp_path)
    ended = typed(settings, "check")
    assert "MetadataRequest" in ended.stderr
    assert SECRET not in ended.stdout + ended.stderr


async def test_a_service_is_told_at_once_why_it_may_not_start(doors: Doors) -> None:
    security = replace(doors.settings().kafka.security, password_file=doors.wrong_password_file)
    brokers = Brokers(doors.addresses["SASL_SSL"], security)
    async with asyncio.timeout(REFUSED_WITHIN_S):
        with pytest.raises(GuardStartError, match="refuses the sign-in of 'estop'"):
            await StopGuard("alpha", brokers).start()
        with pytest.raises(EventsStartError, match="refuses the sign-in of 'estop'"):
            await LifecycleEvents(brokers).start()
        with pytest.raises(SystemStartError, match="refuses the sign-in of 'estop'"):
            await EmergencyStopSystem(brokers).start()


async def test_a_broker_of_a_strange_authority_gets_no_password(doors: Doors, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(Authority("a stranger").cert_pem)
    security = replace(doors.settings().kafka.security, ca_file=tmp_path / "ca.pem")
    with pytest.raises(KafkaSignInError, match=r"is not trusted: .*ESTOP_KAFKA_CA_FILE"):
        await describe_topics(Brokers(doors.addresses["SASL_SSL"], security), ["any"])


async def test_who_shows_no_certificate_where_one_is_asked_for_gets_nowhere(doors: Doors) -> None:
    """With TLS 1.3 the refusal comes after the handshake, together with the end of the connection."""
    with pytest.raises(KafkaConnectionError):
        await describe_topics(
            Brokers(doors.addresses["SSL"], KafkaSecurity(protocol="SSL", ca_file=doors.ca_file)), ["any"]
        )


@pytest.mark.parametrize("protocol", ["SSL", *MECHANISMS])
async def test_who_does_not_sign_in_gets_nowhere(doors: Doors, protocol: str) -> None:
    """So the tests above pass for the sign-in's sake, and not because these doors stand open."""
    async with asyncio.timeout(REFUSED_WITHIN_S):
        with pytest.raises(KafkaConnectionError):
            await describe_topics(Brokers(doors.addresses[protocol]), ["any"])


async def test_an_event_goes_all_the_way_to_a_stop_and_its_proof(
    doors: Doors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Producer ─► detector ─► coordinator ─► guard, each on connections of SASL_SSL, and none by another door."""
    settings = with_own_key(
        replace(doors.settings(), data_dir=tmp_path, checkpoint_interval_ms=100, health_monitoring_interval_ms=500),
        tmp_path,
    )
    await ensure_topics(settings.kafka, settings.topics())
    async with AsyncExitStack() as stack:
        publisher = KafkaPublisher(settings.kafka, client_id="test")
        await publisher.start()
        stack.push_async_callback(publisher.stop)
        await publish_versions(publisher, Codec(LocalRegistry()), default_pack(0))
        for name in ("detector", "coordinator"):
            child = Child(name, [name], settings, tmp_path / f"{name}.log")
            child.start()
            stack.push_async_callback(child.stop)
            await child.ready(READY_MS)
        for variable, value in settings.as_env().items():
            if variable.startswith("ESTOP_KAFKA_"):
                monkeypatch.setenv(variable, value)
        assert settings.verify_keys_file is not None
        verifier = KeyFileVerifier(settings.verify_keys_file)
        telemetry = await stack.enter_async_context(Telemetry("alpha", settings.brokers))
        system = await stack.enter_async_context(EmergencyStopSystem(settings.kafka, services=("alpha",)))
        guard = await stack.enter_async_context(
            StopGuard("alpha", settings.brokers, heartbeat_ms=200, verifier=verifier, on_stop=lambda _: True)
        )
        async with guard.permit(ACCOUNT):
            telemetry.offer(
                DetectionEvent(account_id=ACCOUNT, severity=Severity.CRITICAL, detection_type="test", confidence=1.0)
            )
        await until(lambda: guard.stopped_by(ACCOUNT), "the gate is shut for the account")
        await until(lambda: guard.stats.stops_proven, "the guard has proved the stop")
        assert guard.stopped_by("acc-2") is None
        assert guard.stats.untrusted == 0
        await until(system.get_active_emergencies, "the emergency is told")
