"""The shapes in which records leave the program as JSON. One schema version covers them all.

A path is always valid UTF-8: bytes that are not become `\\xNN`, and then `path_bytes` has the exact
ones in base64. Times are ISO 8601 in UTC, sizes bytes, a checksum hexadecimal and empty until the
file has been hashed.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from lifecycle_sync.clock import to_iso
from lifecycle_sync.errors import LifecycleError
from lifecycle_sync.model.act import VersionRow
from lifecycle_sync.model.file import FileFlag, FileRecord
from lifecycle_sync.model.ids import to_text
from lifecycle_sync.model.operation import Operation, Run
from lifecycle_sync.model.past import PastFile
from lifecycle_sync.model.record import Duplicates
from lifecycle_sync.model.repository import Repository

SCHEMA_VERSION = 1


def utf8_text(value: bytes | str) -> str:
    """Text that can be encoded: odd bytes, and what `os.fsdecode` made of them, as `\\xNN`."""
    data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    return data.decode("utf-8", "backslashreplace")


def path_fields(path: bytes, key: str = "path") -> dict[str, Any]:
    """A path under `key`, and its exact bytes where the text is not they."""
    text = utf8_text(path)
    if text.encode() == path:
        return {key: text}
    return {key: text, f"{key}_bytes": base64.b64encode(path).decode("ascii")}


def below(root: bytes, path: bytes) -> bytes:
    """The whole path of what lies at `path` relative to a root; the root's own for an empty one."""
    return root + b"/" + path if path else root


def flag_names(record: FileRecord) -> list[str]:
    """What is known about a record beside its state, in words."""
    if not record.flags:
        return []
    return [flag.name.lower() for flag in FileFlag if flag in record.flags and flag.name]


def file_fields(record: FileRecord, root: bytes) -> dict[str, Any]:
    """A record; `path` is absolute. `hash_due` says that the checksum may be of older bytes."""
    return {
        **path_fields(below(root, record.path)),
        "file_id": to_text(record.file_id),
        "repository_id": to_text(record.repository_id),
        "kind": record.kind.name.lower(),
        "type": record.file_type.value,
        "size": record.size,
        "modified_at": to_iso(record.mtime_ns),
        "metadata_changed_at": to_iso(record.ctime_ns),
        "accessed_at": to_iso(record.atime_ns),
        "created_at": None if record.btime_ns is None else to_iso(record.btime_ns),
        "inode": record.inode % 2**64,
        "mode": f"{record.mode & 0o7777:04o}",
        "uid": record.uid,
        "gid": record.gid,
        "links": record.nlink,
        "state": record.state.value,
        "state_since": to_iso(record.state_since_ns),
        "tracking": record.tracking.name.lower(),
        "flags": flag_names(record),
        "policy": record.policy_name,
        "checksum": record.checksum.hex() if record.checksum else "",
        "algorithm": record.algorithm if record.checksum else "",
        "hash_due": record.hash_due,
        "version": record.version,
        "backup_path": record.backup_path,
        "archive_path": record.archive_path,
        "registered_at": to_iso(record.registered_ns),
        "changed_at": to_iso(record.changed_ns),
        "last_scanned_at": to_iso(record.scanned_ns),
    }


def repository_fields(repository: Repository) -> dict[str, Any]:
    """A root as its row has it."""
    return {
        **path_fields(repository.path),
        "repository_id": to_text(repository.repository_id),
        "kind": repository.kind.value,
        "enforce": repository.enforce,
        "filesystem": repository.identity.filesystem_type,
        "added_at": to_iso(repository.added_ns),
    }


def run_fields(run: Run) -> dict[str, Any]:
    """A pass over a root, with the names of the documented table of runs."""
    return {
        "run_id": run.run_id,
        "operation_type": run.run_type.value,
        "status": run.status.value,
        "start_time": to_iso(run.started_ns),
        "end_time": None if run.ended_ns is None else to_iso(run.ended_ns),
        "duration_ms": None if run.ended_ns is None else (run.ended_ns - run.started_ns) // 10**6,
        "files_scanned": run.files_scanned,
        "files_added": run.files_added,
        "files_updated": run.files_updated,
        "files_removed": run.files_removed,
        "error_message": None if run.error_message is None else utf8_text(run.error_message),
    }


def operation_fields(operation: Operation) -> dict[str, Any]:
    """A row of the journal; `details` is what the operation noted, as JSON text."""
    return {
        "operation_id": to_text(operation.operation_id),
        "operation_type": operation.operation_type,
        "timestamp": to_iso(operation.timestamp_ns),
        "finished_at": None if operation.finished_ns is None else to_iso(operation.finished_ns),
        "status": operation.status,
        "details": operation.details,
    }


def past_fields(file: PastFile, root: bytes) -> dict[str, Any]:
    """A file as it was. `version` is 0 and `kept_at` null for what is not from a backup."""
    kept = bool(file.version_id)
    return {
        **path_fields(below(root, file.path)),
        "file_id": to_text(file.file_id),
        "kind": file.kind.name.lower(),
        "size": file.size,
        "modified_at": to_iso(file.mtime_ns),
        "version": file.number if kept else 0,
        "kept_at": to_iso(file.at_ns) if kept else None,
        "checksum": file.content.digest.hex() if file.content else None,
        "algorithm": file.content.algorithm if file.content else None,
    }


def version_fields(row: VersionRow) -> dict[str, Any]:
    """A version that a vault keeps; `location` is the vault's id and the manifest's name."""
    return {
        "version": row.number,
        "version_id": to_text(row.version_id),
        "created_at": to_iso(row.created_ns),
        "size": row.size,
        "modified_at": to_iso(row.mtime_ns),
        "checksum": row.checksum.hex() if row.checksum else "",
        "algorithm": row.algorithm if row.checksum else "",
        "location": row.location,
    }


def copies(group: Duplicates) -> int:
    """How many files a group has; several names of one inode are one."""
    return len({(record.repository_id, record.inode) for record in group.records})


def waste(group: Duplicates) -> int:
    """The bytes that all but one copy take."""
    return group.size * (copies(group) - 1)


def duplicates_fields(group: Duplicates, root_of: Callable[[bytes], bytes]) -> dict[str, Any]:
    """A group of one content; `root_of` tells the path of a repository."""
    return {
        "checksum": group.checksum.hex(),
        "algorithm": group.records[0].algorithm,
        "size": group.size,
        "copies": copies(group),
        "wasted_bytes": waste(group),
        "files": [
            path_fields(below(root_of(record.repository_id), record.path))
            for record in group.records
        ],
    }


def error_fields(error: LifecycleError) -> dict[str, Any]:
    """An error as JSON; the same four parts that people are shown."""
    fields: dict[str, Any] = {
        "code": error.code,
        "operation": utf8_text(error.operation),
        "subject": utf8_text(error.subject),
        "cause": utf8_text(error.cause),
        "remedy": utf8_text(error.remedy),
        "exit_code": error.exit_code,
    }
    faults = getattr(error, "faults", None)
    if faults:
        fields["faults"] = [utf8_text(fault) for fault in faults]
    return fields
