"""Values of settings as text: each kind's parser, which raises ``ValueError`` with what is allowed, and back again."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final
from urllib.parse import urlsplit

from emergency_stop.domain.values import SERVICE_NAME_LENGTH_MAX, is_service_name

PORT_MAX: Final = 65_535
SMTP_SCHEMES: Final = ("smtps", "smtp+starttls", "smtp")
_TRUE: Final = ("true", "1", "yes", "on")
_FALSE: Final = ("false", "0", "no", "off")

Parser = Callable[[str], Any]
#: A service and what it depends on.
Dependencies = tuple[tuple[str, tuple[str, ...]], ...]


def integer_within(low: int, high: int) -> Parser:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"is not a whole number; allowed: {low} to {high}") from None
        if not low <= value <= high:
            raise ValueError(f"is out of range; allowed: {low} to {high}")
        return value

    return parse


def boolean(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered in _TRUE or lowered in _FALSE:
        return lowered in _TRUE
    raise ValueError("is neither true nor false")


def names_among(allowed: tuple[str, ...] | None = None) -> Parser:
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(name.strip() for name in text.split(",") if name.strip())
        for name in names:
            if allowed is not None and name not in allowed:
                hint = did_you_mean(name, allowed)
                raise ValueError(f"has unknown name {name!r}{hint}; allowed: {', '.join(allowed)}")
            if allowed is None and (not is_service_name(name) or "_" in name):
                raise ValueError(
                    f"has {name!r}, but a service name has letters, digits, dots and hyphens only,"
                    f" {SERVICE_NAME_LENGTH_MAX} at most"
                )
        if allowed is None and not names:
            raise ValueError("is empty; name at least one service")
        return names

    return parse


def choice_of(*allowed: str) -> Parser:
    """In whatever case it is written."""
    by_lowered = {one.lower(): one for one in allowed}

    def parse(text: str) -> str:
        lowered = text.strip().lower()
        if lowered not in by_lowered:
            hint = did_you_mean(lowered, tuple(by_lowered))
            raise ValueError(f"is unknown{hint}; allowed: {', '.join(allowed)}")
        return by_lowered[lowered]

    return parse


def service_dependencies(text: str) -> Dependencies:
    """``a:b,c;b:d``: a depends on b and c, and b on d."""
    found: dict[str, tuple[str, ...]] = {}
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        service, _, others = entry.partition(":")
        service, needed = service.strip(), tuple(name.strip() for name in others.split(",") if name.strip())
        if not service or not needed or service in found:
            why = "is named twice" if service in found else "is not"
            raise ValueError(f"has {entry!r}, which {why}; allowed: service:dependency,…;…, each service once")
        found[service] = needed
    try:
        TopologicalSorter(found).prepare()
    except CycleError as error:
        circle = " depends on ".join(reversed(error.args[1]))
        raise ValueError(f"has a circle: {circle}; a cascading stop would have no order, so remove one") from None
    return tuple(found.items())


def broker_addresses(text: str) -> str:
    for address in text.split(","):
        host, colon, port = address.strip().rpartition(":")
        if not (host and colon and port.isdigit() and 0 < int(port) <= PORT_MAX):
            raise ValueError(f"has {address.strip()!r}; allowed: host:port, several separated by commas")
    return text.replace(" ", "")


def http_url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ValueError("is not a URL; allowed: http://… or https://…")
    try:
        parts = urlsplit(text)
        is_whole = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole:
        raise ValueError(
            "has no host, or a port that is none; allowed: http(s)://[user:password@]host[:port][/path], with %2F for a"
            " /, %3F for a ?, %23 for a # and %40 for an @ in the password"
        )
    return text


def without_secrets(url: str) -> str:
    """``url`` as it may be shown: without user, password, query and fragment.

    One that is malformed, or has an @ behind its host, loses more than these: rather its host than a password remains.
    """
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    return scheme + separator + re.split(r"[?#]", rest.rpartition("@")[2], maxsplit=1)[0]


def mail_address(text: str) -> str:
    """One address of e-mail. No line break may get into a header, and none of it is checked beyond its shape."""
    stripped = text.strip()
    if not re.fullmatch(r"[^\s@,<>]+@[^\s@,<>]+", stripped):
        raise ValueError("is no address of e-mail; allowed: name@host")
    return stripped


def mail_addresses(text: str) -> tuple[str, ...]:
    found = [one for one in text.split(",") if one.strip()]
    if not found:
        raise ValueError("is empty; allowed: name@host, several separated by commas")
    return tuple(mail_address(one) for one in found)


def smtp_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in SMTP_SCHEMES:
        hint = did_you_mean(parts.scheme, SMTP_SCHEMES)
        raise ValueError(f"does not begin with a known scheme{hint}; allowed: {', '.join(SMTP_SCHEMES)}, then ://")
    try:
        is_whole = bool(parts.hostname) and parts.port is not None
    except ValueError:
        is_whole = False
    if not is_whole or parts.path.strip("/") or parts.query:
        raise ValueError("has no host and port; allowed: scheme://[user@]host:port")
    if parts.password is not None:
        raise ValueError("has a password in it; put that into the file of ESTOP_NOTIFY_SMTP_PASSWORD_FILE")
    return text


def cluster_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}", text):
        raise ValueError("is no name of a cluster; allowed: letters, digits, and _ . - after the first letter")
    return text


def did_you_mean(name: str, known: tuple[str, ...]) -> str:
    """`` (did you mean 'x'?)`` for the nearest known name, or nothing."""
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""


def as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(value) if all(isinstance(one, str) for one in value) else dependencies_text(value)
    return str(value)


def dependencies_text(value: Dependencies) -> str:
    return ";".join(f"{service}:{','.join(needed)}" for service, needed in value)
