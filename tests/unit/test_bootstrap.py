"""What every process shares before anything of weight is imported."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_SHOWS_CACHE = (
    "from emergency_stop.bootstrap import prepare; from emergency_stop.config import Settings;"
    "prepare(Settings.from_env()); import numba; print(numba.config.CACHE_DIR)"
)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ({"NUMBA_CACHE_DIR": "/image", "ESTOP_KERNEL_CACHE": "/mine"}, "/mine"),
        ({"ESTOP_KERNEL_CACHE": "/mine"}, "/mine"),
        ({"NUMBA_CACHE_DIR": "/image"}, "/image"),
    ],
    ids=["both", "the setting alone", "the image's alone"],
)
def test_the_setting_says_where_kernels_are_kept_also_in_an_image_that_has_a_place(
    given: dict[str, str], used: str
) -> None:
    own = ("NUMBA_CACHE_DIR", "ESTOP_KERNEL_CACHE")
    environment = {name: value for name, value in os.environ.items() if name not in own} | given
    found = subprocess.run(
        [sys.executable, "-c", _SHOWS_CACHE], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == used
