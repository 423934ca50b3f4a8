-- When files were last downloaded from the application that has them: it says so, no disk does.

CREATE TABLE downloads (
    file_id BLOB PRIMARY KEY,
    at_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
