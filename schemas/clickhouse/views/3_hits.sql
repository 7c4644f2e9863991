-- Whether triggers were right, by the marks that people gave (estop hits mark), and what nearly fired.

CREATE OR REPLACE VIEW hit_outcomes AS
SELECT
    trigger_id,
    count() AS hits,
    sum(suppressed_before) AS suppressed,
    countIf(mark = 'true_positive') AS true_positives,
    countIf(mark = 'false_positive') AS false_positives,
    hits - true_positives - false_positives AS unmarked,
    if(true_positives + false_positives = 0, NULL, 100 * true_positives / (true_positives + false_positives))
        AS precision_percent
FROM
(
    SELECT trigger_id, hit_id, suppressed_before
    FROM hits
    WHERE occurred_at >= now() - INTERVAL {days:UInt32} DAY
    ORDER BY _timestamp, _partition, _offset
    LIMIT 1 BY hit_id
) AS hit
LEFT JOIN hit_marks ON hit_marks.hit_id = hit.hit_id
GROUP BY trigger_id
ORDER BY hits DESC, trigger_id;

-- Only triggers of one account or of each account on its own, at the thresholds of today. Hours that a hit of the same
-- trigger or its cooldown touches are no misses.
CREATE OR REPLACE VIEW near_misses AS
WITH
    watched AS
    (
        SELECT trigger_id, trigger_type, account_id AS only_account, time_window + cooldown_period AS quiet_ms,
            thresholds[multiIf(trigger_type = 'health_score_critical', 'healthScore',
                trigger_type = 'account_suspension_risk', 'riskScore', 'anomalyScore')] AS threshold
        FROM
        (
            SELECT trigger_id, trigger_type, account_id, time_window, cooldown_period, thresholds, is_active, removed, across
            FROM triggers
            ORDER BY version DESC, _timestamp DESC, _offset DESC
            LIMIT 1 BY trigger_id
        )
        WHERE is_active AND NOT removed AND across IS NULL AND threshold > 0
            AND trigger_type IN ('health_score_critical', 'account_suspension_risk', 'behavioral_anomaly_severe')
    ),
    -- Of each kind the bound of its most lenient trigger; none where no trigger is of the kind.
    (
        SELECT tuple(
            0.9 * minOrNullIf(threshold, trigger_type = 'account_suspension_risk'),
            maxOrNullIf(threshold, trigger_type = 'health_score_critical') / 0.9,
            0.9 * minOrNullIf(threshold, trigger_type = 'behavioral_anomaly_severe'))
        FROM watched
    ) AS bounds,
    near AS
    (
        SELECT 'account_suspension_risk' AS kind, account_id, occurred_at, risk_score AS value
        FROM health_events
        WHERE risk_score >= bounds.1 AND occurred_at >= now() - INTERVAL {days:UInt32} DAY
        UNION ALL
        SELECT 'health_score_critical', account_id, occurred_at, health_score
        FROM health_events
        WHERE health_score <= bounds.2 AND occurred_at >= now() - INTERVAL {days:UInt32} DAY
        UNION ALL
        SELECT 'behavioral_anomaly_severe', account_id, occurred_at, anomaly_score
        FROM behavioral_events
        WHERE anomaly_score >= bounds.3 AND occurred_at >= now() - INTERVAL {days:UInt32} DAY
    ),
    -- Hits of up to nine days before count: a window of a day and a cooldown of a week reach eight, and hours are whole.
    fired AS
    (
        SELECT DISTINCT trigger_id, ifNull(account_id, '') AS account_id,
            arrayJoin(arrayMap(number -> toStartOfHour(occurred_at) + number * 3600,
                range(toUInt32(dateDiff('hour', toStartOfHour(occurred_at),
                    toStartOfHour(occurred_at + toIntervalMillisecond(quiet_ms))) + 1)))) AS hour
        FROM hits
        INNER JOIN watched USING (trigger_id)
        WHERE hits.occurred_at >= now() - INTERVAL ({days:UInt32} + 9) DAY
    ),
    approached AS
    (
        SELECT trigger_id, near.account_id AS account_id, toStartOfHour(occurred_at) AS hour, any(limit) AS threshold,
            count() AS samples,
            if(any(kind) = 'health_score_critical', min(value), max(value)) AS nearest,
            if(any(kind) = 'health_score_critical', 100 * threshold / greatest(nearest, 0.001), 100 * nearest / threshold)
                AS approach_percent
        FROM near
        INNER JOIN (SELECT trigger_id, trigger_type, only_account, threshold AS limit FROM watched) AS watching
            ON watching.trigger_type = near.kind
        WHERE (only_account IS NULL OR only_account = near.account_id)
            AND if(kind = 'health_score_critical', value <= limit / 0.9, value >= 0.9 * limit)
        GROUP BY trigger_id, near.account_id, hour
    )
SELECT trigger_id, account_id, hour, threshold, nearest, approach_percent, samples
FROM approached
WHERE (trigger_id, account_id, hour) NOT IN (SELECT trigger_id, account_id, hour FROM fired)
ORDER BY approach_percent DESC, hour DESC, account_id, trigger_id;
