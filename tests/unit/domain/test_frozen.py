"""A value with changes is the one that ``dataclasses`` makes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from emergency_stop.coordinate.state import Approval, Seen
from emergency_stop.domain import frozen
from emergency_stop.domain.values import Action

VALUES = (Seen("a cause", 3), Approval(Action.RESUME, None, None, 4, "ann", 5))


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("new", [None, 7, "else"])
def test_every_field_changes_as_it_does_there_and_leaves_the_others(value: Any, new: Any) -> None:
    for field in dataclasses.fields(value):
        changed = frozen.replace(value, **{field.name: new})
        assert changed == dataclasses.replace(value, **{field.name: new})
        assert getattr(changed, field.name) == new
    assert frozen.replace(value) == value


def test_a_field_that_there_is_not_is_refused() -> None:
    with pytest.raises(KeyError, match="never"):
        frozen.replace(VALUES[0], never=1)  # type: ignore[call-arg]  # that is the test
