-- name: last_marked
-- The file of the version that is so many further on, else of the last one.
SELECT coalesce((
    SELECT file_id FROM versions INDEXED BY versions_beyond
    WHERE beyond_ns IS NOT NULL AND file_id > ?1 ORDER BY file_id LIMIT 1 OFFSET ?2
), (
    SELECT file_id FROM versions INDEXED BY versions_beyond
    WHERE beyond_ns IS NOT NULL AND file_id > ?1 ORDER BY file_id DESC LIMIT 1
));

-- name: marked
-- The files between ?5 and ?6 whose marks are right by one of the kinds of ?4. 64 is POLICY_SET, 4
-- SUSPECT. Versions as in kept_versions; each file has its own beside each other already.
WITH kinds (file_type, policy, kept, why) AS MATERIALIZED (
    SELECT k.value ->> 0, coalesce(p.number, -1), k.value ->> 2, k.value ->> 3
    FROM json_each(?4) k LEFT JOIN policies p ON p.name = k.value ->> 1
    WHERE k.value ->> 1 IS NULL OR p.number IS NOT NULL
),
marked (file_id, numbers, size, newest_ns, kept, kept_since_ns) AS (
    SELECT v.file_id,
        group_concat(v.number, ',' ORDER BY v.number DESC) FILTER (WHERE v.beyond_ns IS NOT NULL),
        sum(v.size) FILTER (WHERE v.beyond_ns IS NOT NULL),
        max(v.created_ns) FILTER (WHERE v.beyond_ns IS NOT NULL),
        count(*) FILTER (WHERE v.beyond_ns IS NULL),
        min(v.created_ns) FILTER (WHERE v.beyond_ns IS NULL)
    FROM {looked_through} AND v.location IN ({locations})
    GROUP BY {grouped} HAVING count(v.beyond_ns)
)

-- name: marked_alone
-- From the first mark of each file, in the order of the index: who asks for few rows waits for these.
versions b INDEXED BY versions_beyond CROSS JOIN versions v ON v.file_id = b.file_id
WHERE b.beyond_ns IS NOT NULL AND b.file_id > ?5 AND b.file_id <= ?6 AND NOT EXISTS (
    SELECT 1 FROM versions e INDEXED BY versions_beyond WHERE e.beyond_ns IS NOT NULL
        AND e.file_id = b.file_id AND (e.number, e.version_id) < (b.number, b.version_id)
)

-- name: all_between
-- Where most of them are marked that takes less.
versions v WHERE v.file_id > ?5 AND v.file_id <= ?6

-- name: locations
-- Of the vault that backups go to: the archive keeps what it has.
SELECT l.location_id FROM locations l
JOIN stores s ON s.kind = 'backup' AND substr(l.location, 1, 32) = lower(hex(s.store_id))

-- name: marked_alike
FROM marked m
CROSS JOIN files f ON f.file_id = m.file_id AND f.tracking = 0 AND NOT f.flags & 4
CROSS JOIN kinds k ON k.file_type = f.file_type AND k.policy = iif(f.flags & 64, f.policy, -1)
    AND k.kept = m.kept AND (m.kept_since_ns IS NULL OR m.kept_since_ns > m.newest_ns)

-- name: marked_roots
SELECT DISTINCT r.repository_id
{marked_alike}
CROSS JOIN repositories r ON r.number = f.repository
LIMIT ?1;

-- name: begin_marked
-- As begin_operations: a row is there only if nothing stands against it as it is written, and as
-- long as there are ids.
INSERT OR IGNORE INTO operations (operation_id, file_id, operation_type, timestamp_ns, status, run_id, details)
SELECT nullif(substr(?7, 16 * row_number() OVER () - 15, 16), x''), m.file_id, 'prune', ?1, 'pending', ?2,
    '{"versions":[' || m.numbers || '],"bytes":' || m.size || ',' || k.why
{marked_alike}
WHERE f.repository = ?3 AND NOT (
    EXISTS (SELECT 1 FROM holds WHERE released_ns IS NULL) AND EXISTS (
{held}
));

-- name: begun_marked
-- The versions that these intents are about, in their order.
SELECT group_concat(hex(v.version_id), ''), count(*), total(v.size), max(v.created_ns)
FROM operations o CROSS JOIN versions v ON v.file_id = o.file_id AND v.beyond_ns IS NOT NULL
    AND v.location IN ({locations})
WHERE o.operation_id >= ?1 AND o.operation_id <= ?2 AND o.run_id = ?3 AND +o.status = 'pending';

-- name: still_marked
-- All that is marked there, by the index alone.
SELECT group_concat(hex(version_id), '') FROM versions INDEXED BY versions_beyond
WHERE beyond_ns IS NOT NULL AND file_id > ?1 AND file_id <= ?2;

-- name: near
-- Of the versions of these files so many at most.
SELECT count(*) FROM (
    SELECT 1 FROM versions WHERE file_id > ?1 AND file_id <= ?2 LIMIT ?3
);

-- name: drop_all_marked
-- Row by row in the order of the table, which is far less work than one search for each.
DELETE FROM versions WHERE file_id > ?1 AND file_id <= ?2 AND +beyond_ns IS NOT NULL;

-- name: drop_marked
DELETE FROM versions WHERE (file_id, number, version_id) IN (
    SELECT v.file_id, v.number, v.version_id
    FROM operations o CROSS JOIN versions v ON v.file_id = o.file_id
    WHERE o.operation_id >= ?1 AND o.operation_id <= ?2 AND o.run_id = ?3
        AND +o.status = 'pending' AND v.created_ns <= ?4
        AND v.version_id IN (SELECT unhex(value) FROM json_each(?5))
);

-- name: complete_marked
-- In the order of the table, whose key does not change.
UPDATE operations SET status = 'completed', finished_ns = ?4
WHERE operation_id >= ?1 AND operation_id <= ?2 AND run_id = ?3 AND +status = 'pending';
