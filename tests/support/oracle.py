"""A look at a tree that shares no code with the program, and the registry compared with it."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, fields

from lifecycle_sync.model.file import FileFlag, FileRecord, LifecycleState
from lifecycle_sync.model.record import FileQuery
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.service.engine import Engine

Ignores = Callable[[bytes, bool], bool]


@dataclass(frozen=True)
class Seen:
    """A file or symlink on the disk. `checksum` is None for a symlink, and where nobody asked."""

    kind: int
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    mode: int
    nlink: int
    checksum: str | None


def documented_ignores(path: bytes, is_directory: bool) -> bool:
    """The default rules of the documents, for one entry itself."""
    name = path.rpartition(b"/")[2]
    if name[:1] == b".":
        return True
    return not is_directory and (
        name == b"Thumbs.db" or name[-1:] == b"~" or name[-4:] in {b".tmp", b".bak", b".swp"}
    )


def disk(
    root: str | bytes | os.PathLike[str],
    *,
    hashes: bool = True,
    ignores: Ignores = documented_ignores,
) -> dict[bytes, Seen]:
    """All files and symlinks below a root that no rule hides, by their relative path."""
    top = os.fsencode(root)
    found: dict[bytes, Seen] = {}
    pending = [b""]
    while pending:
        folder = pending.pop()
        for name in os.listdir(os.path.join(top, folder)):
            path = os.path.join(folder, name)
            status = os.lstat(os.path.join(top, path))
            is_directory = stat.S_ISDIR(status.st_mode)
            if path == b".lifecycle" or ignores(path, is_directory):
                continue
            if is_directory:
                pending.append(path)
            elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                found[path] = _seen(os.path.join(top, path), status, hashes)
    return found


def _seen(path: bytes, status: os.stat_result, hashes: bool) -> Seen:
    checksum = None
    if hashes and stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
    return Seen(
        stat.S_IFMT(status.st_mode) >> 12,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
        status.st_mode,
        status.st_nlink,
        checksum,
    )


def records(engine: Engine, repository: Repository | None = None) -> dict[bytes, FileRecord]:
    """The tracked records of a root that are not DELETED, by relative path."""
    repository_id = repository.repository_id if repository else None
    found: dict[bytes, FileRecord] = {}
    cursor = None
    while True:
        page = engine.registry.find(FileQuery(repository_id=repository_id), cursor, 1_000)
        for record in page.records:
            assert record.path not in found, f"two live records of {record.path!r}"
            found[record.path] = record
        cursor = page.next_cursor
        if cursor is None:
            return found


def deleted(engine: Engine, repository: Repository | None = None) -> dict[bytes, FileRecord]:
    """The DELETED records of a root by their last path (of several there, the newest)."""
    repository_id = repository.repository_id if repository else None
    query = FileQuery(
        repository_id=repository_id, states=frozenset({LifecycleState.DELETED}), order="seq"
    )
    found: dict[bytes, FileRecord] = {}
    cursor = None
    while True:
        page = engine.registry.find(query, cursor, 1_000)
        found.update({record.path: record for record in page.records})
        cursor = page.next_cursor
        if cursor is None:
            return found


def known(record: FileRecord, *, hashes: bool = True) -> Seen:
    """A record in the words of the disk."""
    checksum = record.checksum.hex() if hashes and record.checksum else None
    return Seen(
        record.kind,
        record.size,
        record.mtime_ns,
        record.ctime_ns,
        record.inode,
        record.mode,
        record.nlink,
        checksum,
    )


def assert_equal_to_disk(
    engine: Engine,
    repository: Repository,
    *,
    hashes: bool = True,
    ignores: Ignores = documented_ignores,
) -> None:
    """The live records of a root are the files on the disk, in every field that both know."""
    there = disk(repository.path, hashes=hashes, ignores=ignores)
    here = {
        path: known(record, hashes=hashes) for path, record in records(engine, repository).items()
    }
    differing = {
        path: _difference(here.get(path), there.get(path))
        for path in here.keys() | there.keys()
        if here.get(path) != there.get(path)
    }
    assert not differing
    assert_sound(engine)


def _difference(here: Seen | None, there: Seen | None) -> str:
    if here is None or there is None:
        return f"only {'in the registry' if here else 'on the disk'}"
    return ", ".join(
        f"{field.name} {getattr(here, field.name)} is {getattr(there, field.name)} on the disk"
        for field in fields(Seen)
        if getattr(here, field.name) != getattr(there, field.name)
    )


def assert_sound(engine: Engine, *, settled: bool = True) -> None:
    """What must hold of the tables whatever happened; `settled`: after a pass that held nothing."""
    query = engine.registry.query
    assert engine.registry.check_integrity() == []
    assert query("SELECT name FROM files GROUP BY file_id HAVING count(*) > 1")[1] == []
    assert (
        query(
            "SELECT name FROM files f LEFT JOIN directories d USING (directory_id)"
            " WHERE d.directory_id IS NULL OR d.repository <> f.repository"
        )[1]
        == []
    ), "a record without its directory, or in that of another root"
    if not settled:
        return
    assert query("SELECT * FROM missing")[1] == []
    assert (
        query(
            "SELECT d.path, f.name FROM files f JOIN directories d USING (directory_id)"
            " WHERE f.state NOT IN (4, 6) AND f.tracking = 0 AND d.gone"
        )[1]
        == []
    ), "a live record in a folder that is gone"
    assert (
        query(
            "SELECT p.row_id FROM provisional_moves p LEFT JOIN files f USING (row_id)"
            " WHERE f.row_id IS NULL"
        )[1]
        == []
    ), "a provisional move of no record"
    assert query("SELECT run_id FROM runs WHERE status = 'running'")[1] == []


def flagged(engine: Engine, flag: FileFlag) -> list[bytes]:
    """The paths of the records with a flag."""
    page = engine.registry.find(FileQuery(flags=flag.value), None, 1_000)
    return [record.path for record in page.records]
