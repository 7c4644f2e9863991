-- Each hit once. A detector repeats hits after a crash, and two lanes publish each hit twice, always under one id:
-- count hits here. The table `hits` has every record, so that its rows remain those of the topic.

CREATE VIEW IF NOT EXISTS hits_once AS
SELECT * FROM hits ORDER BY hit_id, _timestamp, _partition, _offset LIMIT 1 BY hit_id;
