"""Jars by Maven, fetched once into a cache: for tests and benchmarks that need something written in Java."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from emergency_stop.adapters.embedded_broker import BrokerUnavailableError

CACHE_VARIABLE: Final = "XDG_CACHE_HOME"
FETCH_WITHIN_S: Final = 300
_COMPLETE: Final = ".complete"

_POM: Final = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>emergency-stop</groupId><artifactId>jars</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
{dependencies}
  </dependencies>
</project>
"""
_DEPENDENCY: Final = (
    "    <dependency><groupId>{0}</groupId><artifactId>{1}</artifactId><version>{2}</version></dependency>"
)


def cache_root() -> Path:
    """Where downloads are kept between runs: ``estop`` in ``XDG_CACHE_HOME``, else in ``~/.cache``."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache") / "estop"


def find_java() -> str:
    """The ``java`` executable. Raises ``BrokerUnavailableError`` where there is none."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if found is None:
        raise BrokerUnavailableError("Java is missing: put a JRE of version 17 or newer on PATH or in JAVA_HOME")
    return found


def classpath(artifacts: Sequence[str]) -> str:
    """A Java class path of ``artifacts`` ("group:artifact:version") and all that they need at run time.

    Blocks on the network on first use; later calls read the cache. Safe to call from several
    processes. Raises ``BrokerUnavailableError`` that names what is missing.
    """
    name = hashlib.sha256("\n".join(artifacts).encode()).hexdigest()[:16]
    folder = cache_root() / "jars" / name
    if not (folder / _COMPLETE).exists():
        _fetch(artifacts, folder)
    return str(folder / "*")


def _fetch(artifacts: Sequence[str], folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise BrokerUnavailableError("Maven is missing: put mvn (3.8 or newer) on PATH; it fetches Apache Kafka's jars")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be at it, or have done it while we waited
        if (folder / _COMPLETE).exists():
            return
        dependencies = "\n".join(_DEPENDENCY.format(*artifact.split(":")) for artifact in artifacts)
        pom = folder / "pom.xml"
        pom.write_text(_POM.format(dependencies=dependencies))
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
        command = [maven, "--batch-mode", "--quiet", "--file", str(pom), *goal]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=FETCH_WITHIN_S, check=False, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired as error:
            raise BrokerUnavailableError(f"Maven did not fetch the jars within {FETCH_WITHIN_S} s") from error
        if done.returncode != 0:
            raise BrokerUnavailableError(f"Maven could not fetch the jars; its output ends:\n{done.stdout[-2000:]}")
        (folder / _COMPLETE).touch()
