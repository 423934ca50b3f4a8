"""What is due in a `MemoryRegistry`, and what was decided about its records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from lifecycle_sync.model.file import FileFlag, Tracking
from lifecycle_sync.model.hold import Switch
from lifecycle_sync.model.ids import first_id
from lifecycle_sync.model.plan import Decided, KeptVersion, MarkedFile, Subject, VersionMark
from lifecycle_sync.registry import codes
from lifecycle_sync.registry.codes import type_codes
from lifecycle_sync.registry.refusals import no_such_file
from lifecycle_sync.testing.memory_holds import by_id
from lifecycle_sync.testing.memory_tables import FileRow, MemoryBase, Tables

_ID_MARGIN_NS = 24 * 3_600_000_000_000


class MemoryDue(MemoryBase):
    """`DueStore`."""

    def due(
        self, at_ns: int, after: tuple[int, int] | None, limit: int
    ) -> tuple[list[Subject], tuple[int, int] | None]:
        with self._reading() as tables:
            keys = sorted(
                (due_ns, row_id)
                for row_id, (due_ns, _expiry) in tables.dates.items()
                if due_ns is not None and due_ns <= at_ns and row_id in tables.files
            )
            keys = [key for key in keys if after is None or key > after][:limit]
            files = [tables.files[row_id] for _due_ns, row_id in keys]
            found = [
                self._subject(tables, file)
                for file in files
                if file.tracked and file.seq <= tables.decided_seq
            ]
        return found, keys[-1] if len(keys) == limit else None

    def undecided(self, after_seq: int | None, limit: int) -> list[Subject]:
        with self._reading() as tables:
            after = tables.decided_seq if after_seq is None else after_seq
            files = sorted(
                (file for file in tables.files.values() if file.seq > after),
                key=lambda file: file.seq,
            )
            return [self._subject(tables, file) for file in files[:limit]]

    def subjects(self, file_ids: Iterable[bytes]) -> dict[bytes, Subject]:
        with self._reading() as tables:
            found = {file_id: by_id(tables, file_id) for file_id in file_ids}
            return {
                file_id: self._subject(tables, file)
                for file_id, file in found.items()
                if file is not None
            }

    def write_decided(
        self, decided: Sequence[Decided], seq: int | None, marks: Sequence[VersionMark] = ()
    ) -> None:
        with self._writing() as tables:
            for row in decided:
                file = tables.files.get(row.row_id)
                if file is None or file.seq != row.seq or row.policy_name not in tables.policies:
                    continue
                tables.files[row.row_id] = replace(file, policy_name=row.policy_name)
                tables.dates[row.row_id] = (row.next_due_ns, row.expiry_ns)
            for mark in marks:
                for file_id, number, version_id in tables.versions:
                    if (file_id, version_id) == mark[:2]:
                        tables.beyond[file_id, number, version_id] = mark.beyond_ns
            if seq is not None:
                tables.decided_seq = seq

    def kept_versions(self, file_ids: Iterable[bytes]) -> dict[bytes, list[KeptVersion]]:
        wanted = set(file_ids)
        found: dict[bytes, list[KeptVersion]] = {}
        with self._reading() as tables:
            store = tables.stores.get("backup")
            for key in sorted(tables.versions, reverse=True):
                row = tables.versions[key]
                mine = store is not None and (row.location or "").startswith(store.hex())
                if key[0] in wanted and mine:
                    found.setdefault(key[0], []).append(
                        KeptVersion(
                            row.version_id,
                            row.number,
                            row.created_ns,
                            row.size,
                            tables.beyond.get(key),
                        )
                    )
        return found

    def count_versions(self, file_ids: Iterable[bytes]) -> int:
        wanted = set(file_ids)
        with self._reading() as tables:
            return sum(key[0] in wanted for key in tables.versions)

    def files_with_versions_beyond(self, after: bytes | None, limit: int) -> list[bytes]:
        with self._reading() as tables:
            found = {key[0] for key, beyond_ns in tables.beyond.items() if beyond_ns is not None}
        return sorted(it for it in found if it > (after or b""))[:limit]

    def marked_files(
        self, after: bytes | None, limit: int
    ) -> tuple[list[MarkedFile], bytes | None]:
        with self._reading() as tables:
            marked = sorted(key[0] for key, at_ns in tables.beyond.items() if at_ns is not None)
        marked = [it for it in marked if it > (after or b"")][:limit]
        found = []
        subjects, kept = self.subjects(set(marked)), self.kept_versions(marked)
        for file_id in sorted(kept.keys() & subjects.keys()):
            file, of = subjects[file_id], kept[file_id][::-1]
            beyond = [it for it in of if it.beyond_ns is not None]
            if beyond and file.tracking == Tracking.TRACKED and not file.flags & FileFlag.SUSPECT:
                found.append(as_told(file, beyond, [it for it in of if it.beyond_ns is None]))
        return found, marked[-1] if marked else None

    def note_download(self, file_id: bytes, at_ns: int, now_ns: int) -> None:
        with self._writing() as tables:
            file = by_id(tables, file_id)
            if file is None:
                raise no_such_file(file_id)
            if at_ns <= tables.downloads.get(file_id, at_ns - 1):
                return
            tables.downloads[file_id] = at_ns
            tables.last_seq += 1
            tables.files[file.row_id] = replace(file, seq=tables.last_seq, changed_ns=now_ns)
            seq, told_ns, unseen = tables.replayed.get(file.row_id, (-1, 0, False))
            if seq == file.seq:
                tables.replayed[file.row_id] = (tables.last_seq, told_ns, unseen)

    def deleted_since(self, repository_id: bytes, since_ns: int) -> int:
        oldest = first_id(since_ns - _ID_MARGIN_NS)
        with self._reading() as tables:
            return sum(
                operation.operation_type == "delete"
                and operation.status == "completed"
                and operation.operation_id >= oldest
                and operation.timestamp_ns >= since_ns
                and operation.run_id in tables.act_runs
                and tables.act_runs[operation.run_id].repository_id == repository_id
                for operation in tables.operations.values()
            )

    def switch(self, name: str) -> Switch | None:
        with self._reading() as tables:
            return tables.switches.get(name)

    def set_switch(self, switch: Switch) -> None:
        with self._writing() as tables:
            tables.switches[switch.name] = switch

    def clear_switch(self, name: str) -> bool:
        with self._writing() as tables:
            return tables.switches.pop(name, None) is not None

    def _subject(self, tables: Tables, file: FileRow) -> Subject:
        directory = tables.directories[file.directory_id].path
        versions = [
            (row.number, row.created_ns)
            for (file_id, _number, _id), row in tables.versions.items()
            if file_id == file.file_id
        ]
        due_ns, expiry_ns = tables.dates.get(file.row_id, (None, None))
        return Subject(
            row_id=file.row_id,
            seq=file.seq,
            file_id=file.file_id,
            repository_id=file.repository_id,
            root=tables.repositories[file.repository_id].path,
            path=directory + b"/" + file.name if directory else file.name,
            kind=file.kind,
            file_type=codes.FILE_TYPES[type_codes([file.name])[0]],
            size=file.size,
            mtime_ns=file.mtime_ns,
            ctime_ns=file.ctime_ns,
            inode=file.inode,
            atime_ns=file.atime_ns,
            uid=file.uid,
            registered_ns=file.registered_ns,
            state=file.state,
            flags=int(file.flags),
            tracking=file.tracking.value,
            missing=file.last_seen_ns is not None,
            checksum=file.checksum,
            hash_due=file.hash_due,
            explicit=file.policy_name if file.policy_explicit else None,
            last_version_ns=max(versions)[1] if versions else None,
            has_archive=file.archive_path is not None,
            governed_by=file.policy_name,
            expiry_ns=expiry_ns,
            next_due_ns=due_ns,
            downloaded_ns=tables.downloads.get(file.file_id),
        )


def as_told(
    file: Subject, beyond: Sequence[KeptVersion], others: Sequence[KeptVersion]
) -> MarkedFile:
    """A file with versions that are marked, the oldest first, and others that are not."""
    return MarkedFile(
        file.file_id,
        ",".join(str(it.number) for it in beyond),
        "".join(it.version_id.hex() for it in beyond).upper(),
        sum(it.size for it in beyond),
        max(it.kept_ns for it in beyond),
        len(others),
        min((it.kept_ns for it in others), default=None),
        file.repository_id,
        file.file_type,
        file.explicit,
    )
