"""The columnar decoder accepts, refuses and reads what its naive twin does, for any schema, codec and damage."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.unit.columnar.fuzz import compare

SEED = int(os.environ.get("SEED", "1"))
ROUNDS = 400


def test_columns_are_the_naive_twins() -> None:
    """A failing seed is named; ``python -m tests.unit.columnar.fuzz SEED 1`` repeats it alone."""
    accepted = refused = 0
    for seed in range(SEED * 1_000_000, SEED * 1_000_000 + ROUNDS):
        one = compare(seed)
        accepted, refused = accepted + one[0], refused + one[1]
    assert accepted > ROUNDS
    assert refused > ROUNDS


def test_no_kernel_reads_outside_of_its_buffer() -> None:
    """As plain Python over NumPy, where an index out of bounds raises instead of reading on."""
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-m", "tests.unit.columnar.fuzz", str(SEED * 1_000_000), "12"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
