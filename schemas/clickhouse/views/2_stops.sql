-- How long stops took, and how many services took part in time. Drills are left out.

CREATE OR REPLACE VIEW time_to_stop_by_level AS
SELECT
    level,
    count() AS stops,
    countIf(state = 'stopped') AS proven,
    countIf(state = 'partial') AS partial,
    quantileExactIfOrNull(0.5)(time_to_stop_ms, state = 'stopped') AS p50_ms,
    quantileExactIfOrNull(0.99)(time_to_stop_ms, state = 'stopped') AS p99_ms,
    maxIfOrNull(time_to_stop_ms, state = 'stopped') AS max_ms
FROM stops_judged
WHERE occurred_at >= now() - INTERVAL {days:UInt32} DAY
GROUP BY level
ORDER BY level;

CREATE OR REPLACE VIEW time_to_stop_by_day AS
SELECT
    toDate(occurred_at) AS day,
    count() AS stops,
    countIf(state = 'stopped') AS proven,
    quantileExactIfOrNull(0.5)(time_to_stop_ms, state = 'stopped') AS p50_ms,
    quantileExactIfOrNull(0.99)(time_to_stop_ms, state = 'stopped') AS p99_ms
FROM stops_judged
WHERE occurred_at >= now() - INTERVAL {days:UInt32} DAY
GROUP BY day
ORDER BY day;

-- A service is told apart by its place among its emergency's services: numbers compare faster than names.
CREATE OR REPLACE VIEW stops_of_services AS
SELECT
    emergency_id,
    occurred_at,
    level,
    services[indexOf(places, place)] AS service,
    countEqual(places, place) AS instances,
    arrayCount((of, is_stopped) -> is_stopped AND of = place, places, are_stopped) AS stopped,
    arrayMax((of, since) -> if(of = place, since, 0), places, states_since) AS ended_at_ms,
    ended_at_ms - toUnixTimestamp64Milli(occurred_at) AS stop_ms,
    stopped = instances AS proven,
    proven AND ended_at_ms <= toUnixTimestamp64Milli(deadline_at) AS coordinated
FROM
(
    SELECT
        emergency_id, occurred_at, level, deadline_at, services, states_since,
        arrayEnumerateDense(services) AS places,
        arrayMap(state -> state = 'stopped', states) AS are_stopped
    FROM stops_judged
)
ARRAY JOIN arrayDistinct(places) AS place;

CREATE OR REPLACE VIEW time_to_stop_by_service AS
SELECT
    service,
    level,
    count() AS stops,
    countIf(proven) AS proven_stops,
    quantileExactIfOrNull(0.5)(stop_ms, proven) AS p50_ms,
    quantileExactIfOrNull(0.99)(stop_ms, proven) AS p99_ms,
    maxIfOrNull(stop_ms, proven) AS max_ms
FROM stops_of_services
WHERE occurred_at >= now() - INTERVAL {days:UInt32} DAY
GROUP BY service, level
ORDER BY service, level;

CREATE OR REPLACE VIEW service_reliability AS
SELECT
    service,
    count() AS stops,
    countIf(coordinated) AS in_time,
    countIf(proven AND NOT coordinated) AS late,
    countIf(NOT proven) AS not_proven,
    100 * in_time / stops AS coordinated_percent
FROM stops_of_services
WHERE occurred_at >= now() - INTERVAL {days:UInt32} DAY
GROUP BY service
ORDER BY coordinated_percent, service;
