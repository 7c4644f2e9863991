"""E-mail over SMTP; blocking, for a thread of its own."""

from __future__ import annotations

import logging
import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Final, Self
from urllib.parse import unquote, urlsplit

from emergency_stop.ports import DeliveryError

log = logging.getLogger(__name__)

TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class MailServer:
    """``scheme`` is smtps (TLS at once), smtp+starttls (refused where the server has none), or smtp (plain)."""

    scheme: str
    host: str
    port: int
    user: str = ""
    password: str = ""

    @classmethod
    def parse(cls, url: str, password: str = "") -> Self:
        """Read ``scheme://[user@]host:port``, as the settings checked it."""
        parts = urlsplit(url)
        return cls(parts.scheme, parts.hostname or "", parts.port or 0, unquote(parts.username or ""), password)

    def send(self, message: EmailMessage) -> None:
        """Hand ``message`` over. Raises ``DeliveryError`` where the server did not take it for anybody."""
        try:
            with self._connected() as server:
                if self.user:
                    server.login(self.user, self.password)
                refused = server.send_message(message)
        except (smtplib.SMTPException, OSError) as error:
            raise DeliveryError(f"{self.host}:{self.port} did not take the mail: {error}") from error
        for recipient, (code, text) in refused.items():
            log.error("%s:%d refused %s: %d %s", self.host, self.port, recipient, code, text.decode(errors="replace"))

    def _connected(self) -> smtplib.SMTP:
        if self.scheme == "smtps":
            return smtplib.SMTP_SSL(self.host, self.port, timeout=TIMEOUT_S, context=ssl.create_default_context())
        server = smtplib.SMTP(self.host, self.port, timeout=TIMEOUT_S)
        if self.scheme == "smtp+starttls":
            try:
                server.starttls(context=ssl.create_default_context())
            except BaseException:
                server.close()
                raise
        return server
