"""Texts from outside: they can be sent, they are bounded, and they say where they were cut."""

from __future__ import annotations

import random

import pytest

from emergency_stop.domain.texts import NAME_LENGTH_MAX, TEXT_LENGTH_MAX, described, encodable, fit, fit_name

_ALPHABET = "aZ 7\n\0ä€\U0001f6d1\ud800\udcff"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", ""),
        ("looks wrong", "looks wrong"),
        ("zu heiß \U0001f6d1", "zu heiß \U0001f6d1"),
        ("a file named \udcff", "a file named \\udcff"),
        ("x" * TEXT_LENGTH_MAX, "x" * TEXT_LENGTH_MAX),
    ],
)
def test_what_fits_stays_and_what_cannot_be_sent_is_escaped(text: str, kept: str) -> None:
    assert fit(text) == kept


def test_what_is_cut_says_so_and_how_long_it_was() -> None:
    cut = fit("why " * 1_000_000)
    assert len(cut) == TEXT_LENGTH_MAX
    assert cut.startswith("why why ")
    assert cut.endswith("… (cut: 4000000 characters, 1000 are kept)")


def test_whatever_comes_in_can_be_sent_is_bounded_and_stays_as_it_is() -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    for _ in range(500):
        text = "".join(rng.choices(_ALPHABET, k=rng.choice((3, 90, 120, 300))))
        for made in (fit(text, 100), fit_name(text, 100), encodable(text)):
            made.encode()
            assert fit(made, 2_000) == made, f"seed {seed}"
        assert len(fit(text, 100)) <= 100, f"seed {seed}"
        assert len(fit_name(text, 100)) <= 100, f"seed {seed}"
        assert fit(fit(text, 100), 100) == fit(text, 100), f"seed {seed}"


def test_names_that_are_alike_as_far_as_they_are_kept_stay_different() -> None:
    first, second = "x" * 300 + "1", "x" * 300 + "2"
    assert fit_name(first) != fit_name(second)
    assert fit_name(first) == fit_name(first)
    assert len(fit_name(first)) == NAME_LENGTH_MAX
    assert fit_name("r-1") == "r-1"


def test_an_exception_is_described_whatever_it_does_itself() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError("no words")

    assert described(OSError("disk full")) == "OSError: disk full"
    assert described(TimeoutError()) == "TimeoutError"
    assert described(Mute()) == "Mute: (its text cannot be had: ValueError)"
    assert len(described(ValueError("y" * 5_000))) == TEXT_LENGTH_MAX
