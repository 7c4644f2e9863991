"""Real brokers for tests and benchmarks: the embedded one, and Apache Kafka without Docker.

Both are context managers with ``bootstrap``, keep their log beside their data, raise
``BrokerUnavailableError`` naming what this machine lacks, and die with the process that started them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from emergency_stop.adapters.embedded_broker import (
    BrokerUnavailableError,
    EmbeddedBroker,
    die_with_parent,
    free_port,
)
from emergency_stop.testing.class_archive import ClassArchive
from emergency_stop.testing.maven import classpath, find_java
from emergency_stop.testing.secured_listener import SecuredListener

__all__ = ["KAFKA_VERSION", "ApacheKafka", "BrokerUnavailableError", "EmbeddedBroker"]

KAFKA_VERSION: Final = "4.1.1"
KAFKA_ARTIFACTS: Final = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    f"org.apache.kafka:kafka-server:{KAFKA_VERSION}",
    f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3",
)
CLUSTER_ID: Final = "ZW1lcmdlbmN5LXN0b3AtMQ"
HEAP_MB: Final = 768
READY_WITHIN_MS: Final = 180_000
STOP_WITHIN_MS: Final = 20_000

#: The broker profile of `deploy/` on one node. Nothing is deleted by age, because tests write old event times.
_PROPERTIES: Final[Mapping[str, str]] = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "auto.create.topics.enable": "false",
    "log.retention.ms": "-1",
    "num.network.threads": "2",
    "num.io.threads": "4",
}


class ApacheKafka:
    """One KRaft node from Maven's jars on loopback ports that stay the same over restarts.

    ``heap_mb`` bounds the Java heap. ``properties`` override server.properties. One that is ``short_lived`` starts
    with half of the CPU, and never becomes as fast as one that is measured must be. ``controllers`` are the addresses
    of all nodes' controllers, of which this is the one of ``node_id``, from 1; without them it is alone. ``secured``
    are further listeners, each of another protocol. Data and log live in ``workdir``; without one, in a temporary
    folder that ``close`` removes. Methods block; start it from a thread that outlives it, because the kernel ties the
    child's death to that thread.
    """

    def __init__(
        self,
        workdir: Path | None = None,
        *,
        heap_mb: int = HEAP_MB,
        properties: Mapping[str, str] | None = None,
        short_lived: bool = False,
        node_id: int = 1,
        controllers: Sequence[str] = (),
        secured: Sequence[SecuredListener] = (),
    ) -> None:
        self._own_workdir = workdir is None
        self.workdir = workdir or Path(tempfile.mkdtemp(prefix="estop-kafka-"))
        self.log_path = self.workdir / "kafka.log"
        self.port = free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        self._node_id = node_id
        self._controllers = tuple(controllers) or (f"127.0.0.1:{free_port()}",)
        self._heap_mb = heap_mb
        self._overrides = dict(properties or {})
        self._short_lived = short_lived
        self._secured = tuple(secured)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The Java process; ``None`` while it is down."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start on the data that is there (or format it), and wait until the broker answers.

        Raises ``BrokerUnavailableError`` that names what is missing, or shows the log's end.
        """
        self.launch()
        self.wait_until_ready()

    def launch(self, *, niceness: int = 0) -> None:
        """Start it without waiting; ``niceness`` leaves the processors to others first."""
        if self._process is not None:
            return
        config = self._configure()

        def prepare() -> None:
            die_with_parent()
            os.nice(niceness)

        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._java(*self._archive().options(), "kafka.Kafka", str(config), once_compiled=self._short_lived),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=prepare,
                start_new_session=True,
            )

    def stop(self) -> None:
        """End it in good order (SIGTERM); the data stays. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_WITHIN_MS / 1000)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        else:
            self._archive().keep()

    def kill(self) -> None:
        """``kill -9``; the data stays. Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def restart(self) -> None:
        """Stop in good order and start again on the same data and ports."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End it, and remove the data if its folder was not given.

        Nobody waits for good order here, which costs a second and keeps nothing that a kill would lose, unless Java
        is to write its archive of classes.
        """
        if self._process is not None and self._archive().options_to_read():
            self.kill()
        self.stop()
        if self._own_workdir:
            shutil.rmtree(self.workdir, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _java(self, *arguments: str, once_compiled: bool) -> list[str]:
        """Options of Java's own may come before the class and its arguments. ``once_compiled``: not optimised later."""
        options = [f"-Xmx{self._heap_mb}m", "-Dorg.apache.logging.log4j.level=WARN", "-XX:+UseG1GC"]
        if once_compiled:
            options.append("-XX:TieredStopAtLevel=1")
        return [find_java(), *options, "-cp", classpath(KAFKA_ARTIFACTS), *arguments]

    def _archive(self) -> ClassArchive:
        return ClassArchive(find_java(), classpath(KAFKA_ARTIFACTS), self.workdir)

    def _configure(self) -> Path:
        """Write server.properties and, once, format the storage."""
        config, data = self.workdir / "server.properties", self.workdir / "data"
        properties = {
            **_PROPERTIES,
            "node.id": str(self._node_id),
            **self._listeners(),
            "controller.quorum.voters": ",".join(f"{node}@{at}" for node, at in enumerate(self._controllers, start=1)),
            "log.dirs": str(data),
            **self._overrides,
        }
        config.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        if not (data / "meta.properties").exists():
            read = self._archive().options_to_read()
            users = [argument for listener in self._secured for argument in listener.format_arguments()]
            tool = ("kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(config), *users)
            command = self._java(*read, *tool, once_compiled=True)
            done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
            if done.returncode != 0:
                raise BrokerUnavailableError(f"Kafka's storage could not be formatted:\n{done.stdout}{done.stderr}")
        return config

    def _listeners(self) -> dict[str, str]:
        plain, controller = f"PLAINTEXT://{self.bootstrap}", f"CONTROLLER://{self._controllers[self._node_id - 1]}"
        protocols = [f"{listener.name}:{listener.protocol}" for listener in self._secured]
        addresses = [listener.address for listener in self._secured]
        found = {
            "listener.security.protocol.map": ",".join([_PROPERTIES["listener.security.protocol.map"], *protocols]),
            "listeners": ",".join([plain, controller, *addresses]),
            "advertised.listeners": ",".join([plain, *addresses]),
        }
        for listener in self._secured:
            found |= listener.properties()
        return found

    def wait_until_ready(self) -> None:
        """Wait until it answers. Raises ``BrokerUnavailableError`` that shows the log's end."""
        process = self._process
        deadline = time.monotonic() + READY_WITHIN_MS / 1000
        while time.monotonic() < deadline and process is not None and process.poll() is None:
            with contextlib.suppress(OSError, struct.error):
                if _live_brokers(self.port) > 0:
                    return
            time.sleep(0.1)
        self.kill()
        tail = self.log_path.read_text(errors="replace")[-2000:]
        raise BrokerUnavailableError(f"Apache Kafka was not ready within {READY_WITHIN_MS} ms; its log ends:\n{tail}")


def _live_brokers(port: int) -> int:
    """How many brokers the cluster counts as alive, by a Metadata request (version 7, no topics)."""
    body = struct.pack(">hhih", 3, 7, 1, -1) + struct.pack(">i?", 0, False)
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        connection.sendall(struct.pack(">i", len(body)) + body)
        answer = connection.recv(16, socket.MSG_WAITALL)  # size, correlation id, throttle, count of brokers
    count: int = struct.unpack(">iiii", answer)[3]
    return count
