"""Whose a state log is, by the offsets of whoever writes it."""

from __future__ import annotations

import asyncio

import pytest

from emergency_stop.adapters import state_tenure
from emergency_stop.adapters.state_log import fold, mark_key, next_fence, state_key
from emergency_stop.adapters.state_tenure import Glance, LostPartitionError, Tenure
from tests.unit.apps.logs_in_memory import STATE, Logs, Producer, owner

FENCE = 7


async def nobody(first: int, up_to: int) -> Glance:
    raise AssertionError(f"looked from {first} to {up_to} without need")


async def test_offsets_that_follow_one_another_prove_it_without_a_look() -> None:
    tenure = Tenure("log", nobody)
    tenure.begin(4)
    await tenure.prove(FENCE)
    tenure.note([4, 5])
    tenure.note([6])
    await tenure.prove(FENCE)


@pytest.mark.parametrize(
    # where its records lie behind offset 4, and the newest fence found there       from, up to
    ("offsets", "newest", "looks"),
    [
        ([5, 6], FENCE - 1, (4, 7)),
        ([4, 6], FENCE, (5, 7)),  # its own, twice
        ([4, -1], FENCE, (0, 0)),  # a broker that does not tell
        ([2], -1, (3, 3)),  # a log that was made anew
    ],
)
async def test_a_gap_is_looked_into_and_does_no_harm_where_nobody_newer_wrote(
    offsets: list[int], newest: int, looks: tuple[int, int]
) -> None:
    looked: list[tuple[int, int]] = []

    async def look(first: int, up_to: int) -> Glance:
        looked.append((first, up_to))
        return Glance(newest, 20)

    tenure = Tenure("log", look)
    tenure.begin(4)
    for offset in offsets:
        tenure.note([offset])
    await tenure.prove(FENCE)
    assert looked == [looks]
    tenure.note([20])
    await tenure.prove(FENCE)
    assert len(looked) == 1, "what was looked at is known"


async def test_a_newer_fence_in_a_gap_ends_the_tenure_for_good() -> None:
    async def look(first: int, up_to: int) -> Glance:
        return Glance(FENCE + 1, up_to)

    tenure = Tenure("log", look)
    tenure.begin(4)
    tenure.note([5])
    for _ in range(2):
        with pytest.raises(LostPartitionError, match=r"log: another worker took it over \(its fence is 8, ours 7\)"):
            await tenure.prove(FENCE)
        tenure.note([6])


async def test_what_was_acknowledged_and_is_not_there_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(first: int, up_to: int) -> Glance:
        await asyncio.Event().wait()
        return Glance(0, 0)

    monkeypatch.setattr(state_tenure, "LOOK_S", 0.01)
    tenure = Tenure("log", look)
    tenure.begin(4)
    tenure.note([9])
    with pytest.raises(LostPartitionError, match="what was written up to 10 is not there"):
        await tenure.prove(FENCE)


async def test_one_that_never_began_proves_nothing() -> None:
    tenure = Tenure("log", nobody)
    tenure.note([0])
    with pytest.raises(LostPartitionError):
        await tenure.prove(FENCE)


async def test_a_predecessors_record_is_restored_or_void_and_both_know_which() -> None:
    """As a log: A's first record lies before B's mark, the second behind it.

    ```
    A   mark a=1 ──────── a=2 ── b=1
    B            mark a=1: read       ── a=3
    ```
    """
    logs = Logs()
    first = await owner(logs, Producer(logs), 1)
    await first.write_records([(b"a", b"1")])
    await first.prove()
    second = await owner(logs, Producer(logs), 2)
    assert logs.restored().records == {b"a": b"1"}
    await first.write_records([(b"a", b"2"), (b"b", b"1")])
    with pytest.raises(LostPartitionError):
        await first.prove()
    await second.write_records([(b"a", b"3")])
    await second.prove()
    assert logs.restored().records[b"a"] == b"3"


async def test_who_was_overtaken_before_its_own_mark_does_not_begin() -> None:
    """It read the log, and stood still; a later owner marked it meanwhile."""
    logs = Logs()
    slow, fast = Producer(logs), Producer(logs)
    slow.cut(STATE)
    late = asyncio.create_task(owner(logs, slow, 1))
    await asyncio.sleep(0)
    await owner(logs, fast, 2)
    slow.heal(STATE)
    with pytest.raises(LostPartitionError):
        await late


def test_a_mark_is_no_state_and_counts_as_its_owners_fence() -> None:
    fence = next_fence(-1, 3)
    state = fold([(state_key(1, b"a"), b"1"), (mark_key(fence), None)])
    assert (state.records, state.newest_fence, state.superseded) == ({b"a": b"1"}, fence, [])
