-- What a trigger says since it has rules, calendars, a range over accounts, overrides, canaries and a policy for blindness.

ALTER TABLE triggers ADD COLUMN IF NOT EXISTS across Nullable(String);
ALTER TABLE triggers ADD COLUMN IF NOT EXISTS rule String;
ALTER TABLE triggers ADD COLUMN IF NOT EXISTS overrides Nullable(String);
ALTER TABLE triggers ADD COLUMN IF NOT EXISTS on_blind LowCardinality(String) DEFAULT 'alert';
ALTER TABLE triggers ADD COLUMN IF NOT EXISTS canary_percent Int32 DEFAULT 100;
ALTER TABLE triggers ADD COLUMN IF NOT EXISTS stable String;
