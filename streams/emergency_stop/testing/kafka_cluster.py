"""Apache Kafka as production has it, on one machine: several nodes, each record on all of them."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from emergency_stop.adapters.embedded_broker import free_port
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

    def __init__(self, workdir: Path | None = None, *, properties: Mapping[str, str] | None = None) -> None:
        self._own_workdir = workdir is None
        self.workdir = workdir or Path(tempfile.mkdtemp(prefix="estop-kafka-cluster-"))
        controllers = [f"127.0.0.1:{free_port()}" for _ in range(NODES)]
        self.nodes = [
            ApacheKafka(
                self._folder(node_id),
                heap_mb=HEAP_MB,
                properties={**PROFILE, **(properties or {})},
                short_lived=True,
                node_id=node_id,
                controllers=controllers,
            )
            for node_id in range(1, NODES + 1)
        ]
        self.bootstrap = ",".join(node.bootstrap for node in self.nodes)

    def _folder(self, node_id: int) -> Path:
        folder = self.workdir / f"node-{node_id}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def __enter__(self) -> Self:
        try:
            for node in self.nodes:
                node.launch()
            for node in self.nodes:
                node.wait_until_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all at once: in good order, the last ones would wait for others to lead. Then remove what is ours."""
        for node in self.nodes:
            node.kill()
        if self._own_workdir:
            shutil.rmtree(self.workdir, ignore_errors=True)

    async def in_sync(self) -> bool:
        """Whether every replica of every partition has what its leader has; else one more lost node may stop it."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap, client_id="cluster-test")
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
