-- How far the scrubbing of each root has come: see model/watch.py.
CREATE TABLE scrubs (
    repository INTEGER PRIMARY KEY REFERENCES repositories (number),
    begun_ns INTEGER NOT NULL,
    after INTEGER NOT NULL,
    files INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    slice_ns INTEGER NOT NULL,
    ended_ns INTEGER NOT NULL
) STRICT;
