"""Where the brokers are, and how a client signs in there: one value, so that no client gets one without the other."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emergency_stop.config.values import did_you_mean

PLAINTEXT: Final = "PLAINTEXT"
PROTOCOLS: Final = (PLAINTEXT, "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
#: The variables of ``KafkaSecurity``'s fields; what is wrong is told under these names.
VARIABLES: Final = {
    "protocol": "ESTOP_KAFKA_SECURITY_PROTOCOL",
    "ca_file": "ESTOP_KAFKA_CA_FILE",
    "cert_file": "ESTOP_KAFKA_CERT_FILE",
    "key_file": "ESTOP_KAFKA_KEY_FILE",
    "sasl_mechanism": "ESTOP_KAFKA_SASL_MECHANISM",
    "user": "ESTOP_KAFKA_USER",
    "password_file": "ESTOP_KAFKA_PASSWORD_FILE",
}
_OF_TLS: Final = ("ca_file", "cert_file", "key_file")
_OF_SASL: Final = ("sasl_mechanism", "user", "password_file")


class KafkaSecurityError(ValueError):
    """The sign-in cannot work; the text has every problem, each with its variable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSecurity:
    """How a client proves to the brokers who it is, and they to it. Names files and holds no secret.

    Without ``ca_file`` the authorities that this machine trusts count. ``cert_file`` (a certificate and what leads to
    its authority) and ``key_file`` are PEM, the key without a passphrase: for brokers that ask clients for one.
    ``problems`` tells what contradicts itself; the constructor accepts everything.
    """

    protocol: str = PLAINTEXT
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    sasl_mechanism: str | None = None
    user: str | None = None
    password_file: Path | None = None

    @property
    def encrypts(self) -> bool:
        """Whether connections are TLS."""
        return self.protocol.endswith("SSL")

    @property
    def signs_in(self) -> bool:
        """Whether a user and a password are given."""
        return self.protocol.startswith("SASL_")

    def tls_context(self) -> ssl.SSLContext | None:
        """What verifies brokers, and shows our certificate where there is one; ``None`` without TLS.

        Reads the files. Raises ``KafkaSecurityError`` that names the variable.
        """
        if not self.encrypts:
            return None
        with _telling(self, "ca_file"):
            context = ssl.create_default_context(cafile=self.ca_file)
        if self.cert_file is not None and self.key_file is not None:
            with _telling(self, "key_file"):
                self.key_file.read_bytes()
            with _telling(self, "cert_file", "key_file"):
                context.load_cert_chain(self.cert_file, self.key_file, password=_no_passphrase)
        return context

    def password(self) -> str | None:
        """What the file has, without line breaks at its end; ``None`` where nobody signs in.

        Raises ``KafkaSecurityError`` that names the variable.
        """
        if not self.signs_in or self.password_file is None:
            return None
        with _telling(self, "password_file"):
            found = self.password_file.read_text(encoding="utf-8").rstrip("\r\n")
            if not found:
                raise ValueError("it is empty")
        return found


@dataclass(frozen=True, slots=True)
class Brokers:
    """Bootstrap addresses (``host:port``, several separated by commas), and how to sign in there."""

    addresses: str
    security: KafkaSecurity = KafkaSecurity()

    def __str__(self) -> str:
        return self.addresses


def brokers_of(brokers: str | Brokers) -> Brokers:
    """Addresses alone are of brokers that ask for nothing."""
    return brokers if isinstance(brokers, Brokers) else Brokers(brokers)


def problems(security: KafkaSecurity) -> list[str]:
    """What contradicts itself, or else which files cannot be used; each with variable, value, and what to do."""
    found = [*_unknown(security), *_needless(security), *_missing(security)]
    return found or list(_unusable(security))


def _unknown(security: KafkaSecurity) -> Iterator[str]:
    for name, allowed in (("protocol", PROTOCOLS), ("sasl_mechanism", MECHANISMS)):
        given = getattr(security, name)
        if given is not None and given not in allowed:
            yield f"{_told(security, name)} is unknown{did_you_mean(given, allowed)}; allowed: {', '.join(allowed)}"


def _needless(security: KafkaSecurity) -> Iterator[str]:
    """What would be left out in silence, though somebody meant to have it."""
    parts = (
        (_OF_TLS, security.encrypts, "is for TLS", "SSL or SASL_SSL"),
        (_OF_SASL, security.signs_in, "is for a sign-in", "SASL_SSL or SASL_PLAINTEXT"),
    )
    for names, is_used, purpose, protocols in parts:
        for name in names:
            if getattr(security, name) is not None and not is_used:
                yield (
                    f"{_told(security, name)} {purpose}, which {_told(security, 'protocol')} goes without; set that to"
                    f" {protocols}, or leave {VARIABLES[name]} out"
                )


def _missing(security: KafkaSecurity) -> Iterator[str]:
    for name in _OF_SASL:
        if security.signs_in and not getattr(security, name):
            yield f"{_told(security, 'protocol')} needs {VARIABLES[name]}, which is not set"
    for name, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
        if security.encrypts and getattr(security, name) is not None and getattr(security, other) is None:
            yield f"{_told(security, name)} needs {VARIABLES[other]}, which is not set"


def _unusable(security: KafkaSecurity) -> Iterator[str]:
    for use in (security.tls_context, security.password):
        try:
            use()
        except KafkaSecurityError as error:
            yield str(error)


@contextlib.contextmanager
def _telling(security: KafkaSecurity, *names: str) -> Iterator[None]:
    """What goes wrong within becomes a ``KafkaSecurityError`` about these files; it tells nothing of what they hold."""
    try:
        yield
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
        told = " with ".join(_told(security, name) for name in names)
        raise KafkaSecurityError(f"{told} cannot be used: {why}; look at the file, and who may read it") from None


def _no_passphrase() -> str:
    """Asked for where a key has one. OpenSSL would ask whoever sits at the terminal."""
    raise ValueError("the key has a passphrase, and nobody is there to type it: store it without one")


def _told(security: KafkaSecurity, name: str) -> str:
    return f"{VARIABLES[name]}={str(getattr(security, name))!r}"
