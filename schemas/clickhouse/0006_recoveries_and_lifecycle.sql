-- Recoveries, conditions, lifecycle, notices and silences; and what the records of a stop say since they exist.

CREATE TABLE IF NOT EXISTS recoveries
(
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset Int64 CODEC(Delta, LZ4),
    _timestamp DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    recovery_id String,
    emergency_id String,
    scope String,
    correlation_id String,
    attempt Int32,
    procedure LowCardinality(String),
    reasons Array(String),
    phase LowCardinality(String),
    outcome LowCardinality(String),
    started_by String,
    started_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    deadline_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    checks_passed Int32,
    shares Array(Tuple(service String, percent Int32)),
    detail String,
    ended_at Nullable(DateTime64(3, 'UTC'))
)
ENGINE = ReplacingMergeTree
ORDER BY (scope, _topic, _partition, _offset)
TTL toDateTime(_timestamp) + INTERVAL {ttl_days} DAY
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS condition_questions
(
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset Int64 CODEC(Delta, LZ4),
    _timestamp DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    question_id String,
    trigger_id LowCardinality(String),
    scope String,
    emergency_id String,
    asked_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (scope, _topic, _partition, _offset)
TTL toDateTime(_timestamp) + INTERVAL {ttl_days} DAY
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS condition_answers
(
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset Int64 CODEC(Delta, LZ4),
    _timestamp DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    question_id String,
    trigger_id LowCardinality(String),
    scope String,
    emergency_id String,
    state LowCardinality(String),
    detail String,
    answered_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    correlation_id String
)
ENGINE = ReplacingMergeTree
ORDER BY (scope, _topic, _partition, _offset)
TTL toDateTime(_timestamp) + INTERVAL {ttl_days} DAY
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS lifecycle
(
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset Int64 CODEC(Delta, LZ4),
    _timestamp DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    event_id String,
    event LowCardinality(String),
    at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    scope String,
    account_id Nullable(String),
    correlation_id String,
    reason String,
    emergency_id Nullable(String),
    trigger_id Nullable(String),
    trigger_type Nullable(String),
    level Nullable(String),
    service Nullable(String),
    success Nullable(Bool),
    duration_ms Nullable(Int64)
)
ENGINE = ReplacingMergeTree
ORDER BY (scope, _topic, _partition, _offset)
TTL toDateTime(_timestamp) + INTERVAL {ttl_days} DAY
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS notices
(
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset Int64 CODEC(Delta, LZ4),
    _timestamp DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    notice_id String,
    kind LowCardinality(String),
    at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    subject String,
    text String,
    scope String,
    correlation_id String,
    emergency_id Nullable(String),
    trigger_id Nullable(String),
    service Nullable(String),
    channels Array(String)
)
ENGINE = ReplacingMergeTree
ORDER BY (_topic, _partition, _offset)
TTL toDateTime(_timestamp) + INTERVAL {ttl_days} DAY
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS silences
(
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset Int64 CODEC(Delta, LZ4),
    _timestamp DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    silence_id String,
    author String,
    reason String,
    starts_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    expires_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    scope String,
    trigger_id String,
    service String
)
ENGINE = ReplacingMergeTree
ORDER BY (_topic, _partition, _offset)
TTL toDateTime(_timestamp) + INTERVAL {ttl_days} DAY
SETTINGS non_replicated_deduplication_window = 10000;

ALTER TABLE hits ADD COLUMN IF NOT EXISTS clear_rule LowCardinality(String) DEFAULT 'never_automatically';
ALTER TABLE requests ADD COLUMN IF NOT EXISTS procedure Nullable(String);
ALTER TABLE requests ADD COLUMN IF NOT EXISTS starts_at Nullable(DateTime64(3, 'UTC'));
ALTER TABLE requests ADD COLUMN IF NOT EXISTS carries Nullable(String);
ALTER TABLE commands ADD COLUMN IF NOT EXISTS share_percent Int32;
ALTER TABLE emergencies ADD COLUMN IF NOT EXISTS drill Bool;
ALTER TABLE emergencies ADD COLUMN IF NOT EXISTS starts_at Nullable(DateTime64(3, 'UTC'));
ALTER TABLE emergencies ADD COLUMN IF NOT EXISTS clear_rule LowCardinality(String) DEFAULT 'never_automatically';
ALTER TABLE emergencies ADD COLUMN IF NOT EXISTS latched Bool;
ALTER TABLE emergencies ADD COLUMN IF NOT EXISTS failed_recoveries Int32;
ALTER TABLE emergencies ADD COLUMN IF NOT EXISTS asked_level Nullable(String);
ALTER TABLE service_instances ADD COLUMN IF NOT EXISTS healthy Bool DEFAULT true;
ALTER TABLE service_instances ADD COLUMN IF NOT EXISTS problem String;
ALTER TABLE service_instances ADD COLUMN IF NOT EXISTS actions Int64;
ALTER TABLE service_instances ADD COLUMN IF NOT EXISTS failed_actions Int64;
ALTER TABLE service_instances ADD COLUMN IF NOT EXISTS lease_lost_at Nullable(DateTime64(3, 'UTC'));
ALTER TABLE freshness ADD COLUMN IF NOT EXISTS live_accounts Int32;
ALTER TABLE holds MODIFY COLUMN causes Array(Tuple(emergency_id String, level String, services Array(String), reason String,
    epoch Int64, trigger_id Nullable(String), shares Array(Tuple(service String, percent Int32))));
