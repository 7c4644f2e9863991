"""Apache Kafka as production has it, on one machine: several nodes, each record on all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from emergency_stop.adapters.embedded_broker import free_port
from emergency_stop.adapters.kafka_security import client_arguments
from emergency_stop.testing.brokers import ApacheKafka

NODES: Final = 3
HEAP_MB: Final = 384

#: The profile of `deploy/kafka/broker.properties`, as far as it says how many replicas there are and who is missing.
PROFILE: Final[Mapping[str, str]] = {
    "default.replication.factor": str(NODES),
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": str(NODES),
    "transaction.state.log.replication.factor": str(NODES),
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": str(NODES),
    "share.coordinator.state.topic.min.isr": "2",
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "2500",
    "controller.quorum.fetch.timeout.ms": "1500",
    "controller.quorum.election.timeout.ms": "750",
}


class KafkaCluster:
    """Nodes that are brokers and controllers alike. A context manager; methods block, as those of ``ApacheKafka``.

    Each is ``short_lived``: three optimising compilers would take this machine from whatever runs beside them.
    """

    def __init__(self, workdir: Path) -> None:
        controllers = [f"127.0.0.1:{free_port()}" for _ in range(NODES)]
        self.nodes = [
            ApacheKafka(
                _made(workdir / f"node-{node_id}"),
                heap_mb=HEAP_MB,
                properties=PROFILE,
                short_lived=True,
                node_id=node_id,
                controllers=controllers,
            )
            for node_id in range(1, NODES + 1)
        ]
        self.bootstrap = ",".join(node.bootstrap for node in self.nodes)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for node in self.nodes:
                stack.callback(node.kill)  # in good order, the last ones would wait for others to lead
                node.launch()
            for node in self.nodes:
                node.wait_until_ready()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    async def in_sync(self) -> bool:
        """Whether every replica of every partition has what its leader has; else one more lost node may stop it."""
        admin = AIOKafkaAdminClient(**client_arguments(self.bootstrap), client_id="cluster-test")
        try:
            await admin.start()
            topics: list[dict[str, Any]] = await admin.describe_topics()
        except (KafkaError, OSError):
            return False
        finally:
            with contextlib.suppress(KafkaError, OSError):
                await admin.close()
        partitions = [partition for topic in topics for partition in topic["partitions"]]
        return all(len(partition["isr"]) == len(partition["replicas"]) for partition in partitions)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
