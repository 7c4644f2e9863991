"""Reference service: makes each account behave like a person."""

from __future__ import annotations

from typing import ClassVar, Final

from emergency_stop.integrations.reference import Operation, ReferenceService

#: Actions remembered per account.
PATTERN_LENGTH_MAX: Final = 50


class AdvancedBehavioralPatternEngine(ReferenceService):
    """Performs the next planned action of each account."""

    service: ClassVar[str] = "behavioralEngine"
    operations: ClassVar[tuple[Operation, ...]] = (
        Operation("scroll_timeline", 10),
        Operation("like_post", 7),
        Operation("write_reply", 15),
    )

    def prepare(self) -> None:
        self.patterns: dict[str, list[str]] = {}

    def applied(self, account_id: str, operation: Operation) -> None:
        pattern = self.patterns.setdefault(account_id, [])
        pattern.append(operation.name)
        del pattern[:-PATTERN_LENGTH_MAX]

    def release(self, account_id: str) -> None:
        """After a stop a pattern would go on where no person would have: it begins anew."""
        self.patterns.pop(account_id, None)
