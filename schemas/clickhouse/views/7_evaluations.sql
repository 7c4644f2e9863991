-- What was evaluated: what changed, how near the others came, and how many there were.

-- Each once, hits among them. A detector repeats records after a crash, and two lanes write each twice, always under
-- one id; of a minute that was counted in parts the fullest record stands, and of equally full ones the first.
-- Beside the ids stand columns that follow from them: what is asked of these is filtered before anything is sorted.
CREATE OR REPLACE VIEW evaluations_once AS
SELECT
    evaluation_id, trigger_id, trigger_version, mode, scope, account_id, outcome, late, observed, threshold, margin,
    approach_percent, window_ms, window_samples, evaluations, period_ms, evaluated_at, detected_at, source_topic,
    source_partition, source_offset
FROM evaluations
WHERE evaluated_at >= now() - INTERVAL {days:UInt32} DAY
ORDER BY evaluations DESC, detected_at
LIMIT 1 BY evaluation_id, trigger_id, scope, account_id, outcome
UNION ALL
SELECT
    hit_id, trigger_id, trigger_version, mode, scope, account_id, toLowCardinality('hit'), late, observed, threshold,
    margin, NULL, window_ms, window_samples, 1, 0, occurred_at, detected_at, source_topic, source_partition,
    source_offset
FROM hits
WHERE occurred_at >= now() - INTERVAL {days:UInt32} DAY
ORDER BY _timestamp, _partition, _offset
LIMIT 1 BY hit_id, trigger_id, scope, account_id;

-- The views below tell evaluations apart by their keys, and read and sort no more than they count: so a month takes a
-- third of a second.
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
    FROM evaluations
    WHERE evaluated_at >= now() - INTERVAL {days:UInt32} DAY
    ORDER BY evaluations DESC
    LIMIT 1 BY evaluation_key
    UNION ALL
    SELECT trigger_id, toLowCardinality('hit'), 1, NULL
    FROM hits
    WHERE occurred_at >= now() - INTERVAL {days:UInt32} DAY
    LIMIT 1 BY hit_id
)
GROUP BY trigger_id
ORDER BY trigger_id;

-- Hours in which the trigger hit the scope are left out, here and below. Each scope is in the row of its nearest
-- evaluation. It is told apart by 64 bits, which among a million take two for one once in 37 million times.
CREATE OR REPLACE VIEW approaches_by_trigger AS
SELECT trigger_id, intDiv(toUInt32(nearest), 5) * 5 AS from_percent, count() AS scopes, sum(counted) AS evaluations
FROM
(
    SELECT trigger_id, max(way) AS nearest, sum(counted) AS counted
    FROM
    (
        SELECT trigger_id, cityHash64(trigger_id, scope) AS whose, toStartOfHour(evaluated_at) AS hour,
            approach_percent AS way, evaluations AS counted
        FROM evaluations
        WHERE outcome = 'unchanged' AND evaluated_at >= now() - INTERVAL {days:UInt32} DAY
        ORDER BY evaluations DESC
        LIMIT 1 BY evaluation_key
    )
    WHERE (whose, hour) NOT IN
    (
        SELECT cityHash64(trigger_id, scope), toStartOfHour(occurred_at)
        FROM hits
        WHERE occurred_at >= now() - INTERVAL ({days:UInt32} + 1) DAY
    )
    GROUP BY trigger_id, whose
)
GROUP BY trigger_id, from_percent
ORDER BY trigger_id, from_percent DESC;

CREATE OR REPLACE VIEW approaches AS
SELECT
    scope,
    nearest_one.1 AS threshold,
    nearest_one.2 AS nearest,
    approach_percent,
    nearest_one.3 AS nearest_at,
    hours,
    evaluations,
    last_at
FROM
(
    SELECT
        scope,
        argMax((limit, value, at), (way, -toUnixTimestamp64Milli(at))) AS nearest_one,
        max(way) AS approach_percent,
        uniqExact(toStartOfHour(at)) AS hours,
        sum(counted) AS evaluations,
        max(at) AS last_at
    FROM
    (
        SELECT scope, evaluated_at AS at, observed AS value, threshold AS limit, approach_percent AS way,
            evaluations AS counted
        FROM evaluations
        WHERE trigger_id = {trigger:String} AND outcome = 'unchanged'
            AND evaluated_at >= now() - INTERVAL {days:UInt32} DAY
        ORDER BY evaluations DESC
        LIMIT 1 BY evaluation_key
    )
    WHERE (scope, toStartOfHour(at)) NOT IN
    (
        SELECT scope, toStartOfHour(occurred_at)
        FROM hits
        WHERE trigger_id = {trigger:String} AND occurred_at >= now() - INTERVAL ({days:UInt32} + 1) DAY
    )
    GROUP BY scope
)
ORDER BY approach_percent DESC, last_at DESC, scope;
