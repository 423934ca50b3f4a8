-- name: to_hash
SELECT f.row_id, d.path, f.name, f.size, f.mtime_ns, f.ctime_ns, f.inode
FROM files f JOIN directories d ON d.directory_id = f.directory_id
WHERE f.hash_due = 1 AND f.repository = :number AND f.row_id > :after
    AND f.tracking = 0 AND f.state <> 6
    AND NOT EXISTS (SELECT 1 FROM missing m WHERE m.row_id = f.row_id)
ORDER BY f.row_id LIMIT :limit;

-- name: to_hash_totals
SELECT count(*), coalesce(sum(size), 0) FROM files
WHERE hash_due = 1 AND repository = ? AND tracking = 0 AND state <> 6
    AND NOT EXISTS (SELECT 1 FROM missing m WHERE m.row_id = files.row_id);

-- name: to_scrub
SELECT f.row_id, d.path, f.name, f.size, f.mtime_ns, f.ctime_ns, f.inode
FROM files f JOIN directories d ON d.directory_id = f.directory_id
WHERE f.row_id > :after AND f.repository = :number AND f.kind = 8
    AND f.checksum IS NOT NULL AND f.tracking = 0 AND f.state <> 6
    AND NOT EXISTS (SELECT 1 FROM missing m WHERE m.row_id = f.row_id)
ORDER BY f.row_id LIMIT :limit;

-- name: known
SELECT size, mtime_ns, ctime_ns, inode, checksum, hash_due, flags, state, version, algorithm,
    kind
FROM files WHERE row_id = ? AND state <> 6;

-- name: first_hash
-- The usual case of a first index: a new file, hashed as it was seen.
UPDATE files SET checksum = ?2, algorithm = ?7, hash_due = 0, seq = ?8
WHERE row_id = ?1 AND size = ?3 AND mtime_ns = ?4 AND ctime_ns = ?5 AND inode = ?6
    AND checksum IS NULL AND hash_due = 1 AND flags = 0 AND state = 0;

-- name: seq
SELECT seq FROM files WHERE row_id = ?;

-- name: store
UPDATE files SET size = ?2, mtime_ns = ?3, ctime_ns = ?4, inode = ?5, checksum = ?6, algorithm = ?7,
    hash_due = ?8, flags = ?9, seq = ?10, state_seq = CASE WHEN state <> ?11 THEN ?10 ELSE state_seq END,
    state = ?11, version = ?12
WHERE row_id = ?1;

-- name: flag
UPDATE files SET flags = ?2, seq = ?3, state_seq = CASE WHEN state <> ?4 THEN ?3 ELSE state_seq END,
    state = ?4
WHERE row_id = ?1;

-- name: provisional
SELECT directory_id, name, name_text, size, mtime_ns, ctime_ns, inode FROM provisional_moves
WHERE row_id = ?;

-- name: forget_provisional
DELETE FROM provisional_moves WHERE row_id = ?;

-- name: go_back
UPDATE files SET directory_id = ?2, name = ?3, name_text = ?4, size = ?5, mtime_ns = ?6,
    ctime_ns = ?7, inode = ?8, state = 6, state_seq = ?9, seq = ?9, hash_due = 0, flags = flags & ~3,
    file_type = ?10, policy = iif(flags & 64, policy, ?11)
WHERE row_id = ?1;

-- name: place
SELECT repository, directory_id, name, name_text, kind, file_type, attribute_id, nlink, atime_ns,
    btime_ns
FROM files WHERE row_id = ?;

-- name: accept_suspect
UPDATE files SET flags = flags & ~4, hash_due = 1, seq = ?2 WHERE file_id = ?1;
