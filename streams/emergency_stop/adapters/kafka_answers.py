"""A broker that does not answer is left for another within seconds: the fourth part of the seam into aiokafka.

aiokafka waits for every answer as long as for the slowest, 30 to 40 s, because members of a group may wait for each
other. A broker of a cluster that hangs, or whose machine is gone without a word, would delay a stop by as much, though
its partitions have other leaders by then. Here a question that nobody else can delay is given up after ``ANSWER_MS``:
its connection is closed, as aiokafka does in that case, and for as long again there is no new one to that broker, so
that the next question, who leads now, goes to another. A broker that is slow and alive is waited for: in vain or not,
the next question of that kind gets twice the time that this one took. A broker that is alone is
waited for as ever: there is no other.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterable
from typing import Any, Final

from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.admin import (
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteRecordsRequest,
    DeleteTopicsRequest,
)
from aiokafka.protocol.group import JoinGroupRequest, SyncGroupRequest
from aiokafka.protocol.metadata import MetadataRequest

from emergency_stop.adapters.kafka_sign_in import hide_passwords, noting_refusals, telling_refusals

#: Three times what the slowest answer takes beside all that a broker can bear.
ANSWER_MS: Final = 2_000
PATIENCE_MS_MAX: Final = 16_000
#: Kinds of questions are the protocol's numbers. These wait for other members of a group.
_OF_A_GROUP: Final = frozenset({JoinGroupRequest.API_KEY, SyncGroupRequest.API_KEY})
#: Changes for which a broker may take its time; nobody else makes them sooner.
_TAKE_TIME: Final = frozenset(
    one.API_KEY for one in (CreateTopicsRequest, DeleteTopicsRequest, CreatePartitionsRequest, DeleteRecordsRequest)
)
#: The connection itself, with what is asked before anybody may ask.
OPENING: Final = -1
_CONNECT: Final = AIOKafkaConnection.connect  # private API: pinned, and under a contract test
_SEND: Final = AIOKafkaConnection.send
_BOOTSTRAP: Final = AIOKafkaClient.bootstrap

Broker = tuple[str, int]


class Patience:
    """How long which broker is waited for. Times are arguments: milliseconds of any steady clock."""

    def __init__(self) -> None:
        self._peers: set[Broker] = set()
        self._granted: dict[tuple[Broker, int], int] = {}
        self._shunned_until: dict[Broker, int] = {}

    def know(self, brokers: Iterable[Broker]) -> None:
        """These are one cluster."""
        found = set(brokers)
        if len(found) > 1:
            self._peers |= found

    def ms(self, broker: Broker, kind: int) -> int | None:
        """How long to wait for its answer to a question of this kind; ``None``: as ever, for it has no peer."""
        return self._granted.get((broker, kind), ANSWER_MS) if broker in self._peers else None

    def answered(self, broker: Broker, kind: int, took_ms: int) -> None:
        """An answer came in time."""
        if 2 * took_ms > ANSWER_MS:
            self._granted[broker, kind] = min(2 * took_ms, PATIENCE_MS_MAX)
        else:
            self._granted.pop((broker, kind), None)

    def missed(self, broker: Broker, kind: int, waited_ms: int, now_ms: int) -> None:
        """None did. All clients of a process may say so at once, which means no more than one of them."""
        longer_ms = min(2 * waited_ms, PATIENCE_MS_MAX)
        self._granted[broker, kind] = max(longer_ms, self._granted.get((broker, kind), ANSWER_MS))
        self._shunned_until[broker] = now_ms + ANSWER_MS

    def shuns(self, broker: Broker, now_ms: int) -> bool:
        return broker in self._peers and now_ms < self._shunned_until.get(broker, 0)


_patience = Patience()


async def _bootstrap(client: Any) -> None:
    """A client that is told of several brokers need not wait for the first."""
    _patience.know((host, port) for host, port, _ in client.hosts)
    with telling_refusals():
        await _BOOTSTRAP(client)


async def _connect(connection: Any) -> Any:
    broker, started_ms = (connection.host, connection.port), _steady_ms()
    if _patience.shuns(broker, started_ms):
        raise KafkaConnectionError(f"{broker[0]}:{broker[1]} did not answer a moment ago, and is not asked again yet")
    usual_s = connection._request_timeout  # noqa: SLF001
    connection._request_timeout = _limit_s(usual_s, broker, OPENING)  # noqa: SLF001
    try:
        with noting_refusals(connection):
            opened = await _CONNECT(connection)
    except TimeoutError:
        now_ms = _steady_ms()
        _patience.missed(broker, OPENING, now_ms - started_ms, now_ms)
        raise
    finally:
        connection._request_timeout = usual_s  # noqa: SLF001
    _patience.answered(broker, OPENING, _steady_ms() - started_ms)
    return opened


def _send(connection: Any, request: Any, expect_response: bool = True) -> Awaitable[Any]:
    """The original reads the time limit before it returns, so it is changed for just as long."""
    kind, broker = request.API_KEY, (connection.host, connection.port)
    usual_s = connection._request_timeout  # noqa: SLF001
    if expect_response and kind not in _TAKE_TIME and not _is_behind_a_group(connection, kind):
        connection._request_timeout = _limit_s(usual_s, broker, kind)  # noqa: SLF001
    try:
        answer: Awaitable[Any] = _SEND(connection, request, expect_response)
    finally:
        connection._request_timeout = usual_s  # noqa: SLF001
    return _noted(answer, broker, kind) if expect_response else answer


def _is_behind_a_group(connection: Any, kind: int) -> bool:
    """A broker answers what comes over one connection in its order."""
    before = (request.API_KEY for _, request, _ in connection._requests if request is not None)  # noqa: SLF001
    return any(one in _OF_A_GROUP for one in (kind, *before))


def _limit_s(usual_s: float, broker: Broker, kind: int) -> float:
    patience_ms = _patience.ms(broker, kind)
    return usual_s if patience_ms is None else min(usual_s, patience_ms / 1000)


async def _noted(answer: Awaitable[Any], broker: Broker, kind: int) -> Any:
    started_ms = _steady_ms()
    try:
        found = await answer
    except TimeoutError:
        now_ms = _steady_ms()
        _patience.missed(broker, kind, now_ms - started_ms, now_ms)
        raise
    if kind == MetadataRequest.API_KEY:
        _patience.know((one[1], one[2]) for one in found.brokers)
    if kind not in _OF_A_GROUP:
        _patience.answered(broker, kind, _steady_ms() - started_ms)
    return found


def _steady_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def install_answers() -> None:
    """From now on all of aiokafka's connections in this process leave a broker that does not answer. Idempotent."""
    AIOKafkaClient.bootstrap = _bootstrap
    AIOKafkaConnection.connect = _connect
    AIOKafkaConnection.send = _send
    hide_passwords()
