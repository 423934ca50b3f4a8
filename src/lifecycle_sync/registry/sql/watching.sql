-- name: directories_under
SELECT directory_id, path, signature, scanned_ns, ignored FROM directories
WHERE repository = :number AND gone = 0 AND path > :after
    AND (:path = x'' OR path = :path OR (path >= :low AND path < :high))
ORDER BY path LIMIT :limit;

-- name: linked_directories
SELECT DISTINCT d.path FROM files f JOIN directories d ON d.directory_id = f.directory_id
WHERE f.inode = ? AND f.repository = ? AND f.state <> 6 AND d.gone = 0;

-- name: hash_again
-- state <> 6 as it stands with the index of places, which is not used otherwise.
UPDATE files SET hash_due = 1
WHERE directory_id = ?1 AND name = ?2 AND kind = 8 AND state <> 6 AND state <> 4
RETURNING inode, nlink;

-- name: hash_all_again
UPDATE files SET hash_due = 1
WHERE directory_id = ?1 AND kind = 8 AND state <> 6 AND state <> 4 RETURNING inode, nlink;

-- name: hash_links_again
UPDATE files SET hash_due = 1
WHERE inode = ?1 AND repository = ?2 AND kind = 8 AND state NOT IN (4, 6);

-- name: watch_note
SELECT needs_recrawl, noted_ns, health FROM watching WHERE repository = ?;

-- name: set_recrawl
INSERT INTO watching (repository, needs_recrawl) VALUES (?1, ?2)
ON CONFLICT (repository) DO UPDATE SET needs_recrawl = excluded.needs_recrawl;

-- name: set_health
INSERT INTO watching (repository, noted_ns, health) VALUES (?1, ?2, ?3)
ON CONFLICT (repository) DO UPDATE SET noted_ns = excluded.noted_ns, health = excluded.health;

-- name: loops
SELECT name, started_ns, ended_ns, due_ns, status, message FROM loops ORDER BY name;

-- name: note_loop
INSERT OR REPLACE INTO loops (name, started_ns, ended_ns, due_ns, status, message)
VALUES (?, ?, ?, ?, ?, ?);

-- name: prune_runs
DELETE FROM runs WHERE run_id IN (
    SELECT run_id FROM runs WHERE repository = ?1 AND run_type = 'realtime' AND whole = 0
    ORDER BY run_id DESC LIMIT -1 OFFSET ?2
);

-- name: scrub_note
SELECT begun_ns, after, files, bytes, slice_ns, ended_ns FROM scrubs WHERE repository = ?;

-- name: note_scrub
INSERT OR REPLACE INTO scrubs (repository, begun_ns, after, files, bytes, slice_ns, ended_ns)
VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: checks
SELECT what, subject, ended_ns, files, bytes, faults, message, since_ns FROM checks
ORDER BY what, subject;

-- name: note_check
INSERT OR REPLACE INTO checks (what, subject, ended_ns, files, bytes, faults, message, since_ns)
VALUES (?, ?, ?, ?, ?, ?, ?, ?);
