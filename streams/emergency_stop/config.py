"""Settings: every variable, its bounds and its default, parsed once at start.

Durations are integer milliseconds, as in the guide. A wrong variable stops the start (exit code 78,
``EX_CONFIG``) with all problems at once.
"""

from __future__ import annotations

import difflib
import os
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from emergency_stop.domain.topics import (
    DETECTOR_LOOPS,
    DETECTOR_STATE,
    DETECTOR_STATE_B,
    DETECTOR_STATE_B_SPEC,
    LANES,
    QUESTIONS,
    TopicSpec,
    all_topics,
)
from emergency_stop.domain.values import SERVICE_NAME_LENGTH_MAX, StopLevel, WithoutLease, is_service_name

EXIT_CONFIG: Final = 78
HEARTBEATS_MISSED_MAX: Final = 3
#: So many records of a partition come within the time after which it counts as blind.
FRESHNESS_RECORDS_MIN: Final = 3
PORT_MAX: Final = 65_535
DAY_MS: Final = 86_400_000
DEFAULT_SERVICES: Final = (
    "accountHealthMonitor",
    "realtimeSync",
    "antiDetectionManager",
    "behavioralEngine",
    "sessionManager",
)
NOTIFICATION_CHANNELS: Final = ("system", "email", "webhook")
SMTP_SCHEMES: Final = ("smtps", "smtp+starttls", "smtp")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
#: How the names begin that are made up: nothing comes back under them after a restart.
_UNNAMED: Final = "unnamed-"
#: Topics with a partition beside each of telemetry's.
_BESIDE_TELEMETRY: Final = frozenset(
    {DETECTOR_STATE, DETECTOR_STATE_B, QUESTIONS, *(spec.name for spec in DETECTOR_LOOPS)}
)
_TRUE: Final = ("true", "1", "yes", "on")
_FALSE: Final = ("false", "0", "no", "off")


class SettingsError(ValueError):
    """Wrong settings; ``problems`` has one line per variable: name, value, allowed range."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


Parser = Callable[[str], Any]
#: A service and what it depends on.
Dependencies = tuple[tuple[str, tuple[str, ...]], ...]


def _integer(low: int, high: int) -> Parser:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"is not a whole number; allowed: {low} to {high}") from None
        if not low <= value <= high:
            raise ValueError(f"is out of range; allowed: {low} to {high}")
        return value

    return parse


def _boolean(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered in _TRUE or lowered in _FALSE:
        return lowered in _TRUE
    raise ValueError("is neither true nor false")


def _names(allowed: tuple[str, ...] | None = None) -> Parser:
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(name.strip() for name in text.split(",") if name.strip())
        for name in names:
            if allowed is not None and name not in allowed:
                hint = did_you_mean(name, allowed)
                raise ValueError(f"has unknown name {name!r}{hint}; allowed: {', '.join(allowed)}")
            if allowed is None and (not is_service_name(name) or "_" in name):
                raise ValueError(
                    f"has {name!r}, but a service name has letters, digits, dots and hyphens only,"
                    f" {SERVICE_NAME_LENGTH_MAX} at most"
                )
        if allowed is None and not names:
            raise ValueError("is empty; name at least one service")
        return names

    return parse


def _choice(*allowed: str) -> Parser:
    def parse(text: str) -> str:
        lowered = text.strip().lower()
        if lowered not in allowed:
            raise ValueError(f"is unknown{did_you_mean(lowered, allowed)}; allowed: {', '.join(allowed)}")
        return lowered

    return parse


def _dependencies(text: str) -> Dependencies:
    """``a:b,c;b:d``: a depends on b and c, and b on d."""
    found: dict[str, tuple[str, ...]] = {}
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        service, _, others = entry.partition(":")
        service, needed = service.strip(), tuple(name.strip() for name in others.split(",") if name.strip())
        if not service or not needed or service in found:
            why = "is named twice" if service in found else "is not"
            raise ValueError(f"has {entry!r}, which {why}; allowed: service:dependency,…;…, each service once")
        found[service] = needed
    try:
        TopologicalSorter(found).prepare()
    except CycleError as error:
        circle = " depends on ".join(reversed(error.args[1]))
        raise ValueError(f"has a circle: {circle}; a cascading stop would have no order, so remove one") from None
    return tuple(found.items())


def _brokers(text: str) -> str:
    for address in text.split(","):
        host, colon, port = address.strip().rpartition(":")
        if not (host and colon and port.isdigit() and 0 < int(port) <= PORT_MAX):
            raise ValueError(f"has {address.strip()!r}; allowed: host:port, several separated by commas")
    return text.replace(" ", "")


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ValueError("is not a URL; allowed: http://… or https://…")
    return text


def _address(text: str) -> str:
    """One address of e-mail. No line break may get into a header, and none of it is checked beyond its shape."""
    stripped = text.strip()
    if not re.fullmatch(r"[^\s@,<>]+@[^\s@,<>]+", stripped):
        raise ValueError("is no address of e-mail; allowed: name@host")
    return stripped


def _addresses(text: str) -> tuple[str, ...]:
    found = [one for one in text.split(",") if one.strip()]
    if not found:
        raise ValueError("is empty; allowed: name@host, several separated by commas")
    return tuple(_address(one) for one in found)


def _smtp_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in SMTP_SCHEMES:
        hint = did_you_mean(parts.scheme, SMTP_SCHEMES)
        raise ValueError(f"does not begin with a known scheme{hint}; allowed: {', '.join(SMTP_SCHEMES)}, then ://")
    try:
        is_whole = bool(parts.hostname) and parts.port is not None
    except ValueError:
        is_whole = False
    if not is_whole or parts.path.strip("/") or parts.query:
        raise ValueError("has no host and port; allowed: scheme://[user@]host:port")
    if parts.password is not None:
        raise ValueError("has a password in it; put that into the file of ESTOP_NOTIFY_SMTP_PASSWORD_FILE")
    return text


def _cluster_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}", text):
        raise ValueError("is no name of a cluster; allowed: letters, digits, and _ . - after the first letter")
    return text


def did_you_mean(name: str, known: tuple[str, ...]) -> str:
    """`` (did you mean 'x'?)`` for the nearest known name, or nothing."""
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""


def _setting(variable: str, default: Any, parse: Parser, doc: str) -> Any:
    metadata = {"variable": variable, "parse": parse, "doc": doc}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def _instance_id() -> str:
    return f"{_UNNAMED}{uuid.uuid4().hex[:12]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings. Construct with ``from_env``; the defaults are the guide's."""

    enabled: bool = _setting(
        "EMERGENCY_STOP_ENABLED",
        True,
        _boolean,
        "false: triggers are still evaluated but only recorded (shadow); manual stops still stop.",
    )
    trigger_detection_interval_ms: int = _setting(
        "TRIGGER_DETECTION_INTERVAL",
        5_000,
        _integer(100, 600_000),
        "Clock tick for time-based and absence triggers, ms. Events are evaluated as they arrive.",
    )
    health_monitoring_interval_ms: int = _setting(
        "HEALTH_MONITORING_INTERVAL",
        10_000,
        _integer(100, 600_000),
        "Heartbeat of service instances, ms; one that misses three counts as lost.",
    )
    immediate_stop_timeout_ms: int = _setting(
        "IMMEDIATE_STOP_TIMEOUT", 5_000, _integer(100, 60_000), "Deadline of an immediate stop, ms."
    )
    graceful_stop_timeout_ms: int = _setting(
        "GRACEFUL_STOP_TIMEOUT", 60_000, _integer(500, 600_000), "Deadline of a graceful stop, ms."
    )
    max_concurrent_stops: int = _setting(
        "MAX_CONCURRENT_STOPS",
        10,
        _integer(1, 10_000),
        "Emergencies whose commands are in progress at once, per coordinator partition. Holds are never queued.",
    )
    auto_recovery_enabled: bool = _setting(
        "AUTO_RECOVERY_ENABLED", True, _boolean, "Whether recovery may start by itself."
    )
    recovery_validation_timeout_ms: int = _setting(
        "RECOVERY_VALIDATION_TIMEOUT", 30_000, _integer(1_000, 3_600_000), "Limit of recovery's validation phase, ms."
    )
    post_recovery_monitoring_ms: int = _setting(
        "POST_RECOVERY_MONITORING_DURATION", 300_000, _integer(1_000, DAY_MS), "Monitoring after recovery, ms."
    )
    notifications_enabled: bool = _setting(
        "ENABLE_NOTIFICATIONS", True, _boolean, "Whether people are told. The last resort acts all the same."
    )
    notification_channels: tuple[str, ...] = _setting(
        "NOTIFICATION_CHANNELS",
        NOTIFICATION_CHANNELS,
        _names(NOTIFICATION_CHANNELS),
        "Where people are told: system (the notifier's log) always, email and webhook where their settings are given.",
    )
    notify_smtp_url: str | None = _setting(
        "ESTOP_NOTIFY_SMTP_URL",
        None,
        _smtp_url,
        "Mail server: smtps://, smtp+starttls:// or smtp:// (plain), then [user@]host:port; none: no e-mail.",
    )
    notify_smtp_password_file: Path | None = _setting(
        "ESTOP_NOTIFY_SMTP_PASSWORD_FILE", None, Path, "File with the password of its user."
    )
    notify_email_from: str | None = _setting("ESTOP_NOTIFY_EMAIL_FROM", None, _address, "Sender of e-mail.")
    notify_email_to: tuple[str, ...] = _setting(
        "ESTOP_NOTIFY_EMAIL_TO", (), _addresses, "Its recipients, separated by commas."
    )
    notify_webhook_url: str | None = _setting(
        "ESTOP_NOTIFY_WEBHOOK_URL", None, _url, "Where notices are posted as JSON; none: nowhere."
    )
    notify_webhook_secret_file: Path | None = _setting(
        "ESTOP_NOTIFY_WEBHOOK_SECRET_FILE", None, Path, "File with the secret that these posts are signed with."
    )
    notify_group_ms: int = _setting(
        "ESTOP_NOTIFY_GROUP_MS",
        5_000,
        _integer(0, 600_000),
        "How long a warning waits for others to be told with it, ms. A page never waits for others.",
    )
    notify_inhibit_ms: int = _setting(
        "ESTOP_NOTIFY_INHIBIT_MS",
        300_000,
        _integer(0, DAY_MS),
        "How long a told emergency hides narrower notices that are no graver, ms; 0: it hides none.",
    )
    notify_per_minute_max: int = _setting(
        "ESTOP_NOTIFY_PER_MINUTE_MAX",
        10,
        _integer(1, 600),
        "Messages a minute and channel, pages counted apart; what comes faster is told together.",
    )
    last_resort_url: str | None = _setting(
        "ESTOP_LAST_RESORT_URL",
        None,
        _url,
        "Where an emergency without proof is posted, for an account's session or proxy to be revoked; none: nowhere.",
    )
    last_resort_secret_file: Path | None = _setting(
        "ESTOP_LAST_RESORT_SECRET_FILE", None, Path, "File with the secret that these posts are signed with."
    )
    last_resort_patience_ms: int = _setting(
        "ESTOP_LAST_RESORT_PATIENCE_MS",
        900_000,
        _integer(1_000, DAY_MS),
        "How long the last resort is tried again before it counts as failed, ms.",
    )
    detailed_logging: bool = _setting(
        "ENABLE_DETAILED_LOGGING", True, _boolean, "Whether evaluations that changed nothing are recorded too."
    )
    retain_event_history_days: int = _setting(
        "RETAIN_EVENT_HISTORY", 30, _integer(1, 3_650), "Days that ClickHouse keeps rows."
    )
    memory_bytes_max: int = _setting(
        "MAX_MEMORY_USAGE", 536_870_912, _integer(134_217_728, 1 << 44), "Bound of a process's resident memory, bytes."
    )
    cpu_percent_max: int = _setting("MAX_CPU_USAGE", 80, _integer(1, 100), "Bound of a process's CPU use, percent.")

    brokers: str = _setting("ESTOP_BROKERS", "127.0.0.1:9092", _brokers, "Kafka bootstrap addresses.")
    registry_url: str | None = _setting(
        "ESTOP_REGISTRY_URL", None, _url, "Confluent-compatible schema registry; none: the committed schemas."
    )
    schemas_dir: Path | None = _setting("ESTOP_SCHEMAS", None, Path, "Folder with avro/; none: the installed one.")
    clickhouse_url: str | None = _setting(
        "ESTOP_CLICKHOUSE_URL", None, _url, "ClickHouse HTTP address; none: chDB in the sink's process."
    )
    clickhouse_cluster: str | None = _setting(
        "ESTOP_CLICKHOUSE_CLUSTER",
        None,
        _cluster_name,
        "ClickHouse cluster on which tables are created, replicated; none: one node. To be set before the first start.",
    )
    data_dir: Path = _setting("ESTOP_DATA_DIR", Path(".estop"), Path, "Where local data, keys and chDB live.")
    services: tuple[str, ...] = _setting("ESTOP_SERVICES", DEFAULT_SERVICES, _names(), "The services that 'all' means.")
    dependencies: Dependencies = _setting(
        "ESTOP_DEPENDENCIES",
        (),
        _dependencies,
        "What services depend on, beside what they announce: a:b,c;b:d. A cascading stop ends dependents first.",
    )
    global_resume_people: int = _setting(
        "ESTOP_GLOBAL_RESUME_PEOPLE",
        2,
        _integer(1, 5),
        "Different people who must ask before a hold of everything is lifted; 1: anyone alone.",
    )
    approval_expiry_ms: int = _setting(
        "ESTOP_APPROVAL_EXPIRY",
        900_000,
        _integer(10_000, DAY_MS),
        "How long one person's word for lifting a hold of everything waits for the next one's, ms.",
    )
    instance_id: str = _setting(
        "ESTOP_INSTANCE_ID",
        _instance_id,
        str,
        "Name of this process, the same after a restart: its group waits for it. None: random, and it leaves.",
    )
    metrics_host: str = _setting("ESTOP_METRICS_HOST", "127.0.0.1", str, "Address of /metrics, /livez, /readyz.")
    metrics_port: int = _setting("ESTOP_METRICS_PORT", 0, _integer(0, 65_535), "Its port; 0: any free one, logged.")
    signing_key_file: Path | None = _setting(
        "ESTOP_SIGNING_KEY_FILE",
        None,
        Path,
        "PEM of the coordinator's Ed25519 key; none: a fresh key at every start, said so.",
    )
    audit_key_file: Path | None = _setting(
        "ESTOP_AUDIT_KEY_FILE",
        None,
        Path,
        "PEM of the Ed25519 key that the sink signs heads of the audit with; none: audit-key.pem in ESTOP_DATA_DIR,"
        " made at the first start.",
    )
    audit_keys_file: Path | None = _setting(
        "ESTOP_AUDIT_KEYS_FILE",
        None,
        Path,
        "PEM file of the public keys whose heads estop audit verify trusts; none: audit-keys.pem in ESTOP_DATA_DIR.",
    )
    audit_heads_file: Path | None = _setting(
        "ESTOP_AUDIT_HEADS_FILE",
        None,
        Path,
        "File to which the sink appends every head of the audit, one line of JSON each, to be shipped elsewhere; none:"
        " only the topic has them.",
    )
    audit_head_records: int = _setting(
        "ESTOP_AUDIT_HEAD_RECORDS",
        1_000,
        _integer(1, 1_000_000),
        "After how many records of a partition the sink signs the next head of the audit.",
    )
    audit_head_interval_ms: int = _setting(
        "ESTOP_AUDIT_HEAD_INTERVAL_MS",
        60_000,
        _integer(100, DAY_MS),
        "How long records of the audit wait for a signed head that covers them, ms.",
    )
    verify_keys_file: Path | None = _setting(
        "ESTOP_VERIFY_KEYS_FILE", None, Path, "PEM file of public keys, for services; none: nothing is verified."
    )
    checkpoint_interval_ms: int = _setting(
        "ESTOP_CHECKPOINT_INTERVAL_MS", 5_000, _integer(10, 600_000), "How often a worker's state is made durable, ms."
    )
    session_timeout_ms: int = _setting(
        "ESTOP_SESSION_TIMEOUT_MS", 6_000, _integer(1_000, 300_000), "Kafka group session timeout, ms."
    )
    detector_lane: str = _setting(
        "ESTOP_DETECTOR_LANE",
        LANES[0],
        _choice(*LANES),
        "a or b: detectors of both lanes, side by side, do the same work twice, so that losing one delays no hit.",
    )
    standby_replicas: int = _setting(
        "ESTOP_STANDBY_REPLICAS",
        1,
        _integer(0, 1),
        "1: detectors keep warm copies of the state of partitions that others own, to take them over sooner; 0: none.",
    )
    standby_bytes_max: int = _setting(
        "ESTOP_STANDBY_BYTES_MAX",
        134_217_728,
        _integer(1_048_576, 1 << 44),
        "Bound of all those copies of a process, bytes; what does not fit is read when it is taken over, and said so.",
    )
    blind_after_ms: int = _setting(
        "ESTOP_BLIND_AFTER_MS",
        30_000,
        _integer(2_000, 3_600_000),
        "A telemetry partition of which nothing newer than this was evaluated is blind, ms: detectors are not ready,"
        " and triggers with on_blind: hold stop.",
    )
    blast_percent: int = _setting(
        "ESTOP_BLAST_PERCENT",
        30,
        _integer(0, 100),
        "When triggers stop more than this share of the live accounts within ESTOP_BLAST_WINDOW, everything is held"
        " gracefully and one page goes out, percent; 0: never.",
    )
    blast_window_ms: int = _setting(
        "ESTOP_BLAST_WINDOW", 60_000, _integer(1_000, 3_600_000), "The window of ESTOP_BLAST_PERCENT, ms."
    )
    blast_accounts_min: int = _setting(
        "ESTOP_BLAST_MIN_ACCOUNTS",
        20,
        _integer(1, 1_000_000),
        "Fewer stopped accounts than this are no common cause; the only bound while nobody knows how many are live.",
    )
    lease_ms: int = _setting(
        "ESTOP_LEASE",
        30_000,
        _integer(3_000, 600_000),
        "How long an instance may act after a heartbeat that the coordinator saw, ms; longer than a takeover takes.",
    )
    lease_hold_delay_ms: int = _setting(
        "ESTOP_LEASE_HOLD_DELAY",
        10_000,
        _integer(0, 600_000),
        "From the end of its lease, ms, until an instance ends what is in flight; new actions are forbidden at once.",
    )
    without_lease: WithoutLease = _setting(
        "ESTOP_WITHOUT_LEASE",
        WithoutLease.STOP,
        lambda text: WithoutLease(_choice(*(choice.value for choice in WithoutLease))(text)),
        "For a service, without the coordinator's lease: stop (fail-safe), run on and say so (fail-open), or ignore"
        " leases.",
    )
    clear_margin_percent: int = _setting(
        "ESTOP_CLEAR_MARGIN_PERCENT",
        10,
        _integer(0, 50),
        "How far from its threshold a value must be, percent of it, before a trigger's condition counts as cleared.",
    )
    telemetry_partitions: int = _setting(
        "ESTOP_TELEMETRY_PARTITIONS", 4, _integer(1, 10_000), "Partitions of every telemetry topic."
    )
    control_partitions: int = _setting(
        "ESTOP_CONTROL_PARTITIONS", 4, _integer(1, 1_000), "Partitions of every control topic that is not broadcast."
    )
    replication_factor: int = _setting(
        "ESTOP_REPLICATION_FACTOR", 1, _integer(1, 9), "Replicas of topics that estop creates."
    )
    preventive_stop_level: StopLevel = _setting(
        "ESTOP_PREVENTIVE_STOP_LEVEL",
        StopLevel.GRACEFUL,
        lambda text: StopLevel(_choice(StopLevel.IMMEDIATE.value, StopLevel.GRACEFUL.value)(text)),
        "Level of the stop that a preventive_measure event of the platform causes: immediate or graceful.",
    )
    procedures_file: Path | None = _setting(
        "ESTOP_PROCEDURES",
        None,
        Path,
        "YAML file of recovery procedures of your own, asked before the four that are there; none: only those.",
    )
    cluster: str = _setting("ESTOP_CLUSTER", "estop", str, "Name of the Kafka cluster in deduplication tokens.")
    kernel_cache_dir: Path | None = _setting(
        "ESTOP_KERNEL_CACHE", None, Path, "Where compiled kernels are kept; none: beside the code."
    )
    sink_query_port: int = _setting(
        "ESTOP_SINK_QUERY_PORT", 0, _integer(0, 65_535), "Loopback port of the sink's read-only SQL; 0: any free one."
    )
    log_level: str = _setting("ESTOP_LOG_LEVEL", "info", _choice(*LOG_LEVELS), "Least severe level that is logged.")
    log_format: str = _setting("ESTOP_LOG_FORMAT", "text", _choice("text", "json"), "How log lines look.")

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Parse ``env`` (default: the process's). Raises ``SettingsError`` with every problem."""
        environment = os.environ if env is None else env
        problems: list[str] = []
        values: dict[str, Any] = {}
        for spec in fields(cls):
            text = environment.get(spec.metadata["variable"])
            if text is None or text == "":
                continue
            try:
                values[spec.name] = spec.metadata["parse"](text)
            except ValueError as error:
                problems.append(f"{spec.metadata['variable']}={text!r} {error}")
        problems += _unknown_variables(environment, tuple(spec.metadata["variable"] for spec in fields(cls)))
        settings = cls(**values) if not problems else None
        if settings is not None:
            problems = _contradictions(settings)
        if problems or settings is None:
            raise SettingsError(problems)
        return settings

    @property
    def heartbeat_lost_ms(self) -> int:
        """A service instance is lost when its last heartbeat is older."""
        return self.health_monitoring_interval_ms * HEARTBEATS_MISSED_MAX

    @property
    def freshness_interval_ms(self) -> int:
        """How often a detector tells how far it is: several times before its silence counts as blindness."""
        return min(self.health_monitoring_interval_ms, self.blind_after_ms // FRESHNESS_RECORDS_MIN)

    @property
    def is_named(self) -> bool:
        """Whether this process will come back under the same name, so that its group may wait for it."""
        return not self.instance_id.startswith(_UNNAMED)

    def partitioned(self, spec: TopicSpec) -> TopicSpec:
        """``spec`` with the number of partitions that these settings give it; broadcast topics keep one."""
        if spec.partitions == 1:
            return spec
        telemetry = spec.name.startswith("telemetry.") or spec.name in _BESIDE_TELEMETRY
        return replace(spec, partitions=self.telemetry_partitions if telemetry else self.control_partitions)

    def topics(self) -> tuple[TopicSpec, ...]:
        """Every topic that these settings need, with its number of partitions."""
        lane = (DETECTOR_STATE_B_SPEC,) if self.detector_lane != LANES[0] else ()
        return tuple(self.partitioned(spec) for spec in (*all_topics(self.services), *lane))

    def as_env(self) -> dict[str, str]:
        """The variables that make these settings again, for child processes. Defaults of ``None`` are left out."""
        return {
            spec.metadata["variable"]: _text(getattr(self, spec.name))
            for spec in fields(self)
            if getattr(self, spec.name) is not None
        }


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(value) if all(isinstance(one, str) for one in value) else _dependencies_text(value)
    return str(value)


def _dependencies_text(value: Dependencies) -> str:
    return ";".join(f"{service}:{','.join(needed)}" for service, needed in value)


def _unknown_variables(environment: Mapping[str, str], known: tuple[str, ...]) -> list[str]:
    """A misspelled ESTOP_ variable would silently leave a default in force; so it is refused."""
    return [
        f"{name}={environment[name]!r} is not a setting{did_you_mean(name, known)}"
        for name in sorted(environment)
        if name.startswith(("ESTOP_", "EMERGENCY_STOP_")) and name not in known
    ]


def _contradictions(settings: Settings) -> list[str]:
    problems = []
    if settings.graceful_stop_timeout_ms < settings.immediate_stop_timeout_ms:
        problems.append(
            f"GRACEFUL_STOP_TIMEOUT={settings.graceful_stop_timeout_ms} is shorter than"
            f" IMMEDIATE_STOP_TIMEOUT={settings.immediate_stop_timeout_ms};"
            " graceful escalates to immediate, so it must be longer"
        )
    named = dict.fromkeys(name for service, needed in settings.dependencies for name in (service, *needed))
    problems += [
        f"ESTOP_DEPENDENCIES={_dependencies_text(settings.dependencies)!r} names {name!r}, which ESTOP_SERVICES does"
        f" not{did_you_mean(name, settings.services)}; allowed: {', '.join(settings.services)}"
        for name in named
        if name not in settings.services
    ]
    if settings.clickhouse_cluster is not None and settings.clickhouse_url is None:
        problems.append(
            f"ESTOP_CLICKHOUSE_CLUSTER={settings.clickhouse_cluster!r} names a cluster of servers, but"
            " ESTOP_CLICKHOUSE_URL is not set; set it to one of them, or leave the cluster out for chDB"
        )
    return problems + _half_given(settings)


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
    problems = [f"{name}={_text(value)!r} needs {other}, which is not set" for name, value, other, has in needs
                if value and not has]  # fmt: skip
    if user and is_plain:
        problems.append(
            f"ESTOP_NOTIFY_SMTP_URL={settings.notify_smtp_url!r} would send a password in the clear;"
            " use smtps:// or smtp+starttls://"
        )
    return problems


def describe_settings() -> list[dict[str, str]]:
    """Every setting as ``variable, default, doc``, in order: the source of docs and of ``estop check``."""
    return [
        {"variable": spec.metadata["variable"], "default": _default(spec), "doc": spec.metadata["doc"]}
        for spec in fields(Settings)
    ]


def _default(spec: Field[Any]) -> str:
    return "random" if spec.default is MISSING else "" if spec.default is None else _text(spec.default)
