-- The tables of the registry, and the documented ones as views on them.
-- Codes: states and file types are small integers here, their names stand in `states`, `file_types`.
-- Names and paths are BLOBs; a *_text column is set only where the bytes are not valid UTF-8.

CREATE TABLE registry (
    registry_id BLOB NOT NULL,
    created_ns INTEGER NOT NULL
) STRICT;

-- Every record carries the seq of its last change; a commit says when the seqs up to its own were given.
-- Negative ones stand for times of before the first, which events of a vault told.
CREATE TABLE commits (
    last_seq INTEGER PRIMARY KEY,
    at_ns INTEGER NOT NULL
) STRICT;

CREATE TABLE states (code INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
INSERT INTO states VALUES (0, 'uploaded'), (1, 'processing'), (2, 'backup_pending'),
    (3, 'backup_complete'), (4, 'archived'), (5, 'expired'), (6, 'deleted');

CREATE TABLE file_types (code INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
INSERT INTO file_types VALUES (0, 'other'), (1, 'document'), (2, 'image'), (3, 'video'),
    (4, 'audio'), (5, 'archive');

CREATE TABLE policies (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    file_types TEXT NOT NULL,
    retention_days INTEGER NOT NULL,
    archive_after_days INTEGER NOT NULL,
    delete_after_days INTEGER NOT NULL,
    backup_frequency_hours INTEGER NOT NULL,
    auto_archive INTEGER NOT NULL,
    auto_delete INTEGER NOT NULL,
    versioning_enabled INTEGER NOT NULL,
    max_versions INTEGER NOT NULL
) STRICT;

CREATE TABLE repositories (
    number INTEGER PRIMARY KEY,
    repository_id BLOB NOT NULL UNIQUE,
    path BLOB NOT NULL UNIQUE,
    path_text TEXT,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    filesystem_type TEXT NOT NULL,
    filesystem_id TEXT NOT NULL,
    root_inode INTEGER NOT NULL,
    stable_inodes INTEGER NOT NULL,
    network INTEGER NOT NULL,
    marker_in_root INTEGER NOT NULL,
    enforce INTEGER NOT NULL,
    user_area BLOB NOT NULL,
    ignore_hash BLOB NOT NULL,
    generation INTEGER NOT NULL,
    complete_generation INTEGER NOT NULL,
    accepted_losses INTEGER NOT NULL,
    held_guard TEXT NOT NULL,
    held_reason TEXT NOT NULL,
    added_ns INTEGER NOT NULL,
    -- When its path or its enforcement was last said.
    told_ns INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE directories (
    directory_id INTEGER PRIMARY KEY,
    repository INTEGER NOT NULL REFERENCES repositories (number),
    path BLOB NOT NULL,
    path_text TEXT,
    inode INTEGER NOT NULL,
    signature BLOB,
    generation INTEGER NOT NULL,
    scanned_ns INTEGER NOT NULL,
    gone INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    files INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    ignored INTEGER NOT NULL DEFAULT 0,
    special INTEGER NOT NULL DEFAULT 0,
    UNIQUE (repository, path)
) STRICT;

-- Mode and owner come in few combinations.
CREATE TABLE attributes (
    attribute_id INTEGER PRIMARY KEY,
    mode INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    gid INTEGER NOT NULL,
    UNIQUE (mode, uid, gid)
) STRICT;

CREATE TABLE files (
    -- Never given twice: a hash may be under way for a row that has gone.
    row_id INTEGER PRIMARY KEY AUTOINCREMENT,
    file_id BLOB NOT NULL,
    repository INTEGER NOT NULL,
    directory_id INTEGER NOT NULL REFERENCES directories (directory_id),
    name BLOB NOT NULL,
    name_text TEXT,
    kind INTEGER NOT NULL,
    file_type INTEGER NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    attribute_id INTEGER NOT NULL,
    nlink INTEGER NOT NULL,
    atime_ns INTEGER NOT NULL,
    btime_ns INTEGER,
    state INTEGER NOT NULL,
    registered_seq INTEGER NOT NULL,
    state_seq INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    tracking INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    policy INTEGER NOT NULL,
    version INTEGER NOT NULL,
    hash_due INTEGER NOT NULL,
    algorithm INTEGER NOT NULL,
    checksum BLOB,
    parent_id BLOB,
    backup_path TEXT,
    archive_path TEXT,
    expiry_ns INTEGER,
    next_due_at INTEGER,
    checksum_prefix BLOB GENERATED ALWAYS AS (substr(checksum, 1, 4)) VIRTUAL
) STRICT;
CREATE UNIQUE INDEX files_id ON files (file_id);
CREATE UNIQUE INDEX files_place ON files (directory_id, name) WHERE state <> 6;
CREATE INDEX files_inode ON files (inode);
CREATE INDEX files_seq ON files (seq);
CREATE INDEX files_state ON files (repository, state, file_type) WHERE tracking = 0;
-- Small files are most of them, and nobody asks for the largest small one.
CREATE INDEX files_size ON files (size) WHERE size >= 65536;
CREATE INDEX files_mtime ON files (mtime_ns);
CREATE INDEX files_content ON files (checksum_prefix) WHERE checksum_prefix IS NOT NULL;
CREATE INDEX files_to_hash ON files (repository) WHERE hash_due = 1;
CREATE INDEX files_flagged ON files (repository, flags) WHERE flags <> 0;
CREATE INDEX files_due ON files (next_due_at) WHERE next_due_at IS NOT NULL;

-- Records whose file was not found, until a scan has settled what became of it.
CREATE TABLE missing (
    row_id INTEGER PRIMARY KEY,
    repository INTEGER NOT NULL,
    last_seen_ns INTEGER NOT NULL
) STRICT;

-- A moved record whose content has yet to confirm it: where, and as what, it was before.
CREATE TABLE provisional_moves (
    row_id INTEGER PRIMARY KEY,
    directory_id INTEGER NOT NULL,
    name BLOB NOT NULL,
    name_text TEXT,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL
) STRICT;

CREATE TABLE runs (
    run_id INTEGER PRIMARY KEY AUTOINCREMENT,
    repository INTEGER NOT NULL REFERENCES repositories (number),
    run_type TEXT NOT NULL,
    generation INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    whole INTEGER NOT NULL,
    started_ns INTEGER NOT NULL,
    ended_ns INTEGER,
    status TEXT NOT NULL,
    files_scanned INTEGER NOT NULL DEFAULT 0,
    files_added INTEGER NOT NULL DEFAULT 0,
    files_updated INTEGER NOT NULL DEFAULT 0,
    files_removed INTEGER NOT NULL DEFAULT 0,
    error_message TEXT
) STRICT;
CREATE INDEX runs_repository ON runs (repository, run_id);

-- The journal: what was, or is being, done to a file. At most one pending act a file.
CREATE TABLE operations (
    operation_id BLOB PRIMARY KEY,
    file_id BLOB NOT NULL,
    operation_type TEXT NOT NULL,
    timestamp_ns INTEGER NOT NULL,
    status TEXT NOT NULL,
    run_id INTEGER,
    finished_ns INTEGER,
    details TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX operations_file ON operations (file_id);
CREATE UNIQUE INDEX operations_pending ON operations (file_id) WHERE status = 'pending';

-- Runs of acts. They outlive their repository, as the journal does.
CREATE TABLE act_runs (
    act_id INTEGER PRIMARY KEY AUTOINCREMENT,
    repository_id BLOB NOT NULL,
    verb TEXT NOT NULL,
    started_ns INTEGER NOT NULL,
    status TEXT NOT NULL,
    ended_ns INTEGER,
    counts TEXT
) STRICT;

-- Where versions lie: a vault and a manifest in it, which has many of them.
CREATE TABLE locations (
    location_id INTEGER PRIMARY KEY,
    location TEXT NOT NULL UNIQUE
) STRICT;

-- After a database was rolled back, two versions of a file may have one number.
CREATE TABLE versions (
    file_id BLOB NOT NULL,
    number INTEGER NOT NULL,
    version_id BLOB NOT NULL,
    algorithm INTEGER NOT NULL,
    checksum BLOB,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    created_ns INTEGER NOT NULL,
    location INTEGER REFERENCES locations (location_id),
    PRIMARY KEY (file_id, number, version_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE holds (
    hold_id BLOB PRIMARY KEY,
    file_id BLOB,
    query TEXT,
    reason TEXT NOT NULL,
    owner TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    ends_ns INTEGER,
    released_ns INTEGER
) STRICT, WITHOUT ROWID;
-- Those by query have no file, and are found by that.
CREATE INDEX holds_file ON holds (file_id);

CREATE TABLE confirmations (
    repository_id BLOB NOT NULL,
    guard TEXT NOT NULL,
    at_ns INTEGER NOT NULL,
    evidence TEXT NOT NULL,
    PRIMARY KEY (repository_id, guard, at_ns, evidence)
) STRICT, WITHOUT ROWID;

-- Manifests of vaults whose events are in these tables.
-- The vaults that this registry has used, by what they are for: another one in their place, or an
-- empty folder, is not taken for them.
CREATE TABLE stores (
    kind TEXT PRIMARY KEY,
    store_id BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE manifests_applied (
    store_id BLOB NOT NULL,
    name TEXT NOT NULL,
    applied_ns INTEGER NOT NULL,
    PRIMARY KEY (store_id, name)
) STRICT, WITHOUT ROWID;

-- When a policy was last put or removed, so that no older event undoes that.
CREATE TABLE policy_changes (
    name TEXT PRIMARY KEY,
    removed INTEGER NOT NULL,
    at_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Policies that were chosen for single files, or no longer are; the file or the policy may be one
-- that is yet to come.
CREATE TABLE assignments (
    file_id BLOB PRIMARY KEY,
    policy_name TEXT NOT NULL,
    explicit INTEGER NOT NULL,
    at_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Records that are as an event of a vault told, when that was, and whether no scan has seen the
-- file. A record with a newer seq than stands here has changed otherwise since.
CREATE TABLE replayed (
    row_id INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL,
    at_ns INTEGER NOT NULL,
    unseen INTEGER NOT NULL
) STRICT;

CREATE VIEW file_paths AS
SELECT f.row_id,
    CASE WHEN length(d.path) = 0 THEN '' ELSE coalesce(d.path_text, CAST(d.path AS TEXT)) || '/' END
        || coalesce(f.name_text, CAST(f.name AS TEXT)) AS relative_path,
    coalesce(r.path_text, CAST(r.path AS TEXT)) AS root_path,
    coalesce(f.name_text, CAST(f.name AS TEXT)) AS name
FROM files f
JOIN directories d ON d.directory_id = f.directory_id
JOIN repositories r ON r.number = f.repository;

-- The times of the seqs of a record, in nanoseconds since 1970 UTC..
CREATE VIEW file_times AS
SELECT f.row_id,
    (SELECT c.at_ns FROM commits c WHERE c.last_seq >= f.seq ORDER BY c.last_seq LIMIT 1) AS changed_ns,
    (SELECT c.at_ns FROM commits c WHERE c.last_seq >= f.state_seq ORDER BY c.last_seq LIMIT 1)
        AS state_since_ns,
    (SELECT c.at_ns FROM commits c WHERE c.last_seq >= f.registered_seq ORDER BY c.last_seq LIMIT 1)
        AS registered_ns
FROM files f;

CREATE VIEW file_registry AS
SELECT lower(substr(hex(f.file_id), 1, 8) || '-' || substr(hex(f.file_id), 9, 4) || '-'
        || substr(hex(f.file_id), 13, 4) || '-' || substr(hex(f.file_id), 17, 4) || '-'
        || substr(hex(f.file_id), 21)) AS file_id,
    p.root_path || '/' || p.relative_path AS file_path,
    p.name AS file_name,
    ft.name AS file_type,
    f.size AS file_size,
    strftime('%Y-%m-%dT%H:%M:%fZ', min(coalesce(f.btime_ns, f.mtime_ns), f.mtime_ns) / 1e9, 'unixepoch')
        AS created_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', f.mtime_ns / 1e9, 'unixepoch') AS modified_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', f.atime_ns / 1e9, 'unixepoch') AS accessed_at,
    s.name AS state,
    po.name AS policy_name,
    lower(hex(coalesce(f.checksum, ''))) AS checksum,
    f.version AS version,
    CASE WHEN f.parent_id IS NOT NULL THEN
        lower(substr(hex(f.parent_id), 1, 8) || '-' || substr(hex(f.parent_id), 9, 4) || '-'
        || substr(hex(f.parent_id), 13, 4) || '-' || substr(hex(f.parent_id), 17, 4) || '-'
        || substr(hex(f.parent_id), 21)) END AS parent_id,
    f.backup_path AS backup_path,
    f.archive_path AS archive_path,
    strftime('%Y-%m-%dT%H:%M:%fZ', f.expiry_ns / 1e9, 'unixepoch') AS expiry_date,
    strftime('%Y-%m-%dT%H:%M:%fZ', t.state_since_ns / 1e9, 'unixepoch') AS last_state_change
FROM files f
JOIN file_paths p ON p.row_id = f.row_id
JOIN file_times t ON t.row_id = f.row_id
JOIN states s ON s.code = f.state
JOIN file_types ft ON ft.code = f.file_type
JOIN policies po ON po.number = f.policy
WHERE f.tracking = 0;

CREATE VIEW sync_operations AS
SELECT lower(substr(hex(operation_id), 1, 8) || '-' || substr(hex(operation_id), 9, 4) || '-'
        || substr(hex(operation_id), 13, 4) || '-' || substr(hex(operation_id), 17, 4) || '-'
        || substr(hex(operation_id), 21)) AS operation_id,
    lower(substr(hex(file_id), 1, 8) || '-' || substr(hex(file_id), 9, 4) || '-'
        || substr(hex(file_id), 13, 4) || '-' || substr(hex(file_id), 17, 4) || '-'
        || substr(hex(file_id), 21)) AS file_id,
    operation_type,
    strftime('%Y-%m-%dT%H:%M:%fZ', timestamp_ns / 1e9, 'unixepoch') AS timestamp,
    status,
    details
FROM operations;

CREATE VIEW lifecycle_policies AS
SELECT name, file_types, retention_days, archive_after_days, delete_after_days,
    backup_frequency_hours, auto_archive, auto_delete, versioning_enabled, max_versions
FROM policies;

CREATE VIEW file_records AS
SELECT f.row_id AS id,
    lower(substr(hex(r.repository_id), 1, 8) || '-' || substr(hex(r.repository_id), 9, 4) || '-'
        || substr(hex(r.repository_id), 13, 4) || '-' || substr(hex(r.repository_id), 17, 4) || '-'
        || substr(hex(r.repository_id), 21)) AS repository_id,
    p.relative_path AS file_path,
    f.size AS file_size,
    strftime('%Y-%m-%dT%H:%M:%fZ', f.mtime_ns / 1e9, 'unixepoch') AS mod_time,
    lower(hex(f.checksum)) AS content_hash,
    strftime('%Y-%m-%dT%H:%M:%fZ', d.scanned_ns / 1e9, 'unixepoch') AS last_scanned,
    d.generation AS scan_generation,
    strftime('%Y-%m-%dT%H:%M:%fZ', t.registered_ns / 1e9, 'unixepoch') AS created_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', t.changed_ns / 1e9, 'unixepoch') AS updated_at
FROM files f
JOIN file_paths p ON p.row_id = f.row_id
JOIN file_times t ON t.row_id = f.row_id
JOIN directories d ON d.directory_id = f.directory_id
JOIN repositories r ON r.number = f.repository
WHERE f.tracking = 0 AND f.state <> 6;

CREATE VIEW sync_runs AS
SELECT n.run_id AS id,
    lower(substr(hex(r.repository_id), 1, 8) || '-' || substr(hex(r.repository_id), 9, 4) || '-'
        || substr(hex(r.repository_id), 13, 4) || '-' || substr(hex(r.repository_id), 17, 4) || '-'
        || substr(hex(r.repository_id), 21)) AS repository_id,
    n.run_type AS operation_type,
    n.files_scanned AS files_scanned,
    n.files_added AS files_added,
    n.files_updated AS files_updated,
    n.files_removed AS files_removed,
    strftime('%Y-%m-%dT%H:%M:%fZ', n.started_ns / 1e9, 'unixepoch') AS start_time,
    strftime('%Y-%m-%dT%H:%M:%fZ', n.ended_ns / 1e9, 'unixepoch') AS end_time,
    (n.ended_ns - n.started_ns) / 1000000 AS duration_ms,
    n.status AS status,
    n.error_message AS error_message
FROM runs n
JOIN repositories r ON r.number = n.repository;
