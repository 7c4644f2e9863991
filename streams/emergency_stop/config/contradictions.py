"""What is wrong with settings of which each alone is right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from emergency_stop.config.kafka import problems as kafka_problems
from emergency_stop.config.values import as_text, dependencies_text, did_you_mean, without_secrets
from emergency_stop.domain.values import OWN_PROCESSES

if TYPE_CHECKING:
    from emergency_stop.config.settings import Settings


def unknown_variables(environment: Mapping[str, str], known: tuple[str, ...]) -> list[str]:
    """A misspelled ESTOP_ variable would silently leave a default in force; so it is refused.

    Its value is not told: nobody knows whether it is a password.
    """
    return [
        f"{name} is not a setting{did_you_mean(name, known)}"
        for name in sorted(environment)
        if name.startswith(("ESTOP_", "EMERGENCY_STOP_")) and name not in known
    ]


def contradictions(settings: Settings) -> list[str]:
    problems = []
    if settings.graceful_stop_timeout_ms < settings.immediate_stop_timeout_ms:
        problems.append(
            f"GRACEFUL_STOP_TIMEOUT={settings.graceful_stop_timeout_ms} is shorter than"
            f" IMMEDIATE_STOP_TIMEOUT={settings.immediate_stop_timeout_ms};"
            " graceful escalates to immediate, so it must be longer"
        )
    named = dict.fromkeys(name for service, needed in settings.dependencies for name in (service, *needed))
    problems += [
        f"ESTOP_DEPENDENCIES={dependencies_text(settings.dependencies)!r} names {name!r}, which ESTOP_SERVICES does"
        f" not{did_you_mean(name, settings.services)}; allowed: {', '.join(settings.services)}"
        for name in named
        if name not in settings.services
    ]
    problems += [
        f"ESTOP_SERVICES={as_text(settings.services)!r} names {name!r}, a process of the emergency stop"
        " itself, which takes no commands; give the service another name"
        for name in settings.services
        if name in OWN_PROCESSES
    ]
    if settings.clickhouse_cluster is not None and settings.clickhouse_url is None:
        problems.append(
            f"ESTOP_CLICKHOUSE_CLUSTER={settings.clickhouse_cluster!r} names a cluster of servers, but"
            " ESTOP_CLICKHOUSE_URL is not set; set it to one of them, or leave the cluster out for chDB"
        )
    return problems + kafka_problems(settings.kafka.security) + _half_given(settings)


def _shown(text: str) -> str:
    """A value as a problem may tell it; of a URL without what may be secret."""
    return without_secrets(text) if "://" in text else text


def _half_given(settings: Settings) -> list[str]:
    """What can only work together. A channel that somebody meant to have must not be left out in silence."""
    user = urlsplit(settings.notify_smtp_url).username if settings.notify_smtp_url else None
    is_plain = (settings.notify_smtp_url or "").startswith("smtp://")
    needs = (
        ("ESTOP_NOTIFY_SMTP_URL", settings.notify_smtp_url, "ESTOP_NOTIFY_EMAIL_FROM", settings.notify_email_from),
        ("ESTOP_NOTIFY_SMTP_URL", settings.notify_smtp_url, "ESTOP_NOTIFY_EMAIL_TO", settings.notify_email_to),
        ("ESTOP_NOTIFY_EMAIL_FROM", settings.notify_email_from, "ESTOP_NOTIFY_SMTP_URL", settings.notify_smtp_url),
        ("ESTOP_NOTIFY_EMAIL_TO", settings.notify_email_to, "ESTOP_NOTIFY_SMTP_URL", settings.notify_smtp_url),
        ("the user in ESTOP_NOTIFY_SMTP_URL", user, "ESTOP_NOTIFY_SMTP_PASSWORD_FILE",
         settings.notify_smtp_password_file),
        ("ESTOP_NOTIFY_SMTP_PASSWORD_FILE", settings.notify_smtp_password_file,
         "a user in ESTOP_NOTIFY_SMTP_URL (smtps://user@host:port)", user),
        ("ESTOP_NOTIFY_WEBHOOK_URL", settings.notify_webhook_url, "ESTOP_NOTIFY_WEBHOOK_SECRET_FILE",
         settings.notify_webhook_secret_file),
        ("ESTOP_NOTIFY_WEBHOOK_SECRET_FILE", settings.notify_webhook_secret_file, "ESTOP_NOTIFY_WEBHOOK_URL",
         settings.notify_webhook_url),
        ("ESTOP_LAST_RESORT_URL", settings.last_resort_url, "ESTOP_LAST_RESORT_SECRET_FILE",
         settings.last_resort_secret_file),
        ("ESTOP_LAST_RESORT_SECRET_FILE", settings.last_resort_secret_file, "ESTOP_LAST_RESORT_URL",
         settings.last_resort_url),
    )  # fmt: skip
    problems = [
        f"{name}={_shown(as_text(value))!r} needs {other}, which is not set"
        for name, value, other, has in needs
        if value and not has
    ]
    if user and is_plain:
        problems.append(
            f"ESTOP_NOTIFY_SMTP_URL={settings.notify_smtp_url!r} would send a password in the clear;"
            " use smtps:// or smtp+starttls://"
        )
    return problems
