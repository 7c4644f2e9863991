-- What detectors write for themselves to read: without it, no replay can say when schedules and silence fired, nor what a
-- value over all accounts was put together from.

CREATE TABLE IF NOT EXISTS ticks
(
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset Int64 CODEC(Delta, LZ4),
    _timestamp DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    partition Int32,
    at Int64 CODEC(Delta, LZ4)
)
ENGINE = ReplacingMergeTree
ORDER BY (_topic, _partition, _offset)
TTL toDateTime(_timestamp) + INTERVAL {ttl_days} DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS partials
(
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset Int64 CODEC(Delta, LZ4),
    _timestamp DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    source_topic LowCardinality(String),
    series LowCardinality(String),
    source_partition Int32,
    next_offset Int64 CODEC(Delta, LZ4),
    row String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (_topic, _partition, _offset)
TTL toDateTime(_timestamp) + INTERVAL {ttl_days} DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

-- What a writer leaves out counts as the record's default for detectors; so it is kept as that.

ALTER TABLE detection_events MODIFY COLUMN confidence Float64 DEFAULT 1.0;
