"""Settings: the guide's names and defaults, the bounds, and what is said of a wrong value."""

from __future__ import annotations

import pytest

from emergency_stop.config import Settings, SettingsError, describe_settings
from emergency_stop.config.values import without_secrets

#: The guide's variables with its defaults.
GUIDE = {
    "EMERGENCY_STOP_ENABLED": "true",
    "TRIGGER_DETECTION_INTERVAL": "5000",
    "HEALTH_MONITORING_INTERVAL": "10000",
    "IMMEDIATE_STOP_TIMEOUT": "5000",
    "GRACEFUL_STOP_TIMEOUT": "60000",
    "MAX_CONCURRENT_STOPS": "10",
    "AUTO_RECOVERY_ENABLED": "true",
    "RECOVERY_VALIDATION_TIMEOUT": "30000",
    "POST_RECOVERY_MONITORING_DURATION": "300000",
    "ENABLE_NOTIFICATIONS": "true",
    "NOTIFICATION_CHANNELS": "system,email,webhook",
    "ENABLE_DETAILED_LOGGING": "true",
    "RETAIN_EVENT_HISTORY": "30",
    "MAX_MEMORY_USAGE": "536870912",
    "MAX_CPU_USAGE": "80",
}


def problems(**env: str) -> list[str]:
    with pytest.raises(SettingsError) as wrong:
        Settings.from_env(env)
    return wrong.value.problems


def test_the_guides_variables_have_the_guides_defaults() -> None:
    described = {setting["variable"]: setting["default"] for setting in describe_settings()}
    assert {name: described[name] for name in GUIDE} == GUIDE
    assert Settings.from_env(GUIDE).as_env().items() >= GUIDE.items()


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("TRIGGER_DETECTION_INTERVAL", "99", "is out of range; allowed: 100 to 600000"),
        ("MAX_CONCURRENT_STOPS", "0", "is out of range; allowed: 1 to 10000"),
        ("ESTOP_BLAST_PERCENT", "101", "is out of range; allowed: 0 to 100"),
        ("ESTOP_BLAST_WINDOW", "999", "is out of range; allowed: 1000 to 3600000"),
        ("ESTOP_BLAST_MIN_ACCOUNTS", "few", "is not a whole number; allowed: 1 to 1000000"),
        ("MAX_CPU_USAGE", "101", "is out of range; allowed: 1 to 100"),
        ("MAX_MEMORY_USAGE", "512M", "is not a whole number; allowed: 134217728 to "),
        ("ESTOP_USAGE_REPORT_MS", "-1", "is out of range; allowed: 0 to 600000"),
        ("RETAIN_EVENT_HISTORY", "1e3", "is not a whole number; allowed: 1 to 3650"),
        ("AUTO_RECOVERY_ENABLED", "maybe", "is neither true nor false"),
        ("NOTIFICATION_CHANNELS", "system,webhok", "did you mean 'webhook'?"),
        ("ESTOP_BROKERS", "localhost", "allowed: host:port, several separated by commas"),
        ("ESTOP_BROKERS", "a:9092,b:99999", "'b:99999'"),
        ("ESTOP_REGISTRY_URL", "registry:8081", "allowed: http://… or https://…"),
        ("ESTOP_CLICKHOUSE_URL", "http://", "has no host"),
        ("ESTOP_CLICKHOUSE_URL", "http://clickhouse:port/estop", "a port that is none"),
        ("ESTOP_CLICKHOUSE_URL", "http://clickhouse:0", "a port that is none"),
        ("ESTOP_REGISTRY_URL", "http://[::1", "has no host"),
        ("ESTOP_CLICKHOUSE_CLUSTER", "a b", "allowed: letters, digits, and _ . - after the first letter"),
        ("ESTOP_SERVICES", " , ", "name at least one service"),
        ("ESTOP_SERVICES", "a b", "letters, digits, dots and hyphens only"),
        ("ESTOP_NOTIFY_SMTP_URL", "smtp+startls://mail:587", "did you mean 'smtp+starttls'?"),
        ("ESTOP_NOTIFY_SMTP_URL", "smtps://mail", "allowed: scheme://[user@]host:port"),
        ("ESTOP_NOTIFY_EMAIL_TO", "ann@example.org, bob", "allowed: name@host"),
        ("ESTOP_NOTIFY_EMAIL_FROM", "a@b\nBcc: c@d", "allowed: name@host"),
        ("ESTOP_NOTIFY_GROUP_MS", "-1", "is out of range; allowed: 0 to 600000"),
        ("ESTOP_LAST_RESORT_URL", "ftp://host", "allowed: http://… or https://…"),
        ("ESTOP_LOG_LEVEL", "warn", "did you mean 'warning'?"),
        ("ESTOP_GLOBAL_RESUME_PEOPLE", "6", "is out of range; allowed: 1 to 5"),
        ("ESTOP_APPROVAL_EXPIRY", "9999", "is out of range; allowed: 10000 to 86400000"),
        ("ESTOP_DEPENDENCIES", "realtimeSync", "has 'realtimeSync', which is not; allowed: service:dependency,…;…"),
        ("ESTOP_DEPENDENCIES", "realtimeSync:a;realtimeSync:b", "'realtimeSync:b', which is named twice"),
        ("ESTOP_DEPENDENCIES", "realtimeSync:sesionManager", "did you mean 'sessionManager'?"),
        (
            "ESTOP_DEPENDENCIES",
            "realtimeSync:sessionManager;sessionManager:behavioralEngine;behavioralEngine:realtimeSync",
            "has a circle: ",
        ),
        ("ESTOP_DEPENDENCIES", "realtimeSync:realtimeSync", "circle: realtimeSync depends on realtimeSync"),
    ],
)
def test_a_wrong_value_is_told_with_its_name_and_what_is_allowed(variable: str, value: str, reason: str) -> None:
    (problem,) = problems(**{variable: value})
    assert problem.startswith(f"{variable}={value!r} ")
    assert reason in problem


def test_all_problems_are_told_at_once_and_a_misspelled_name_is_one() -> None:
    found = problems(MAX_CPU_USAGE="x", ESTOP_BROKER="127.0.0.1:9092", EMERGENCY_STOP_ENABLE="true")
    assert len(found) == 3
    assert "did you mean 'ESTOP_BROKERS'?" in " ".join(found)
    assert "did you mean 'EMERGENCY_STOP_ENABLED'?" in " ".join(found)


def test_a_graceful_stop_may_not_be_shorter_than_an_immediate_one() -> None:
    (problem,) = problems(GRACEFUL_STOP_TIMEOUT="1000", IMMEDIATE_STOP_TIMEOUT="2000")
    assert "must be longer" in problem


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"ESTOP_NOTIFY_WEBHOOK_URL": "http://h/"}, "ESTOP_NOTIFY_WEBHOOK_SECRET_FILE"),
        ({"ESTOP_NOTIFY_WEBHOOK_SECRET_FILE": "s"}, "ESTOP_NOTIFY_WEBHOOK_URL"),
        ({"ESTOP_LAST_RESORT_URL": "http://h/"}, "ESTOP_LAST_RESORT_SECRET_FILE"),
        ({"ESTOP_NOTIFY_EMAIL_FROM": "a@b", "ESTOP_NOTIFY_EMAIL_TO": "c@d"}, "ESTOP_NOTIFY_SMTP_URL"),
        (
            {
                "ESTOP_NOTIFY_EMAIL_FROM": "a@b",
                "ESTOP_NOTIFY_EMAIL_TO": "c@d",
                "ESTOP_NOTIFY_SMTP_URL": "smtps://u@h:1",
            },
            "ESTOP_NOTIFY_SMTP_PASSWORD_FILE",
        ),
    ],
)
def test_half_a_channel_is_refused_by_the_name_of_the_other_half(given: dict[str, str], missing: str) -> None:
    found = problems(**given)
    assert found
    assert all(f"needs {missing}, which is not set" in problem for problem in found)


def test_a_password_is_not_sent_in_the_clear() -> None:
    mail = {"ESTOP_NOTIFY_EMAIL_FROM": "a@b", "ESTOP_NOTIFY_EMAIL_TO": "c@d", "ESTOP_NOTIFY_SMTP_PASSWORD_FILE": "p"}
    (problem,) = problems(**mail, ESTOP_NOTIFY_SMTP_URL="smtp://u@h:25")
    assert "in the clear" in problem
    assert Settings.from_env({**mail, "ESTOP_NOTIFY_SMTP_URL": "smtp+starttls://u@h:587"}).notify_email_to == ("c@d",)


def test_a_cluster_of_databases_needs_the_address_of_one() -> None:
    (problem,) = problems(ESTOP_CLICKHOUSE_CLUSTER="main")
    assert "ESTOP_CLICKHOUSE_URL is not set" in problem
    both = {"ESTOP_CLICKHOUSE_CLUSTER": "main", "ESTOP_CLICKHOUSE_URL": "http://clickhouse:8123/estop"}
    assert Settings.from_env(both).clickhouse_cluster == "main"


def test_an_empty_variable_is_as_good_as_none_and_settings_survive_the_way_to_a_child() -> None:
    assert Settings.from_env({"MAX_CPU_USAGE": ""}).cpu_percent_max == 80
    settings = Settings.from_env({"ESTOP_SERVICES": "alpha, beta", "ESTOP_INSTANCE_ID": "one", "ESTOP_CLUSTER": "c"})
    assert Settings.from_env(settings.as_env()) == settings


def test_no_service_may_have_the_name_of_a_process_of_ours() -> None:
    """A trigger only warns of those; a service that is to be stopped would never be."""
    (problem,) = problems(ESTOP_SERVICES="alpha,estop-sink")
    assert problem.startswith("ESTOP_SERVICES='alpha,estop-sink' names 'estop-sink', a process of the emergency stop")
    assert Settings.from_env({"ESTOP_SERVICES": "alpha,estop-sinks"}).services == ("alpha", "estop-sinks")


def test_dependencies_are_read_and_passed_on_to_child_processes() -> None:
    text = "realtimeSync:sessionManager,antiDetectionManager;sessionManager:antiDetectionManager"
    settings = Settings.from_env({"ESTOP_DEPENDENCIES": f" {text.replace(';', ' ; ')} "})
    assert dict(settings.dependencies) == {
        "realtimeSync": ("sessionManager", "antiDetectionManager"),
        "sessionManager": ("antiDetectionManager",),
    }
    assert Settings.from_env(settings.as_env()) == settings
    assert Settings.from_env(Settings().as_env()).dependencies == ()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://clickhouse:8123/estop", "http://clickhouse:8123/estop"),
        ("http://ann:s3cret@clickhouse:8123/estop", "http://clickhouse:8123/estop"),
        ("https://ann@clickhouse", "https://clickhouse"),
        ("http://ann:s3cret@[::1]:8123", "http://[::1]:8123"),
        ("http://clickhouse/estop?user=ann&password=s3cret#s3cret", "http://clickhouse/estop"),
        ("http://ann:s3cret/@s3cret?s3cret#s3cret@clickhouse:8123", "http://clickhouse:8123"),
        ("http://ann:s3cret://s3cret@clickhouse", "http://clickhouse"),
        ("ann:s3cret@clickhouse:8123", "clickhouse:8123"),
        ("http://host/?from=a@b", "http://b"),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ESTOP_CLICKHOUSE_URL": "ann:s3cret@clickhouse:8123"}, "ESTOP_CLICKHOUSE_URL='clickhouse:8123' is not a URL"),
        ({"ESTOP_CLICKHOUSE_URL": "http://ann:s3cret/2@clickhouse"}, "with %2F for a /, %3F for a ?"),
        ({"ESTOP_NOTIFY_SMTP_URL": "smtps://ann:s3cret@mail:465"}, "='smtps://mail:465' has a password in it; put"),
        ({"ESTOP_NOTIFY_WEBHOOK_URL": "http://ann:s3cret@h/"}, "='http://h/' needs ESTOP_NOTIFY_WEBHOOK_SECRET_FILE"),
        ({"ESTOP_CLICKHOUSE_PASSWORD": "s3cret"}, "ESTOP_CLICKHOUSE_PASSWORD is not a setting"),
    ],
)
def test_no_problem_tells_a_password(given: dict[str, str], said: str) -> None:
    (problem,) = problems(**given)
    assert said in problem
    assert "s3cret" not in problem
