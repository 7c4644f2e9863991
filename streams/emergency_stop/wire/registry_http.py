"""A Confluent-compatible schema registry over HTTP (Confluent, Karapace, Apicurio's ccompat API).

Subjects follow TopicNameStrategy: ``<topic>-value``. Nothing is registered in passing: producers look
up the id of the committed schema, and ``register_committed`` is the explicit step that puts it there.
What was found is cached for good, because a registry never changes an id's schema; what was not
found is asked for again after ``UNKNOWN_FOR_MS``, so that an unknown id in every message does not
become a request for every message. Requests block, on an event loop too: so after one that nobody
answered, none is made for ``SILENT_TIMES`` times as long as it took, and a registry that is away takes a
fifth of its users' time at most.
"""

from __future__ import annotations

import base64
import http.client
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from uuid import UUID

from emergency_stop.domain.topics import TopicSpec
from emergency_stop.wire.registry import (
    LocalRegistry,
    Registry,
    RegistryError,
    SchemaUnansweredError,
    UnknownSchemaError,
)
from emergency_stop.wire.schemas import load_record_schema

#: Beside what is defined here, the errors, which most who ask a registry catch.
__all__ = [
    "TIMEOUT_MS",
    "UNKNOWN_FOR_MS",
    "HttpRegistry",
    "NotRegisteredError",
    "RegistryError",
    "build_registry",
    "register_committed",
    "subject_of",
]

TIMEOUT_MS: Final = 2_000
UNKNOWN_FOR_MS: Final = 30_000
#: The same for a subject without our schema: somebody who has just registered it should not wait for long.
UNREGISTERED_FOR_MS: Final = 2_000
#: Unknown ids that are remembered; past it the oldest go, and are asked for again.
UNKNOWN_MAX: Final = 10_000
SILENT_TIMES: Final = 4
CONTENT_TYPE: Final = "application/vnd.schemaregistry.v1+json"
#: 404 with one of these codes says that the thing is not there; any other 404 is a wrong address.
_NOT_THERE: Final = frozenset({40401, 40402, 40403})
#: What a registry that knows no GUIDs at all answers to one.
_NO_SUCH_PATH: Final = frozenset({404})
#: No registry has an id beyond this; asked for one, some answer as if their address were wrong.
_ID_MAX: Final = 2**31 - 1


class NotRegisteredError(RegistryError):
    """A committed schema is not registered under the subject of its topic."""

    def __init__(self, record: str, subject: str) -> None:
        super().__init__(
            f"schema {record} is not registered under subject {subject};"
            " register the committed schemas first: python -m emergency_stop.wire.registry_http URL"
        )
        self.subject = subject


def subject_of(topic: str) -> str:
    """The subject of a topic's values (TopicNameStrategy)."""
    return f"{topic}-value"


class HttpRegistry:
    """Ids and schemas from a registry. Blocks on the network on the first use of each; cached after.

    ``url`` may carry ``user:password@`` (sent as Basic authorization, never shown) and a path
    prefix such as Apicurio's ``/apis/ccompat/v7``.
    """

    def __init__(self, url: str, *, timeout_ms: int = TIMEOUT_MS, now: Callable[[], float] = time.monotonic) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{_shown(url)} is not the address of a registry; expected http(s)://host[:port][/path]")
        self.url: Final = _shown(url).rstrip("/")
        self._timeout_s = timeout_ms / 1000
        self._now = now
        self._headers = {"Accept": f"{CONTENT_TYPE}, application/json", "Content-Type": CONTENT_TYPE}
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        self._ids: dict[tuple[str, str], int] = {}
        self._schemas: dict[int | str, dict[str, Any]] = {}
        #: In the order in which they were last asked for.
        self._unknown_until: dict[int | str, float] = {}
        self._unregistered_until: dict[str, float] = {}
        self._silent_until = 0.0

    def schema_id(self, record: str, topic: str) -> int:
        """The id of the committed schema of ``record`` under the topic's subject.

        Raises ``NotRegisteredError``, or ``RegistryError`` where the registry does not answer.
        """
        known = self._ids.get((record, topic))
        if known is None:
            subject = subject_of(topic)
            if self._unregistered_until.get(subject, 0.0) > self._now():
                raise NotRegisteredError(record, subject)
            answer = self._ask("POST", f"/subjects/{quote(subject, safe='')}", _as_schema(record))
            if answer is None:
                self._unregistered_until[subject] = self._now() + UNREGISTERED_FOR_MS / 1000
                raise NotRegisteredError(record, subject)
            known = self._ids[record, topic] = int(answer["id"])
        return known

    def writer_schema(self, schema_id: int | str) -> dict[str, Any]:
        """The schema of an id, or of a GUID (32 hex digits, with or without hyphens), as plain JSON.

        Raises ``UnknownSchemaError`` where the registry does not know it or it is not plain Avro, and
        ``SchemaUnansweredError`` where it does not answer: the one is the message's fault, the other is not.
        """
        known = self._schemas.get(schema_id)
        if known is not None:
            return known
        is_none = isinstance(schema_id, int) and not 0 <= schema_id <= _ID_MAX
        if is_none or self._unknown_until.get(schema_id, 0.0) > self._now():
            raise UnknownSchemaError(schema_id)
        schema = self._asked_for(schema_id)
        if schema is None:
            self._note_unknown(schema_id)
            raise UnknownSchemaError(schema_id)
        self._schemas[schema_id] = schema
        return schema

    def _asked_for(self, schema_id: int | str) -> dict[str, Any] | None:
        try:
            if isinstance(schema_id, str):
                answer = self._ask("GET", f"/schemas/guids/{UUID(schema_id)}", not_there=_NOT_THERE | _NO_SUCH_PATH)
            else:
                answer = self._ask("GET", f"/schemas/ids/{schema_id}")
        except RegistryError as error:
            raise SchemaUnansweredError(str(error)) from None
        return _plain_avro(answer)

    def _note_unknown(self, schema_id: int | str) -> None:
        """Those whose time is over are the oldest."""
        self._unknown_until.pop(schema_id, None)
        while len(self._unknown_until) >= UNKNOWN_MAX:
            del self._unknown_until[next(iter(self._unknown_until))]
        self._unknown_until[schema_id] = self._now() + UNKNOWN_FOR_MS / 1000

    def register(self, record: str, topic: str) -> int:
        """Register the committed schema of ``record`` for ``topic``; idempotent. Returns its id.

        Raises ``RegistryError``, with the registry's words where it finds the schema incompatible.
        """
        path = f"/subjects/{quote(subject_of(topic), safe='')}/versions"
        answer = self._ask("POST", path, _as_schema(record))
        if answer is None:
            raise RegistryError(f"registry {self.url} has no {path}; is this the registry's address?")
        registered: int = answer["id"]
        self._ids[record, topic] = registered
        return registered

    def demand_compatibility(self, topic: str) -> None:
        """Have the registry itself refuse what old data could not be read with."""
        path = f"/config/{quote(subject_of(topic), safe='')}"
        self._ask("PUT", path, {"compatibility": "BACKWARD_TRANSITIVE"})

    def _ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        not_there: frozenset[int] = _NOT_THERE,
    ) -> dict[str, Any] | None:
        """The answer's JSON; ``None`` for "not there". Raises ``RegistryError`` for everything else."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, self._headers, method=method)  # noqa: S310 - http(s) only
        asked_at = self._now()
        if asked_at < self._silent_until:
            left_s = f"{self._silent_until - asked_at:.1f}"
            raise RegistryError(f"registry {self.url} did not answer a moment ago, and is asked again in {left_s} s")
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as answer:  # noqa: S310 - http(s) only
                parsed = json.load(answer)
        except urllib.error.HTTPError as error:
            said = _words(error)
            if error.code == 404 and said.get("error_code") in not_there:  # noqa: PLR2004 - HTTP's number
                return None
            what = said.get("message") or error.reason
            raise RegistryError(f"registry {self.url} answered {method} {path} with {error.code}: {what}") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            now = self._now()
            self._silent_until = now + SILENT_TIMES * (now - asked_at)
            reason = getattr(error, "reason", error)
            raise RegistryError(f"registry {self.url} did not answer {method} {path}: {reason}") from None
        if not isinstance(parsed, dict):
            raise RegistryError(f"registry {self.url} answered {method} {path} with JSON that is no object")
        return parsed


def build_registry(url: str | None) -> Registry:
    """The registry of ``url``; without one, the committed schemas."""
    return HttpRegistry(url) if url else LocalRegistry()


def register_committed(registry: HttpRegistry, topics: Iterable[TopicSpec]) -> dict[str, int]:
    """Register the committed schema of every topic that has one, under BACKWARD_TRANSITIVE; id by topic."""
    ids: dict[str, int] = {}
    for spec in topics:
        if spec.record is not None:
            registry.demand_compatibility(spec.name)
            ids[spec.name] = registry.register(spec.record, spec.name)
    return ids


def _as_schema(record: str) -> dict[str, Any]:
    return {"schema": json.dumps(load_record_schema(record)), "schemaType": "AVRO"}


def _plain_avro(answer: dict[str, Any] | None) -> dict[str, Any] | None:
    """The schema in an answer; ``None`` for JSON Schema, Protobuf, and Avro spread over references."""
    if answer is None or answer.get("schemaType", "AVRO") != "AVRO" or answer.get("references"):
        return None
    parsed = json.loads(answer["schema"])
    return parsed if isinstance(parsed, dict) else None


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _words(error: urllib.error.HTTPError) -> dict[str, Any]:
    try:
        said = json.load(error)
    except (OSError, ValueError, http.client.HTTPException):
        return {}
    return said if isinstance(said, dict) else {}


def main(arguments: list[str]) -> int:
    """``python -m emergency_stop.wire.registry_http URL [SERVICE…]``: register the committed schemas."""
    from emergency_stop.config import DEFAULT_SERVICES
    from emergency_stop.domain.topics import all_topics

    if not arguments:
        print("usage: python -m emergency_stop.wire.registry_http URL [SERVICE ...]", file=sys.stderr)
        return 64
    registry = HttpRegistry(arguments[0])
    try:
        ids = register_committed(registry, all_topics(tuple(arguments[1:]) or DEFAULT_SERVICES))
    except RegistryError as error:
        print(f"{error}", file=sys.stderr)
        return 1
    for topic, schema_id in sorted(ids.items()):
        print(f"{schema_id}\t{subject_of(topic)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
