"""The kill campaign of ``make test-kill``, short: a few kills and pauses of the whole chain on Apache Kafka."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.needs("java", "maven", "chdb")
def test_nothing_is_lost_or_doubled_when_processes_are_killed_and_paused() -> None:
    """Hits equal the oracle's, one emergency per enforced hit, every event once in ClickHouse."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.campaign", "--short"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-6000:]
    result = json.loads(done.stdout)
    assert result["hits"] == result["oracle_hits"] > 0
    assert result["events_in_clickhouse"] == result["events_produced"] > 0
    assert result["duplicates_in_clickhouse"] == 0
    assert result["emergencies"] > 0
