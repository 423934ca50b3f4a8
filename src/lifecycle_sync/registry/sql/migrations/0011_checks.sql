-- The last time that vaults, their copies and restores were examined: see model/check.py.
CREATE TABLE checks (
    what TEXT NOT NULL,
    subject BLOB NOT NULL,
    ended_ns INTEGER NOT NULL,
    files INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    faults INTEGER NOT NULL,
    message TEXT NOT NULL,
    since_ns INTEGER NOT NULL,
    PRIMARY KEY (what, subject)
) STRICT, WITHOUT ROWID;
