-- Temporary files of the jobs of 0003 whose names do not say whose they are: see model/temp.py.
CREATE TABLE declared_files (
    path BLOB PRIMARY KEY,
    job_id TEXT NOT NULL,
    chunk_id TEXT,
    device INTEGER,
    inode INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX declared_files_by_job ON declared_files (job_id);
