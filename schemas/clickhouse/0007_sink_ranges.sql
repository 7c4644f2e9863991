-- Which ranges of offsets were frozen before their rows were inserted, and by whom: a range that was interrupted is
-- inserted again with the same bounds and the same token. See apps/sink/ranges.py for how they are read.
-- A sink that was away for a month has nothing on its way into a table.

CREATE TABLE IF NOT EXISTS sink_claims
(
    topic LowCardinality(String),
    partition UInt32,
    claim UInt64,
    owner String,
    claimed_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(claim)
ORDER BY (topic, partition)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS sink_ranges
(
    topic LowCardinality(String),
    partition UInt32 CODEC(T64, LZ4),
    first_offset Int64 CODEC(Delta, ZSTD(1)),
    next_offset Int64 CODEC(Delta, ZSTD(1)),
    claim UInt64,
    frozen_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (topic, partition, first_offset, claim)
TTL toDateTime(frozen_at) + INTERVAL 30 DAY
SETTINGS non_replicated_deduplication_window = 10000;

-- What was acknowledged is on the disk, not only in the page cache: a power cut must not take rows whose position stays.

ALTER TABLE health_events MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
ALTER TABLE detection_events MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
ALTER TABLE behavioral_events MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
ALTER TABLE proxy_events MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
ALTER TABLE platform_events MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
ALTER TABLE system_events MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
ALTER TABLE hits MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
ALTER TABLE requests MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
ALTER TABLE commands MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
ALTER TABLE acks MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
ALTER TABLE holds MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
ALTER TABLE emergencies MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
ALTER TABLE service_instances MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
ALTER TABLE audit MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
ALTER TABLE triggers MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
ALTER TABLE activity MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
ALTER TABLE dead_letters MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
ALTER TABLE sink_positions MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
ALTER TABLE freshness MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
ALTER TABLE recoveries MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
ALTER TABLE condition_questions MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
ALTER TABLE condition_answers MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
ALTER TABLE lifecycle MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
ALTER TABLE notices MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
ALTER TABLE silences MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
ALTER TABLE sink_claims MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
ALTER TABLE sink_ranges MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
