-- The last time that each loop of `run` was done: see model/loop.py.
CREATE TABLE loops (
    name TEXT PRIMARY KEY,
    started_ns INTEGER NOT NULL,
    ended_ns INTEGER NOT NULL,
    due_ns INTEGER NOT NULL,
    status TEXT NOT NULL,
    message TEXT NOT NULL
) STRICT, WITHOUT ROWID;
