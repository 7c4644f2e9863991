"""A listener of Apache Kafka on which clients sign in, beside the plain one that tests and the broker itself use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from emergency_stop.adapters.embedded_broker import free_port
from emergency_stop.config.kafka import KafkaSecurity
from emergency_stop.testing.certificates import Certificate

_LOGIN: Final = "org.apache.kafka.common.security"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecuredListener:
    """``protocol`` and ``mechanism`` as in ``KafkaSecurity``; ``users`` are passwords by name.

    With TLS the broker shows ``certificate``; with ``client_authority`` (PEM) it wants clients to show one of theirs.
    """

    protocol: str
    mechanism: str | None = None
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    certificate: Certificate | None = None
    client_authority: str | None = None
    port: int = field(default_factory=free_port)

    @property
    def name(self) -> str:
        """What the broker calls it."""
        return self.protocol

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        """An entry of ``listeners`` and ``advertised.listeners``."""
        return f"{self.name}://{self.bootstrap}"

    def properties(self) -> dict[str, str]:
        """What server.properties says of this listener alone."""
        return {f"listener.name.{self.name.lower()}.{key}": value for key, value in self._properties().items()}

    def format_arguments(self) -> list[str]:
        """For the storage tool: SCRAM passwords lie, salted, in the cluster's own log from the beginning."""
        if self.mechanism is None or not self.mechanism.startswith("SCRAM-"):
            return []
        entries = (f"{self.mechanism}=[name={user},password={password}]" for user, password in self.users.items())
        return [argument for entry in entries for argument in ("--add-scram", entry)]

    def _properties(self) -> dict[str, str]:
        found: dict[str, str] = {}
        security = KafkaSecurity(protocol=self.protocol)
        if security.encrypts and self.certificate is not None:
            found |= {
                "ssl.keystore.type": "PEM",
                "ssl.keystore.certificate.chain": _one_line(self.certificate.cert_pem),
                "ssl.keystore.key": _one_line(self.certificate.key_pem),
                "ssl.client.auth": "none" if self.client_authority is None else "required",
            }
        if security.encrypts and self.client_authority is not None:
            found |= {"ssl.truststore.type": "PEM", "ssl.truststore.certificates": _one_line(self.client_authority)}
        if security.signs_in and self.mechanism is not None:
            found |= {
                "sasl.enabled.mechanisms": self.mechanism,
                f"{self.mechanism.lower()}.sasl.jaas.config": self._login_module(),
            }
        return found

    def _login_module(self) -> str:
        if self.mechanism == "PLAIN":
            users = "".join(f' user_{user}="{password}"' for user, password in self.users.items())
            return f"{_LOGIN}.plain.PlainLoginModule required{users};"
        return f"{_LOGIN}.scram.ScramLoginModule required;"


def _one_line(pem: str) -> str:
    """As a value of a properties file."""
    return pem.replace("\n", "\\n")
