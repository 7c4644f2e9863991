"""The Java peers: compiled anew for every run, against jars that Maven fetches once."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from emergency_stop.adapters.embedded_broker import BrokerUnavailableError
from emergency_stop.testing.maven import classpath, find_java

SOURCES: Final = Path(__file__).with_name("java")
COMPILE_WITHIN_S: Final = 120
HEAP: Final = "1g"
_LOGGING: Final = "org.slf4j:slf4j-simple:1.7.36"
KAFKA_STREAMS: Final = ("org.apache.kafka:kafka-streams:4.4.0", _LOGGING)
FLINK: Final = (
    "org.apache.flink:flink-streaming-java:2.2.1",
    "org.apache.flink:flink-clients:2.2.1",
    "org.apache.flink:flink-connector-base:2.2.1",
    "org.apache.flink:flink-connector-kafka:5.0.0-2.2",
    _LOGGING,
)
#: What Flink's own start scripts open to its serializers on Java 17.
_OPENS: Final = ("java.base/java.lang", "java.base/java.util", "java.base/java.time")


def compiled(folder: str, artifacts: tuple[str, ...], target: Path) -> str:
    """The class path of the sources in ``shared`` and ``folder`` with their jars. Blocks; needs a JDK, not just a JRE.

    Raises ``BrokerUnavailableError`` that names what is missing or shows the compiler's words.
    """
    compiler = shutil.which("javac", path=str(Path(find_java()).resolve().parent)) or shutil.which("javac")
    if compiler is None:
        raise BrokerUnavailableError("javac is missing: put a JDK of version 17 or newer on PATH or in JAVA_HOME")
    jars = classpath(artifacts)
    sources = sorted(str(path) for part in ("shared", folder) for path in (SOURCES / part).glob("*.java"))
    command = [compiler, "--release", "17", "-cp", jars, "-d", str(target), *sources]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMPILE_WITHIN_S)
    if done.returncode != 0:
        raise BrokerUnavailableError(f"the sources of {folder} do not compile:\n{done.stderr[-2_000:]}")
    return f"{target}:{jars}"


def command(class_path: str, main: str) -> list[str]:
    """Everything of the command line before the program's own arguments."""
    opens = [word for package in _OPENS for word in ("--add-opens", f"{package}=ALL-UNNAMED")]
    options = [f"-Xms{HEAP}", f"-Xmx{HEAP}", "-XX:+UseParallelGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
    return [find_java(), *options, *opens, "-cp", class_path, main]
