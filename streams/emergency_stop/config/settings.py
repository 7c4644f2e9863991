"""Settings: every variable, its bounds and its default, parsed once at start.

Durations are integer milliseconds, as in the guide. A wrong variable stops the start (exit code 78,
``EX_CONFIG``) with all problems at once.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from emergency_stop.config.contradictions import contradictions, unknown_variables
from emergency_stop.config.kafka import MECHANISMS, PLAINTEXT, PROTOCOLS, VARIABLES, Brokers, KafkaSecurity
from emergency_stop.config.values import (
    PORT_MAX,
    Dependencies,
    Parser,
    as_text,
    boolean,
    broker_addresses,
    choice_of,
    cluster_name,
    http_url,
    integer_within,
    mail_address,
    mail_addresses,
    names_among,
    service_dependencies,
    smtp_url,
    without_secrets,
)
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
from emergency_stop.domain.values import StopLevel, WithoutLease

EXIT_CONFIG: Final = 78
HEARTBEATS_MISSED_MAX: Final = 3
#: So many records of a partition come within the time after which it counts as blind.
FRESHNESS_RECORDS_MIN: Final = 3
DAY_MS: Final = 86_400_000
DEFAULT_SERVICES: Final = (
    "accountHealthMonitor",
    "realtimeSync",
    "antiDetectionManager",
    "behavioralEngine",
    "sessionManager",
)
NOTIFICATION_CHANNELS: Final = ("system", "email", "webhook")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
#: How the names begin that are made up: nothing comes back under them after a restart.
_UNNAMED: Final = "unnamed-"
#: Topics with a partition beside each of telemetry's.
_BESIDE_TELEMETRY: Final = frozenset(
    {DETECTOR_STATE, DETECTOR_STATE_B, QUESTIONS, *(spec.name for spec in DETECTOR_LOOPS)}
)


class SettingsError(ValueError):
    """Wrong settings; ``problems`` has one line per variable: name, value, allowed range."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


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
        boolean,
        "false: triggers are still evaluated but only recorded (shadow); manual stops still stop.",
    )
    trigger_detection_interval_ms: int = _setting(
        "TRIGGER_DETECTION_INTERVAL",
        5_000,
        integer_within(100, 600_000),
        "Clock tick for time-based and absence triggers, ms. Events are evaluated as they arrive.",
    )
    health_monitoring_interval_ms: int = _setting(
        "HEALTH_MONITORING_INTERVAL",
        10_000,
        integer_within(100, 600_000),
        "Heartbeat of service instances, ms; one that misses three counts as lost.",
    )
    immediate_stop_timeout_ms: int = _setting(
        "IMMEDIATE_STOP_TIMEOUT", 5_000, integer_within(100, 60_000), "Deadline of an immediate stop, ms."
    )
    graceful_stop_timeout_ms: int = _setting(
        "GRACEFUL_STOP_TIMEOUT", 60_000, integer_within(500, 600_000), "Deadline of a graceful stop, ms."
    )
    max_concurrent_stops: int = _setting(
        "MAX_CONCURRENT_STOPS",
        10,
        integer_within(1, 10_000),
        "Emergencies whose commands are in progress at once, per coordinator partition. Holds are never queued.",
    )
    auto_recovery_enabled: bool = _setting(
        "AUTO_RECOVERY_ENABLED",
        True,
        boolean,
        "Whether emergencies of triggers with clear_rule: when_condition_clears may recover by themselves; others never"
        " do.",
    )
    recovery_validation_timeout_ms: int = _setting(
        "RECOVERY_VALIDATION_TIMEOUT",
        30_000,
        integer_within(1_000, 3_600_000),
        "Limit of recovery's validation phase, ms.",
    )
    post_recovery_monitoring_ms: int = _setting(
        "POST_RECOVERY_MONITORING_DURATION", 300_000, integer_within(1_000, DAY_MS), "Monitoring after recovery, ms."
    )
    notifications_enabled: bool = _setting(
        "ENABLE_NOTIFICATIONS", True, boolean, "Whether people are told. The last resort acts all the same."
    )
    notification_channels: tuple[str, ...] = _setting(
        "NOTIFICATION_CHANNELS",
        NOTIFICATION_CHANNELS,
        names_among(NOTIFICATION_CHANNELS),
        "Where people are told: system (the notifier's log) always, email and webhook where their settings are given. A"
        " trigger may name fewer for its warnings and infos.",
    )
    notify_smtp_url: str | None = _setting(
        "ESTOP_NOTIFY_SMTP_URL",
        None,
        smtp_url,
        "Mail server: smtps://, smtp+starttls:// or smtp:// (plain), then [user@]host:port; none: no e-mail.",
    )
    notify_smtp_password_file: Path | None = _setting(
        "ESTOP_NOTIFY_SMTP_PASSWORD_FILE", None, Path, "File with the password of its user."
    )
    notify_email_from: str | None = _setting("ESTOP_NOTIFY_EMAIL_FROM", None, mail_address, "Sender of e-mail.")
    notify_email_to: tuple[str, ...] = _setting(
        "ESTOP_NOTIFY_EMAIL_TO", (), mail_addresses, "Its recipients, separated by commas."
    )
    notify_webhook_url: str | None = _setting(
        "ESTOP_NOTIFY_WEBHOOK_URL", None, http_url, "Where notices are posted as JSON; none: nowhere."
    )
    notify_webhook_secret_file: Path | None = _setting(
        "ESTOP_NOTIFY_WEBHOOK_SECRET_FILE", None, Path, "File with the secret that these posts are signed with."
    )
    notify_group_ms: int = _setting(
        "ESTOP_NOTIFY_GROUP_MS",
        5_000,
        integer_within(0, 600_000),
        "How long a warning waits for others to be told with it, ms. A page never waits for others.",
    )
    notify_inhibit_ms: int = _setting(
        "ESTOP_NOTIFY_INHIBIT_MS",
        300_000,
        integer_within(0, DAY_MS),
        "How long a told emergency hides narrower notices that are no graver, ms; 0: it hides none.",
    )
    notify_per_minute_max: int = _setting(
        "ESTOP_NOTIFY_PER_MINUTE_MAX",
        10,
        integer_within(1, 600),
        "Messages a minute and channel, pages counted apart; what comes faster is told together.",
    )
    last_resort_url: str | None = _setting(
        "ESTOP_LAST_RESORT_URL",
        None,
        http_url,
        "Where an emergency without proof is posted, for an account's session or proxy to be revoked; none: nowhere.",
    )
    last_resort_secret_file: Path | None = _setting(
        "ESTOP_LAST_RESORT_SECRET_FILE", None, Path, "File with the secret that these posts are signed with."
    )
    last_resort_patience_ms: int = _setting(
        "ESTOP_LAST_RESORT_PATIENCE_MS",
        900_000,
        integer_within(1_000, DAY_MS),
        "How long the last resort is tried again before it counts as failed, ms.",
    )
    detailed_logging: bool = _setting(
        "ENABLE_DETAILED_LOGGING", True, boolean, "Whether evaluations that changed nothing are recorded too."
    )
    evaluations_max: int = _setting(
        "ESTOP_EVALUATIONS_MAX",
        100,
        integer_within(1, 10_000),
        "Accounts of a telemetry partition that get a row of their own per minute of what changed nothing, nearest to"
        " firing first; the others are counted together.",
    )
    retain_event_history_days: int = _setting(
        "RETAIN_EVENT_HISTORY",
        30,
        integer_within(1, 3_650),
        "Days that ClickHouse keeps rows; holds, triggers and the audit have no end.",
    )
    memory_bytes_max: int = _setting(
        "MAX_MEMORY_USAGE",
        536_870_912,
        integer_within(134_217_728, 1 << 44),
        "Resident memory past which a process sheds analytics detail and reports itself, bytes. No hard limit, and what"
        " stops is never shed.",
    )
    cpu_percent_max: int = _setting(
        "MAX_CPU_USAGE",
        80,
        integer_within(1, 100),
        "The same for processor time over ten seconds, percent of all processors that the process may use.",
    )

    usage_report_ms: int = _setting(
        "ESTOP_USAGE_REPORT_MS",
        10_000,
        integer_within(0, 600_000),
        "How often a process past MAX_MEMORY_USAGE or MAX_CPU_USAGE tells telemetry.system what it uses, and for five"
        " minutes afterwards, ms; 0: never.",
    )
    brokers: str = _setting("ESTOP_BROKERS", "127.0.0.1:9092", broker_addresses, "Kafka bootstrap addresses.")
    kafka_security_protocol: str = _setting(
        VARIABLES["protocol"],
        PLAINTEXT,
        choice_of(*PROTOCOLS),
        "How clients reach the brokers: PLAINTEXT, SSL (TLS), SASL_PLAINTEXT (a sign-in), SASL_SSL (both).",
    )
    kafka_ca_file: Path | None = _setting(
        VARIABLES["ca_file"], None, Path, "PEM of the authorities that vouch for brokers; none: those of this machine."
    )
    kafka_cert_file: Path | None = _setting(
        VARIABLES["cert_file"], None, Path, "PEM of the certificate that is shown to brokers; none: none is shown."
    )
    kafka_key_file: Path | None = _setting(
        VARIABLES["key_file"], None, Path, "PEM of that certificate's private key, without a passphrase."
    )
    kafka_sasl_mechanism: str | None = _setting(
        VARIABLES["sasl_mechanism"],
        None,
        choice_of(*MECHANISMS),
        "How the sign-in proves its password: SCRAM-SHA-512, SCRAM-SHA-256, or PLAIN, which sends it.",
    )
    kafka_user: str | None = _setting(VARIABLES["user"], None, str, "Who signs in at the brokers.")
    kafka_password_file: Path | None = _setting(
        VARIABLES["password_file"], None, Path, "File with the password of that user."
    )
    registry_url: str | None = _setting(
        "ESTOP_REGISTRY_URL", None, http_url, "Confluent-compatible schema registry; none: the committed schemas."
    )
    schemas_dir: Path | None = _setting("ESTOP_SCHEMAS", None, Path, "Folder with avro/; none: the installed one.")
    clickhouse_url: str | None = _setting(
        "ESTOP_CLICKHOUSE_URL", None, http_url, "ClickHouse HTTP address; none: chDB in the sink's process."
    )
    clickhouse_cluster: str | None = _setting(
        "ESTOP_CLICKHOUSE_CLUSTER",
        None,
        cluster_name,
        "ClickHouse cluster on which tables are created, replicated; none: one node. To be set before the first start.",
    )
    data_dir: Path = _setting("ESTOP_DATA_DIR", Path(".estop"), Path, "Where local data, keys and chDB live.")
    services: tuple[str, ...] = _setting(
        "ESTOP_SERVICES", DEFAULT_SERVICES, names_among(), "The services that 'all' means."
    )
    dependencies: Dependencies = _setting(
        "ESTOP_DEPENDENCIES",
        (),
        service_dependencies,
        "What services depend on, beside what they announce: a:b,c;b:d. A cascading stop ends dependents first.",
    )
    global_resume_people: int = _setting(
        "ESTOP_GLOBAL_RESUME_PEOPLE",
        2,
        integer_within(1, 5),
        "Different people who must ask before a hold of everything is lifted; 1: anyone alone.",
    )
    approval_expiry_ms: int = _setting(
        "ESTOP_APPROVAL_EXPIRY",
        900_000,
        integer_within(10_000, DAY_MS),
        "How long one person's word for lifting a hold of everything waits for the next one's, ms.",
    )
    instance_id: str = _setting(
        "ESTOP_INSTANCE_ID",
        _instance_id,
        str,
        "Name of this process, the same after a restart: its group waits for it. None: random, and it leaves.",
    )
    metrics_host: str = _setting("ESTOP_METRICS_HOST", "127.0.0.1", str, "Address of /metrics, /livez, /readyz.")
    metrics_port: int = _setting(
        "ESTOP_METRICS_PORT", 0, integer_within(0, PORT_MAX), "Its port; 0: any free one, logged."
    )
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
        integer_within(1, 1_000_000),
        "After how many records of a partition the sink signs the next head of the audit.",
    )
    audit_head_interval_ms: int = _setting(
        "ESTOP_AUDIT_HEAD_INTERVAL_MS",
        60_000,
        integer_within(100, DAY_MS),
        "How long records of the audit wait for a signed head that covers them, ms.",
    )
    verify_keys_file: Path | None = _setting(
        "ESTOP_VERIFY_KEYS_FILE", None, Path, "PEM file of public keys, for services; none: nothing is verified."
    )
    privacy_keys_file: Path | None = _setting(
        "ESTOP_PRIVACY_KEYS",
        None,
        Path,
        "File of the master keys under which producers seal sensitive fields, and estop privacy opens and erases them;"
        " none: they are sent in the clear.",
    )
    checkpoint_interval_ms: int = _setting(
        "ESTOP_CHECKPOINT_INTERVAL_MS",
        5_000,
        integer_within(10, 600_000),
        "How often a worker's state is made durable, ms.",
    )
    session_timeout_ms: int = _setting(
        "ESTOP_SESSION_TIMEOUT_MS", 6_000, integer_within(1_000, 300_000), "Kafka group session timeout, ms."
    )
    detector_lane: str = _setting(
        "ESTOP_DETECTOR_LANE",
        LANES[0],
        choice_of(*LANES),
        "a or b: detectors of both lanes, side by side, do the same work twice, so that losing one delays no hit.",
    )
    standby_replicas: int = _setting(
        "ESTOP_STANDBY_REPLICAS",
        1,
        integer_within(0, 1),
        "1: detectors keep warm copies of the state of partitions that others own, to take them over sooner; 0: none.",
    )
    standby_bytes_max: int = _setting(
        "ESTOP_STANDBY_BYTES_MAX",
        134_217_728,
        integer_within(1_048_576, 1 << 44),
        "Bound of all those copies of a process, bytes; what does not fit is read when it is taken over, and said so.",
    )
    blind_after_ms: int = _setting(
        "ESTOP_BLIND_AFTER_MS",
        30_000,
        integer_within(2_000, 3_600_000),
        "A telemetry partition of which nothing newer than this was evaluated is blind, ms: detectors are not ready,"
        " and triggers with on_blind: hold stop.",
    )
    blast_percent: int = _setting(
        "ESTOP_BLAST_PERCENT",
        30,
        integer_within(0, 100),
        "When triggers stop more than this share of the live accounts within ESTOP_BLAST_WINDOW, everything is held"
        " gracefully and one page goes out, percent; 0: never.",
    )
    blast_window_ms: int = _setting(
        "ESTOP_BLAST_WINDOW", 60_000, integer_within(1_000, 3_600_000), "The window of ESTOP_BLAST_PERCENT, ms."
    )
    blast_accounts_min: int = _setting(
        "ESTOP_BLAST_MIN_ACCOUNTS",
        20,
        integer_within(1, 1_000_000),
        "Fewer stopped accounts than this are no common cause; the only bound while nobody knows how many are live.",
    )
    lease_ms: int = _setting(
        "ESTOP_LEASE",
        30_000,
        integer_within(3_000, 600_000),
        "How long an instance may act after a heartbeat that the coordinator saw, ms; longer than a takeover takes.",
    )
    lease_hold_delay_ms: int = _setting(
        "ESTOP_LEASE_HOLD_DELAY",
        10_000,
        integer_within(0, 600_000),
        "From the end of its lease, ms, until an instance ends what is in flight; new actions are forbidden at once.",
    )
    without_lease: WithoutLease = _setting(
        "ESTOP_WITHOUT_LEASE",
        WithoutLease.STOP,
        lambda text: WithoutLease(choice_of(*(choice.value for choice in WithoutLease))(text)),
        "For a service, without the coordinator's lease: stop (fail-safe), run on and say so (fail-open), or ignore"
        " leases.",
    )
    clear_margin_percent: int = _setting(
        "ESTOP_CLEAR_MARGIN_PERCENT",
        10,
        integer_within(0, 50),
        "How far from its threshold a value must be, percent of it, before a trigger's condition counts as cleared.",
    )
    telemetry_partitions: int = _setting(
        "ESTOP_TELEMETRY_PARTITIONS", 4, integer_within(1, 10_000), "Partitions of every telemetry topic."
    )
    control_partitions: int = _setting(
        "ESTOP_CONTROL_PARTITIONS",
        4,
        integer_within(1, 1_000),
        "Partitions of every control topic that is not broadcast.",
    )
    replication_factor: int = _setting(
        "ESTOP_REPLICATION_FACTOR", 1, integer_within(1, 9), "Replicas of topics that estop creates."
    )
    preventive_stop_level: StopLevel = _setting(
        "ESTOP_PREVENTIVE_STOP_LEVEL",
        StopLevel.GRACEFUL,
        lambda text: StopLevel(choice_of(StopLevel.IMMEDIATE.value, StopLevel.GRACEFUL.value)(text)),
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
        "ESTOP_KERNEL_CACHE",
        None,
        Path,
        "Where compiled kernels are kept; none: where NUMBA_CACHE_DIR says, as in the image, or beside the code.",
    )
    sink_query_port: int = _setting(
        "ESTOP_SINK_QUERY_PORT",
        0,
        integer_within(0, PORT_MAX),
        "Loopback port of the sink's read-only SQL; 0: any free one.",
    )
    log_level: str = _setting("ESTOP_LOG_LEVEL", "info", choice_of(*LOG_LEVELS), "Least severe level that is logged.")
    log_format: str = _setting("ESTOP_LOG_FORMAT", "text", choice_of("text", "json"), "How log lines look.")

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
                problems.append(f"{spec.metadata['variable']}={_shown(spec, text)!r} {error}")
        problems += unknown_variables(environment, tuple(spec.metadata["variable"] for spec in fields(cls)))
        settings = cls(**values) if not problems else None
        if settings is not None:
            problems = contradictions(settings)
        if problems or settings is None:
            raise SettingsError(problems)
        return settings

    @property
    def kafka(self) -> Brokers:
        """Where the brokers are, and how to sign in there: what every client of Kafka is made with."""
        security = KafkaSecurity(
            protocol=self.kafka_security_protocol,
            ca_file=self.kafka_ca_file,
            cert_file=self.kafka_cert_file,
            key_file=self.kafka_key_file,
            sasl_mechanism=self.kafka_sasl_mechanism,
            user=self.kafka_user,
            password_file=self.kafka_password_file,
        )
        return Brokers(self.brokers, security)

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
            spec.metadata["variable"]: as_text(getattr(self, spec.name))
            for spec in fields(self)
            if getattr(self, spec.name) is not None
        }


def describe_settings() -> list[dict[str, str]]:
    """Every setting as ``variable, default, doc``, in order: the source of docs and of ``estop check``."""
    return [
        {"variable": spec.metadata["variable"], "default": _default(spec), "doc": spec.metadata["doc"]}
        for spec in fields(Settings)
    ]


def _shown(spec: Field[Any], text: str) -> str:
    """The value as a problem may tell it: logs are no place for a password."""
    return without_secrets(text) if spec.metadata["parse"] in (http_url, smtp_url) else text


def _default(spec: Field[Any]) -> str:
    return "random" if spec.default is MISSING else "" if spec.default is None else as_text(spec.default)
