-- Policies that act by themselves.

-- What a policy says beyond the documented columns, as JSON.
ALTER TABLE policies ADD COLUMN rules TEXT NOT NULL DEFAULT '{}';

-- The policy, `expiry_ns` and `next_due_at` of all records whose seq is not greater were decided by
-- the rules as they are now. One row.
CREATE TABLE decided (
    seq INTEGER NOT NULL
) STRICT;
INSERT INTO decided VALUES (-9223372036854775808);

-- What a person has switched on for all processes at once.
CREATE TABLE switches (
    name TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    owner TEXT NOT NULL,
    at_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
