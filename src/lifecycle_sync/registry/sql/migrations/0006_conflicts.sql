-- Records whose file is not what the registry says of it: see model/conflict.py.
CREATE TABLE conflicts (
    row_id INTEGER PRIMARY KEY,
    situation TEXT NOT NULL,
    other_id BLOB,
    checksum BLOB,
    noted_ns INTEGER NOT NULL
) STRICT;
-- Who was deleted at a place that has a file again.
CREATE INDEX files_gone ON files (directory_id, name) WHERE state = 6;
