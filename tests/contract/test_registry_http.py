"""The HTTP registry client against a server that speaks Confluent's API."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import pytest

from emergency_stop.domain.messages import Request
from emergency_stop.domain.topics import REQUESTS, TopicSpec, all_topics
from emergency_stop.domain.values import Action, StopLevel
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry, SchemaUnansweredError, UnknownSchemaError
from emergency_stop.wire.registry_http import (
    HttpRegistry,
    NotRegisteredError,
    RegistryError,
    build_registry,
    register_committed,
    subject_of,
)
from emergency_stop.wire.schemas import load_record_schema

JSON_SCHEMA_ID = 900


@dataclass
class Store:
    """A registry's content, and what was asked of it."""

    subjects: dict[str, dict[str, int]] = field(default_factory=dict)
    schemas: dict[int, str] = field(default_factory=dict)
    compatibility: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    authorization: str | None = None
    broken: bool = False
    without_guids: bool = False

    def add(self, subject: str, text: str) -> int:
        canonical = json.dumps(json.loads(text), sort_keys=True)
        known = {schema: schema_id for ids in self.subjects.values() for schema, schema_id in ids.items()}
        schema_id = known.get(canonical, len(known) + 1)
        self.subjects.setdefault(subject, {})[canonical] = schema_id
        self.schemas[schema_id] = text
        return schema_id

    def guid(self, schema_id: int) -> UUID:
        return uuid5(NAMESPACE_URL, self.schemas[schema_id])


class Handler(BaseHTTPRequestHandler):
    store: Store

    def do_GET(self) -> None:
        kind, _, name = self.path.removeprefix("/schemas/").partition("/")
        found: int | None = None
        if kind == "ids":
            found = int(name)
        elif self.store.without_guids:
            self.reply(404, {"error_code": 404, "message": "HTTP 404 Not Found"})
            return
        elif kind == "guids":
            found = next((known for known in self.store.schemas if str(self.store.guid(known)) == name), None)
        if found == JSON_SCHEMA_ID:
            self.reply(200, {"schemaType": "JSON", "schema": "{}"})
        elif found in self.store.schemas:
            self.reply(200, {"schema": self.store.schemas[found]})
        else:
            self.reply(404, {"error_code": 40403, "message": "Schema not found"})

    def do_POST(self) -> None:
        body = self.body()
        _, _, subject, *rest = self.path.split("/")
        if rest == ["versions"]:
            self.reply(200, {"id": self.store.add(subject, body["schema"])})
            return
        canonical = json.dumps(json.loads(body["schema"]), sort_keys=True)
        if subject not in self.store.subjects:
            self.reply(404, {"error_code": 40401, "message": "Subject not found"})
        elif canonical not in self.store.subjects[subject]:
            self.reply(404, {"error_code": 40403, "message": "Schema not found"})
        else:
            self.reply(200, {"subject": subject, "version": 1, "id": self.store.subjects[subject][canonical]})

    def do_PUT(self) -> None:
        self.store.compatibility[self.path.removeprefix("/config/")] = self.body()["compatibility"]
        self.reply(200, {"compatibility": "BACKWARD_TRANSITIVE"})

    def body(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        return read

    def reply(self, status: int, answer: dict[str, Any]) -> None:
        self.store.asked.append((self.command, self.path))
        self.store.authorization = self.headers.get("Authorization")
        if self.store.broken:
            status, answer = 500, {"error_code": 50001, "message": "Error in the backend data store"}
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Silence: the base class writes to stderr."""


@dataclass
class Server:
    store: Store
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
def server() -> Iterator[Server]:
    store = Store()
    listening = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"store": store}))
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Server(store, listening.server_port)
    listening.shutdown()
    thread.join()
    listening.server_close()


def request() -> Request:
    return Request(
        "r",
        Action.STOP,
        "account:a",
        StopLevel.IMMEDIATE,
        ("all",),
        "why",
        "who",
        1,
        "c",
        epoch=None,
        emergency_id=None,
    )


def test_what_was_registered_is_found_by_record_and_by_id(server: Server) -> None:
    registry = HttpRegistry(server.url)
    registered = registry.register("HealthEvent", "telemetry.health")
    assert HttpRegistry(server.url).schema_id("HealthEvent", "telemetry.health") == registered
    assert HttpRegistry(server.url).writer_schema(registered) == load_record_schema("HealthEvent")
    assert list(server.store.subjects) == ["telemetry.health-value"]


def test_a_schema_is_found_by_its_guid_with_or_without_hyphens(server: Server) -> None:
    registry = HttpRegistry(server.url)
    guid = server.store.guid(registry.register("Hold", "estop.holds"))
    assert registry.writer_schema(guid.hex) == load_record_schema("Hold")
    assert registry.writer_schema(str(guid)) == load_record_schema("Hold")


def test_each_thing_is_asked_for_once(server: Server) -> None:
    registry = HttpRegistry(server.url)
    schema_id = registry.register("Ack", "estop.acks")
    for _ in range(3):
        registry.schema_id("Ack", "estop.acks")
        registry.writer_schema(schema_id)
    assert server.store.asked == [("POST", "/subjects/estop.acks-value/versions"), ("GET", f"/schemas/ids/{schema_id}")]


def test_a_schema_that_nobody_registered_is_refused_with_the_next_step(server: Server) -> None:
    with pytest.raises(NotRegisteredError, match=r"subject estop\.holds-value.*register the committed schemas"):
        HttpRegistry(server.url).schema_id("Hold", "estop.holds")


def test_an_unknown_id_is_the_messages_fault_and_asked_for_again_only_later(server: Server) -> None:
    seconds = [0.0]
    registry = HttpRegistry(server.url, now=lambda: seconds[0])
    for _ in range(3):
        with pytest.raises(UnknownSchemaError):
            registry.writer_schema(1)
    assert len(server.store.asked) == 1
    server.store.add("late-value", json.dumps(load_record_schema("Hit")))
    seconds[0] = 31.0
    assert registry.writer_schema(1) == load_record_schema("Hit")


def test_a_schema_that_is_not_avro_is_unknown(server: Server) -> None:
    with pytest.raises(UnknownSchemaError):
        HttpRegistry(server.url).writer_schema(JSON_SCHEMA_ID)


def test_a_broken_registry_is_not_the_messages_fault(server: Server) -> None:
    server.store.broken = True
    with pytest.raises(RegistryError, match=r"500: Error in the backend data store"):
        HttpRegistry(server.url).writer_schema(1)


def test_a_registry_that_does_not_answer_leaves_open_what_the_message_is(server: Server) -> None:
    server.store.broken = True
    with pytest.raises(SchemaUnansweredError):
        HttpRegistry(server.url).writer_schema(1)


@pytest.mark.parametrize("schema_id", [2**31, 2**32 - 1])
def test_an_id_that_no_registry_has_is_not_asked_for(server: Server, schema_id: int) -> None:
    server.store.broken = True
    with pytest.raises(UnknownSchemaError):
        HttpRegistry(server.url).writer_schema(schema_id)
    assert server.store.asked == []


def test_a_guid_is_unknown_to_a_registry_without_guids(server: Server) -> None:
    server.store.without_guids = True
    with pytest.raises(UnknownSchemaError):
        HttpRegistry(server.url).writer_schema(UUID(int=7).hex)


def test_unknown_ids_are_remembered_within_bounds(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emergency_stop.wire.registry_http.UNKNOWN_MAX", 3)
    registry = HttpRegistry(server.url, now=lambda: 0.0)
    for schema_id in (1, 2, 3, 4, 4, 3, 2, 1):
        with pytest.raises(UnknownSchemaError):
            registry.writer_schema(schema_id)
    assert [path.rpartition("/")[2] for _, path in server.store.asked] == ["1", "2", "3", "4", "1"]
    assert len(registry._unknown_until) == 3


def test_a_registry_that_was_silent_is_left_alone_for_four_times_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking blocks whoever asks, an event loop too.

    ::

        asked    |== 2 s ==|                                   |==
        refused            |----------- 8 s, at once ----------|
    """
    seconds, asked = [0.0], [0]

    def silent(*_: Any, **__: Any) -> None:
        asked[0] += 1
        seconds[0] += 2.0
        raise TimeoutError("timed out")

    monkeypatch.setattr("urllib.request.urlopen", silent)
    registry = HttpRegistry("http://127.0.0.1:1", now=lambda: seconds[0])
    for at_s, so_far in ((0.0, 1), (2.5, 1), (9.9, 1), (10.0, 2)):
        seconds[0] = at_s
        with pytest.raises(SchemaUnansweredError, match="did not answer"):
            registry.writer_schema(1)
        assert asked[0] == so_far


def test_credentials_are_sent_and_never_shown(server: Server) -> None:
    registry = HttpRegistry(f"http://me:s%40fe@127.0.0.1:{server.port}/")
    server.store.broken = True
    with pytest.raises(RegistryError) as raised:
        registry.writer_schema(1)
    assert server.store.authorization == "Basic " + base64.b64encode(b"me:s@fe").decode()
    assert "fe" not in str(raised.value)
    assert "me:" not in str(raised.value) + registry.url


def test_a_registry_that_is_not_there_is_named_without_credentials(server: Server) -> None:
    with pytest.raises(RegistryError, match=r"registry http://127\.0\.0\.1:1 did not answer"):
        HttpRegistry("http://me:secret@127.0.0.1:1").writer_schema(1)


def test_an_address_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="expected http"):
        HttpRegistry("registry:8081")


def test_all_committed_schemas_are_registered_under_backward_transitive(server: Server) -> None:
    registry = HttpRegistry(server.url)
    topics = all_topics(("sessionManager",))
    ids = register_committed(registry, topics)
    with_record = {spec.name for spec in topics if spec.record}
    assert set(ids) == with_record
    assert server.store.compatibility == {subject_of(topic): "BACKWARD_TRANSITIVE" for topic in with_record}
    assert register_committed(HttpRegistry(server.url), topics) == ids


def test_messages_travel_by_the_registrys_ids(server: Server) -> None:
    registry = HttpRegistry(server.url)
    register_committed(registry, [TopicSpec(REQUESTS, "Request")])
    value = Codec(registry).encode(request(), REQUESTS)
    assert Codec(HttpRegistry(server.url)).decode(Request, value) == request()


def test_messages_framed_by_guid_are_read(server: Server) -> None:
    registry = HttpRegistry(server.url)
    guid = server.store.guid(registry.register("Request", REQUESTS))
    body = Codec(registry).encode(request(), REQUESTS)[5:]
    assert Codec(HttpRegistry(server.url)).decode(Request, b"\1" + guid.bytes + body) == request()


def test_without_an_address_the_committed_schemas_serve(server: Server) -> None:
    assert isinstance(build_registry(None), LocalRegistry)
    assert isinstance(build_registry(server.url), HttpRegistry)
