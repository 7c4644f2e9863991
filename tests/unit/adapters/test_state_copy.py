"""A standby copy restores what a full read restores, whatever owners, zombies and compaction did to the log."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator

from emergency_stop.adapters.state_log import (
    RestoredState,
    StateCopy,
    fold,
    next_fence,
    position_key,
    state_key,
)

Entry = tuple[bytes, bytes | None]
LOGS = 300
PAGES = [f"telemetry.health/{number}".encode() for number in range(6)]


def naive(entries: list[Entry]) -> RestoredState:
    """From the semantics: the last value per raw key stands; per core key the highest fence; empty is removed."""
    state, last = RestoredState(), dict(entries)
    for key in last:
        state.newest_fence = max(state.newest_fence, int.from_bytes(key[:8], "big"))
    live = {key: value for key, value in last.items() if value is not None}
    by_core: dict[bytes, list[tuple[int, bytes]]] = {}
    for key, value in live.items():
        by_core.setdefault(key[8:], []).append((int.from_bytes(key[:8], "big"), value))
    for core, written in by_core.items():
        *older, (fence, value) = sorted(written)
        state.superseded += [old.to_bytes(8, "big") + core for old, _ in older]
        if core[:1] == b"P":
            state.position_fence, state.positions = fence, json.loads(value)
        else:
            state.fences[core[1:]] = fence
            if value:
                state.records[core[1:]] = value
    return state


def random_log(rng: random.Random) -> list[Entry]:
    """Owners after one another under growing fences; up to two of them go on writing after they lost the partition."""
    entries: list[Entry] = []
    fence, zombies, generation = -1, list[int](), 0
    for _ in range(rng.randrange(1, 5)):
        generation = rng.choice([generation + 1, generation, 1])  # a rebalance, a static restart, a forgotten group
        if fence >= 0:
            zombies = [*zombies, fence][-2:]
        fence = next_fence(fence, generation)
        writers = [fence, fence, fence, *zombies]
        entries += [_write(rng, rng.choice(writers), zombies) for _ in range(rng.randrange(30))]
    return entries


def _write(rng: random.Random, fence: int, former: list[int]) -> Entry:
    kind = rng.randrange(10)
    if kind == 0:
        return position_key(fence), json.dumps({"telemetry.health": rng.randrange(1_000)}).encode()
    if kind == 1 and former:  # the owner strikes out what it superseded
        old = rng.choice(former)
        return rng.choice([position_key(old), state_key(old, rng.choice(PAGES))]), None
    value = b"" if kind == 2 else rng.randbytes(8)
    return state_key(fence, rng.choice(PAGES)), value


def test_a_copy_that_is_read_on_equals_a_full_read_and_the_naive_twin() -> None:
    for rng, entries in _logs():
        copy, taken = StateCopy(), rng.randrange(len(entries) + 1)
        _feed(copy, entries, 0, taken)
        _feed(copy, entries, rng.randrange(taken + 1), len(entries))  # a reader that begins too early changes nothing
        assert _comparable(copy.restored()) == _comparable(fold(entries)) == _comparable(naive(entries))


def test_a_copy_of_a_compacted_log_restores_the_same_state() -> None:
    """Compaction removes replaced values, at any time and up to any offset; the standby saw them, a full read did not.

    A tombstone may go too, once its key is gone: then only the newest fence can differ, and the copy's is the higher.
    """
    for rng, entries in _logs():
        seen, compacted = StateCopy(), StateCopy()
        _feed(seen, entries, 0, len(entries))
        up_to = rng.randrange(len(entries) + 1)
        for offset, (key, value) in enumerate(entries):
            if offset >= up_to or all(key != later for later, _ in entries[offset + 1 :]):
                compacted.take(key, value, offset)
        assert _comparable(seen.restored()) == _comparable(compacted.restored())


def test_what_was_written_after_a_newer_owner_had_begun_is_told_apart() -> None:
    mine, theirs = 3, 2
    log: list[Entry] = [
        (state_key(1, b"early"), b"1"), (state_key(1, b"both"), b"1"), (position_key(theirs), b"{}"),
        (state_key(1, b"late"), b"1"), (state_key(1, b"gone"), b""), (state_key(1, b"struck"), b"1"),
        (state_key(1, b"both"), b"2"), (state_key(1, b"struck"), None), (state_key(theirs, b"both"), b"3"),
    ]  # fmt: skip
    state = fold(log)
    assert state.late == {b"late": b"1", b"gone": None}
    assert state.records == {b"early": b"1", b"late": b"1", b"both": b"3"}
    for core_key, value in state.late.items():
        log.append((state_key(mine, core_key), value or b""))
    log.append((state_key(theirs, b"late"), b"too late"))
    assert fold(log).records[b"late"] == b"1", "what was written anew outlasts what comes later still"
    assert fold(log).late == {}


def test_its_size_is_that_of_what_it_keeps_and_not_of_the_log() -> None:
    copy = StateCopy()
    for offset in range(100):
        copy.take(state_key(1, b"page"), bytes(1_000), offset)
    assert 1_000 < copy.size_bytes < 2_000
    copy.take(state_key(1, b"page"), None, 100)
    assert copy.size_bytes == 0
    assert copy.next_offset == 101


def _logs() -> Iterator[tuple[random.Random, list[Entry]]]:
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 30)))
    print(f"seed {seed} (set SEED to repeat)")
    rng = random.Random(seed)
    return ((rng, random_log(rng)) for _ in range(LOGS))


def _feed(copy: StateCopy, entries: list[Entry], first: int, last: int) -> None:
    for offset in range(first, last):
        copy.take(*entries[offset], offset)


def _comparable(state: RestoredState) -> object:
    return (
        state.records, state.positions, state.fences, state.position_fence, state.newest_fence,
        sorted(state.superseded),
    )  # fmt: skip
