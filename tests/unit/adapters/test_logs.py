"""Lines of the log: what a library says over and over is said once in a while, what is ours always."""

from __future__ import annotations

import logging

from emergency_stop.adapters.logs import Repeats


def record(at_s: float, *args: object, name: str = "aiokafka.client", text: str = "no node %s") -> logging.LogRecord:
    made = logging.LogRecord(name, logging.ERROR, __file__, 1, text, args, None)
    made.created = at_s
    return made


def said(repeats: Repeats, *records: logging.LogRecord) -> list[str]:
    return [one.getMessage() for one in records if repeats.filter(one)]


def test_a_library_repeats_itself_once_in_a_while_and_says_how_often() -> None:
    repeats = Repeats(("aiokafka",), again_after_s=10)
    assert said(repeats, record(0.0, 1), record(1.0, 1), record(9.9, 2)) == ["no node 1"]
    assert said(repeats, record(10.0, 3), record(11.0, 3)) == ["no node 3 (and 2 more like it since the last)"]
    assert said(repeats, record(30.0, 4), record(41.0, 5)) == [
        "no node 4 (and 1 more like it since the last)", "no node 5",
    ]  # fmt: skip


def test_what_differs_and_what_is_ours_is_always_said() -> None:
    repeats = Repeats(("aiokafka",), again_after_s=10)
    texts = [record(0.0, text="one"), record(0.0, text="two"), record(0.0, text="one", name="aiokafka.producer")]
    assert said(repeats, *texts) == ["one", "two", "one"]
    ours = [record(0.0, text="stopped", name="emergency_stop.sdk.guard") for _ in range(3)]
    assert said(repeats, *ours) == ["stopped"] * 3


def test_a_clock_that_was_set_back_silences_nobody_for_long() -> None:
    repeats = Repeats(("aiokafka",), again_after_s=10)
    assert said(repeats, record(1_000.0, 1), record(500.0, 2), record(505.0, 3)) == ["no node 1", "no node 2"]
