"""What the settings make of channels, and what a message looks like in each."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from emergency_stop.apps.notifier.channels import SystemChannel, channels_of, last_resort_of
from emergency_stop.apps.notifier.main import run
from emergency_stop.apps.notifier.telling import Message
from emergency_stop.apps.notifier.texts import LISTED_MAX, body, headline, mail, text
from emergency_stop.config import EXIT_CONFIG, Settings, SettingsError
from emergency_stop.domain.messages import Notice
from emergency_stop.domain.values import NoticeKind

MAIL = {
    "ESTOP_NOTIFY_SMTP_URL": "smtp://127.0.0.1:1",
    "ESTOP_NOTIFY_EMAIL_FROM": "estop@example.org",
    "ESTOP_NOTIFY_EMAIL_TO": "ann@example.org",
}


def message(count: int = 1, kind: NoticeKind = NoticeKind.PAGE, subject: str = "it is not proven") -> Message:
    notices = tuple(
        Notice(f"n{number}", kind, 1_700_000_000_000, subject, "Look.", "global", "corr", "e1")
        for number in range(count)
    )
    return Message("m1", "email", kind, notices)


def webhook(secret: Path) -> dict[str, str]:
    return {"ESTOP_NOTIFY_WEBHOOK_URL": "http://127.0.0.1:1/", "ESTOP_NOTIFY_WEBHOOK_SECRET_FILE": str(secret)}


def test_a_channel_is_there_when_it_is_named_and_configured(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef\n")
    assert list(channels_of(Settings.from_env({}))) == ["system"]
    assert "nobody is told by email: ESTOP_NOTIFY_SMTP_URL is not set" in caplog.text
    assert list(channels_of(Settings.from_env(MAIL | webhook(secret)))) == ["system", "email", "webhook"]
    only = Settings.from_env(MAIL | webhook(secret) | {"NOTIFICATION_CHANNELS": "webhook"})
    assert list(channels_of(only)) == ["system", "webhook"]
    assert last_resort_of(Settings.from_env({})) is None


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("short", "holds 5 bytes; allowed: 16 or more"), ("  \n", "is empty"), (None, "cannot be read")],
)
def test_a_bad_secret_stops_the_start(
    tmp_path: Path, content: str | None, complaint: str, caplog: pytest.LogCaptureFixture
) -> None:
    secret = tmp_path / "secret"
    if content is not None:
        secret.write_text(content)
    with pytest.raises(SettingsError, match="ESTOP_NOTIFY_WEBHOOK_SECRET_FILE"):
        channels_of(Settings.from_env(webhook(secret)))
    last = {"ESTOP_LAST_RESORT_URL": "http://127.0.0.1:1/", "ESTOP_LAST_RESORT_SECRET_FILE": str(secret)}
    assert run(Settings.from_env(last)) == EXIT_CONFIG
    assert f"ESTOP_LAST_RESORT_SECRET_FILE={str(secret)!r} {complaint}" in caplog.text


def test_one_notice_is_its_own_headline_and_many_are_counted() -> None:
    assert headline(message()) == "[PAGE] it is not proven"
    assert headline(message(3, NoticeKind.WARNING)) == "[WARNING] 3 notices, first: it is not proven"


@pytest.mark.parametrize("kind", list(NoticeKind))
def test_beyond_a_bound_notices_are_counted(kind: NoticeKind) -> None:
    limit = LISTED_MAX[kind]
    told = text(message(limit + 7, kind))
    assert told.count("it is not proven") == limit
    assert "and 7 more: 'estop notices' has them all." in told
    document = json.loads(body(message(limit + 7, kind)))
    assert (len(document["notices"]), document["more"], document["kind"]) == (limit, 7, kind.value)
    assert json.loads(body(message(1, kind)))["more"] == 0


def test_the_system_channel_writes_a_line_per_notice(caplog: pytest.LogCaptureFixture) -> None:
    SystemChannel().send(message(LISTED_MAX[NoticeKind.PAGE] + 1), 0)
    assert caplog.records[0].levelno == logging.ERROR
    assert caplog.records[0].getMessage() == "[PAGE] it is not proven: Look."
    assert caplog.records[-1].getMessage() == "[PAGE] and 1 more"


def test_a_mail_keeps_its_id_and_no_subject_breaks_its_header() -> None:
    composed = mail(message(subject="broken\r\nBcc: eve@example.org"), "estop@example.org", ("a@b.org", "c@d.org"))
    assert composed["Subject"] == "[PAGE] broken Bcc: eve@example.org"
    assert composed["Bcc"] is None
    assert (composed["To"], composed["Message-ID"]) == ("a@b.org, c@d.org", "<m1@example.org>")
    assert "2023-11-14T22:13:20Z" in composed.get_content()


def test_a_time_that_no_calendar_has_keeps_no_page_back() -> None:
    late = message().notices[0]
    wrong = Message("m", "email", NoticeKind.PAGE, (replace(late, at=1 << 62),))
    assert "9999-12-31" in mail(wrong, "estop@example.org", ("a@b.org",)).get_content()
