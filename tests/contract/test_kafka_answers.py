"""aiokafka's connections leave a broker that does not answer; the seam is private, so an upgrade must fail here."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.group import JoinGroupRequest
from aiokafka.protocol.metadata import MetadataRequest

from emergency_stop.adapters import kafka_answers
from emergency_stop.adapters.embedded_broker import free_port
from emergency_stop.adapters.kafka_answers import OPENING, Patience, install_answers

BROKER, PEER = ("10.0.0.1", 9092), ("10.0.0.2", 9092)
PRODUCE, FETCH = 0, 1
PATIENCE_MS = 60
#: So long aiokafka waits by itself: longer, and where that must not be waited for, far longer than a test may take.
USUAL_MS, FAR_MS = 300, 30_000
JOIN = JoinGroupRequest("group", 6_000, 6_000, "", "", "consumer", [])
_FRAME = struct.Struct(">ihhi")


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Patience:
    fresh = Patience()
    monkeypatch.setattr(kafka_answers, "_patience", fresh)
    monkeypatch.setattr(kafka_answers, "ANSWER_MS", PATIENCE_MS)
    install_answers()
    return fresh


class Silent:
    """A broker that accepts connections, tells its versions where it is ``open``, and answers nothing else."""

    def __init__(self) -> None:
        self.is_open = False
        self.asked = 0
        self._versions = struct.pack(">hi", 0, 2) + struct.pack(">hhh", 3, 0, 1) + struct.pack(">hhh", 11, 0, 2)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                size, api, _, correlation = _FRAME.unpack(await reader.readexactly(_FRAME.size))
                await reader.readexactly(size - _FRAME.size + 4)
                self.asked += 1
                if api == 18 and self.is_open:
                    writer.write(struct.pack(">ii", 4 + len(self._versions), correlation) + self._versions)
        except asyncio.IncompleteReadError:
            writer.close()


@pytest.fixture
async def silent() -> AsyncIterator[tuple[Silent, int]]:
    """A silent broker, and its port."""
    broker = Silent()
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    async with server:
        yield broker, server.sockets[0].getsockname()[1]


async def opened(port: int, usual_ms: int = FAR_MS) -> Any:
    return await create_conn("127.0.0.1", port, request_timeout_ms=usual_ms)


async def took_ms(failing: Any) -> float:
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        await failing
    return (time.monotonic() - started) * 1000


def test_patience_is_twice_what_was_waited_and_comes_back_with_prompt_answers() -> None:
    patience = Patience()
    assert patience.ms(BROKER, PRODUCE) is None
    patience.know([BROKER])
    assert patience.ms(BROKER, PRODUCE) is None, "a cluster of one has no other"
    patience.know([BROKER, PEER])
    usual = kafka_answers.ANSWER_MS
    patience.missed(BROKER, PRODUCE, usual, 0)
    patience.missed(BROKER, PRODUCE, 2 * usual, 0)
    assert [patience.ms(BROKER, kind) for kind in (PRODUCE, FETCH)] == [4 * usual, usual]
    assert patience.ms(PEER, PRODUCE) == usual
    patience.answered(BROKER, PRODUCE, 3 * usual)
    assert patience.ms(BROKER, PRODUCE) == 6 * usual
    patience.answered(BROKER, PRODUCE, usual // 2)
    assert patience.ms(BROKER, PRODUCE) == usual


def test_many_clients_that_wait_in_vain_at_once_are_one() -> None:
    """Else one silence of a broker would shut it out for minutes, long after it has come back."""
    patience, usual = Patience(), kafka_answers.ANSWER_MS
    patience.know([BROKER, PEER])
    for _ in range(20):
        patience.missed(BROKER, PRODUCE, usual, 1_000)
    assert patience.ms(BROKER, PRODUCE) == 2 * usual
    assert not patience.shuns(BROKER, 1_000 + usual)
    patience.missed(BROKER, PRODUCE, 40_000, 1_000)
    assert patience.ms(BROKER, PRODUCE) == kafka_answers.PATIENCE_MS_MAX


def test_who_missed_an_answer_is_shunned_for_a_moment() -> None:
    patience = Patience()
    patience.missed(BROKER, PRODUCE, kafka_answers.ANSWER_MS, 1_000)
    assert not patience.shuns(BROKER, 1_000), "a broker that is alone is asked again"
    patience.know([BROKER, PEER])
    until_ms = 1_000 + kafka_answers.ANSWER_MS
    assert [patience.shuns(one, at) for one, at in ((BROKER, until_ms - 1), (BROKER, until_ms), (PEER, 1_000))] == [
        True, False, False,
    ]  # fmt: skip


async def test_a_silent_broker_of_a_cluster_is_left_and_then_shunned(
    patience: Patience, silent: tuple[Silent, int]
) -> None:
    broker, port = silent
    patience.know([("127.0.0.1", port), PEER])
    assert await took_ms(opened(port)) < FAR_MS
    granted = patience.ms(("127.0.0.1", port), OPENING)
    assert granted is not None
    assert granted >= 2 * PATIENCE_MS
    asked = broker.asked
    patience.missed(("127.0.0.1", port), PRODUCE, 0, kafka_answers._steady_ms() + FAR_MS)
    with pytest.raises(KafkaConnectionError, match="did not answer a moment ago"):
        await opened(port)
    assert broker.asked == asked


async def test_a_silent_broker_that_is_alone_is_waited_for(patience: Patience, silent: tuple[Silent, int]) -> None:
    assert patience.ms(("127.0.0.1", silent[1]), OPENING) is None
    assert await took_ms(opened(silent[1], USUAL_MS)) >= USUAL_MS * 0.9


async def test_a_question_is_given_up_but_not_behind_one_that_waits_for_a_group(
    patience: Patience, silent: tuple[Silent, int]
) -> None:
    broker, port = silent
    broker.is_open = True
    connection = await opened(port)
    patience.know([("127.0.0.1", port), PEER])
    assert await took_ms(connection.send(MetadataRequest([]))) < FAR_MS
    connection.close()
    again = AIOKafkaConnection("127.0.0.1", port, request_timeout_ms=USUAL_MS)
    await kafka_answers._CONNECT(again)  # it is shunned by now
    joining = asyncio.create_task(took_ms(again.send(JOIN)))
    await asyncio.sleep(0)
    assert await took_ms(again.send(MetadataRequest([]))) >= USUAL_MS * 0.9
    assert await joining >= USUAL_MS * 0.9
    again.close()


async def test_who_is_told_of_several_brokers_does_not_wait_long_for_the_first(
    patience: Patience, silent: tuple[Silent, int]
) -> None:
    refusing = free_port()
    client = AIOKafkaClient(
        bootstrap_servers=[f"127.0.0.1:{silent[1]}", f"127.0.0.1:{refusing}"], request_timeout_ms=FAR_MS
    )
    started = time.monotonic()
    with pytest.raises(KafkaConnectionError):
        await client.bootstrap()
    assert (time.monotonic() - started) * 1000 < FAR_MS
    assert patience.ms(("127.0.0.1", refusing), PRODUCE) == PATIENCE_MS


def test_whoever_publishes_or_tails_leaves_silent_brokers() -> None:
    import emergency_stop.adapters.kafka
    import emergency_stop.adapters.kafka_tail  # noqa: F401

    assert AIOKafkaConnection.send is kafka_answers._send
    assert AIOKafkaConnection.connect is kafka_answers._connect
    assert AIOKafkaClient.bootstrap is kafka_answers._bootstrap
