-- Whoever analyses reads, and nothing else: not more than a server can bear beside the sink. For a server with
-- access management; 'estop migrate --roles' applies it. Give the role to people: GRANT estop_analyst TO anna.
-- It is for people who may see accounts. "readonly = 2" lets clients choose formats; the bounds are not theirs to choose.

CREATE ROLE IF NOT EXISTS estop_analyst{on_cluster};
GRANT{on_cluster} SELECT ON {database}.* TO estop_analyst;
CREATE SETTINGS PROFILE OR REPLACE estop_analyst{on_cluster} SETTINGS
    readonly = 2 CONST,
    max_execution_time = 30 CONST,
    max_result_rows = 1000000 CONST,
    result_overflow_mode = 'throw' CONST,
    max_rows_to_read = 2000000000 CONST,
    max_memory_usage = 4000000000 CONST,
    max_threads = 4 CONST,
    priority = 10 CONST
    TO estop_analyst;
CREATE QUOTA OR REPLACE estop_analyst{on_cluster} KEYED BY user_name
    FOR INTERVAL 1 HOUR MAX queries = 2000, execution_time = 1800
    TO estop_analyst;
