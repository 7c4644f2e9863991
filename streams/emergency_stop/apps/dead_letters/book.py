"""Which dead letters are meant: by place, reason, topic and age; each refused record once, and the newest ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from emergency_stop.apps.dead_letters.letter import Letter, Place


@dataclass(frozen=True, slots=True)
class Choice:
    """Empty fields choose everything. A place is a letter's, or that of the record that was refused."""

    places: frozenset[Place] = frozenset()
    reason: str = ""
    topic: str = ""
    since_ms: int = 0

    def holds(self, letter: Letter) -> bool:
        return (
            (not self.places or letter.place in self.places or letter.source in self.places)
            and self.reason in {"", letter.label}
            and self.topic in {"", letter.source.topic}
            and letter.at_ms >= self.since_ms
        )


@dataclass(slots=True)
class LetterBook:
    """Keeps the newest ``limit`` chosen letters that ``skip`` does not leave out; counts all, each record once."""

    choice: Choice
    limit: int
    skip: Callable[[Letter], bool] = lambda _: False
    by_reason: Counter[str] = field(default_factory=Counter)
    by_topic: Counter[str] = field(default_factory=Counter)
    #: When a record was last refused for an unknown schema, by the five or seventeen bytes that name it.
    unknown_schema_at_ms: dict[bytes, int] = field(default_factory=dict)
    _found: set[Place] = field(default_factory=set)
    _seen: set[str] = field(default_factory=set)
    _kept: dict[str, Letter] = field(default_factory=dict)

    def take(self, letter: Letter) -> None:
        """One record of the dead-letter topic."""
        if letter.label == "unknown_schema" and letter.value:
            head = frame_head(letter.value)
            self.unknown_schema_at_ms[head] = max(letter.at_ms, self.unknown_schema_at_ms.get(head, 0))
        if not self.choice.holds(letter) or self.skip(letter):
            return
        self._found |= {letter.place, letter.source} & self.choice.places
        number = letter.letter_id
        if number not in self._seen:
            self._seen.add(number)
            self.by_reason[letter.label] += 1
            self.by_topic[letter.source.topic] += 1
        self._kept.setdefault(number, letter)
        if len(self._kept) > 2 * self.limit:
            self._kept = {one.letter_id: one for one in self._newest()}

    @property
    def count(self) -> int:
        return len(self._seen)

    def missing(self) -> list[Place]:
        """Places that were named, and of which no chosen letter is."""
        return sorted(self.choice.places - self._found)

    def letters(self) -> list[Letter]:
        """The oldest of them first."""
        return self._newest()

    def _newest(self) -> list[Letter]:
        ordered = sorted(self._kept.values(), key=lambda one: (one.at_ms, one.place))
        return ordered[max(0, len(ordered) - self.limit) :]


def frame_head(value: bytes) -> bytes:
    """The bytes that name the writer's schema: a magic byte and an id, or a GUID."""
    return value[:17] if value[:1] == b"\x01" else value[:5]
