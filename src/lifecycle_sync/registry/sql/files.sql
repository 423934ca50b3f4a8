-- name: record_columns
SELECT f.file_id, r.repository_id, d.path, f.name, f.kind, f.file_type, f.size, f.mtime_ns,
    f.ctime_ns, f.inode, a.mode, a.uid, a.gid, f.nlink, f.atime_ns, f.btime_ns, f.state, f.tracking,
    f.flags, p.name, f.algorithm, f.checksum, f.hash_due, f.version,
    (SELECT c.at_ns FROM commits c WHERE c.last_seq >= f.registered_seq ORDER BY c.last_seq LIMIT 1),
    (SELECT c.at_ns FROM commits c WHERE c.last_seq >= f.state_seq ORDER BY c.last_seq LIMIT 1),
    (SELECT c.at_ns FROM commits c WHERE c.last_seq >= f.seq ORDER BY c.last_seq LIMIT 1),
    d.scanned_ns, d.generation, f.seq, f.row_id, f.backup_path, f.archive_path

-- name: record_from_files
FROM files f
CROSS JOIN directories d ON d.directory_id = f.directory_id
CROSS JOIN repositories r ON r.number = f.repository
CROSS JOIN attributes a ON a.attribute_id = f.attribute_id
CROSS JOIN policies p ON p.number = f.policy

-- name: register
UPDATE files SET tracking = 0, flags = flags | 32 | ?2, policy = coalesce(?3, policy), seq = ?4
WHERE row_id = ?1;

-- name: row_of_id
SELECT row_id, state, flags, tracking FROM files WHERE file_id = ?;

-- name: set_state
UPDATE files SET state = ?2, flags = ?3, seq = ?4,
    state_seq = CASE WHEN state <> ?2 THEN ?4 ELSE state_seq END
WHERE row_id = ?1;

-- name: due_with_file
UPDATE files SET hash_due = ?2 AND kind = 8 WHERE row_id = ?1;

-- name: insert_operation
INSERT INTO operations (operation_id, file_id, operation_type, timestamp_ns, status, run_id,
    finished_ns, details)
VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: operations
SELECT operation_id, file_id, operation_type, timestamp_ns, status, run_id, finished_ns, details
FROM operations WHERE file_id = ? ORDER BY timestamp_ns DESC, operation_id DESC LIMIT ?;

-- name: journal
SELECT operation_id, file_id, operation_type, timestamp_ns, status, run_id, finished_ns, details
FROM operations
WHERE operation_id > ?1 AND (?2 = '[]' OR operation_type IN (SELECT value FROM json_each(?2)))
ORDER BY operation_id LIMIT ?3;

-- name: operation_count
-- Ids grow with time, so no index on the time itself is kept.
SELECT count(*) FROM operations WHERE operation_id >= ?1 AND timestamp_ns >= ?2;

-- name: policies
SELECT name, file_types, retention_days, archive_after_days, delete_after_days,
    backup_frequency_hours, auto_archive, auto_delete, versioning_enabled, max_versions, rules
FROM policies ORDER BY number;

-- name: update_policy
UPDATE policies SET file_types = ?2, retention_days = ?3, archive_after_days = ?4,
    delete_after_days = ?5, backup_frequency_hours = ?6, auto_archive = ?7, auto_delete = ?8,
    versioning_enabled = ?9, max_versions = ?10, rules = ?11
WHERE name = ?1;

-- name: insert_policy
INSERT INTO policies (name, file_types, retention_days, archive_after_days, delete_after_days,
    backup_frequency_hours, auto_archive, auto_delete, versioning_enabled, max_versions, rules)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: decide_anew
UPDATE decided SET seq = -9223372036854775808;
