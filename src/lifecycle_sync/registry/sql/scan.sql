-- name: directory
SELECT directory_id, path, signature, scanned_ns, ignored FROM directories
WHERE repository = ? AND path = ?;

-- name: signatures
SELECT directory_id, path, signature FROM directories
WHERE directory_id > ? AND repository = ? AND signature IS NOT NULL
ORDER BY directory_id LIMIT ?;

-- name: files_in
SELECT row_id, name, kind, size, mtime_ns, ctime_ns, inode, flags, tracking, checksum IS NOT NULL
FROM files WHERE directory_id = ? AND state <> 6;

-- name: touch_directory
UPDATE directories SET generation = ?, scanned_ns = ? WHERE directory_id = ?;

-- name: upsert_directory
INSERT INTO directories (repository, path, path_text, inode, signature, generation, scanned_ns,
    files, bytes, ignored, special)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (repository, path) DO UPDATE SET inode = excluded.inode,
    signature = excluded.signature, generation = excluded.generation,
    scanned_ns = excluded.scanned_ns, files = excluded.files, bytes = excluded.bytes,
    ignored = excluded.ignored, special = excluded.special, gone = 0, error = NULL
RETURNING path, directory_id;

-- name: ensure_directory
INSERT INTO directories (repository, path, path_text, inode, generation, scanned_ns)
VALUES (?, ?, ?, ?, ?, ?)
-- Without its signature, so that the next scan compares: whichever of two looks at a file came
-- last, the one that was recorded last may be the older one.
ON CONFLICT (repository, path) DO UPDATE SET gone = 0, signature = NULL
RETURNING path, directory_id;

-- name: fail_directory
INSERT INTO directories (repository, path, path_text, inode, generation, scanned_ns, error)
VALUES (?, ?, ?, 0, ?, ?, ?)
ON CONFLICT (repository, path) DO UPDATE SET signature = NULL, generation = excluded.generation,
    error = excluded.error, gone = 0;

-- name: insert_file
INSERT INTO files (file_id, repository, directory_id, name, name_text, kind, file_type, size,
    mtime_ns, ctime_ns, inode, attribute_id, nlink, atime_ns, btime_ns, registered_seq, state_seq,
    seq, flags, policy, hash_due, state, tracking, version, algorithm)
VALUES (:file_id, :repository, :directory_id, :name, :name_text, :kind, :file_type, :size, :mtime_ns, :ctime_ns, :inode, :attribute_id, :nlink, :atime_ns, :btime_ns, :seq, :seq, :seq, :flags, :policy, :kind = 8, 0, 0, 1, 0)
-- Somebody registered the file while the scan was on its way here: one record, looked at again.
ON CONFLICT (directory_id, name) WHERE state <> 6 DO UPDATE SET kind = excluded.kind,
    size = excluded.size, mtime_ns = excluded.mtime_ns, ctime_ns = excluded.ctime_ns,
    inode = excluded.inode, attribute_id = excluded.attribute_id, nlink = excluded.nlink,
    atime_ns = excluded.atime_ns, btime_ns = excluded.btime_ns,
    flags = flags & ~129 | excluded.flags,
    checksum = iif(excluded.kind = 8, checksum, NULL), hash_due = excluded.hash_due,
    seq = excluded.seq;

-- name: modify_file
UPDATE files SET kind = ?2, size = ?3, mtime_ns = ?4, ctime_ns = ?5, inode = ?6, attribute_id = ?7,
    nlink = ?8, atime_ns = ?9, btime_ns = ?10, seq = ?11,
    -- What only had its mode, owner and links outdated was hashed as it is.
    hash_due = iif(size = ?3 AND mtime_ns = ?4 AND ctime_ns = ?5 AND inode = ?6 AND kind = ?2,
        hash_due, ?2 = 8),
    -- Only a regular file has content.
    checksum = iif(?2 = 8, checksum, NULL),
    flags = flags & ~129 | ?12,
    -- What the application has claimed stays PROCESSING until it is released. Another file at the
    -- place of an archived one (4), be it the same again, is not away.
    state_seq = CASE WHEN flags & 16 = 0 AND state <> 0 AND (?13 OR state = 4
        AND (size <> ?3 OR mtime_ns <> ?4 OR ctime_ns <> ?5 OR inode <> ?6 OR kind <> ?2))
        THEN ?11 ELSE state_seq END,
    state = CASE WHEN flags & 16 = 0 AND (?13 OR state = 4
        AND (size <> ?3 OR mtime_ns <> ?4 OR ctime_ns <> ?5 OR inode <> ?6 OR kind <> ?2))
        THEN 0 ELSE state END
WHERE row_id = ?1;

-- name: settle_file
UPDATE files SET flags = flags & ~1, hash_due = kind = 8, seq = ?2 WHERE row_id = ?1;

-- name: note_missing
INSERT OR IGNORE INTO missing (row_id, repository, last_seen_ns)
SELECT f.row_id, f.repository, ?2 FROM files f WHERE f.row_id = ?1 AND f.state NOT IN (4, 6);

-- name: found_again
DELETE FROM missing WHERE row_id = ?;

-- name: set_tracking
UPDATE files SET tracking = ?2, seq = ?3 WHERE row_id = ?1;

-- name: unseen_directories
SELECT directory_id, path, signature, scanned_ns, ignored FROM directories
WHERE repository = :number AND generation < :generation AND gone = 0 AND path > :after
ORDER BY path LIMIT :limit;

-- name: protect_below
UPDATE directories SET generation = :generation
WHERE repository = :number AND path >= :low AND path < :high AND gone = 0;

-- name: failed_in
SELECT path FROM directories WHERE repository = ? AND generation = ? AND error IS NOT NULL;

-- name: directory_gone
UPDATE directories SET gone = 1, signature = NULL, files = 0, bytes = 0, ignored = 0, special = 0,
    error = NULL, generation = ?2
WHERE directory_id = ?1;

-- name: miss_directory
INSERT OR IGNORE INTO missing (row_id, repository, last_seen_ns)
SELECT f.row_id, f.repository, d.scanned_ns
FROM files f JOIN directories d ON d.directory_id = f.directory_id
WHERE f.directory_id = ?1 AND f.state NOT IN (4, 6);

-- name: untrack_directory
SELECT row_id FROM files WHERE directory_id = ? AND state <> 6 AND tracking = 0;

-- name: live_count
SELECT count(*) FROM files WHERE repository = ? AND state IN (0, 1, 2, 3, 4, 5) AND tracking = 0;

-- name: live_count_until
SELECT count(*) FROM files WHERE repository = ? AND state IN (0, 1, 2, 3, 4, 5) AND tracking = 0
    AND registered_seq <= ?;

-- name: missing_count
-- CROSS: from the few that are missing to their records, never the other way round.
SELECT count(*) FROM missing m CROSS JOIN files f ON f.row_id = m.row_id
WHERE m.repository = ? AND f.tracking = 0
    -- What an act is at work on may just be on its way to the trash.
    AND NOT EXISTS (SELECT 1 FROM operations o WHERE o.file_id = f.file_id AND o.status = 'pending');

-- name: can_move
SELECT 1 FROM files f JOIN missing m ON m.row_id = ?1
WHERE f.row_id = ?2 AND f.state <> 6 AND f.flags & 32 = 0;

-- name: missing
SELECT m.row_id, d.path, f.name, f.kind, f.size, f.mtime_ns, f.ctime_ns, f.inode,
    -- While it is due, it is another content's.
    iif(f.hash_due, NULL, f.checksum), m.last_seen_ns, f.nlink
FROM missing m
CROSS JOIN files f ON f.row_id = m.row_id
CROSS JOIN directories d ON d.directory_id = f.directory_id
WHERE m.row_id > :after AND m.repository = :number
    AND NOT EXISTS (SELECT 1 FROM operations o WHERE o.file_id = f.file_id AND o.status = 'pending')
ORDER BY m.row_id LIMIT :limit;

-- name: arrivals
SELECT f.row_id, f.name, f.kind, f.size, f.mtime_ns, f.ctime_ns, f.inode, f.flags, f.tracking,
    f.checksum IS NOT NULL
FROM files f
WHERE f.inode = :inode AND f.repository = :number AND f.state <> 6 AND f.tracking = 0
    AND f.flags & 32 = 0
    -- Registered by a scan that began later: what one and the same scan saw are two files, though
    -- they have one inode now. All but the newest runs are older than what is missing.
    AND f.registered_seq > (
        SELECT min(n.first_seq) FROM (
            SELECT first_seq, started_ns FROM runs
            WHERE repository = :number ORDER BY run_id DESC LIMIT 1000
        ) n WHERE n.started_ns > :since_ns
    )
    AND NOT EXISTS (SELECT 1 FROM missing m WHERE m.row_id = f.row_id)
    -- One that has taken over another record already is spoken for.
    AND NOT EXISTS (SELECT 1 FROM provisional_moves p WHERE p.row_id = f.row_id)
ORDER BY f.row_id;

-- name: file_gone
-- Somebody may have registered the file meanwhile: then it is not missing any more.
UPDATE files SET state = 6, state_seq = ?2, seq = ?2, hash_due = 0
WHERE row_id = ?1 AND row_id IN (SELECT row_id FROM missing);

-- name: forget_move_of_gone
DELETE FROM provisional_moves
WHERE row_id = ?1 AND EXISTS (SELECT 1 FROM files f WHERE f.row_id = ?1 AND f.state = 6);

-- name: remember_place
INSERT INTO provisional_moves (row_id, directory_id, name, name_text, size, mtime_ns, ctime_ns, inode)
SELECT row_id, directory_id, name, name_text, size, mtime_ns, ctime_ns, inode
FROM files WHERE row_id = ?
ON CONFLICT (row_id) DO NOTHING;

-- name: new_place
SELECT directory_id, name, name_text, file_type, mtime_ns, ctime_ns, inode, attribute_id, nlink,
    atime_ns, btime_ns, policy, flags
FROM files WHERE row_id = ?;

-- name: delete_file
DELETE FROM files WHERE row_id = ?;

-- name: take_place
UPDATE files SET directory_id = ?2, name = ?3, name_text = ?4, file_type = ?5, mtime_ns = ?6,
    ctime_ns = ?7, inode = ?8, attribute_id = ?9, nlink = ?10, atime_ns = ?11, btime_ns = ?12,
    -- A policy that was not chosen goes by the type, which a new name may have changed.
    policy = iif(flags & 64, policy, ?13),
    -- Where it is now no rule hides it; what an order took out stays out.
    tracking = iif(tracking = 1, 0, tracking),
    flags = flags & ~129 | (?14 & 129), seq = ?15, hash_due = max(hash_due, ?16)
WHERE row_id = ?1;

-- name: look_again
UPDATE directories SET signature = NULL, gone = 0
WHERE directory_id = (SELECT directory_id FROM files WHERE row_id = ?);
