-- name: insert_act
INSERT INTO act_runs (repository_id, verb, started_ns, status) VALUES (?, ?, ?, 'running')
RETURNING act_id;

-- name: end_act
UPDATE act_runs SET status = ?2, ended_ns = ?3, counts = ?4 WHERE act_id = ?1;

-- name: acts
SELECT act_id, repository_id, verb, started_ns, status, ended_ns, counts FROM act_runs
WHERE :repository_id IS NULL OR repository_id = :repository_id
ORDER BY act_id DESC LIMIT :limit;

-- name: act
SELECT act_id, repository_id, verb, started_ns, status, ended_ns, counts FROM act_runs
WHERE act_id = ?;

-- name: held
-- The holds at the time ?1 on the file f. The paths are those that the documented tables show.
SELECT h.reason FROM holds h
WHERE h.file_id = f.file_id AND h.released_ns IS NULL AND (h.ends_ns IS NULL OR h.ends_ns > ?1)
UNION ALL
SELECT h.reason FROM holds h CROSS JOIN file_paths p ON p.row_id = f.row_id
WHERE h.file_id IS NULL AND h.released_ns IS NULL AND (h.ends_ns IS NULL OR h.ends_ns > ?1)
    AND (p.root_path || '/' || p.relative_path = h.query
        OR substr(p.root_path || '/' || p.relative_path, 1, length(h.query) + 1) = h.query || '/'
        OR p.root_path || '/' || p.relative_path GLOB replace(h.query, '[!', '[^'))

-- name: begin_operations
-- Each row is there only if nothing stands against it at the moment it is written.
WITH act (now_ns, act_id, number, unless_held) AS (SELECT ?1, ?2, ?3, ?4),
intents (operation_id, file_id, verb, details) AS (
VALUES (?, ?, ?, ?)
)
INSERT INTO operations (operation_id, file_id, operation_type, timestamp_ns, status, run_id, details)
SELECT i.operation_id, i.file_id, i.verb, act.now_ns, 'pending', act.act_id, i.details
FROM act CROSS JOIN intents i
CROSS JOIN files f ON f.file_id = i.file_id AND f.repository = act.number
WHERE NOT (act.unless_held AND EXISTS (
{held}
))
ON CONFLICT DO NOTHING;

-- name: begun
WITH act (act_id) AS (SELECT ?1), intents (operation_id) AS (
VALUES (?)
)
SELECT o.operation_id FROM act CROSS JOIN intents i
CROSS JOIN operations o ON o.operation_id = i.operation_id AND o.run_id = act.act_id;

-- name: why_refused
SELECT (
{held}
LIMIT 1) FROM files f WHERE f.file_id = ?2 AND f.repository = ?3;

-- name: any_hold
SELECT EXISTS (
    SELECT 1 FROM holds WHERE released_ns IS NULL AND (ends_ns IS NULL OR ends_ns > ?1)
);

-- name: held_of
SELECT f.file_id, (
{held}
LIMIT 1) AS reason
FROM json_each(?2) i CROSS JOIN files f ON f.file_id = unhex(i.value)
WHERE reason IS NOT NULL;

-- name: pending_records
-- Of those operations that are pending, with their records. CROSS: each by its own id.
SELECT o.operation_id, o.file_id, f.row_id, f.directory_id, f.name, f.state, f.flags, f.kind, f.size,
    f.mtime_ns, f.ctime_ns, f.inode, f.hash_due, f.backup_path, f.archive_path, f.repository
FROM (
VALUES (?)
) i CROSS JOIN operations o ON o.operation_id = i.column1 AND o.status = 'pending'
LEFT JOIN files f ON f.file_id = o.file_id;

-- name: finish_operations
UPDATE operations SET status = v.column2, details = coalesce(v.column3, details), finished_ns = v.column4
FROM (
VALUES (?, ?, ?, ?)
) v WHERE operation_id = v.column1 AND +status = 'pending';

-- name: complete_operations
-- What is pending is few rows, by an index of its own.
UPDATE operations INDEXED BY operations_pending SET status = 'completed', finished_ns = ?2
WHERE status = 'pending' AND run_id = ?1;

-- name: fail_operation
UPDATE operations SET status = 'failed',
    details = json_set(iif(json_valid(details), details, '{}'), '$.reason', ?2)
WHERE operation_id = ?1;

-- name: make_alike
CREATE TEMP TABLE IF NOT EXISTS alike (
    place INTEGER PRIMARY KEY, operation_id BLOB, details TEXT, size INTEGER, mtime_ns INTEGER,
    checksum BLOB, backup_path TEXT, version_id BLOB, number INTEGER, created_ns INTEGER,
    file_id BLOB, row_id INTEGER
);

-- name: fill_alike
-- Of the operations that are pending, those whose records are what was worked on. CROSS: each by
-- its own id.
INSERT INTO temp.alike (operation_id, details, size, mtime_ns, checksum, backup_path, version_id,
    number, created_ns, file_id, row_id)
SELECT v.column1, v.column2, f.size, f.mtime_ns, v.column7, v.column8, v.column9, v.column10, v.column11,
    f.file_id, f.row_id
FROM (
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
) v CROSS JOIN operations o ON o.operation_id = v.column1 AND o.status = 'pending'
CROSS JOIN files f ON f.file_id = o.file_id AND f.kind = 8 AND f.size = v.column3
    AND f.mtime_ns = v.column4 AND f.ctime_ns = v.column5 AND f.inode = v.column6
    AND f.state IN ({states});

-- name: finish_alike
UPDATE OR FAIL operations SET status = ?1, details = coalesce(a.details, operations.details),
    finished_ns = ?2
FROM temp.alike a WHERE operations.operation_id = a.operation_id AND +operations.status = 'pending';

-- name: change_alike
UPDATE OR FAIL files SET state = ?1, hash_due = 0, backup_path = a.backup_path,
    state_seq = CASE WHEN state <> ?1 THEN ?2 + a.place ELSE state_seq END, seq = ?2 + a.place,
    checksum = a.checksum, algorithm = ?3
FROM temp.alike a WHERE files.row_id = a.row_id;

-- name: insert_alike
INSERT OR IGNORE INTO versions (version_id, number, algorithm, checksum, size, mtime_ns, created_ns,
    location, file_id)
SELECT version_id, number, ?1, checksum, size, mtime_ns, created_ns, ?2, file_id
FROM temp.alike ORDER BY place;

-- name: change_record
UPDATE files SET state = v.column2, flags = v.column3, hash_due = v.column4, backup_path = v.column5,
    archive_path = v.column6,
    state_seq = CASE WHEN state <> v.column2 THEN v.column7 ELSE state_seq END, seq = v.column7
FROM (
VALUES (?, ?, ?, ?, ?, ?, ?)
) v WHERE row_id = v.column1;

-- name: change_kept
-- What a backup makes of a record: with the checksum that was found.
UPDATE files SET state = v.column2, hash_due = 0, backup_path = v.column3, archive_path = v.column4,
    state_seq = CASE WHEN state <> v.column2 THEN v.column5 ELSE state_seq END, seq = v.column5,
    checksum = v.column6, algorithm = v.column7
FROM (
VALUES (?, ?, ?, ?, ?, ?, ?)
) v WHERE row_id = v.column1;

-- name: change_state
-- Without the columns of two more indexes, which most changes leave as they are.
UPDATE files SET state = v.column2, backup_path = v.column3, archive_path = v.column4,
    state_seq = CASE WHEN state <> v.column2 THEN v.column5 ELSE state_seq END, seq = v.column5
FROM (
VALUES (?, ?, ?, ?, ?)
) v WHERE row_id = v.column1;

-- name: change_tuple
UPDATE files SET kind = v.column2, size = v.column3, mtime_ns = v.column4, ctime_ns = v.column5,
    inode = v.column6
FROM (
VALUES (?, ?, ?, ?, ?, ?)
) v WHERE row_id = v.column1;

-- name: change_attributes
UPDATE files SET attribute_id = v.column2, nlink = v.column3
FROM (
VALUES (?, ?, ?)
) v WHERE row_id = v.column1;

-- name: change_checksum
UPDATE files SET checksum = v.column2, algorithm = v.column3
FROM (
VALUES (?, ?, ?)
) v WHERE row_id = v.column1;

-- name: change_place
-- A policy that was not chosen goes by the type. Where it is now no rule hides it.
UPDATE files SET directory_id = ?2, name = ?3, name_text = ?4, file_type = ?5,
    policy = iif(flags & 64, policy, ?6), tracking = iif(tracking = 1, 0, tracking)
WHERE row_id = ?1;

-- name: live_at
SELECT f.row_id, f.kind, f.size, f.mtime_ns, f.inode,
    f.flags & 32 <> 0
        OR EXISTS (SELECT 1 FROM operations o WHERE o.file_id = f.file_id AND o.status = 'pending')
        OR EXISTS (SELECT 1 FROM holds h WHERE h.file_id = f.file_id)
FROM files f WHERE f.directory_id = ? AND f.name = ? AND f.state <> 6;

-- name: found
DELETE FROM missing WHERE row_id IN (SELECT value FROM json_each(?));

-- name: forget_moves
DELETE FROM provisional_moves WHERE row_id IN (SELECT value FROM json_each(?));

-- name: insert_version
INSERT OR IGNORE INTO versions (version_id, number, algorithm, checksum, size, mtime_ns, created_ns,
    location, file_id)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
;

-- name: drop_version
DELETE FROM versions WHERE file_id = ?1 AND version_id = ?2 AND created_ns <= ?3;

-- name: drop_versions
WITH told (at_ns) AS (SELECT ?1), gone (file_id, version_id) AS (
VALUES (?, ?)
)
DELETE FROM versions WHERE (file_id, number, version_id) IN (
    SELECT v.file_id, v.number, v.version_id FROM told CROSS JOIN gone g
    CROSS JOIN versions v ON v.file_id = g.file_id AND v.version_id = g.version_id
    WHERE v.created_ns <= told.at_ns
);

-- name: told_pruned
-- No event tells whose they are, so all versions are looked through, once for many.
SELECT v.file_id, v.version_id, g.at_ns FROM versions v CROSS JOIN (
    SELECT unhex(value ->> 0) AS version_id, max(value ->> 1) AS at_ns
    FROM json_each(?) GROUP BY 1
) g ON g.version_id = v.version_id WHERE v.created_ns <= g.at_ns;

-- name: versions
SELECT v.version_id, v.number, v.algorithm, v.checksum, v.size, v.mtime_ns, v.created_ns, l.location
FROM versions v LEFT JOIN locations l ON l.location_id = v.location
WHERE v.file_id = ? ORDER BY v.number DESC, v.version_id DESC;

-- name: versions_in
SELECT v.file_id, v.version_id, v.number, v.algorithm, v.checksum, v.size, v.mtime_ns, v.created_ns,
    l.location
FROM versions v LEFT JOIN locations l ON l.location_id = v.location
WHERE (v.file_id, v.number, v.version_id) > (?1, ?2, ?3)
    AND (l.location IS NULL OR substr(l.location, 1, 32) = ?4)
ORDER BY v.file_id, v.number, v.version_id LIMIT ?5;

-- name: apply_manifest
INSERT OR IGNORE INTO manifests_applied (store_id, name, applied_ns) VALUES (?, ?, ?);

-- name: pending_operations
SELECT o.operation_id, o.file_id, o.operation_type, o.timestamp_ns, o.status, o.run_id,
    o.finished_ns, o.details
FROM operations o LEFT JOIN act_runs a ON a.act_id = o.run_id
WHERE o.status = 'pending' AND (:repository_id IS NULL OR a.repository_id = :repository_id)
ORDER BY o.run_id, o.operation_id;

-- name: act_file_columns
SELECT f.row_id, f.file_id, d.path, f.name, f.kind, f.size, f.mtime_ns, f.ctime_ns, f.inode, f.state,
    f.flags, f.algorithm, f.checksum, f.hash_due, p.name, coalesce(v.number, 0),
    coalesce(v.algorithm, 0), v.checksum

-- name: act_file_joins
CROSS JOIN policies p ON p.number = f.policy
LEFT JOIN versions v ON v.file_id = f.file_id AND (v.number, v.version_id) = (
    SELECT w.number, w.version_id FROM versions w WHERE w.file_id = f.file_id
    ORDER BY w.number DESC, w.version_id DESC LIMIT 1)

-- name: to_back_up_part
-- One range of the index, in the order of row_id. 22: unstable, suspect and claimed.
SELECT f.row_id FROM files f INDEXED BY files_state
WHERE f.repository = :number AND f.state = {state} AND f.file_type = {file_type} AND f.tracking = 0
    AND f.row_id > :after AND f.flags & 22 = 0 AND f.kind IN (8, 10)
    AND NOT EXISTS (SELECT 1 FROM missing m WHERE m.row_id = f.row_id)

-- name: files_under
FROM directories d CROSS JOIN files f ON f.directory_id = d.directory_id
{joins}
WHERE d.repository = :number AND d.path >= :low AND d.path < :high
    AND (d.path > :after_directory OR d.path = :after_directory AND f.name > :after_name)
    AND f.state <> 6 AND +f.tracking = 0
ORDER BY d.path, f.name LIMIT :limit;

-- name: file_under
FROM directories d CROSS JOIN files f ON f.directory_id = d.directory_id
{joins}
WHERE d.repository = :number AND d.path = :directory AND f.name = :name
    AND f.state <> 6 AND +f.tracking = 0;

-- name: act_files
FROM json_each(:ids) i CROSS JOIN files f ON f.file_id = unhex(i.value)
CROSS JOIN directories d ON d.directory_id = f.directory_id
{joins};

-- name: insert_hold
INSERT INTO holds (hold_id, file_id, query, reason, owner, created_ns, ends_ns, released_ns)
VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: tell_operation
INSERT INTO operations (operation_id, file_id, operation_type, timestamp_ns, status, finished_ns, details)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING;

-- name: tell_hold
-- Once released it stays so, since the first time.
INSERT INTO holds (hold_id, file_id, query, reason, owner, created_ns, ends_ns, released_ns)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (hold_id) DO UPDATE SET released_ns = excluded.released_ns
WHERE excluded.released_ns < coalesce(released_ns, excluded.released_ns + 1);

-- name: release_hold
UPDATE holds SET released_ns = coalesce(released_ns, ?2) WHERE hold_id = ?1;

-- name: holds
SELECT hold_id, file_id, query, reason, owner, created_ns, ends_ns, released_ns FROM holds
ORDER BY created_ns, hold_id;

-- name: holds_on
SELECT hold_id, file_id, query, reason, owner, created_ns, ends_ns, released_ns FROM holds
WHERE file_id = ?1 OR file_id IS NULL AND EXISTS (
    SELECT 1 FROM file_paths p
    WHERE p.row_id = (SELECT f.row_id FROM files f WHERE f.file_id = ?1)
        AND (p.root_path || '/' || p.relative_path = query
            OR substr(p.root_path || '/' || p.relative_path, 1, length(query) + 1) = query || '/'
            OR p.root_path || '/' || p.relative_path GLOB replace(query, '[!', '[^'))
)
ORDER BY created_ns, hold_id;

-- name: insert_confirmation
INSERT OR IGNORE INTO confirmations (repository_id, guard, evidence, at_ns) VALUES (?, ?, ?, ?);

-- name: confirmations
SELECT repository_id, guard, evidence, at_ns FROM confirmations WHERE repository_id = ?
ORDER BY at_ns DESC, guard;

-- name: assign
INSERT INTO assignments (file_id, policy_name, explicit, at_ns) VALUES (?, ?, ?, ?)
-- Of two of one time always the same one.
ON CONFLICT (file_id) DO UPDATE SET policy_name = excluded.policy_name,
    explicit = excluded.explicit, at_ns = excluded.at_ns
WHERE (excluded.at_ns, excluded.explicit, excluded.policy_name) > (at_ns, explicit, policy_name);

-- name: choose
INSERT OR REPLACE INTO assignments (file_id, policy_name, explicit, at_ns) VALUES (?, ?, 1, ?);

-- name: assigned_to
SELECT file_id FROM assignments WHERE policy_name = ? AND explicit;

-- name: chosen_for
SELECT file_id FROM files WHERE flags <> 0 AND flags & 64 AND policy = ?;

-- name: ungovern
UPDATE files SET policy = ?3 WHERE policy = ?1 AND file_type = ?2 AND flags & 64 = 0;

-- name: governing
SELECT f.row_id, f.file_type, f.policy, f.flags, f.seq, p.number
FROM files f LEFT JOIN assignments a ON a.file_id = f.file_id AND a.explicit
LEFT JOIN policies p ON p.name = a.policy_name
WHERE f.file_id = ?;

-- name: govern
UPDATE files SET policy = ?2, flags = ?3, seq = ?4 WHERE row_id = ?1;

-- name: still_replayed
UPDATE replayed SET seq = ?3 WHERE row_id = ?1 AND seq = ?2;

-- name: policy_change
INSERT INTO policy_changes (name, removed, at_ns) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET removed = excluded.removed, at_ns = excluded.at_ns;

-- name: policy_changes
SELECT name, removed, at_ns FROM policy_changes ORDER BY at_ns, name;

-- name: assign_by_order
INSERT OR REPLACE INTO assignments (file_id, policy_name, explicit, at_ns) VALUES (?, ?, ?, ?);

-- name: assignments
SELECT s.file_id, s.policy_name, s.explicit, s.at_ns, r.repository_id, d.path, f.name
FROM assignments s JOIN files f ON f.file_id = s.file_id
JOIN directories d ON d.directory_id = f.directory_id
JOIN repositories r ON r.number = f.repository
ORDER BY s.at_ns, s.file_id;

-- name: all_confirmations
SELECT repository_id, guard, evidence, at_ns FROM confirmations ORDER BY at_ns;

-- name: told_of_policy
SELECT at_ns, removed FROM policy_changes WHERE name = ?;

-- name: told_repository
SELECT number, path, enforce, generation, told_ns FROM repositories WHERE repository_id = ?;

-- name: insert_told_repository
INSERT INTO repositories (repository_id, path, path_text, kind, status, filesystem_type,
    filesystem_id, root_inode, stable_inodes, network, marker_in_root, enforce, user_area,
    ignore_hash, generation, complete_generation, accepted_losses, held_guard, held_reason, added_ns,
    told_ns)
VALUES (?1, ?2, ?3, ?4, 'offline', '', '', 0, 1, 0, 1, ?5, x'', x'', 0, 0, 0, '', '', ?6, ?6)
ON CONFLICT DO NOTHING;

-- name: tell_added
UPDATE repositories SET added_ns = ?2 WHERE number = ?1 AND added_ns > ?2;

-- name: tell_repository
UPDATE OR IGNORE repositories SET enforce = ?2, told_ns = ?3, path = iif(generation = 0, ?4, path),
    path_text = iif(generation = 0, ?5, path_text)
WHERE number = ?1;

-- name: told_records
SELECT f.file_id, f.row_id, f.repository, f.directory_id, d.path, f.name, f.state, f.flags, f.kind,
    f.hash_due, f.registered_seq,
    (SELECT c.at_ns FROM commits c WHERE c.last_seq >= f.state_seq ORDER BY c.last_seq LIMIT 1),
    (SELECT c.at_ns FROM commits c WHERE c.last_seq >= f.registered_seq ORDER BY c.last_seq LIMIT 1),
    coalesce(t.at_ns,
        (SELECT c.at_ns FROM commits c WHERE c.last_seq >= f.seq ORDER BY c.last_seq LIMIT 1)),
    coalesce(t.unseen, 0), f.checksum IS NOT NULL
FROM (
VALUES (?)
) i CROSS JOIN files f ON f.file_id = i.column1
CROSS JOIN directories d ON d.directory_id = f.directory_id
LEFT JOIN replayed t ON t.row_id = f.row_id AND t.seq = f.seq;

-- name: known_versions
SELECT v.file_id, v.created_ns, v.number, v.version_id
FROM (
VALUES (?)
) i CROSS JOIN versions v ON v.file_id = i.column1;

-- name: chosen_among
SELECT a.file_id
FROM (
VALUES (?)
) i CROSS JOIN assignments a ON a.file_id = i.column1 AND a.explicit;

-- name: told_at
-- Who is live at a place, and since when that is known.
SELECT f.row_id, f.file_id, coalesce(t.at_ns,
    (SELECT c.at_ns FROM commits c WHERE c.last_seq >= f.seq ORDER BY c.last_seq LIMIT 1))
FROM files f LEFT JOIN replayed t ON t.row_id = f.row_id AND t.seq = f.seq
WHERE f.directory_id = ? AND f.name = ? AND f.state <> 6;

-- name: insert_told_file
-- 128: the first scan that sees it writes mode, owner and links anew.
INSERT INTO files (file_id, repository, directory_id, name, name_text, kind, file_type, size, mtime_ns,
    ctime_ns, inode, attribute_id, nlink, atime_ns, btime_ns, state, registered_seq, state_seq, seq,
    tracking, flags, policy, version, hash_due, algorithm, checksum)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 128, ?, 1, ?, ?, ?)
RETURNING row_id;

-- name: tell_metadata
UPDATE files SET kind = ?2, size = ?3, mtime_ns = ?4, ctime_ns = ?5, inode = ?6, attribute_id = ?7,
    nlink = ?8, atime_ns = ?9, btime_ns = ?10, hash_due = ?11, algorithm = ?12, checksum = ?13
WHERE row_id = ?1;

-- name: tell_state
UPDATE files SET state = ?2, state_seq = ?3, hash_due = ?4 WHERE row_id = ?1;

-- name: tell_registered
UPDATE files SET registered_seq = ?2 WHERE row_id = ?1;

-- name: tell_repository_of
UPDATE files SET repository = ?2 WHERE row_id = ?1;

-- name: tell_copy
UPDATE files SET backup_path = iif(?2, backup_path, ?3), archive_path = iif(?2, ?3, archive_path)
WHERE row_id = ?1;

-- name: give_way
UPDATE files SET state = 6, hash_due = 0, seq = ?2 WHERE row_id = ?1;

-- name: touch
UPDATE files SET seq = ?2 WHERE row_id = ?1;

-- name: replayed
INSERT OR REPLACE INTO replayed (row_id, seq, at_ns, unseen) VALUES (?, ?, ?, ?);
