"""How to sign in at the brokers: what is refused at start, what a child process gets, and where the password is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from emergency_stop.config import Settings, SettingsError
from emergency_stop.config.kafka import Brokers, KafkaSecurity, KafkaSecurityError, brokers_of
from emergency_stop.testing.certificates import Authority

PROTOCOL, CA, CERT, KEY = (
    "ESTOP_KAFKA_SECURITY_PROTOCOL", "ESTOP_KAFKA_CA_FILE", "ESTOP_KAFKA_CERT_FILE", "ESTOP_KAFKA_KEY_FILE",
)  # fmt: skip
MECHANISM, USER, PASSWORD = "ESTOP_KAFKA_SASL_MECHANISM", "ESTOP_KAFKA_USER", "ESTOP_KAFKA_PASSWORD_FILE"
SECRET = "correct-horse-battery"  # noqa: S105  # of nobody


def problems(env: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as wrong:
        Settings.from_env(env)
    return wrong.value.problems


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, str]:
    """Everything that SASL_SSL takes, all of it right."""
    authority = Authority()
    (tmp_path / "ca.pem").write_text(authority.cert_pem)
    cert_file, key_file = authority.sign("detector").save(tmp_path, "detector")
    (tmp_path / "password").write_text(f"{SECRET}\n")
    return {
        PROTOCOL: "SASL_SSL", CA: str(tmp_path / "ca.pem"), CERT: str(cert_file), KEY: str(key_file),
        MECHANISM: "SCRAM-SHA-512", USER: "detector", PASSWORD: str(tmp_path / "password"),
    }  # fmt: skip


def test_without_a_word_about_it_brokers_ask_for_nothing() -> None:
    security = Settings.from_env({}).kafka.security
    assert security == KafkaSecurity()
    assert (security.encrypts, security.signs_in, security.tls_context(), security.password()) == (
        False, False, None, None,
    )  # fmt: skip


def test_all_of_it_reaches_the_value_that_clients_are_made_with(whole: dict[str, str]) -> None:
    settings = Settings.from_env({**whole, "ESTOP_BROKERS": "a:1,b:2"})
    assert settings.kafka.addresses == "a:1,b:2"
    assert settings.kafka.security == KafkaSecurity(
        protocol="SASL_SSL", ca_file=Path(whole[CA]), cert_file=Path(whole[CERT]), key_file=Path(whole[KEY]),
        sasl_mechanism="SCRAM-SHA-512", user="detector", password_file=Path(whole[PASSWORD]),
    )  # fmt: skip
    assert settings.kafka.security.password() == SECRET, "the line break at its end is the editor's"


def test_a_child_process_gets_all_of_it(whole: dict[str, str]) -> None:
    settings = Settings.from_env(whole)
    child = settings.as_env()
    assert whole.items() <= child.items()
    assert Settings.from_env(child) == settings


def test_the_password_is_in_nothing_that_may_be_shown(whole: dict[str, str]) -> None:
    settings = Settings.from_env(whole)
    for shown in (settings, settings.kafka, settings.kafka.security, settings.as_env()):
        assert SECRET not in repr(shown) + str(shown)


def test_case_does_not_matter() -> None:
    assert problems({PROTOCOL: "sasl_ssl"})[0].startswith(f"{PROTOCOL}='SASL_SSL' needs ")


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        (PROTOCOL, "TLS", "allowed: PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
        (PROTOCOL, "SASL-SSL", "did you mean 'sasl_ssl'?"),
        (MECHANISM, "SCRAM-SHA-521", "did you mean 'scram-sha-512'?"),
        (MECHANISM, "GSSAPI", "allowed: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"),
    ],
)
def test_a_wrong_word_is_told_with_those_that_are_allowed(variable: str, value: str, reason: str) -> None:
    (problem,) = problems({variable: value})
    assert problem.startswith(f"{variable}={value!r} is unknown")
    assert reason in problem


@pytest.mark.parametrize("variable", [CA, CERT, KEY, MECHANISM, USER, PASSWORD])
def test_what_plain_connections_would_leave_out_is_refused(whole: dict[str, str], variable: str) -> None:
    """Somebody meant to have it; that it has no effect must not come out in an incident."""
    (problem,) = problems({variable: whole[variable]})
    assert problem.startswith(f"{variable}={whole[variable]!r} is for ")
    assert f"{PROTOCOL}='PLAINTEXT' goes without" in problem


@pytest.mark.parametrize(
    ("protocol", "needless"), [("SSL", (MECHANISM, USER, PASSWORD)), ("SASL_PLAINTEXT", (CA, CERT, KEY))]
)
def test_so_is_what_the_other_protocols_leave_out(
    whole: dict[str, str], protocol: str, needless: tuple[str, ...]
) -> None:
    found = problems({**whole, PROTOCOL: protocol})
    assert [problem.partition("=")[0] for problem in found] == list(needless)


@pytest.mark.parametrize("variable", [MECHANISM, USER, PASSWORD])
def test_half_a_sign_in_is_refused_by_the_name_of_the_other_half(whole: dict[str, str], variable: str) -> None:
    del whole[variable]
    assert problems(whole) == [f"{PROTOCOL}='SASL_SSL' needs {variable}, which is not set"]


@pytest.mark.parametrize(("given", "missing"), [(CERT, KEY), (KEY, CERT)])
def test_a_certificate_needs_its_key_and_the_other_way_round(whole: dict[str, str], given: str, missing: str) -> None:
    del whole[missing]
    assert problems(whole) == [f"{given}={whole[given]!r} needs {missing}, which is not set"]


@pytest.mark.parametrize("variable", [CA, CERT, KEY, PASSWORD])
def test_a_file_that_is_not_there_is_refused_at_start(whole: dict[str, str], variable: str) -> None:
    whole[variable] += ".lost"
    (problem,) = problems(whole)
    assert f"{variable}={whole[variable]!r}" in problem
    assert "cannot be used: No such file or directory" in problem


@pytest.mark.parametrize("variable", [CA, CERT, KEY])
def test_so_is_one_that_is_no_pem(whole: dict[str, str], variable: str) -> None:
    Path(whole[variable]).write_text("nothing of the kind")
    (problem,) = problems(whole)
    assert f"{variable}={whole[variable]!r}" in problem
    assert "cannot be used" in problem


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_so_is_a_password_that_is_none(whole: dict[str, str], content: bytes) -> None:
    Path(whole[PASSWORD]).write_bytes(content)
    (problem,) = problems(whole)
    assert problem.startswith(f"{PASSWORD}={whole[PASSWORD]!r} cannot be used: ")


def test_so_is_a_key_of_another_certificate(whole: dict[str, str], tmp_path: Path) -> None:
    _, whole[KEY] = map(str, Authority().sign("another").save(tmp_path, "another"))
    (problem,) = problems(whole)
    assert problem.startswith(f"{CERT}={whole[CERT]!r} with {KEY}={whole[KEY]!r} cannot be used: ")


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(whole: dict[str, str]) -> None:
    """OpenSSL would ask whoever sits at the terminal, and wait."""
    key = serialization.load_pem_private_key(Path(whole[KEY]).read_bytes(), None)
    sealed = serialization.BestAvailableEncryption(b"passphrase")
    Path(whole[KEY]).write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed)
    )
    (problem,) = problems(whole)
    assert "has a passphrase" in problem


def test_everything_that_is_wrong_is_told_at_once() -> None:
    found = problems({PROTOCOL: "SASL_PLAINTEXT", CA: "ca.pem", USER: "ann", "GRACEFUL_STOP_TIMEOUT": "1000"})
    assert len(found) == 4
    assert any("GRACEFUL_STOP_TIMEOUT" in problem for problem in found)


def test_who_builds_the_value_by_hand_is_told_the_same() -> None:
    with pytest.raises(KafkaSecurityError, match="ESTOP_KAFKA_PASSWORD_FILE='lost' cannot be used"):
        KafkaSecurity(protocol="SASL_SSL", password_file=Path("lost")).password()


def test_addresses_alone_are_of_brokers_that_ask_for_nothing() -> None:
    assert brokers_of("a:1") == Brokers("a:1", KafkaSecurity())
    told = Brokers("a:1", KafkaSecurity(protocol="SSL"))
    assert brokers_of(told) is told
    assert str(told) == "a:1"
