"""A message as people and programs read it: one line, a text, a mail, a JSON body. Pure."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Final

from emergency_stop.apps.notifier.telling import Message
from emergency_stop.domain.messages import Notice
from emergency_stop.domain.values import NoticeKind
from emergency_stop.wire.codec import to_plain

#: Notices that a message spells out; the rest it counts. All of them are on ``estop.notices``.
LISTED_MAX: Final = {NoticeKind.PAGE: 100, NoticeKind.WARNING: 20, NoticeKind.INFO: 20}

#: The end of the year 9999, milliseconds.
_AT_MAX: Final = 253_402_300_799_000


def headline(message: Message) -> str:
    """``[PAGE] global stop …``, or ``[WARNING] 12 notices, first: …``."""
    first, count = message.notices[0], len(message.notices)
    many = f"{count} notices, first: " if count > 1 else ""
    line = " ".join(first.subject.split())  # whoever wrote it: no line break gets into a mail's header
    return f"[{message.kind.value.upper()}] {many}{line}"


def listed(message: Message) -> tuple[tuple[Notice, ...], int]:
    """(the notices to spell out, how many more there are)."""
    limit = LISTED_MAX[message.kind]
    return message.notices[:limit], max(0, len(message.notices) - limit)


def text(message: Message) -> str:
    """All of it, for a mail."""
    shown, more = listed(message)
    parts = [_paragraph(notice) for notice in shown]
    if more:
        parts.append(f"and {more} more: 'estop notices' has them all.")
    return "\n\n".join(parts) + "\n"


def mail(message: Message, sender: str, recipients: tuple[str, ...]) -> EmailMessage:
    """A mail whose Message-ID is the same whenever the same message is sent again."""
    composed = EmailMessage()
    composed["Subject"] = headline(message)
    composed["From"] = sender
    composed["To"] = ", ".join(recipients)
    composed["Date"] = _moment(message.notices[-1].at)
    composed["Message-ID"] = f"<{message.message_id}@{sender.rpartition('@')[2]}>"
    composed["Auto-Submitted"] = "auto-generated"
    if message.kind is NoticeKind.PAGE:
        composed["Importance"] = "high"
    composed.set_content(text(message))
    return composed


def body(message: Message) -> bytes:
    """The JSON that a webhook gets."""
    shown, more = listed(message)
    content = {
        "event": "notices",
        "message_id": message.message_id,
        "kind": message.kind.value,
        "headline": headline(message),
        "notices": [to_plain(notice) for notice in shown],
        "more": more,
    }
    return json.dumps(content, ensure_ascii=False).encode()


def _moment(at_ms: int) -> datetime:
    """The nearest time that a calendar has: a producer's wrong clock must not keep a page from being told."""
    return datetime.fromtimestamp(min(max(at_ms, 0), _AT_MAX) / 1000, UTC)


def _paragraph(notice: Notice) -> str:
    at = _moment(notice.at).isoformat(timespec="seconds").replace("+00:00", "Z")
    ids = {"emergency": notice.emergency_id, "trigger": notice.trigger_id, "correlation": notice.correlation_id}
    named = "  ".join(f"{name} {value}" for name, value in ids.items() if value)
    return f"{at}  {notice.subject}\n{notice.text}\n{named}"
