"""The small numbers that stand for names in the database, and rows turned into records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from lifecycle_sync.model.file import (
    TYPE_OF_SUFFIX,
    FileFlag,
    FileRecord,
    FileType,
    Kind,
    LifecycleState,
    Tracking,
)
from lifecycle_sync.model.operation import Run, RunStatus, RunType
from lifecycle_sync.model.policy import AgeFrom, KeepRules, LifecyclePolicy, Match
from lifecycle_sync.model.repository import (
    Repository,
    RepositoryKind,
    RepositoryStatus,
    RootIdentity,
)

_S = LifecycleState
STATES: tuple[LifecycleState, ...] = (
    _S.UPLOADED,
    _S.PROCESSING,
    _S.BACKUP_PENDING,
    _S.BACKUP_COMPLETE,
    _S.ARCHIVED,
    _S.EXPIRED,
    _S.DELETED,
)
STATE_CODE = {state: code for code, state in enumerate(STATES)}
UPLOADED, DELETED = STATE_CODE[_S.UPLOADED], STATE_CODE[_S.DELETED]

_T = FileType
FILE_TYPES: tuple[FileType, ...] = (
    _T.OTHER,
    _T.DOCUMENT,
    _T.IMAGE,
    _T.VIDEO,
    _T.AUDIO,
    _T.ARCHIVE,
)
TYPE_CODE = {file_type: code for code, file_type in enumerate(FILE_TYPES)}

_CODE_OF_SUFFIX = {suffix: TYPE_CODE[file_type] for suffix, file_type in TYPE_OF_SUFFIX.items()}


_CODE_OF_ENDING = {suffix: code for suffix, code in _CODE_OF_SUFFIX.items() if len(suffix) == 4}


def type_codes(names: Sequence[bytes]) -> list[int]:
    """The codes of the types of many names; see `model.file.type_of_name`."""
    # Nearly all suffixes are a dot and three small letters.
    of_ending = _CODE_OF_ENDING.get
    return [_type_code(name) if (code := of_ending(name[-4:])) is None else code for name in names]


def _type_code(name: bytes) -> int:
    return _CODE_OF_SUFFIX.get(name[name.rfind(b".") :].lower(), 0)


ALGORITHMS: tuple[str, ...] = ("sha256", "blake3")
ALGORITHM_CODE = {name: code for code, name in enumerate(ALGORITHMS)}

# Bits beside the public ones of `FileFlag`.
PUBLIC_FLAGS = sum(FileFlag)
BY_NAME = 32  # registered by an order, not by a scan
POLICY_SET = 64  # its policy was chosen by an order
# 128 is `model.record.OUTDATED`.

REGULAR = int(Kind.REGULAR)
KINDS = {int(kind): kind for kind in Kind}


def text_of(name: bytes) -> str | None:
    """The text column of a name: None for valid UTF-8, else odd bytes as `\\xNN`."""
    try:
        name.decode()
    except UnicodeDecodeError:
        return name.decode("utf-8", "backslashreplace")
    return None


def details(**fields: str | int) -> str:
    """The JSON text of a journal row."""
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


# The order of `record_columns` in sql/files.sql.
def file_record(row: tuple[Any, ...]) -> FileRecord:
    """The record of a row."""
    (
        file_id,
        repository_id,
        directory,
        name,
        kind,
        file_type,
        size,
        mtime_ns,
        ctime_ns,
        inode,
        mode,
        uid,
        gid,
        nlink,
        atime_ns,
        btime_ns,
        state,
        tracking,
        flags,
        policy_name,
        algorithm,
        checksum,
        hash_due,
        version,
        registered_ns,
        state_since_ns,
        changed_ns,
        scanned_ns,
        generation,
        seq,
    ) = row[:30]
    return FileRecord(
        file_id=file_id,
        repository_id=repository_id,
        path=directory + b"/" + name if directory else name,
        kind=Kind(kind),
        file_type=FILE_TYPES[file_type],
        size=size,
        mtime_ns=mtime_ns,
        ctime_ns=ctime_ns,
        inode=inode,
        mode=mode,
        uid=uid,
        gid=gid,
        nlink=nlink,
        atime_ns=atime_ns,
        btime_ns=btime_ns,
        state=STATES[state],
        tracking=Tracking(tracking),
        flags=FileFlag(flags & PUBLIC_FLAGS),
        policy_name=policy_name,
        policy_explicit=bool(flags & POLICY_SET),
        algorithm=ALGORITHMS[algorithm],
        checksum=checksum,
        hash_due=bool(hash_due),
        version=version,
        registered_ns=registered_ns,
        state_since_ns=state_since_ns,
        changed_ns=changed_ns,
        scanned_ns=scanned_ns,
        scan_generation=generation,
        seq=seq,
        # Behind the row's number.
        backup_path=row[31],
        archive_path=row[32],
    )


def policy_values(policy: LifecyclePolicy) -> tuple[Any, ...]:
    """The order of `insert_policy` and `update_policy` in sql/files.sql."""
    return (
        policy.name,
        json.dumps([file_type.value for file_type in policy.file_types]),
        policy.retention_days,
        policy.archive_after_days,
        policy.delete_after_days,
        policy.backup_frequency_hours,
        int(policy.auto_archive),
        int(policy.auto_delete),
        int(policy.versioning_enabled),
        policy.max_versions,
        policy_rules(policy),
    )


_BEYOND = ("verified_copies", "verified_within_days", "verified_places", "copies")


def policy_rules(policy: LifecyclePolicy) -> str:
    """What a policy says beyond the documented columns, as JSON: what differs from the default."""
    rules: dict[str, Any] = {}
    if policy.match is not None:
        rules["match"] = asdict(policy.match)
    if policy.age_from is not AgeFrom.LATER:
        rules["age_from"] = policy.age_from.value
    if policy.keep != KeepRules():
        rules["keep"] = asdict(policy.keep)
    if policy.grace_days != LifecyclePolicy("").grace_days:
        rules["grace_days"] = policy.grace_days
    for name in _BEYOND:
        if getattr(policy, name) != getattr(LifecyclePolicy(""), name):
            rules[name] = getattr(policy, name)
    return json.dumps(rules, separators=(",", ":"))


def policy(row: tuple[Any, ...]) -> LifecyclePolicy:
    """The order of `policies` in sql/files.sql."""
    rules = json.loads(row[10])
    match = rules.get("match")
    return LifecyclePolicy(
        name=row[0],
        file_types=[FileType(name) for name in json.loads(row[1])],
        retention_days=row[2],
        archive_after_days=row[3],
        delete_after_days=row[4],
        backup_frequency_hours=row[5],
        auto_archive=bool(row[6]),
        auto_delete=bool(row[7]),
        versioning_enabled=bool(row[8]),
        max_versions=row[9],
        match=None if match is None else Match(**match),
        age_from=AgeFrom(rules.get("age_from", AgeFrom.LATER)),
        keep=KeepRules(**rules.get("keep", {})),
        grace_days=rules.get("grace_days", LifecyclePolicy("").grace_days),
        **{name: rules[name] for name in _BEYOND if name in rules},
    )


def repository(row: tuple[Any, ...]) -> Repository:
    """The order of the columns of `repositories`, without `number` and `path_text`."""
    return Repository(
        repository_id=row[0],
        path=row[1],
        kind=RepositoryKind(row[2]),
        status=RepositoryStatus(row[3]),
        identity=RootIdentity(row[4], row[5], row[6], bool(row[7]), bool(row[8])),
        marker_in_root=bool(row[9]),
        enforce=bool(row[10]),
        user_area=row[11],
        ignore_hash=row[12],
        generation=row[13],
        complete_generation=row[14],
        accepted_losses=row[15],
        held_guard=row[16],
        held_reason=row[17],
        added_ns=row[18],
    )


def repository_values(item: Repository) -> dict[str, Any]:
    """Bindings for the statements that insert or update a repository."""
    return {
        "repository_id": item.repository_id,
        "path": item.path,
        "path_text": text_of(item.path),
        "kind": item.kind.value,
        "status": item.status.value,
        "filesystem_type": item.identity.filesystem_type,
        "filesystem_id": item.identity.filesystem_id,
        "root_inode": item.identity.inode,
        "stable_inodes": int(item.identity.stable_inodes),
        "network": int(item.identity.network),
        "marker_in_root": int(item.marker_in_root),
        "enforce": int(item.enforce),
        "user_area": item.user_area,
        "ignore_hash": item.ignore_hash,
        "accepted_losses": item.accepted_losses,
        "held_guard": item.held_guard,
        "held_reason": item.held_reason,
        "added_ns": item.added_ns,
    }


def run(row: tuple[Any, ...]) -> Run:
    """The order of `runs` in sql/repositories.sql."""
    return Run(
        run_id=row[0],
        repository_id=row[1],
        run_type=RunType(row[2]),
        generation=row[3],
        first_seq=row[4],
        whole=bool(row[5]),
        started_ns=row[6],
        ended_ns=row[7],
        status=RunStatus(row[8]),
        files_scanned=row[9],
        files_added=row[10],
        files_updated=row[11],
        files_removed=row[12],
        error_message=row[13],
    )
