"""What the operating system says of this process, and which processors a container leaves it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from emergency_stop.adapters.process_usage import ProcessMeter, give_back_memory, usable_processors


def test_processor_time_and_memory_are_those_of_this_process() -> None:
    meter = ProcessMeter()
    before = meter.sample()
    assert before.memory_bytes > 1_000_000
    held = bytearray(b"x" * 64 * 1024 * 1024)
    after = meter.sample()
    while after.cpu_ms < before.cpu_ms + 20:  # burns what it waits for
        after = meter.sample()
    assert after.at_ms >= before.at_ms
    assert after.memory_bytes > before.memory_bytes + len(held) // 2
    assert meter.open_connections() >= 0


def test_giving_memory_back_breaks_nothing() -> None:
    kept = [bytes(2_000) for _ in range(10_000)]
    give_back_memory()
    assert all(not any(one[:8]) for one in kept)


@pytest.mark.parametrize(
    ("quotas", "processors"),
    [
        ({}, None),
        ({"": "max 100000"}, None),
        ({"pod/box": "50000 100000"}, 0.5),
        ({"pod": "25000 100000", "pod/box": "max 100000"}, 0.25),  # those around it bound it too
        ({"pod": "900000000 100000"}, None),  # more than there are
        ({"pod/box": "nonsense"}, None),
    ],
)
def test_a_containers_quota_is_less_than_the_machine(
    tmp_path: Path, quotas: dict[str, str], processors: float | None
) -> None:
    root, group = tmp_path / "cgroup", tmp_path / "self"
    (root / "pod/box").mkdir(parents=True)
    for folder, text in quotas.items():
        (root / folder / "cpu.max").write_text(f"{text}\n")
    group.write_text("3:cpu:/elsewhere\n0::/pod/box\n")
    pinned = float(len(os.sched_getaffinity(0)))
    assert usable_processors(group, root) == (pinned if processors is None else processors)


def test_without_control_groups_it_is_what_the_process_is_pinned_to(tmp_path: Path) -> None:
    assert usable_processors(tmp_path / "none", tmp_path) == float(len(os.sched_getaffinity(0)))
    (tmp_path / "old").write_text("4:memory:/x\n")
    assert usable_processors(tmp_path / "old", tmp_path) == float(len(os.sched_getaffinity(0)))
