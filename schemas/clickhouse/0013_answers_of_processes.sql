-- Which process of an instance answered: when it was started, as its announcement has it.

ALTER TABLE acks ADD COLUMN IF NOT EXISTS started_at Nullable(DateTime64(3, 'UTC'));
