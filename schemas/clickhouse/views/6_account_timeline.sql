-- All that is known of one account, the newest last. Telemetry repeats rows only where the sink was interrupted.

CREATE OR REPLACE VIEW account_timeline AS
SELECT at, what, detail, reference
FROM
(
    SELECT occurred_at AS at, 'health' AS what, format('health {} risk {}', toString(health_score), toString(risk_score))
        AS detail, event_id AS reference
    FROM health_events WHERE account_id = {account:String}
    UNION ALL
    SELECT occurred_at, 'detection', format('{} {}', toString(severity), toString(detection_type)), event_id
    FROM detection_events WHERE account_id = {account:String}
    UNION ALL
    SELECT occurred_at, 'behavior', format('anomaly {} {}', toString(anomaly_score), toString(pattern)), event_id
    FROM behavioral_events WHERE account_id = {account:String}
    UNION ALL
    SELECT occurred_at, 'proxy', format('{} {} {}', proxy_id, toString(outcome), error), event_id
    FROM proxy_events WHERE account_id = {account:String}
    UNION ALL
    SELECT occurred_at, 'platform', format('{} {} {}', toString(kind), toString(outcome), toString(status_code)), event_id
    FROM platform_events WHERE account_id = {account:String}
    UNION ALL
    SELECT occurred_at, 'hit', format('{} ({}): {}', toString(trigger_id), toString(mode), reason), hit_id
    FROM (SELECT * FROM hits WHERE scope = concat('account:', {account:String}) ORDER BY _timestamp LIMIT 1 BY hit_id)
    UNION ALL
    SELECT _timestamp, 'emergency', format('{} {}: {}', toString(level), toString(state), reason), emergency_id
    FROM emergencies WHERE scope = concat('account:', {account:String})
    UNION ALL
    SELECT requested_at, 'request', format('{} by {}: {}', toString(action), requested_by, reason), request_id
    FROM requests WHERE scope = concat('account:', {account:String})
    UNION ALL
    SELECT issued_at, 'command', format('{} {} to {}', toString(action), toString(level), toString(service)), command_id
    FROM commands WHERE scope = concat('account:', {account:String})
    UNION ALL
    SELECT acked_at, 'answer', format('{}/{} {}', toString(service), toString(instance_id), toString(state)), command_id
    FROM acks WHERE scope = concat('account:', {account:String})
    UNION ALL
    SELECT updated_at, 'hold', format('{} at epoch {}: {}', toString(state), toString(epoch), reason), ''
    FROM holds WHERE scope = concat('account:', {account:String})
    UNION ALL
    SELECT _timestamp, 'recovery', format('{} {} {}', toString(procedure), toString(phase), toString(outcome)), recovery_id
    FROM recoveries WHERE scope = concat('account:', {account:String})
    UNION ALL
    SELECT fromUnixTimestamp64Milli(audit.at, 'UTC'), 'decision', format('{} by {}: {}', action, actor, reason), audit_id
    FROM audit WHERE subject = concat('account:', {account:String})
)
WHERE at >= now() - INTERVAL {days:UInt32} DAY
ORDER BY at, what, reference;
