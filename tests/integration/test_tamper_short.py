"""A short run of `make test-tamper`: every tampering with a real audit is found, and nothing where nobody tampered."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.needs("broker", "chdb")
def test_every_tampering_is_found_and_an_untouched_audit_is_whole() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.tamper", "--short"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-6000:]
    result = json.loads(done.stdout)
    assert result["records"] >= 200
    assert result["tampers"] == result["found"] > 120
    assert result["false_alarms"] == 0 < result["untouched"]
