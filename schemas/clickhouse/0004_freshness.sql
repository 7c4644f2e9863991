-- How far detectors were, over time: when was which partition blind?

CREATE TABLE IF NOT EXISTS freshness
(
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset Int64 CODEC(Delta, LZ4),
    _timestamp DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    _ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    lane LowCardinality(String),
    partition Int32,
    instance_id LowCardinality(String),
    topics Array(Tuple(topic String, position Int64, end Int64, fresh_at DateTime64(3, 'UTC'))),
    fresh_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    written_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (partition, lane, _topic, _partition, _offset)
TTL toDateTime(_timestamp) + INTERVAL {ttl_days} DAY
SETTINGS non_replicated_deduplication_window = 10000;
