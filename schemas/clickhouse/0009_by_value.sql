-- Telemetry in the order of its scores, so that what came near a threshold is found without reading the rest. A
-- projection and no materialized view: it is in the same part as its rows, so no crash can leave one without the other.

ALTER TABLE health_events MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild';
ALTER TABLE health_events ADD PROJECTION IF NOT EXISTS by_risk_score
    (SELECT account_id, occurred_at, risk_score ORDER BY risk_score);
ALTER TABLE health_events ADD PROJECTION IF NOT EXISTS by_health_score
    (SELECT account_id, occurred_at, health_score ORDER BY health_score);
ALTER TABLE behavioral_events MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild';
ALTER TABLE behavioral_events ADD PROJECTION IF NOT EXISTS by_anomaly_score
    (SELECT account_id, occurred_at, anomaly_score ORDER BY anomaly_score);
ALTER TABLE health_events MATERIALIZE PROJECTION by_risk_score;
ALTER TABLE health_events MATERIALIZE PROJECTION by_health_score;
ALTER TABLE behavioral_events MATERIALIZE PROJECTION by_anomaly_score;
