"""Reference service: keeps each account signed in."""

from __future__ import annotations

from typing import ClassVar

from emergency_stop.integrations.reference import Operation, ReferenceService


class TwikitSessionManager(ReferenceService):
    """Signs accounts in and refreshes their sessions."""

    service: ClassVar[str] = "sessionManager"
    operations: ClassVar[tuple[Operation, ...]] = (
        Operation("sign_in", 14),
        Operation("refresh_session", 5),
        Operation("send_request", 6),
    )

    def prepare(self) -> None:
        self.sessions: dict[str, int] = {}

    def applied(self, account_id: str, operation: Operation) -> None:
        if operation.name != "send_request":
            self.sessions[account_id] = self.guard.now_ms()

    def release(self, account_id: str) -> None:
        """The session of a stopped account is given up; a resume signs in again."""
        self.sessions.pop(account_id, None)
