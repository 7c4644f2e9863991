"""What decisions take in has a bound, and no stop is lost or made less by it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from emergency_stop.coordinate.bounds import LISTED_MAX, bounded, bounded_instance, listed
from emergency_stop.domain.messages import Ack, ConditionAnswer, Hit, Request
from emergency_stop.domain.texts import NAME_LENGTH_MAX, TEXT_LENGTH_MAX, fit
from emergency_stop.domain.values import AckState, ConditionState, Scope, ScopeKind
from tests.unit.coordinate.scenario import ack, command_to, hit, instance, opened, request

LONG = 5_000_000
ANSWER = ConditionAnswer("q", "t", "account:a", "e", ConditionState.CLEAR, "margin", 1)
#: Read as what they are: a scope, by which it is refused where it is none, and JSON.
UNKEPT = {"scope", "window_contents"}


def ack_of_a_stop() -> Ack:
    return ack(command_to(opened(request()).cases[0], "x"), AckState.STOPPED, saved_state="s3://7")


@pytest.mark.parametrize("message", [hit(), request(), ack_of_a_stop(), ANSWER], ids=lambda one: type(one).__name__)
def test_what_is_within_bounds_is_taken_as_it_is(message: Hit | Request | Ack | ConditionAnswer) -> None:
    assert bounded(message) is message


@pytest.mark.parametrize("message", [hit(), request(), ack_of_a_stop(), ANSWER], ids=lambda one: type(one).__name__)
def test_every_text_of_every_message_is_bounded(message: Any) -> None:
    """A field that is added later must not be forgotten."""
    of_text = [field.name for field in fields(message) if field.type in ("str", "str | None")]
    texts = [name for name in of_text if name not in UNKEPT]
    assert len(texts) >= 5
    kind = type(message)
    values = {field.name: getattr(message, field.name) for field in fields(message)}
    long = bounded(kind(**{**values, **dict.fromkeys(texts, "x" * LONG)}))
    other = bounded(kind(**{**values, **dict.fromkeys(texts, "x" * (LONG - 1) + "y")}))
    for name in texts:
        text = getattr(long, name)
        assert len(text) <= TEXT_LENGTH_MAX, name
        if len(text) <= NAME_LENGTH_MAX:
            assert text != getattr(other, name), f"{name}: different ones stay different"
        else:
            assert "cut: 5000000 characters" in text, name


@pytest.mark.parametrize(("message", "name"), [(hit, "target_services"), (request, "services")])
def test_whoever_names_too_many_services_means_all_and_is_told_so(message: Any, name: str) -> None:
    few = message(**{name: tuple(f"s{number}" for number in range(256))})
    assert bounded(few) is few
    many = bounded(message(reason="w" * 2_000, **{name: tuple(f"s{number}" for number in range(257))}))
    assert getattr(many, name) == ("all",)
    assert many.reason.endswith(" (257 services were named, more than 256: taken for all)")
    assert len(many.reason) <= TEXT_LENGTH_MAX
    (long,) = getattr(bounded(message(**{name: ("s" * LONG,)})), name)
    assert len(long) == 234


def test_a_scope_that_is_too_long_is_left_to_be_refused() -> None:
    scope = "account:" + "a" * 300
    assert bounded(request(scope=scope)).scope == scope
    with pytest.raises(ValueError, match="is not one of"):
        Scope.parse(scope)
    assert Scope.parse("account:" + "a" * 248).kind is ScopeKind.ACCOUNT


def test_what_a_window_held_is_kept_whole_or_not_at_all() -> None:
    assert bounded(hit(window_contents="{}" + " " * 90_000)).window_contents.startswith("{}")
    assert bounded(hit(window_contents="[" + "1," * LONG)).window_contents == '{"too_long": 10000001}'


def test_an_announcement_within_bounds_is_taken_as_it_is() -> None:
    assert bounded_instance(instance("x")) == instance("x")


def test_a_list_for_people_ends_somewhere() -> None:
    assert listed(["a", "b"]) == "a, b"
    names = [f"i{number}" for number in range(10_000)]
    assert listed(names[:LISTED_MAX]) == ", ".join(names[:LISTED_MAX])
    assert listed(names, "; ").endswith("i19; and 9980 more")
    assert fit(listed(names)) == listed(names)
