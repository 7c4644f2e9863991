-- When nobody watched a partition, and when no instance of a service was fit to work. A gap between two signs of life
-- counts where it is longer than the parameter allows, and only what is longer.

CREATE OR REPLACE VIEW detector_availability AS
SELECT
    partition,
    signs[-1] - signs[1] AS observed_ms,
    arraySum(gap -> greatest(gap - {blind_after_ms:UInt32}, 0), gaps) AS blind_ms,
    arrayCount(gap -> gap > {blind_after_ms:UInt32}, gaps) AS blind_times,
    arrayMax(arrayMap(gap -> greatest(gap - {blind_after_ms:UInt32}, 0), gaps)) AS longest_blind_ms,
    if(observed_ms = 0, NULL, 100 * (1 - blind_ms / observed_ms)) AS available_percent
FROM
(
    SELECT
        partition,
        arrayPushBack(arraySort(groupArray(toUnixTimestamp64Milli(fresh_at))), toUnixTimestamp64Milli(now64(3))) AS signs,
        arrayDifference(signs) AS gaps
    FROM freshness
    WHERE fresh_at >= now() - INTERVAL {days:UInt32} DAY
    GROUP BY partition
)
ORDER BY partition;

CREATE OR REPLACE VIEW service_availability AS
SELECT
    service,
    instances,
    signs[-1] - signs[1] AS observed_ms,
    arraySum(gap -> greatest(gap - {lost_after_ms:UInt32}, 0), gaps) AS down_ms,
    arrayCount(gap -> gap > {lost_after_ms:UInt32}, gaps) AS down_times,
    arrayMax(arrayMap(gap -> greatest(gap - {lost_after_ms:UInt32}, 0), gaps)) AS longest_down_ms,
    if(observed_ms = 0, NULL, 100 * (1 - down_ms / observed_ms)) AS available_percent
FROM
(
    SELECT
        service,
        uniqExact(instance_id) AS instances,
        arrayPushBack(arraySort(groupArray(toUnixTimestamp64Milli(heartbeat_at))), toUnixTimestamp64Milli(now64(3)))
            AS signs,
        arrayDifference(signs) AS gaps
    FROM service_instances
    WHERE heartbeat_at >= now() - INTERVAL {days:UInt32} DAY
        AND state = 'up' AND healthy AND lease_lost_at IS NULL
    GROUP BY service
)
ORDER BY service;
