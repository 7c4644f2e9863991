-- One table per Avro record. Rows are identified by (_topic, _partition, _offset); ReplacingMergeTree is the
-- net below the sink's own exactly-once bookkeeping. {ttl_days} comes from RETAIN_EVENT_HISTORY.

CREATE TABLE IF NOT EXISTS health_events
(
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset Int64 CODEC(Delta, LZ4),
    _timestamp DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    event_id String,
    account_id String,
    occurred_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    health_score Float64 CODEC(Gorilla, ZSTD(1)),
    risk_score Float64 CODEC(Gorilla, ZSTD(1)),
    source LowCardinality(String),
    correlation_id Nullable(String)
)
ENGINE = ReplacingMergeTree
ORDER BY (account_id, _topic, _partition, _offset)
TTL toDateTime(_timestamp) + INTERVAL {ttl_days} DAY
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS detection_events
(
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset Int64 CODEC(Delta, LZ4),
    _timestamp DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    event_id String,
    account_id String,
    occurred_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    severity LowCardinality(String),
    detection_type LowCardinality(String),
    confidence Float64 CODEC(Gorilla, ZSTD(1)),
    source LowCardinality(String),
    correlation_id Nullable(String)
)
ENGINE = ReplacingMergeTree
ORDER BY (account_id, _topic, _partition, _offset)
TTL toDateTime(_timestamp) + INTERVAL {ttl_days} DAY
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS behavioral_events
(
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset Int64 CODEC(Delta, LZ4),
    _timestamp DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    event_id String,
    account_id String,
    occurred_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    anomaly_score Float64 CODEC(Gorilla, ZSTD(1)),
    pattern LowCardinality(String),
    source LowCardinality(String),
    correlation_id Nullable(String)
)
ENGINE = ReplacingMergeTree
ORDER BY (account_id, _topic, _partition, _offset)
TTL toDateTime(_timestamp) + INTERVAL {ttl_days} DAY
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS proxy_events
(
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset Int64 CODEC(Delta, LZ4),
    _timestamp DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    event_id String,
    account_id String,
    occurred_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    proxy_id String,
    outcome LowCardinality(String),
    latency_ms Float64 CODEC(Gorilla, ZSTD(1)),
    error String,
    source LowCardinality(String),
    correlation_id Nullable(String)
)
ENGINE = ReplacingMergeTree
ORDER BY (account_id, _topic, _partition, _offset)
TTL toDateTime(_timestamp) + INTERVAL {ttl_days} DAY
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS platform_events
(
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset Int64 CODEC(Delta, LZ4),
    _timestamp DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    event_id String,
    account_id String,
    occurred_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    kind LowCardinality(String),
    outcome LowCardinality(String),
    status_code Int32,
    endpoint String,
    detail String,
    source LowCardinality(String),
    correlation_id Nullable(String)
)
ENGINE = ReplacingMergeTree
ORDER BY (account_id, _topic, _partition, _offset)
TTL toDateTime(_timestamp) + INTERVAL {ttl_days} DAY
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS system_events
(
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset Int64 CODEC(Delta, LZ4),
    _timestamp DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    event_id String,
    account_id String,
    occurred_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    service LowCardinality(String),
    host LowCardinality(String),
    cpu_percent Float64 CODEC(Gorilla, ZSTD(1)),
    memory_bytes Float64 CODEC(Gorilla, ZSTD(1)),
    open_connections Int32,
    source LowCardinality(String),
    correlation_id Nullable(String)
)
ENGINE = ReplacingMergeTree
ORDER BY (account_id, _topic, _partition, _offset)
TTL toDateTime(_timestamp) + INTERVAL {ttl_days} DAY
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS hits
(
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset Int64 CODEC(Delta, LZ4),
    _timestamp DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    hit_id String,
    trigger_id LowCardinality(String),
    trigger_version Int32,
    trigger_type LowCardinality(String),
    trigger_name String,
    mode LowCardinality(String),
    scope String,
    account_id Nullable(String),
    level LowCardinality(String),
    target_services Array(String),
    priority Int32,
    reason String,
    occurred_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    detected_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    source_topic String,
    source_partition Int32,
    source_offset Int64,
    observed Float64 CODEC(Gorilla, ZSTD(1)),
    threshold Float64 CODEC(Gorilla, ZSTD(1)),
    margin Float64 CODEC(Gorilla, ZSTD(1)),
    window_ms Int64,
    window_samples Int32,
    window_contents String,
    late Bool,
    suppressed_before Int32,
    correlation_id String
)
ENGINE = ReplacingMergeTree
ORDER BY (scope, _topic, _partition, _offset)
TTL toDateTime(_timestamp) + INTERVAL {ttl_days} DAY
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS requests
(
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset Int64 CODEC(Delta, LZ4),
    _timestamp DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    request_id String,
    action LowCardinality(String),
    scope String,
    level LowCardinality(String),
    services Array(String),
    reason String,
    requested_by String,
    requested_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    correlation_id String,
    epoch Nullable(Int64),
    emergency_id Nullable(String)
)
ENGINE = ReplacingMergeTree
ORDER BY (scope, _topic, _partition, _offset)
TTL toDateTime(_timestamp) + INTERVAL {ttl_days} DAY
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS commands
(
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset Int64 CODEC(Delta, LZ4),
    _timestamp DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    command_id String,
    emergency_id String,
    correlation_id String,
    service LowCardinality(String),
    scope String,
    epoch Int64,
    action LowCardinality(String),
    level LowCardinality(String),
    reason String,
    issued_by String,
    issued_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    deadline_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    attempt Int32,
    key_id String,
    signature String
)
ENGINE = ReplacingMergeTree
ORDER BY (scope, _topic, _partition, _offset)
TTL toDateTime(_timestamp) + INTERVAL {ttl_days} DAY
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS acks
(
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset Int64 CODEC(Delta, LZ4),
    _timestamp DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    ack_id String,
    command_id String,
    emergency_id String,
    correlation_id String,
    scope String,
    epoch Int64,
    service LowCardinality(String),
    instance_id LowCardinality(String),
    state LowCardinality(String),
    reason String,
    in_flight Int32,
    last_side_effect_at Nullable(DateTime64(3, 'UTC')),
    saved_state Nullable(String),
    acked_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (scope, _topic, _partition, _offset)
TTL toDateTime(_timestamp) + INTERVAL {ttl_days} DAY
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS holds
(
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset Int64 CODEC(Delta, LZ4),
    _timestamp DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    scope String,
    epoch Int64,
    state LowCardinality(String),
    level Nullable(String),
    causes Array(Tuple(emergency_id String, level String, services Array(String), reason String, epoch Int64)),
    reason String,
    updated_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    key_id String,
    signature String
)
ENGINE = ReplacingMergeTree
ORDER BY (scope, _topic, _partition, _offset)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS emergencies
(
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset Int64 CODEC(Delta, LZ4),
    _timestamp DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    emergency_id String,
    state LowCardinality(String),
    scope String,
    account_id Nullable(String),
    level LowCardinality(String),
    epoch Int64,
    priority Int32,
    reason String,
    cause String,
    trigger_id Nullable(String),
    trigger_type LowCardinality(String),
    target_services Array(String),
    instances Array(Tuple(service String, instance_id String, state String, reason String, in_flight Int32, at Int64)),
    correlation_id String,
    occurred_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    started_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    deadline_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    completed_at Nullable(DateTime64(3, 'UTC')),
    time_to_stop_ms Nullable(Int64),
    success Nullable(Bool)
)
ENGINE = ReplacingMergeTree
ORDER BY (_topic, _partition, _offset)
TTL toDateTime(_timestamp) + INTERVAL {ttl_days} DAY
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS service_instances
(
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset Int64 CODEC(Delta, LZ4),
    _timestamp DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    service LowCardinality(String),
    instance_id LowCardinality(String),
    state LowCardinality(String),
    started_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    heartbeat_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    in_flight Int32,
    held_scopes Int32,
    depends_on Array(String),
    version String
)
ENGINE = ReplacingMergeTree
ORDER BY (_topic, _partition, _offset)
TTL toDateTime(_timestamp) + INTERVAL {ttl_days} DAY
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS audit
(
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset Int64 CODEC(Delta, LZ4),
    _timestamp DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    audit_id String,
    at Int64,
    actor String,
    action String,
    subject String,
    reason String,
    correlation_id String,
    before String,
    after String
)
ENGINE = ReplacingMergeTree
ORDER BY (_topic, _partition, _offset)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS triggers
(
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset Int64 CODEC(Delta, LZ4),
    _timestamp DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    trigger_id LowCardinality(String),
    version Int32,
    trigger_type LowCardinality(String),
    account_id Nullable(String),
    name String,
    description String,
    is_active Bool,
    removed Bool,
    mode LowCardinality(String),
    thresholds Map(String, Float64),
    options Map(String, String),
    min_samples Int32,
    for_ms Int64,
    time_window Int64,
    cooldown_period Int64,
    stop_level LowCardinality(String),
    target_services Array(String),
    notification_channels Array(String),
    priority Int32,
    clear_rule LowCardinality(String),
    updated_by String,
    updated_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (_topic, _partition, _offset)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS activity
(
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset Int64 CODEC(Delta, LZ4),
    _timestamp DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    service LowCardinality(String),
    instance_id LowCardinality(String),
    account_id String,
    operation String,
    performed_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    sequence Int64
)
ENGINE = ReplacingMergeTree
ORDER BY (account_id, _topic, _partition, _offset)
TTL toDateTime(_timestamp) + INTERVAL {ttl_days} DAY
SETTINGS non_replicated_deduplication_window = 10000;
