"""The benchmark of backtests, shortened: the run that it stores is replayed exactly. Speed is the long one's matter."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from tests.bench.backtest import measured

pytestmark = pytest.mark.needs("chdb")


def test_a_stored_run_is_replayed_exactly(tmp_path: Path) -> None:
    report = measured(tmp_path, argparse.Namespace(events=40_000, accounts=300, seed=3))
    assert report["equal_to_live"]
    assert report["events"] == 40_000
    assert int(str(report["hits"])) > 5
    assert report["sweep_variants"] == 36
