"""aiokafka's clients pause before they ask for metadata again; the seam is private, so an upgrade must fail here."""

from __future__ import annotations

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.metadata import MetadataResponse_v0

from emergency_stop.adapters import kafka_patience
from emergency_stop.adapters.embedded_broker import free_port
from emergency_stop.adapters.kafka_patience import install_patience

BACKOFF_MS = 70
TOPIC = "estop.holds"


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every pause that was made, in seconds."""
    made: list[float] = []

    async def nap(seconds: float) -> None:
        made.append(seconds)

    monkeypatch.setattr(kafka_patience, "_pause", nap)
    install_patience()
    return made


def answer(*leaders: int, port: int) -> MetadataResponse_v0:
    """A broker's word about ``TOPIC``, whose partitions have these leaders; -1: none."""
    partitions = [(0, number, leader, [1], [1]) for number, leader in enumerate(leaders)]
    return MetadataResponse_v0([(1, "127.0.0.1", port)], [(0, TOPIC, partitions)])


def client(port: int) -> AIOKafkaClient:
    return AIOKafkaClient(bootstrap_servers=f"127.0.0.1:{port}", retry_backoff_ms=BACKOFF_MS)


async def test_after_a_broker_that_refuses_the_next_question_waits(naps: list[float]) -> None:
    port = free_port()
    asking = client(port)
    asking.cluster.update_metadata(answer(1, port=port))
    for _ in range(3):
        assert await asking._metadata_update(asking.cluster, {TOPIC}) is False
    assert naps == [BACKOFF_MS / 1000] * 3


@pytest.mark.parametrize(("leaders", "pauses"), [((1, 1), 0), ((1, -1), 1), ((-1, -1), 1)])
async def test_an_answer_without_a_leader_is_waited_for_and_a_full_one_is_not(
    naps: list[float], monkeypatch: pytest.MonkeyPatch, leaders: tuple[int, ...], pauses: int
) -> None:
    port = free_port()

    async def ask(asking: AIOKafkaClient, cluster: object, topics: object) -> bool:
        asking.cluster.update_metadata(answer(*leaders, port=port))
        return True

    monkeypatch.setattr(kafka_patience, "_ASK", ask)
    asking = client(port)
    assert await asking._metadata_update(asking.cluster, {TOPIC}) is True
    assert len(naps) == pauses


def test_whoever_publishes_or_tails_is_patient() -> None:
    import emergency_stop.adapters.kafka
    import emergency_stop.adapters.kafka_tail  # noqa: F401

    assert AIOKafkaClient._metadata_update is kafka_patience._ask_patiently
