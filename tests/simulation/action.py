"""What an instance does: side effects under production permits."""

from __future__ import annotations

from collections.abc import Callable

from emergency_stop.sdk.permit import OpenPermit, PermitGate


class NumberedPermit(OpenPermit):
    """The production permit. A gate asks its actions to end in a set's order, so a seed must fix that order too."""

    __slots__ = ("_number",)

    def __init__(self, number: int, gate: PermitGate, account_id: str | None, cut: Callable[[], bool]) -> None:
        super().__init__(gate, account_id, cut)
        self._number = number

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class Action:
    """A side effect under way. ``permit`` is the production one."""

    __slots__ = ("account_id", "is_over", "permit", "was_asked")

    def __init__(self, account_id: str | None) -> None:
        self.account_id = account_id
        self.permit: OpenPermit | None = None
        self.is_over = False
        #: Somebody has asked it to end.
        self.was_asked = False
