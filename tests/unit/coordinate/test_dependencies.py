"""Who comes back first: whatever others depend on."""

from __future__ import annotations

import random

import pytest

from emergency_stop.coordinate.dependencies import cycles, tiers


@pytest.mark.parametrize(
    # names    who needs whom                                     tiers
    ("names", "depends_on", "expected"),
    [
        ("", {}, ()),
        ("cab", {}, (("a", "b", "c"),)),
        ("abc", {"a": ["b"], "b": ["c"]}, (("c",), ("b",), ("a",))),
        ("abcd", {"a": ["b", "c"], "b": ["d"], "c": ["d"]}, (("d",), ("b", "c"), ("a",))),
        ("abc", {"a": ["b"], "b": ["a"], "c": ["a"]}, (("a", "b"), ("c",))),
        ("a", {"a": ["a"]}, (("a",),)),
        # b lies between a and c, though nobody asked for it
        ("ac", {"a": ["b"], "b": ["c"]}, (("c",), ("a",))),
        # x is none of ours and none that announces itself
        ("ab", {"a": ["x"], "z": ["a"]}, (("b",), ("a",))),
    ],
)
def test_tiers(names: str, depends_on: dict[str, list[str]], expected: tuple[tuple[str, ...], ...]) -> None:
    assert tiers(names, depends_on) == expected


@pytest.mark.parametrize(
    ("depends_on", "expected"),
    [
        ({}, ()),
        ({"a": ["b"], "b": ["c"]}, ()),
        ({"a": ["a"]}, (("a",),)),
        ({"d": ["c"], "c": ["d"], "a": ["b"], "b": ["a", "c"]}, (("a", "b"), ("c", "d"))),
    ],
)
def test_cycles(depends_on: dict[str, list[str]], expected: tuple[tuple[str, ...], ...]) -> None:
    assert cycles(depends_on) == expected


def _needs(name: str, depends_on: dict[str, list[str]], path: tuple[str, ...] = ()) -> set[str]:
    """The naive twin: every path, one after the other."""
    if name in path:
        return set()
    further = (_needs(other, depends_on, (*path, name)) for other in depends_on.get(name, ()))
    return set(depends_on.get(name, ())).union(*further)


@pytest.mark.parametrize("seed", range(50))
def test_nobody_comes_before_what_it_needs_unless_that_needs_it_too(seed: int) -> None:
    drawn = random.Random(seed)
    known = "abcdefg"
    depends_on = {name: drawn.sample(known, drawn.randrange(3)) for name in known}
    names = drawn.sample(known, drawn.randrange(1, 8))
    found = tiers(names, depends_on)
    tier_of = {name: number for number, tier in enumerate(found) for name in tier}
    assert sorted(tier_of) == sorted(names)
    for name in names:
        for other in _needs(name, depends_on) & set(names):
            circle = name in _needs(other, depends_on)
            assert tier_of[other] == tier_of[name] if circle else tier_of[other] < tier_of[name], (seed, name, other)
