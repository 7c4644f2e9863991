-- Inputs that were not accepted, as received, and how far each partition is stored.

CREATE TABLE IF NOT EXISTS dead_letters
(
    _topic LowCardinality(String),
    _partition UInt32,
    _offset Int64,
    _timestamp DateTime64(3, 'UTC'),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3),
    source_topic LowCardinality(String),
    source_partition Int32,
    source_offset Int64,
    reason LowCardinality(String),
    message String,
    key Nullable(String),
    value Nullable(String) CODEC(ZSTD(3))
)
ENGINE = ReplacingMergeTree
ORDER BY (source_topic, source_partition, source_offset, _topic, _partition, _offset)
TTL toDateTime(_timestamp) + INTERVAL {ttl_days} DAY
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS sink_positions
(
    topic LowCardinality(String),
    partition UInt32,
    next_offset Int64,
    rows UInt64,
    dead_lettered UInt64,
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(next_offset)
ORDER BY (topic, partition)
SETTINGS non_replicated_deduplication_window = 10000;
