"""What most tests on real parts begin with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from emergency_stop.testing.brokers import EmbeddedBroker


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an embedded broker that a file of tests has to itself."""
    with EmbeddedBroker(tmp_path_factory.mktemp("broker")) as running:
        yield running.bootstrap


@pytest.fixture(scope="session")
def lay_tables(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, int], None]:
    """``lay_tables(data_dir, retention_days)``: chDB's empty tables, copied from a database that was migrated once.

    For tests whose subject is not the migrations: those take a hundred statements, each of them made durable.
    """

    @cache
    def migrated(days: int) -> Path:
        folder = tmp_path_factory.mktemp("migrated")
        own = {"ESTOP_DATA_DIR": str(folder), "RETAIN_EVENT_HISTORY": str(days)}
        command = [sys.executable, "-m", "emergency_stop.control.cli.main", "migrate"]
        # In a process of its own: this one may have another chDB open.
        subprocess.run(command, env={**os.environ, **own}, capture_output=True, check=True)
        return folder

    def lay(data_dir: Path, retention_days: int) -> None:
        shutil.copytree(migrated(retention_days), data_dir, symlinks=True, dirs_exist_ok=True)

    return lay
