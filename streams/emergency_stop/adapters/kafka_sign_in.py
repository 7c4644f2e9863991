"""Why brokers refuse a client is told to whoever connects, and passwords to nobody: fifth part of the aiokafka seam.

aiokafka writes to its log why a bootstrap address could not be used, and raises no more than that none could. A wrong
password, or a certificate that is not trusted, then looks like a broker that is away, which is waited for. Here the
reasons are collected while a client connects, and raised with what to look at. And its log, when it says most, shows
each request as it is sent: those that carry a password are kept out of it.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Final

from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

_SASL_ERRORS: Final = (SaslAuthenticationFailed, UnsupportedSaslMechanismError, IllegalSaslStateError)
#: A broker that went away in the middle of it: that passes.
_ENDED: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
#: Where refusals of the client that connects in this task are collected; ``None`` where nobody asked.
_refusals: ContextVar[list[str] | None] = ContextVar("refusals", default=None)


class KafkaSignInError(KafkaConnectionError):  # type: ignore[misc]  # aiokafka has no types
    """No broker let us in, or none is who it should be: settings are wrong here or there, and waiting mends nothing."""

    def __str__(self) -> str:
        """The text alone; aiokafka puts the class before it."""
        return str(self.args[0])


@contextlib.contextmanager
def telling_refusals() -> Iterator[None]:
    """A ``KafkaConnectionError`` within becomes a ``KafkaSignInError``, if a broker answered and refused."""
    found: list[str] = []
    token = _refusals.set(found)
    try:
        yield
    except KafkaConnectionError as error:
        if not found:
            raise
        raise KafkaSignInError("; ".join(dict.fromkeys(found))) from error
    finally:
        _refusals.reset(token)


@contextlib.contextmanager
def noting_refusals(connection: Any) -> Iterator[None]:
    """Notes what a broker says against ``connection`` while that opens; the error goes on.

    A broker that cannot prove that it knows the password, as SCRAM wants it to, becomes a ``KafkaSignInError``:
    aiokafka has a ``ValueError`` for it, which ends whoever connects.
    """
    try:
        yield
    except (KafkaError, OSError) as error:  # before ValueError, which an untrusted certificate is too
        refusal = _refusal(connection, error)
        if refusal is not None:
            _noted(refusal)
        raise
    except ValueError as error:
        raise KafkaSignInError(_noted(_impostor(connection, error))) from error


def _noted(refusal: str) -> str:
    found = _refusals.get()
    if found is not None:
        found.append(refusal)
    return refusal


def _impostor(connection: Any, error: ValueError) -> str:
    return (
        f"{connection.host}:{connection.port} does not prove that it knows the password of"
        f" {connection._sasl_plain_username!r} itself ({error}); look whether ESTOP_BROKERS names your brokers"  # noqa: SLF001
    )


def _refusal(connection: Any, error: BaseException) -> str | None:
    """What is wrong and where to look; ``None`` where nothing was refused."""
    where = f"{connection.host}:{connection.port}"
    if isinstance(error, SaslAuthenticationFailed):
        user = connection._sasl_plain_username  # noqa: SLF001  # private API: pinned, and under a contract test
        return (
            f"{where} refuses the sign-in of {user!r} ({error.args[0] if error.args else error}); look at"
            " ESTOP_KAFKA_USER and ESTOP_KAFKA_PASSWORD_FILE, and whether the broker knows this user"
        )
    if isinstance(error, _SASL_ERRORS):
        mechanism = connection._sasl_mechanism  # noqa: SLF001
        return f"{where} does not take sign-ins by {mechanism}; look at ESTOP_KAFKA_SASL_MECHANISM"
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"{where} is not trusted: {error.verify_message}; look at ESTOP_KAFKA_CA_FILE, and whether the broker's"
            " certificate names this host"
        )
    # With TLS 1.3 a client's certificate is refused once the client is done; what waits for an answer then fails.
    alert = error if isinstance(error, ssl.SSLError) else error.__cause__
    if isinstance(alert, ssl.SSLError) and not isinstance(alert, _ENDED):
        why = getattr(alert, "reason", None) or alert
        return (
            f"no TLS with {where}: {why}; look whether that port speaks TLS, and at"
            " ESTOP_KAFKA_CERT_FILE, should the broker ask for a certificate"
        )
    return None


class _WithoutPasswords(logging.Filter):
    """Keeps what signs in, and the answers to it, out of a log of requests."""

    def filter(self, record: logging.LogRecord) -> bool:
        shown = record.args if isinstance(record.args, tuple) else ()
        return not any(type(one).__name__.startswith("SaslAuthenticate") for one in shown)


_without_passwords: Final = _WithoutPasswords()


def hide_passwords() -> None:
    """From now on aiokafka's log shows no password at any level. Idempotent."""
    logging.getLogger("aiokafka.conn").addFilter(_without_passwords)
