"""Every version of a schema has an id of its own, for ever: what was written under an id is read as it was written.

``ids.json`` has the committed schemas' ids, by record; ``history/ids.json`` the former versions, by id.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

#: The first id of an installation without a registry; a registry gives its own.
FIRST_ID: Final = 101


def assign_ids(root: Path, kept: Sequence[Path]) -> dict[str, int]:
    """Give each newly kept version a new id, and its former version the id that it was written under.

    Returns the new ids by record. An id that was given by hand stands.
    """
    current, former = _read(root / "avro" / "ids.json"), _read(root / "avro" / "history" / "ids.json")
    assigned: dict[str, int] = {}
    for path in kept:
        record, number = path.parent.name, int(path.stem[1:])
        before = f"{record}/v{number - 1}"
        if record in current and (number == 1 or before in former.values()):
            continue
        if record in current:
            former[str(current[record])] = before
        assigned[record] = current[record] = max(map(int, (*current.values(), *former)), default=FIRST_ID - 1) + 1
    if assigned:
        _write_current(root / "avro" / "ids.json", assigned)
        _write(root / "avro" / "history" / "ids.json", dict(sorted(former.items(), key=lambda entry: int(entry[0]))))
    return assigned


def id_problems(root: Path) -> list[str]:
    """A version without an id, an id without a version, and an id that is used twice."""
    current, former = _read(root / "avro" / "ids.json"), _read(root / "avro" / "history" / "ids.json")
    history = root / "avro" / "history"
    problems = []
    for path in sorted((root / "avro").glob("*.avsc")):
        if path.stem not in current:
            problems.append(f"{path.stem}: has no id in ids.json; run with --keep")
        kept = len(list((history / path.stem).glob("v*.avsc")))
        names = (f"{path.stem}/v{number}" for number in range(1, kept))
        problems += [f"{name}: has no id in history/ids.json" for name in names if name not in former.values()]
    problems += [f"id {one}: names {name}, which is not kept" for one, name in former.items()
                 if not (history / f"{name}.avsc").is_file()]  # fmt: skip
    used = Counter([*map(str, current.values()), *former])
    return problems + [f"id {one}: is used {times} times" for one, times in used.items() if times > 1]


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def _write(path: Path, ids: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(ids) + "\n")


def _write_current(path: Path, assigned: Mapping[str, int]) -> None:
    """Change and add single entries: the file is laid out by hand."""
    text = path.read_text() if path.is_file() else "{}\n"
    for record, schema_id in assigned.items():
        text, changed = re.subn(rf'("{record}":\s*)\d+', rf"\g<1>{schema_id}", text)
        if not changed:
            comma = "," if json.loads(text) else ""
            text = re.sub(r"\s*\}\s*$", f'{comma}\n  "{record}": {schema_id}\n}}\n', text)
    path.write_text(text)
