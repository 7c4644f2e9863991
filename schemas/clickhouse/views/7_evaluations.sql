-- What was evaluated: what changed, how near the others came, and how many there were.

-- Each once, hits among them. A detector repeats records after a crash, and two lanes write each twice, always under one
-- id; of a minute that was counted in parts the fullest record stands.
CREATE OR REPLACE VIEW evaluations_once AS
SELECT
    evaluation_id, trigger_id, trigger_version, mode, scope, account_id, outcome, late, observed, threshold, margin,
    approach_percent, window_ms, window_samples, evaluations, period_ms, evaluated_at, detected_at, source_topic,
    source_partition, source_offset
FROM evaluations
WHERE evaluated_at >= now() - INTERVAL {days:UInt32} DAY
ORDER BY evaluation_id, evaluations DESC, _timestamp, _partition, _offset
LIMIT 1 BY evaluation_id
UNION ALL
SELECT
    hit_id, trigger_id, trigger_version, mode, scope, account_id, 'hit', late, observed, threshold, margin,
    NULL, window_ms, window_samples, 1, 0, occurred_at, detected_at, source_topic, source_partition, source_offset
FROM hits
WHERE occurred_at >= now() - INTERVAL {days:UInt32} DAY
ORDER BY hit_id, _timestamp, _partition, _offset
LIMIT 1 BY hit_id;

CREATE OR REPLACE VIEW trigger_evaluations AS
SELECT
    trigger_id,
    sumIf(counted, outcome IN ('unchanged', 'others')) AS evaluations,
    countIf(outcome = 'hit') AS hits,
    countIf(outcome = 'suppressed') AS suppressed,
    countIf(outcome = 'became_true') AS became_true,
    countIf(outcome = 'cleared') AS cleared,
    max(way) AS nearest_percent
FROM
(
    SELECT trigger_id, outcome, evaluations AS counted, approach_percent AS way
    FROM evaluations_once(days = {days:UInt32})
)
GROUP BY trigger_id
ORDER BY trigger_id;

-- Hours in which the trigger hit the scope are left out.
CREATE OR REPLACE VIEW approaches AS
SELECT
    trigger_id,
    scope,
    toStartOfHour(at) AS hour,
    argMax(limit, (way, -toUnixTimestamp64Milli(at))) AS threshold,
    argMax(value, (way, -toUnixTimestamp64Milli(at))) AS nearest,
    max(way) AS approach_percent,
    sum(counted) AS evaluations
FROM
(
    SELECT trigger_id, scope, evaluated_at AS at, observed AS value, threshold AS limit, approach_percent AS way,
        evaluations AS counted
    FROM evaluations_once(days = {days:UInt32})
    WHERE outcome = 'unchanged'
)
WHERE (trigger_id, scope, toStartOfHour(at)) NOT IN
(
    SELECT trigger_id, scope, toStartOfHour(occurred_at)
    FROM hits
    WHERE occurred_at >= now() - INTERVAL ({days:UInt32} + 1) DAY
)
GROUP BY trigger_id, scope, hour
ORDER BY approach_percent DESC, hour DESC, scope, trigger_id;
