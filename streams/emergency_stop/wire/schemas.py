"""Where the committed Avro schemas lie, and how they are read."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any, Final

SCHEMAS_VARIABLE: Final = "ESTOP_SCHEMAS"


@cache
def schemas_root() -> Path:
    """The folder ``schemas``: the variable's, the installed package's, or the checkout's.

    Raises ``FileNotFoundError`` that names the three places.
    """
    package = Path(__file__).resolve().parents[1]
    places = [package / "_schemas", package.parents[1] / "schemas"]
    if SCHEMAS_VARIABLE in os.environ:
        places.insert(0, Path(os.environ[SCHEMAS_VARIABLE]))
    for place in places:
        if (place / "avro").is_dir():
            return place
    raise FileNotFoundError(
        f"no Avro schemas in {', '.join(str(place) for place in places)};"
        f" set {SCHEMAS_VARIABLE} to the folder that contains avro/"
    )


@cache
def load_record_schema(record: str) -> dict[str, Any]:
    """The committed schema of ``record``, as plain JSON. Raises ``KeyError`` for an unknown name."""
    path = schemas_root() / "avro" / f"{record}.avsc"
    if not path.is_file():
        known = sorted(found.stem for found in path.parent.glob("*.avsc"))
        raise KeyError(f"no Avro record {record!r}; known: {', '.join(known)}")
    schema: dict[str, Any] = json.loads(path.read_text())
    return schema


@cache
def committed_ids() -> dict[str, int]:
    """Schema id by record name, used where no registry is configured."""
    ids: dict[str, int] = json.loads((schemas_root() / "avro" / "ids.json").read_text())
    return ids


@cache
def load_former_schema(schema_id: int) -> dict[str, Any] | None:
    """The schema of an id that a former version of a record was written under; ``None`` for any other id.

    A changed schema gets a new id, because what was written before it must be read as it was written.
    """
    history = schemas_root() / "avro" / "history"
    version = json.loads((history / "ids.json").read_text()).get(str(schema_id))
    if version is None:
        return None
    schema: dict[str, Any] = json.loads((history / f"{version}.avsc").read_text())
    return schema
