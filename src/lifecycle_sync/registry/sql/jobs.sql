-- name: put_job
INSERT INTO jobs VALUES (?1, ?2, ?3, ?3)
ON CONFLICT (job_id) DO UPDATE SET
    since_ns = CASE state WHEN excluded.state THEN since_ns ELSE excluded.since_ns END,
    state = excluded.state,
    heartbeat_ns = excluded.heartbeat_ns;

-- name: beat_job
UPDATE jobs SET heartbeat_ns = max(heartbeat_ns, ?2) WHERE job_id = ?1 AND state = 'live';

-- name: job
SELECT job_id, state, since_ns, heartbeat_ns FROM jobs WHERE job_id = ?;

-- name: count_jobs
SELECT state, count(*) FROM jobs GROUP BY state;

-- name: forget_jobs
DELETE FROM jobs WHERE state <> 'live' AND since_ns < ?;

-- name: declare_file
INSERT INTO declared_files (path, job_id, chunk_id, device, inode) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (path) DO UPDATE SET
    job_id = excluded.job_id, chunk_id = excluded.chunk_id,
    device = excluded.device, inode = excluded.inode;

-- name: declared_file
SELECT path, job_id, chunk_id, device, inode FROM declared_files WHERE path = ?;

-- name: declared_files_of
SELECT path, job_id, chunk_id, device, inode FROM declared_files WHERE job_id = ? ORDER BY path;

-- name: forget_declared_files
DELETE FROM declared_files WHERE job_id NOT IN (SELECT job_id FROM jobs);
