"""A short run of `make test-erasure`: nothing of an erased account opens, with all that is left anywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.needs("broker", "chdb")
def test_nothing_of_an_erased_account_opens_and_everything_of_the_others_does() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.erasure", "--short"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-6000:]
    result = json.loads(done.stdout)
    assert result["accounts"] >= 20
    assert result["readable_after"] == result["in_the_clear"] == result["rows_left"] == 0
    assert result["readable_before"] == result["fields"] > 400, "the attack must be able to read what is not erased"
    assert result["others_readable"] == result["others_fields"] > 1_000
    assert result["new_readable"] == result["new_fields"] > 0
