"""Java's classes between runs: written by the first that ends well, read by all that follow."""

from __future__ import annotations

from pathlib import Path

import pytest

from emergency_stop.testing.class_archive import ClassArchive
from emergency_stop.testing.maven import CACHE_VARIABLE


def archive(tmp_path: Path, classpath: str = "jars/*") -> ClassArchive:
    java = tmp_path / "java"
    if not java.exists():
        java.touch()
    return ClassArchive(str(java), classpath, tmp_path)


def test_the_first_run_writes_it_and_those_that_follow_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    first = archive(tmp_path)
    assert first.options() == [f"-XX:ArchiveClassesAtExit={tmp_path / 'classes.jsa'}"]
    assert first.options_to_read() == []
    first.keep()
    assert archive(tmp_path).options_to_read() == [], "a run that ended badly leaves nothing"

    (tmp_path / "classes.jsa").write_bytes(b"classes")
    first.keep()
    (option,) = archive(tmp_path).options()
    kept = Path(option.removeprefix("-XX:SharedArchiveFile="))
    assert kept.read_bytes() == b"classes"
    assert archive(tmp_path).options_to_read() == [option]
    assert archive(tmp_path, "other/*").options_to_read() == [], "other jars have other classes"
