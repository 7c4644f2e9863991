"""The campaign of ``make test-sink-kill``, short: kills and outages of the sink and its database on Apache Kafka."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.needs("java", "maven", "chdb")
def test_every_record_is_one_row_whatever_is_killed() -> None:
    """Rows, different origins and records produced are the same number, in every table."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.campaign.sink", "--short"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-6000:]
    result = json.loads(done.stdout)
    assert result["rounds"] >= 4
    assert result["produced"] == result["rows"] == result["unique"] > 0
