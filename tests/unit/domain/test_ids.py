"""Ids that are remembered are those that would be made anew."""

from __future__ import annotations

import json
from uuid import uuid5

import pytest

from emergency_stop.domain.ids import NAMESPACE, derived_id


@pytest.mark.parametrize("parts", [("1",), (1,), (True,), ("a", "b"), ("a,b",), ()])
def test_an_id_is_that_of_its_parts_and_their_types(parts: tuple[str | int, ...]) -> None:
    wanted = str(uuid5(NAMESPACE, json.dumps(["kind", *parts])))
    assert derived_id("kind", *parts) == wanted
    assert derived_id("kind", *parts) == wanted
