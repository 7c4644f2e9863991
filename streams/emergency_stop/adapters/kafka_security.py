"""The one place that says how a client of aiokafka reaches the brokers: every constructor takes its answer."""

from __future__ import annotations

from functools import cache
from typing import Any

from emergency_stop.config.kafka import Brokers, KafkaSecurity, KafkaSecurityError, brokers_of, problems


def client_arguments(brokers: str | Brokers) -> dict[str, Any]:
    """Keyword arguments for aiokafka's producers, consumers, admins and clients: where, and how to sign in.

    They hold the password: pass them on, and never show them. Raises ``KafkaSecurityError``.
    """
    told = brokers_of(brokers)
    return {"bootstrap_servers": told.addresses, **_sign_in(told.security)}


@cache
def _sign_in(security: KafkaSecurity) -> dict[str, Any]:
    """Files are read once per process: one that is lost later keeps no stop from its way over a new connection."""
    found = problems(security)
    if found:
        raise KafkaSecurityError("; ".join(found))
    arguments: dict[str, Any] = {"security_protocol": security.protocol}
    if security.encrypts:
        arguments["ssl_context"] = security.tls_context()
    if security.signs_in:
        arguments["sasl_mechanism"] = security.sasl_mechanism
        arguments["sasl_plain_username"] = security.user
        arguments["sasl_plain_password"] = security.password()
    return arguments
