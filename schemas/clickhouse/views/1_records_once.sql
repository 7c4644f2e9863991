-- What the other views stand on: each thing once, as it is now.

CREATE OR REPLACE VIEW triggers_now AS
SELECT * FROM triggers ORDER BY version DESC, _timestamp DESC, _offset DESC LIMIT 1 BY trigger_id;

CREATE OR REPLACE VIEW hit_marks AS
SELECT
    subject AS hit_id,
    JSONExtractString(argMax(after, (at, _partition, _offset)), 'mark') AS mark,
    argMax(actor, (at, _partition, _offset)) AS marked_by,
    argMax(reason, (at, _partition, _offset)) AS reason,
    fromUnixTimestamp64Milli(max(audit.at), 'UTC') AS marked_at
FROM audit
WHERE action = 'hit_marked'
GROUP BY subject;

-- The stop of an emergency, not what a recovery that rolled back stopped again: that is timed from the rollback.
CREATE OR REPLACE VIEW stops_judged AS
WITH recovered AS (
    SELECT emergency_id, min((_timestamp, _offset)) AS began
    FROM emergencies
    WHERE state = 'recovering'
    GROUP BY emergency_id
)
SELECT
    emergency_id,
    occurred_at,
    scope,
    ifNull(asked_level, level) AS level,
    trigger_id,
    trigger_type,
    state,
    time_to_stop_ms,
    deadline_at,
    instances.service AS services,
    instances.state AS states,
    instances.at AS states_since
FROM emergencies
LEFT JOIN recovered USING (emergency_id)
WHERE state IN ('stopped', 'partial') AND NOT drill AND (toUnixTimestamp(began.1) = 0 OR (_timestamp, _offset) < began)
ORDER BY _timestamp DESC, _offset DESC
LIMIT 1 BY emergency_id;
