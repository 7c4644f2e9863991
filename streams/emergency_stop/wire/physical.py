"""Schemas without their logical types: a body is read as it was written, whatever its values were meant as.

fastavro makes other types of values that have a logical one, and raises where a value is none: a text that is no UUID,
a number of days that no calendar has. The decoders of this system heed no logical types, and who reads beside them
must refuse no more than they do.
"""

from __future__ import annotations

from typing import Any, Final

#: The keys of a schema under which schemas lie; what lies elsewhere (defaults, for one) is data.
_NESTED: Final = frozenset({"type", "items", "values", "fields"})


def physical(schema: Any) -> Any:
    """``schema``, as plain JSON, with every value in its physical type; the argument stays as it is."""
    if isinstance(schema, list):
        return [physical(branch) for branch in schema]
    if isinstance(schema, dict):
        return {
            name: physical(part) if name in _NESTED else part for name, part in schema.items() if name != "logicalType"
        }
    return schema
