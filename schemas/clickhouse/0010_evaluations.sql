-- What detectors evaluated: each evaluation that changed something, and per minute what the others came nearest to.

CREATE TABLE IF NOT EXISTS evaluations
(
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset Int64 CODEC(Delta, LZ4),
    _timestamp DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    evaluation_id String CODEC(ZSTD(1)),
    trigger_id LowCardinality(String),
    trigger_version Int32,
    mode LowCardinality(String),
    scope String CODEC(ZSTD(1)),
    account_id Nullable(String) CODEC(ZSTD(1)),
    outcome LowCardinality(String),
    late Bool,
    observed Nullable(Float64),
    threshold Nullable(Float64),
    margin Nullable(Float64),
    approach_percent Nullable(Float64),
    window_ms Int64,
    window_samples Int32 CODEC(T64, LZ4),
    evaluations Int64 CODEC(T64, LZ4),
    period_ms Int64,
    evaluated_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    detected_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    source_topic LowCardinality(String),
    source_partition Int32 CODEC(T64, LZ4),
    source_offset Int64 CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (trigger_id, _topic, _partition, _offset)
TTL toDateTime(_timestamp) + INTERVAL {ttl_days} DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;
