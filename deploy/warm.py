"""Compile every kernel into the cache, when the image is built: importing them does it, their signatures are given.

The cache must stay writable for the processes: on another kind of processor they compile anew, once.
"""

from __future__ import annotations

import importlib
import time

#: Every module that has kernels; a test compares.
KERNELS = (
    "emergency_stop.columnar.memory",
    "emergency_stop.columnar.avro_kernels",
    "emergency_stop.columnar.name_kernels",
    "emergency_stop.columnar.text_kernels",
    "emergency_stop.columnar.record_kernels",
    "emergency_stop.columnar.project_kernels",
    "emergency_stop.columnar.native_kernels",
    "emergency_stop.columnar.block_kernels",
    "emergency_stop.columnar.container",
    "emergency_stop.detect.account_kernels",
    "emergency_stop.detect.live_kernels",
    "emergency_stop.detect.window_kernels",
    "emergency_stop.detect.judge_kernels",
    "emergency_stop.detect.nearest_kernels",
    "emergency_stop.detect.rule_kernels",
)


def main() -> None:
    for module in KERNELS:
        started = time.monotonic()
        importlib.import_module(module)
        print(f"{module}: ready after {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    main()
