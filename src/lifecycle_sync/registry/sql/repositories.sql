-- name: repositories
SELECT repository_id, path, kind, status, filesystem_type, filesystem_id, root_inode, stable_inodes,
    network, marker_in_root, enforce, user_area, ignore_hash, generation, complete_generation,
    accepted_losses, held_guard, held_reason, added_ns, number
FROM repositories ORDER BY path;

-- name: insert_repository
INSERT INTO repositories (repository_id, path, path_text, kind, status, filesystem_type,
    filesystem_id, root_inode, stable_inodes, network, marker_in_root, enforce, user_area,
    ignore_hash, generation, complete_generation, accepted_losses, held_guard, held_reason, added_ns,
    told_ns)
VALUES (:repository_id, :path, :path_text, :kind, :status, :filesystem_type,
    :filesystem_id, :root_inode, :stable_inodes, :network, :marker_in_root, :enforce, :user_area,
    :ignore_hash, :generation, :complete_generation, :accepted_losses, :held_guard, :held_reason,
    :added_ns, :now);

-- name: update_repository
UPDATE repositories SET path = :path, path_text = :path_text, kind = :kind, status = :status,
    filesystem_type = :filesystem_type, filesystem_id = :filesystem_id, root_inode = :root_inode,
    stable_inodes = :stable_inodes, network = :network, marker_in_root = :marker_in_root,
    enforce = :enforce, user_area = :user_area, ignore_hash = :ignore_hash,
    accepted_losses = :accepted_losses, held_guard = :held_guard, held_reason = :held_reason,
    added_ns = :added_ns,
    told_ns = CASE WHEN path <> :path OR enforce <> :enforce THEN :now ELSE told_ns END
WHERE repository_id = :repository_id;

-- name: runs
SELECT n.run_id, r.repository_id, n.run_type, n.generation, n.first_seq, n.whole, n.started_ns,
    n.ended_ns, n.status, n.files_scanned, n.files_added, n.files_updated, n.files_removed, n.error_message
FROM runs n JOIN repositories r ON r.number = n.repository
WHERE (:number IS NULL OR n.repository = :number) AND n.whole >= :whole
ORDER BY n.run_id DESC LIMIT :limit;

-- name: interrupt_runs
UPDATE runs SET status = 'failed', ended_ns = :now, error_message = 'interrupted'
WHERE repository = :number AND status = 'running';

-- name: next_generation
UPDATE repositories SET generation = generation + 1 WHERE number = :number RETURNING generation;

-- name: insert_run
INSERT INTO runs (repository, run_type, generation, first_seq, whole, started_ns, status)
VALUES (:number, :run_type, :generation, :first_seq, :whole, :started_ns, 'running') RETURNING run_id;

-- name: end_run
UPDATE runs SET ended_ns = :ended_ns, status = :status, files_scanned = :files_scanned,
    files_added = :files_added, files_updated = :files_updated, files_removed = :files_removed,
    error_message = :error_message
WHERE run_id = :run_id;

-- name: complete_generation
UPDATE repositories SET complete_generation = max(complete_generation, :generation)
WHERE number = :number;

-- name: loose_repositories
SELECT number, path FROM repositories WHERE kind = 'loose' ORDER BY path;

-- name: give_up_path
-- No path begins with a NUL.
UPDATE repositories SET path = CAST(x'00' || repository_id AS BLOB) WHERE number = ?;

-- name: take_directory
-- Generation 0: no scan has seen it.
UPDATE directories SET repository = ?2, path = ?3, path_text = ?4, signature = NULL,
    generation = 0, error = NULL
WHERE directory_id = ?1;

-- name: compare_again
UPDATE directories SET signature = NULL, error = NULL WHERE directory_id = ?;

-- name: merge_files
UPDATE OR IGNORE files SET directory_id = ?2 WHERE directory_id = ?1;

-- name: files_taken
SELECT f.row_id FROM files f JOIN directories d ON d.directory_id = f.directory_id
WHERE f.repository = ?1 AND d.repository = ?2;

-- name: take_file
UPDATE files SET repository = ?2, seq = ?3 WHERE row_id = ?1;

-- name: take_missing
UPDATE missing SET repository = ?2 WHERE row_id = ?1;

-- name: has_live_files
SELECT 1 FROM files WHERE repository = ? AND state <> 6 LIMIT 1;
