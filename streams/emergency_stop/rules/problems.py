"""Problems of a rule: each at its place, with the line it is on and a caret below."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from emergency_stop.rules.model import RuleError


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
    before = text[:place]
    line, start = before.count("\n") + 1, before.rfind("\n") + 1
    source = text[start:].split("\n", 1)[0]
    indent = "".join("\t" if character == "\t" else " " for character in source[: place - start])
    return f"{line}:{place - start + 1}: {what}\n  {source}\n  {indent}^"


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean x or y?``, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(close)}?" if close else ""
