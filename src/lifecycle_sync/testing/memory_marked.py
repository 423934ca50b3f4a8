"""Versions in a `MemoryRegistry` that are marked as kept by no rule, given up page by page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lifecycle_sync.model.ids import ID_BYTES
from lifecycle_sync.model.operation import ActRun, Operation
from lifecycle_sync.model.plan import MarkedFile, MarkedGoing, MarkedKind, MarkedPage
from lifecycle_sync.testing.memory_acts import MemoryActs
from lifecycle_sync.testing.memory_due import MemoryDue
from lifecycle_sync.testing.memory_holds import by_id


class MemoryMarked(MemoryActs, MemoryDue):
    """`MarkedStore`."""

    def last_marked(self, after: bytes | None, limit: int) -> bytes | None:
        with self._reading() as tables:
            marked = sorted(
                key[0]
                for key, at_ns in tables.beyond.items()
                if at_ns is not None and key in tables.versions and key[0] > (after or b"")
            )
        return marked[:limit][-1] if marked else None

    def _alike(self, page: MarkedPage) -> Iterator[tuple[MarkedFile, MarkedKind]]:
        with self._reading() as tables:
            most = len(tables.beyond)
        found, _last = self.marked_files(page.after, most)
        for it in found:
            for kind in page.kinds:
                right = it.kept_since_ns is None or it.kept_since_ns > it.newest_ns
                same = (it.file_type, it.explicit, it.kept) == kind[:3]
                if it.file_id <= page.last and same and right:
                    yield it, kind

    def marked_roots(self, page: MarkedPage, most: int) -> list[bytes]:
        found = dict.fromkeys(it.repository_id for it, _kind in self._alike(page))
        return list(found)[:most]

    def begin_marked(
        self, act: ActRun, page: MarkedPage, ids: bytes, now_ns: int
    ) -> MarkedGoing | None:
        left = [ids[at : at + ID_BYTES] for at in range(0, len(ids), ID_BYTES)]
        begun: list[MarkedFile] = []
        with self._writing() as tables:
            pending = {it.file_id for it in tables.operations.values() if it.status == "pending"}
            for it, kind in self._alike(page):
                file = by_id(tables, it.file_id)
                if (
                    it.repository_id != act.repository_id
                    or it.file_id in pending
                    or file is None
                    or self._held(tables, file, now_ns) is not None
                    or not left
                ):
                    continue
                numbers = ",".join(it.numbers.split(",")[::-1])
                details = f'{{"versions":[{numbers}],"bytes":{it.size},{kind.why}'
                operation_id = left.pop(0)
                tables.operations[operation_id] = Operation(
                    operation_id, it.file_id, "prune", now_ns, "pending", act.act_id, None, details
                )
                begun.append(it)
        if not begun:
            return None
        told = "".join(it.version_ids for it in begun)
        size, newest_ns = sum(it.size for it in begun), max(it.newest_ns for it in begun)
        first, last = ids[:ID_BYTES], ids[-ID_BYTES:]
        return MarkedGoing(page, first, last, len(begun), told, size, newest_ns)

    def finish_marked(
        self,
        act: ActRun,
        going: MarkedGoing,
        at_ns: int,
        now_ns: int,
        *,
        manifests: Sequence[tuple[bytes, str]] = (),
    ) -> int:
        with self._writing() as tables:
            done = [
                it
                for it in tables.operations.values()
                if going.first_id <= it.operation_id <= going.last_id
                and (it.run_id, it.status) == (act.act_id, "pending")
            ]
            files, told = {it.file_id for it in done}, bytes.fromhex(going.version_ids)
            ids = {told[at : at + ID_BYTES] for at in range(0, len(told), ID_BYTES)}
            gone = {
                key
                for key, row in tables.versions.items()
                if key[0] in files and key[2] in ids and row.created_ns <= at_ns
            }
            tables.versions = {it: row for it, row in tables.versions.items() if it not in gone}
            for it in done:
                tables.operations[it.operation_id] = replace(
                    it, status="completed", finished_ns=now_ns
                )
            tables.manifests |= dict.fromkeys(manifests)
        return len(gone)
