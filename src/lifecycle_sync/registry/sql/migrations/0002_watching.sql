-- What is known of the watching of roots: see model/watch.py.
CREATE TABLE watching (
    repository INTEGER PRIMARY KEY REFERENCES repositories (number),
    needs_recrawl INTEGER NOT NULL DEFAULT 0,
    noted_ns INTEGER NOT NULL DEFAULT 0,
    health TEXT NOT NULL DEFAULT ''
) STRICT;
