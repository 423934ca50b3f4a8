-- name: subject_columns
SELECT f.row_id, f.seq, f.file_id, r.repository_id, r.path, d.path, f.name, f.kind, f.file_type,
    f.size, f.mtime_ns, f.ctime_ns, f.inode, f.atime_ns, a.uid,
    (SELECT c.at_ns FROM commits c WHERE c.last_seq >= f.registered_seq ORDER BY c.last_seq LIMIT 1),
    f.state, f.flags, f.tracking,
    EXISTS (SELECT 1 FROM missing m WHERE m.row_id = f.row_id),
    f.checksum, f.hash_due, p.name,
    (SELECT v.created_ns FROM versions v WHERE v.file_id = f.file_id ORDER BY v.number DESC LIMIT 1),
    f.archive_path IS NOT NULL, f.expiry_ns, f.next_due_at,
    (SELECT w.at_ns FROM downloads w WHERE w.file_id = f.file_id)

-- name: subject_joins
CROSS JOIN directories d ON d.directory_id = f.directory_id
CROSS JOIN repositories r ON r.number = f.repository
CROSS JOIN attributes a ON a.attribute_id = f.attribute_id
CROSS JOIN policies p ON p.number = f.policy

-- name: due
{columns}
FROM (
    SELECT next_due_at, row_id FROM files INDEXED BY files_due
    WHERE (next_due_at, row_id) > (:after_ns, :after_row) AND next_due_at <= :at_ns
    ORDER BY next_due_at, row_id LIMIT :limit
) n CROSS JOIN files f ON f.row_id = n.row_id
{joins}
WHERE f.tracking = 0 AND f.seq <= :decided;

-- name: due_page
SELECT next_due_at, row_id FROM files INDEXED BY files_due
WHERE (next_due_at, row_id) > (:after_ns, :after_row) AND next_due_at <= :at_ns
ORDER BY next_due_at, row_id LIMIT :limit;

-- name: undecided
{columns}
FROM (
    SELECT seq, row_id FROM files WHERE seq > :after ORDER BY seq LIMIT :limit
) n CROSS JOIN files f ON f.row_id = n.row_id
{joins}
ORDER BY f.seq;

-- name: subjects
{columns}
FROM json_each(:ids) i CROSS JOIN files f ON f.file_id = unhex(i.value)
{joins};

-- name: decided_seq
SELECT seq FROM decided;

-- name: set_decided
UPDATE decided SET seq = ?;

-- name: write_decided
-- Only where the record still is what was decided on. Its seq stays: nothing changed for others.
UPDATE files SET policy = (SELECT number FROM policies WHERE name = ?3), expiry_ns = ?4,
    next_due_at = ?5
WHERE row_id = ?1 AND seq = ?2 AND EXISTS (SELECT 1 FROM policies WHERE name = ?3)
    AND (expiry_ns IS NOT ?4 OR next_due_at IS NOT ?5
        OR policy <> (SELECT number FROM policies WHERE name = ?3));

-- name: kept_versions
-- Of the vault that backups go to: the archive keeps what it has.
SELECT v.file_id, v.version_id, v.number, v.created_ns, v.size, v.beyond_ns
FROM json_each(:ids) i CROSS JOIN versions v ON v.file_id = unhex(i.value)
JOIN locations l ON l.location_id = v.location
JOIN stores s ON s.kind = 'backup' AND substr(l.location, 1, 32) = lower(hex(s.store_id))
ORDER BY v.file_id, v.number DESC, v.version_id DESC;

-- name: count_versions
SELECT count(*) FROM json_each(:ids) i CROSS JOIN versions v ON v.file_id = unhex(i.value);

-- name: mark_version
UPDATE versions SET beyond_ns = ?3 WHERE file_id = ?1 AND version_id = ?2;

-- name: files_with_versions_beyond
SELECT DISTINCT file_id FROM versions INDEXED BY versions_beyond
WHERE beyond_ns IS NOT NULL AND file_id > ? ORDER BY file_id LIMIT ?;

-- name: last_marked
SELECT max(file_id) FROM (
    SELECT file_id FROM versions INDEXED BY versions_beyond
    WHERE beyond_ns IS NOT NULL AND file_id > :after ORDER BY file_id LIMIT :limit
);

-- name: marked_files
-- 4 is SUSPECT. Versions as in kept_versions; each file has its own beside each other already.
SELECT b.file_id, group_concat(v.number) FILTER (WHERE v.beyond_ns IS NOT NULL),
    group_concat(hex(v.version_id), '') FILTER (WHERE v.beyond_ns IS NOT NULL),
    sum(v.size) FILTER (WHERE v.beyond_ns IS NOT NULL),
    max(v.created_ns) FILTER (WHERE v.beyond_ns IS NOT NULL),
    count(*) FILTER (WHERE v.beyond_ns IS NULL),
    min(v.created_ns) FILTER (WHERE v.beyond_ns IS NULL),
    f.repository, f.file_type, f.flags, f.policy
FROM (
    SELECT DISTINCT file_id FROM versions INDEXED BY versions_beyond
    WHERE beyond_ns IS NOT NULL AND file_id > :after AND file_id <= :last ORDER BY file_id
) b CROSS JOIN files f ON f.file_id = b.file_id AND f.tracking = 0 AND NOT f.flags & 4
CROSS JOIN versions v ON v.file_id = b.file_id AND v.location IN (
    SELECT l.location_id FROM locations l
    JOIN stores s ON s.kind = 'backup' AND substr(l.location, 1, 32) = lower(hex(s.store_id))
)
GROUP BY b.file_id HAVING count(v.beyond_ns);

-- name: note_download
INSERT INTO downloads (file_id, at_ns) VALUES (?, ?)
ON CONFLICT (file_id) DO UPDATE SET at_ns = excluded.at_ns WHERE excluded.at_ns > at_ns;

-- name: row_and_seq
SELECT row_id, seq FROM files WHERE file_id = ?;

-- name: change_seq
UPDATE files SET seq = ?2 WHERE row_id = ?1;

-- name: deleted_since
-- Ids grow with time, so no index on the time itself is kept.
SELECT count(*) FROM operations o INDEXED BY operations_deletes
JOIN act_runs a ON a.act_id = o.run_id
WHERE o.operation_id >= :since_id AND o.timestamp_ns >= :since_ns AND o.operation_type = 'delete'
    AND o.status = 'completed' AND a.repository_id = :repository_id;

-- name: switch
SELECT name, reason, owner, at_ns FROM switches WHERE name = ?;

-- name: set_switch
INSERT INTO switches (name, reason, owner, at_ns) VALUES (?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET reason = excluded.reason, owner = excluded.owner, at_ns = excluded.at_ns;

-- name: clear_switch
DELETE FROM switches WHERE name = ?;
