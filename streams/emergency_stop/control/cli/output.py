"""What commands print: aligned text for people, one JSON document for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from emergency_stop.wire.codec import to_plain


def show_json(document: Any) -> None:
    """One document on standard output; bytes as hexadecimal digits."""
    print(json.dumps(document, default=_plain, ensure_ascii=False))


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else str(value)


def plain(message: Any) -> dict[str, Any]:
    """A message as JSON has it, under its wire names."""
    return to_plain(message)


def show_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Columns as wide as their widest cell; the last one is left ragged."""
    cells = [[str(name) for name in header], *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for row in cells:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(padded).rstrip())


def _cell(value: Any) -> str:
    return "-" if value is None or value == "" else str(value)


def say(text: str) -> None:
    """A line for people while a command works; standard output stays free for results."""
    print(text, file=sys.stderr, flush=True)


def moment(at_ms: int) -> str:
    """``2026-11-24T08:30:00.123Z``."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ago(ms: int) -> str:
    """A duration for people: ``0.4 s``, ``12 s``, ``5 min``, ``3 h``."""
    if ms < 10_000:  # noqa: PLR2004  (below it, tenths matter)
        return f"{max(ms, 0) / 1000:.1f} s"
    for unit, size_ms in (("s", 1_000), ("min", 60_000), ("h", 3_600_000)):
        if ms < size_ms * 120:
            return f"{ms // size_ms} {unit}"
    return f"{ms // 86_400_000} d"
