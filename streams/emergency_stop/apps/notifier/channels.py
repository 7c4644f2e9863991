"""How messages leave: the log, mail, and a webhook. Each blocks, so each has a thread of its own."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Final, Protocol

from emergency_stop.adapters.mail import MailServer
from emergency_stop.adapters.signed_post import SignedPost
from emergency_stop.apps.notifier.last_resort import body_of
from emergency_stop.apps.notifier.telling import SYSTEM, Message
from emergency_stop.apps.notifier.texts import body, listed, mail
from emergency_stop.config import Settings, SettingsError
from emergency_stop.domain.messages import Emergency
from emergency_stop.domain.values import NoticeKind

log = logging.getLogger(__name__)
#: What ``system`` writes: to be told apart from what the process says of itself.
notices_log = logging.getLogger("emergency_stop.notices")

#: Of a shared secret: shorter ones can be guessed.
SECRET_BYTES_MIN: Final = 16
_LEVELS: Final = {
    NoticeKind.PAGE: logging.ERROR,
    NoticeKind.WARNING: logging.WARNING,
    NoticeKind.INFO: logging.INFO,
}


class Channel(Protocol):
    """Somewhere to tell people something."""

    def send(self, message: Message, now_ms: int) -> None:
        """Deliver, blocking. Raises ``DeliveryError``; a message that is sent again has the same id."""
        ...


class SystemChannel:
    """A line per notice in the notifier's own log."""

    def send(self, message: Message, now_ms: int) -> None:
        shown, more = listed(message)
        for notice in shown:
            text = notice.text.replace("\n", " · ")
            notices_log.log(_LEVELS[message.kind], "[%s] %s: %s", message.kind.value.upper(), notice.subject, text)
        if more:
            notices_log.log(_LEVELS[message.kind], "[%s] and %d more", message.kind.value.upper(), more)


class EmailChannel:
    def __init__(self, server: MailServer, sender: str, recipients: tuple[str, ...]) -> None:
        self._server = server
        self._sender = sender
        self._recipients = recipients

    def send(self, message: Message, now_ms: int) -> None:
        self._server.send(mail(message, self._sender, self._recipients))


class WebhookChannel:
    def __init__(self, post: SignedPost) -> None:
        self._post = post

    def send(self, message: Message, now_ms: int) -> None:
        self._post.send(body(message), idempotency_key=message.message_id, at_ms=now_ms)


class LastResortPost:
    """The user's endpoint that revokes an account's session or proxy."""

    def __init__(self, post: SignedPost) -> None:
        self._post = post

    def send(self, emergency: Emergency, now_ms: int) -> str:
        """What it answered, for the record. Raises ``DeliveryError``."""
        content = json.dumps(body_of(emergency), ensure_ascii=False).encode()
        status = self._post.send(content, idempotency_key=emergency.emergency_id, at_ms=now_ms)
        return f"{self._post.place} answered {status}"


def channels_of(settings: Settings) -> dict[str, Channel]:
    """The channels that these settings name and configure, ``system`` first. Raises ``SettingsError`` for bad files."""
    named, channels = settings.notification_channels, dict[str, Channel]()
    channels[SYSTEM] = SystemChannel()
    if "email" in named and settings.notify_smtp_url is not None:
        password = _text_of("ESTOP_NOTIFY_SMTP_PASSWORD_FILE", settings.notify_smtp_password_file)
        server = MailServer.parse(settings.notify_smtp_url, password)
        channels["email"] = EmailChannel(server, settings.notify_email_from or "", settings.notify_email_to)
    if "webhook" in named and settings.notify_webhook_url is not None:
        secret = _secret("ESTOP_NOTIFY_WEBHOOK_SECRET_FILE", settings.notify_webhook_secret_file)
        channels["webhook"] = WebhookChannel(SignedPost(settings.notify_webhook_url, secret))
    for name, variable in (("email", "ESTOP_NOTIFY_SMTP_URL"), ("webhook", "ESTOP_NOTIFY_WEBHOOK_URL")):
        if name in named and name not in channels:
            log.warning("nobody is told by %s: %s is not set (NOTIFICATION_CHANNELS names it)", name, variable)
    return channels


def last_resort_of(settings: Settings) -> LastResortPost | None:
    """``None`` where none is configured. Raises ``SettingsError`` for a bad file."""
    if settings.last_resort_url is None:
        log.warning("there is no last resort: ESTOP_LAST_RESORT_URL is not set")
        return None
    secret = _secret("ESTOP_LAST_RESORT_SECRET_FILE", settings.last_resort_secret_file)
    return LastResortPost(SignedPost(settings.last_resort_url, secret))


def _secret(variable: str, path: Path | None) -> bytes:
    secret = _text_of(variable, path).encode()
    if len(secret) < SECRET_BYTES_MIN:
        raise SettingsError(
            [f"{variable}={str(path)!r} holds {len(secret)} bytes; allowed: {SECRET_BYTES_MIN} or more, random ones"]
        )
    return secret


def _text_of(variable: str, path: Path | None) -> str:
    """The file's content without white space at its ends; empty without a file."""
    if path is None:
        return ""
    try:
        content = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{variable}={str(path)!r} cannot be read: {error}"]) from error
    if not content:
        raise SettingsError([f"{variable}={str(path)!r} is empty"])
    return content
