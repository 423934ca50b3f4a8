-- Deletions, of which the guard against many of them asks before each act: in a journal of backups
-- they are few.
CREATE INDEX operations_deletes ON operations (operation_id) WHERE operation_type = 'delete';
