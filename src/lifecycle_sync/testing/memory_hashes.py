"""Which files of a `MemoryRegistry` are to be hashed, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from lifecycle_sync.model.file import FileFlag, Kind, LifecycleState
from lifecycle_sync.model.observation import Fingerprint
from lifecycle_sync.model.record import HashCounts, HashResult, HashTask
from lifecycle_sync.testing.memory_tables import NO_FLAGS, FileRow, MemoryBase, Tables

_UPLOADED, _PROCESSING = LifecycleState.UPLOADED, LifecycleState.PROCESSING


class MemoryHashes(MemoryBase):
    """`HashStore`."""

    def to_hash(self, repository_id: bytes, after: int, limit: int) -> list[HashTask]:
        return self._tasks(repository_id, after, lambda file: file.hash_due)[:limit]

    def to_hash_totals(self, repository_id: bytes) -> tuple[int, int]:
        due = self._tasks(repository_id, 0, lambda file: file.hash_due)
        return len(due), sum(task.size for task in due)

    def to_scrub(self, repository_id: bytes, after: int, limit: int) -> list[HashTask]:
        return self._tasks(repository_id, after, lambda file: file.checksum is not None)[:limit]

    def _tasks(
        self, repository_id: bytes, after: int, wanted: Callable[[FileRow], bool]
    ) -> list[HashTask]:
        with self._reading() as tables:
            return [
                HashTask(
                    row_id=file.row_id,
                    directory=tables.directories[file.directory_id].path,
                    name=file.name,
                    size=file.size,
                    mtime_ns=file.mtime_ns,
                    ctime_ns=file.ctime_ns,
                    inode=file.inode,
                )
                for file in self._files_of(tables, repository_id)
                if file.row_id > after
                and file.live
                and file.tracked
                and file.kind is Kind.REGULAR
                and file.last_seen_ns is None
                and wanted(file)
            ]

    def record_hashes(
        self, algorithm: str, results: Sequence[HashResult], now_ns: int
    ) -> HashCounts:
        counts = HashCounts()
        with self._writing() as tables:
            for result in results:
                file = tables.files.get(result.row_id)
                # Otherwise it went while it was being read.
                if file is not None and file.live:
                    outcome = self._record_hash(tables, file, algorithm, result, now_ns)
                    counts.hashed += outcome in {"same", "changed"}
                    counts.changed += outcome == "changed"
                    counts.suspect += outcome == "suspect"
                    counts.unstable += outcome == "unstable"
                    counts.failed += outcome == "unreadable"
        return counts

    def _record_hash(
        self, tables: Tables, file: FileRow, algorithm: str, result: HashResult, now_ns: int
    ) -> str:
        """Store one result; its status, or for an "ok" what came of it."""
        if result.status == "ok":
            if file.kind is not Kind.REGULAR:
                # It was read before a scan saw that something else took its place.
                return "not_regular"
            return self._hashed(tables, file, algorithm, result, now_ns)
        if result.status == "unstable":
            state = _PROCESSING if file.state is _UPLOADED else file.state
            flags = file.flags | FileFlag.UNSTABLE
            self._change(tables, file.row_id, now_ns, flags=flags, state=state)
        elif result.status == "unreadable":
            flags = file.flags | FileFlag.UNREADABLE
            self._change(tables, file.row_id, now_ns, flags=flags)
        # What vanished, or is no file any more, is the next scan's to record.
        return result.status

    def _hashed(
        self, tables: Tables, file: FileRow, algorithm: str, result: HashResult, now_ns: int
    ) -> str:
        """Store a digest; "same", "changed" or "suspect"."""
        observed = Fingerprint(
            file.kind, result.size, result.mtime_ns, result.ctime_ns, result.inode
        )
        comparable = file.checksum is not None and file.algorithm == algorithm
        differs = comparable and file.checksum != result.digest
        trusted = not file.hash_due and FileFlag.RACY not in file.flags
        if differs and trusted and observed == file.fingerprint:
            # Nobody wrote it, as far as the filesystem knows: not a change but damage.
            if FileFlag.SUSPECT not in file.flags:
                self._change(tables, file.row_id, now_ns, flags=file.flags | FileFlag.SUSPECT)
                self._journal(tables, file.file_id, "scrub", now_ns, status="failed")
            return "suspect"
        fingerprint = file.fingerprint
        if observed != fingerprint:
            # Whichever of the two looks came last, the next scan compares the file again.
            directory = tables.directories[file.directory_id]
            tables.directories[file.directory_id] = replace(directory, signature=None)
        before = file.place_before[2] if file.place_before is not None else None
        # What was written after its move can no longer disagree with the content that moved.
        split = (
            differs
            and before is not None
            and (before.size, before.mtime_ns) == (result.size, result.mtime_ns)
        )
        if split:
            file = self._split(tables, file, now_ns)
        changed = differs and not split
        flags = file.flags & ~(FileFlag.RACY | FileFlag.UNSTABLE | FileFlag.UNREADABLE)
        state = file.state
        if result.racy:
            flags |= FileFlag.RACY
        if changed:
            flags &= ~FileFlag.SUSPECT
        if FileFlag.CLAIMED not in flags and (changed or state is _PROCESSING):
            state = _UPLOADED
        self._change(
            tables,
            file.row_id,
            now_ns,
            size=result.size,
            mtime_ns=result.mtime_ns,
            ctime_ns=result.ctime_ns,
            inode=result.inode,
            algorithm=algorithm,
            checksum=result.digest,
            hash_due=result.racy,
            flags=flags,
            state=state,
            version=file.version + changed,
            outdated=file.outdated or observed != fingerprint,
            place_before=None,
        )
        return "changed" if differs else "same"

    def _split(self, tables: Tables, moved: FileRow, now_ns: int) -> FileRow:
        """The record goes back to where it was, as DELETED; a new one stands where it had gone."""
        assert moved.place_before is not None
        directory_id, name, before = moved.place_before
        self._change(
            tables,
            moved.row_id,
            now_ns,
            directory_id=directory_id,
            name=name,
            size=before.size,
            mtime_ns=before.mtime_ns,
            ctime_ns=before.ctime_ns,
            inode=before.inode,
            state=LifecycleState.DELETED,
            policy_name=moved.policy_name if moved.policy_explicit else self._policy_of(name),
        )
        new = replace(
            moved,
            row_id=tables.number(),
            file_id=self._ids.one(),
            state=_UPLOADED,
            flags=NO_FLAGS,
            by_name=False,
            policy_name=self._policy_of(moved.name),
            policy_explicit=False,
            checksum=None,
            version=1,
            registered_ns=now_ns,
            place_before=None,
        )
        return self._insert(tables, new, now_ns)

    def accept_suspect(self, file_id: bytes, now_ns: int) -> None:
        with self._writing() as tables:
            file = self._file_by_id(tables, file_id, "accept file")
            flags = file.flags & ~FileFlag.SUSPECT
            self._change(tables, file.row_id, now_ns, flags=flags, hash_due=True)
            self._journal(tables, file_id, "accept", now_ns)
