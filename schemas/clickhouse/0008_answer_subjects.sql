-- Of how many accounts, hosts or partitions an answer had evidence.

ALTER TABLE condition_answers ADD COLUMN IF NOT EXISTS subjects Int64;
