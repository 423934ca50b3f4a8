-- Versions that no rule keeps any more.

-- Since when that is so; NULL where a rule keeps it.
ALTER TABLE versions ADD COLUMN beyond_ns INTEGER;
CREATE INDEX versions_beyond ON versions (file_id) WHERE beyond_ns IS NOT NULL;
