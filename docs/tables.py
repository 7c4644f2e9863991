"""Generated tables in pages that are written by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def filled(page: Path, tables: Mapping[str, str]) -> str:
    """The page as it should be: what stands between the marks of a table is that table."""
    text = page.read_text()
    for name, table in tables.items():
        mark, end = f"<!-- {name}: generated -->\n", "<!-- end -->"
        before, found, rest = text.partition(mark)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"{page.name} needs {mark!r} and then {end!r}: put them where the table belongs")
        text = before + mark + table + end + after
    return text
