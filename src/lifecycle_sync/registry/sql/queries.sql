-- name: type_counts
SELECT state, file_type, count(*), sum(size) FROM files
WHERE tracking = 0 AND (:number IS NULL OR repository = :number)
GROUP BY state, file_type;

-- name: directory_totals
SELECT count(*), coalesce(sum(files), 0), coalesce(sum(bytes), 0), coalesce(sum(ignored), 0),
    coalesce(sum(special), 0)
FROM directories WHERE gone = 0 AND (:number IS NULL OR repository = :number);

-- name: failed_directories
SELECT path, error FROM directories
WHERE error IS NOT NULL AND gone = 0 AND (:number IS NULL OR repository = :number)
ORDER BY path LIMIT 1000;

-- name: flag_count
SELECT count(*) FROM files
WHERE flags <> 0 AND flags & :flag <> 0 AND tracking = 0 AND state <> 6
    AND (:number IS NULL OR repository = :number);

-- name: duplicate_prefixes
SELECT checksum_prefix FROM files
WHERE checksum_prefix IS NOT NULL AND checksum_prefix >= ?
GROUP BY checksum_prefix HAVING count(*) > 1
ORDER BY checksum_prefix LIMIT ?;

-- name: folder_totals
SELECT path, files, bytes FROM directories
WHERE repository = :number AND gone = 0 AND path >= :low AND path < :high
ORDER BY path;

-- name: subtree_files
SELECT coalesce(sum(files), 0) FROM directories
WHERE (:number IS NULL OR repository = :number) AND path >= :low AND path < :high AND gone = 0;
