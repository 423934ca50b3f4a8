-- name: archived_among
-- What a pending act (a recall) puts there is no conflict.
SELECT f.row_id FROM json_each(?1) j JOIN files f ON f.row_id = j.value
WHERE f.state = 4
    AND NOT EXISTS (SELECT 1 FROM operations o WHERE o.file_id = f.file_id AND o.status = 'pending');

-- name: note_archived
-- Only where the scan took the file for there again.
INSERT INTO conflicts (row_id, situation, noted_ns)
SELECT row_id, 'changed while archived', ?2 FROM files WHERE row_id = ?1 AND state = 0
ON CONFLICT (row_id) DO NOTHING;

-- name: note_recreated
-- New records (with a seq of this transaction) at the place of one that an act has deleted.
INSERT INTO conflicts (row_id, situation, other_id, noted_ns)
SELECT n.row_id, 'recreated after deletion', g.file_id, ?2
FROM files n JOIN files g ON g.directory_id = n.directory_id AND g.name = n.name AND g.state = 6
WHERE n.seq > ?1 AND n.registered_seq = n.seq AND n.state <> 6 AND g.row_id < n.row_id
    AND 'delete' = (SELECT o.operation_type FROM operations o WHERE o.file_id = g.file_id
        AND o.operation_type IN ('delete', 'undelete', 'restore', 'recall')
        ORDER BY o.operation_id DESC LIMIT 1)
    AND NOT EXISTS (SELECT 1 FROM operations o WHERE o.file_id = g.file_id AND o.status = 'pending')
ORDER BY g.row_id DESC
ON CONFLICT (row_id) DO NOTHING;

-- name: note_renamed_onto
-- The inode of a missing file, with its size and time, at the place of one that had other content.
INSERT INTO conflicts (row_id, situation, other_id, checksum, noted_ns)
SELECT f.row_id, 'renamed onto another', a.file_id, f.checksum, ?2
FROM files a JOIN files f ON f.inode = a.inode AND f.repository = a.repository
WHERE a.row_id = ?1 AND f.row_id <> a.row_id AND f.state NOT IN (4, 6) AND f.tracking = 0
    AND f.kind = 8 AND a.kind = 8 AND f.size = a.size AND f.mtime_ns = a.mtime_ns
    AND a.hash_due = 0 AND f.hash_due = 1 AND f.algorithm = a.algorithm AND f.checksum <> a.checksum
    AND NOT EXISTS (SELECT 1 FROM missing m WHERE m.row_id = f.row_id)
ON CONFLICT (row_id) DO NOTHING;

-- name: conflicts
SELECT c.row_id, f.file_id, c.situation, c.other_id, c.checksum, c.noted_ns
FROM conflicts c JOIN files f ON f.row_id = c.row_id
WHERE c.row_id > :after AND f.repository = :number
ORDER BY c.row_id LIMIT :limit;

-- name: conflict_count
SELECT count(*) FROM conflicts c JOIN files f ON f.row_id = c.row_id WHERE f.repository = ?;

-- name: conflict_of
SELECT f.file_id FROM conflicts c JOIN files f ON f.row_id = c.row_id WHERE c.row_id = ?;

-- name: forget_conflict
DELETE FROM conflicts WHERE row_id = ?;

-- name: forget_dangling
DELETE FROM conflicts WHERE row_id NOT IN (SELECT row_id FROM files);
