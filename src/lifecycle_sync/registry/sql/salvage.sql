-- Run on a new registry that rows of a damaged one were copied into, before anybody else sees it.

-- name: drop_policies
DELETE FROM policies WHERE length(name) = 0 OR NOT json_valid(file_types)
    OR json_type(CASE WHEN json_valid(file_types) THEN file_types ELSE '0' END) <> 'array'
    OR EXISTS (
        SELECT 1 FROM json_each(CASE WHEN json_valid(file_types) THEN file_types ELSE '[]' END) j
        WHERE j.value NOT IN (SELECT t.name FROM file_types t)
    );

-- name: drop_commits
-- Negative ones stand for times that events of a vault told.
DELETE FROM commits WHERE abs(last_seq) NOT BETWEEN 1 AND 1 << 53;

-- name: drop_repositories
DELETE FROM repositories WHERE length(repository_id) <> 16 OR substr(path, 1, 1) <> x'2f'
    OR length(path) < 2 OR instr(path, x'00') OR kind NOT IN ('root', 'loose')
    OR status NOT IN ('active', 'offline', 'held') OR generation < 0;

-- name: drop_directories
DELETE FROM directories WHERE repository NOT IN (SELECT number FROM repositories)
    OR instr(path, x'00') OR instr(x'2f' || path || x'2f', x'2f2e2e2f')
    OR (length(path) > 0 AND instr(x'2f' || path || x'2f', x'2f2f'));

-- name: drop_files
DELETE FROM files WHERE length(file_id) <> 16 OR length(name) = 0 OR instr(name, x'2f')
    OR instr(name, x'00') OR name IN (x'2e', x'2e2e') OR kind NOT IN (8, 10) OR size < 0
    OR state NOT BETWEEN 0 AND 6 OR tracking NOT BETWEEN 0 AND 2
    OR file_type NOT BETWEEN 0 AND 5 OR algorithm NOT BETWEEN 0 AND 1 OR version < 1
    OR NOT EXISTS (
        SELECT 1 FROM directories d
        WHERE d.directory_id = files.directory_id AND d.repository = files.repository
    );

-- name: drop_runs
DELETE FROM runs WHERE repository NOT IN (SELECT number FROM repositories)
    OR run_type NOT IN ('realtime', 'reconciliation', 'startup')
    OR status NOT IN ('running', 'completed', 'failed');

-- name: drop_moves
DELETE FROM provisional_moves WHERE row_id NOT IN (SELECT row_id FROM files)
    OR directory_id NOT IN (SELECT directory_id FROM directories);

-- name: drop_versions
DELETE FROM versions WHERE length(file_id) <> 16 OR length(version_id) <> 16 OR number < 1
    OR size < 0 OR algorithm NOT BETWEEN 0 AND 1 OR length(checksum) <> 32;

-- name: drop_holds
DELETE FROM holds WHERE length(hold_id) <> 16 OR (file_id IS NULL) = (query IS NULL)
    OR length(file_id) <> 16 OR length(query) = 0;

-- name: drop_assignments
DELETE FROM assignments WHERE length(file_id) <> 16 OR length(policy_name) = 0
    OR explicit NOT IN (0, 1);

-- name: mend_versions
UPDATE versions SET location = NULL WHERE location NOT IN (SELECT location_id FROM locations);

-- name: mend_files
-- Of the flags 127 are all there are, and 64 says that the policy was chosen by an order.
UPDATE files SET flags = flags & 127 & ~CASE WHEN policy IN (SELECT number FROM policies) THEN 0 ELSE 64 END,
    policy = CASE WHEN policy IN (SELECT number FROM policies) THEN policy
        ELSE (SELECT number FROM policies WHERE name = 'default') END,
    checksum = CASE WHEN length(checksum) = 32 THEN checksum END,
    seq = min(max(seq, 1), :last), state_seq = min(max(state_seq, -(1 << 53)), :last),
    registered_seq = min(max(registered_seq, -(1 << 53)), :last);

-- name: mend_attributes
-- A record without its row of mode and owner would be invisible; the scan puts the right one in.
INSERT OR IGNORE INTO attributes (attribute_id, mode, uid, gid)
SELECT DISTINCT attribute_id, 0, 0, -attribute_id FROM files
WHERE attribute_id NOT IN (SELECT attribute_id FROM attributes);

-- name: distrust_repositories
UPDATE repositories SET complete_generation = 0, accepted_losses = 0;

-- name: distrust_directories
UPDATE directories SET signature = NULL, generation = 0, gone = 0, error = NULL;

-- name: distrust_files
-- No file has this ctime, so the scan takes everything anew from the disk and hashes it. What is
-- suspect (4) keeps the digest it is suspected by, what is archived has no file to look at.
UPDATE files SET ctime_ns = 0, hash_due = kind = 8 WHERE state NOT IN (4, 6) AND flags & 4 = 0;
