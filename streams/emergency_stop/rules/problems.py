"""Problems of a rule: each at its place, with the line it is on and a caret below."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from emergency_stop.rules.model import RuleError

#: How much of a long line is shown on each side of a place, in characters.
_EXCERPT: Final = 80
_DOTTED: Final = re.compile(r"[A-Za-z_]\w*(?:\s*\.\s*[A-Za-z_]\w*)*")


@dataclass(slots=True)
class Problems:
    """What is wrong with ``text``, collected so that all of it is told at once. Places are offsets in characters."""

    text: str
    found: list[tuple[int, str]] = field(default_factory=list)

    def add(self, place: int, what: str) -> None:
        if (place, what) not in self.found:
            self.found.append((place, what))

    def check(self) -> None:
        """Raise ``RuleError`` with every problem in the text's order, if there is one."""
        if self.found:
            raise RuleError([shown(self.text, place, what) for place, what in sorted(self.found)])


def shown(text: str, place: int, what: str) -> str:
    """``line:column: what``, the line, and a caret under the place. Lines and columns count from 1, in characters."""
    line, start = text.count("\n", 0, place) + 1, text.rfind("\n", 0, place) + 1
    source, column = text[start:].split("\n", 1)[0], place - start
    first = max(0, column - _EXCERPT)
    before, after = source[first:column], source[column : column + _EXCERPT]
    left = "…" if first else ""
    right = "…" if column + _EXCERPT < len(source) else ""
    return f"{line}:{column + 1}: {what}\n  {left}{_visible(before + after)}{right}\n  {' ' * len(left + before)}^"


def _visible(text: str) -> str:
    """Every character is one column wide, and can be written to any stream."""
    return "".join(character if character.isprintable() else " " if character == "\t" else "?" for character in text)


def name_at(text: str, place: int) -> tuple[int, str]:
    """(start, dotted name) that ``place`` is in, or just behind as a call's bracket is; else (place, nothing)."""
    for found in _DOTTED.finditer(text):
        if found.start() <= place <= found.end():
            return found.start(), re.sub(r"\s", "", found.group())
    return place, ""


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean x or y?``, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(close)}?" if close else ""
