"""Java's parsed classes, kept between runs: a broker that finds them starts in half the time and CPU.

The archive is Java's own (class data sharing), written by the first run that ends in good order. Java checks it against
its own version and the jars, and does without where it does not fit.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from emergency_stop.testing.maven import cache_root


class ClassArchive:
    """The archive of one ``java`` and one class path; a run that must write it does so in ``workdir``."""

    def __init__(self, java: str, classpath: str, workdir: Path) -> None:
        binary = Path(java).resolve()
        told = f"{binary} {binary.stat().st_mtime_ns} {classpath}"
        self._kept = cache_root() / "classes" / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.jsa"
        self._written = workdir / "classes.jsa"

    def options(self) -> list[str]:
        """What a Java must be started with that uses the archive, and writes it where there is none."""
        return self.options_to_read() or [f"-XX:ArchiveClassesAtExit={self._written}"]

    def options_to_read(self) -> list[str]:
        """The same for one that writes nothing."""
        return [f"-XX:SharedArchiveFile={self._kept}"] if self._kept.exists() else []

    def keep(self) -> None:
        """Call it when Java has ended in good order. Several processes may; the last one's archive stays."""
        if not self._written.exists():
            return
        self._kept.parent.mkdir(parents=True, exist_ok=True)
        beside = self._kept.with_suffix(f".{os.getpid()}")
        shutil.move(self._written, beside)
        beside.replace(self._kept)
