-- How recoveries ended.

CREATE OR REPLACE VIEW recovery_success AS
SELECT
    procedure,
    count() AS recoveries,
    countIf(outcome = 'completed') AS completed,
    countIf(outcome = 'rolled_back') AS rolled_back,
    countIf(outcome = 'abandoned') AS abandoned,
    countIf(outcome = 'under_way') AS under_way,
    if(completed + rolled_back = 0, NULL, 100 * completed / (completed + rolled_back)) AS success_percent,
    quantileExactIfOrNull(0.5)(dateDiff('millisecond', started_at, ended_at), outcome = 'completed') AS p50_ms
FROM
(
    SELECT procedure, outcome, started_at, ended_at
    FROM recoveries
    WHERE started_at >= now() - INTERVAL {days:UInt32} DAY
    ORDER BY _timestamp DESC, _offset DESC
    LIMIT 1 BY recovery_id
)
GROUP BY procedure
ORDER BY procedure;
