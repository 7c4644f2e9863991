-- What proves the audit: each record as it lay on the topic, chained, and the signed heads of the chains. Kept for ever,
-- as the audit itself is. See wire/audit_chain.py for what the hashes are over.

CREATE TABLE IF NOT EXISTS audit_chain
(
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset Int64 CODEC(Delta, LZ4),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    timestamp_ms Int64 CODEC(Delta, LZ4),
    key Nullable(String),
    value Nullable(String) CODEC(ZSTD(3)),
    records UInt64 CODEC(Delta, LZ4),
    chain String,
    INDEX offset_range _offset TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
ORDER BY (_topic, _partition, _offset)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS audit_heads
(
    topic LowCardinality(String),
    partition UInt32,
    number UInt64,
    next_offset Int64,
    records UInt64,
    chain String,
    previous String,
    signed_at Int64,
    key_id String,
    signature String COMMENT 'Hexadecimal digits.'
)
ENGINE = ReplacingMergeTree
ORDER BY (topic, partition, number)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;
