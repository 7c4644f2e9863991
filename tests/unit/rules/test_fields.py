"""Which fields there are, and what kinds of field mean in a rule that the committed schemas do not have yet."""

from __future__ import annotations

from typing import Any

import pytest

from emergency_stop.rules.environment import environment_of
from emergency_stop.rules.fields import Catalogue, Kind, catalogue, catalogue_of
from emergency_stop.rules.language import Predicate, Rule, RuleError, compile_over
from emergency_stop.rules.wording import spell


def schema(**types: Any) -> dict[str, Any]:
    return {"type": "record", "name": "R", "fields": [{"name": name, "type": kind} for name, kind in types.items()]}


COLOUR = {"type": "enum", "name": "Colour", "symbols": ["red", "green", "blue"]}
NAMES = catalogue_of(
    {
        "telemetry.one": schema(
            account_id="string",
            occurred_at="long",
            is_live="boolean",
            colour=["null", COLOUR],
            when={"type": "long", "logicalType": "timestamp-millis"},
            tags={"type": "array", "items": "string"},
            mixed=["null", "int", "string"],
            two="float",
        ),
        "telemetry.two": schema(shade=COLOUR, is_live="boolean"),
    }
)


def compiled(text: str, names: Catalogue = NAMES) -> Rule:
    return compile_over(text, names, environment_of(names))


def test_fields_have_the_kind_of_their_column() -> None:
    """Nullable and logical types are what is inside; what no column can hold, and the window's axes, are left out."""
    assert [(field.qualified, field.kind) for field in NAMES.fields] == [
        ("one.is_live", Kind.BOOL),
        ("one.colour", Kind.ENUM),
        ("one.when", Kind.INT),
        ("one.two", Kind.DOUBLE),
        ("two.shade", Kind.ENUM),
        ("two.is_live", Kind.BOOL),
    ]


def test_a_bare_name_means_one_field_only() -> None:
    """``is_live`` is in two topics; ``two`` is a topic, so the field of that name needs its own."""
    assert sorted(NAMES.names) == [
        *("colour", "one.colour", "one.is_live", "one.two", "one.when", "shade", "two.is_live", "two.shade", "when"),
    ]
    assert NAMES.ambiguous == {"is_live": ("one.is_live", "two.is_live")}


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ("one.is_live", Predicate("is_live", "==", 1.0)),
        ("!one.is_live", Predicate("is_live", "==", 0.0)),
        ("one.is_live == false", Predicate("is_live", "==", 0.0)),
        ("true != one.is_live", Predicate("is_live", "!=", 1.0)),
        ("when >= 5", Predicate("when", ">=", 5.0)),
        ('one.colour == "blue"', Predicate("colour", "==", 2.0)),
    ],
)
def test_conditions_on_booleans_and_nullable_fields(rows: str, wanted: Predicate) -> None:
    (aggregate,) = compiled(f'count(one, "5m", {rows}) > 0').aggregates
    assert aggregate.where == (wanted,)
    assert compiled(f"{spell(aggregate, NAMES)} > 0").aggregates == (aggregate,)


def test_last_of_a_boolean_is_a_condition() -> None:
    (aggregate,) = compiled("last(one.is_live)").aggregates
    assert (aggregate.field, aggregate.is_int) == ("is_live", False)
    assert len(compiled('last(one.is_live) != last(two.is_live) && avg(one.is_live, "1m") > 0.5').aggregates) == 3


def test_enums_of_two_topics_keep_their_own_symbols() -> None:
    with pytest.raises(RuleError, match="can only be compared with a constant"):
        compiled("last(shade) == last(colour)")


def test_every_telemetry_topic_has_fields_and_no_two_spellings_of_one_collide() -> None:
    names = catalogue()
    assert set(names.topics) == {"health", "detection", "behavioral", "proxy", "platform", "system"}
    assert all(names.names[names.spelling(field.topic, field.name)] is field for field in names.fields)
    assert not set(names.names) & set(names.topics)
