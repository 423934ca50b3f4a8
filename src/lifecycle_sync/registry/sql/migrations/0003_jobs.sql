-- Jobs of applications that have no table of their own for them: see model/temp.py.
CREATE TABLE jobs (
    job_id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    since_ns INTEGER NOT NULL,
    heartbeat_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
