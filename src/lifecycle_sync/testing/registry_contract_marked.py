"""The contract of a registry: versions marked as kept by no rule are given up page by page."""

from __future__ import annotations

import json

import pytest

from lifecycle_sync.model.act import Intent, VersionRow
from lifecycle_sync.model.file import FileFlag, FileType
from lifecycle_sync.model.operation import ActRun
from lifecycle_sync.model.plan import MarkedGoing, MarkedKind, MarkedPage, VersionMark
from lifecycle_sync.testing.registry_contract_acts import STORE, ActContractBase
from lifecycle_sync.testing.registry_contract_base import MANY, House

_MINE = STORE.hex() + "/manifest"
_WHY = '"rule":"media","reason":"it is \\"old\\""}'
_LAST = b"\xff" * 16


class MarkedContract(ActContractBase):
    """`MarkedStore`."""

    def backed_up(
        self, house: House, path: bytes, count: int = 3, *, marked: int = 2
    ) -> list[VersionRow]:
        """A file with versions of which the oldest so many are marked; all of them."""
        if house.registry.store("backup") is None:
            house.registry.set_store("backup", STORE)
        house.settled(path)
        rows = []
        for number in range(1, count + 1):
            house.tick()
            rows.append(self.version(house, number, location=_MINE, size=10 * number))
            self.act_on(house, path, version=rows[-1])
        file_id = house.record(path).file_id
        marks = [VersionMark(file_id, it.version_id, 77) for it in rows[:marked]]
        house.registry.write_decided([], None, marks)
        return rows

    def page(self, *, kept: int = 1, explicit: str | None = None) -> MarkedPage:
        kinds = [MarkedKind(it, explicit, kept, _WHY) for it in FileType]
        return MarkedPage(None, _LAST, kinds)

    def act(self, house: House) -> ActRun:
        return house.registry.begin_act(house.root, "prune", house.tick())

    def begun(
        self, house: House, act: ActRun, page: MarkedPage | None = None, ids: int = MANY
    ) -> MarkedGoing | None:
        block = house.ids.block(ids)
        return house.registry.begin_marked(act, page or self.page(), block, house.now_ns)

    def left(self, house: House, path: bytes) -> list[int]:
        file_id = house.record(path).file_id
        return [it.number for it in house.registry.versions(file_id)]

    def about(self, house: House) -> list[bytes]:
        """The files that intents are about."""
        return [
            house.file(it.file_id).path
            for it in house.registry.pending_operations(None)
            if it.operation_type == "prune"
        ]

    def test_a_page_goes_with_a_line_for_each_file_before_and_after(self, house: House) -> None:
        one, two = self.backed_up(house, b"one"), self.backed_up(house, b"two", 2, marked=1)
        self.backed_up(house, b"not marked", marked=0)
        registry = house.registry
        assert registry.marked_roots(self.page(), MANY) == [house.root]
        act = self.act(house)
        going = self.begun(house, act)
        assert going is not None
        ids = [it.version_id for it in (*one[:2], *two[:1])]
        assert going.version_ids == b"".join(ids).hex().upper()
        assert (going.files, going.size) == (2, 10 + 20 + 10)
        assert going.newest_ns == two[0].created_ns
        house.reopen()
        registry = house.registry
        pending = {
            house.file(it.file_id).path: it for it in registry.pending_operations(house.root)
        }
        told = {path: json.loads(it.details or "") for path, it in pending.items()}
        rest = {"rule": "media", "reason": 'it is "old"'}
        assert told == {
            b"one": {"versions": [2, 1], "bytes": 30, **rest},
            b"two": {"versions": [1], "bytes": 10, **rest},
        }
        assert {it.run_id for it in pending.values()} == {act.act_id}
        assert self.left(house, b"one") == [3, 2, 1]
        done = registry.finish_marked(
            act, going, going.newest_ns, house.tick(), manifests=[(STORE, "m")]
        )
        assert done == 3
        house.reopen()
        registry = house.registry
        assert [self.left(house, it) for it in (b"one", b"two", b"not marked")] == [
            [3],
            [2],
            [3, 2, 1],
        ]
        assert registry.pending_operations(None) == []
        assert registry.applied_manifests(STORE) == {"m"}
        for it in pending.values():
            last = registry.operations(it.file_id, 1)[0]
            assert (last.operation_id, last.status) == (it.operation_id, "completed")
            assert last.finished_ns == house.now_ns
        assert registry.last_marked(None, MANY) is None
        assert registry.marked_roots(self.page(), MANY) == []

    def test_pages_have_so_many_versions_and_of_each_file_all(self, house: House) -> None:
        for path in (b"one", b"two", b"three"):
            self.backed_up(house, path)
        registry = house.registry
        files = sorted(house.record(it).file_id for it in (b"one", b"two", b"three"))
        assert [registry.last_marked(None, it) for it in (1, 2, 3, 6, 7)] == [
            files[0], files[0], files[1], files[2], files[2],
        ]  # fmt: skip
        assert registry.last_marked(files[0], 1) == files[1]
        assert registry.last_marked(files[2], 1) is None
        page = self.page()._replace(after=files[0], last=files[1])
        act = self.act(house)
        going = self.begun(house, act, page)
        assert going is not None
        assert [it.file_id for it in registry.pending_operations(None)] == [files[1]]
        assert registry.finish_marked(act, going, house.now_ns, house.now_ns) == 2
        assert registry.count_versions(files) == 3 + 1 + 3

    def test_what_something_stands_against_gets_no_intent(self, house: House) -> None:
        for path in (b"one", b"held", b"busy", b"suspect", b"untracked"):
            self.backed_up(house, path)
        registry = house.registry
        registry.add_hold(self.hold(house, file_id=house.record(b"held").file_id))
        other = registry.begin_act(house.root, "backup", house.tick())
        intent = Intent(house.ids.one(), house.record(b"busy").file_id, "backup", None)
        registry.begin_operations(other, [intent], house.now_ns, unless_held=False)
        self.act_on(house, b"suspect", set_flags=int(FileFlag.SUSPECT))
        registry.unregister(house.record(b"untracked").file_id, house.tick())
        act = self.act(house)
        going = self.begun(house, act)
        assert self.about(house) == [b"one"]
        assert going is not None
        assert registry.finish_marked(act, going, house.now_ns, house.now_ns) == 2
        assert [self.left(house, it) for it in (b"one", b"held", b"busy")] == [
            [3],
            [3, 2, 1],
            [3, 2, 1],
        ]

    def test_a_hold_on_a_folder_counts_until_it_is_released(self, house: House) -> None:
        self.backed_up(house, b"one")
        registry = house.registry
        hold = self.hold(house, query=house.repository.path.decode())
        registry.add_hold(hold)
        act = self.act(house)
        assert self.begun(house, act) is None
        registry.release_hold(hold.hold_id, house.tick())
        assert self.begun(house, act) is not None

    @pytest.mark.parametrize("what", ["number", "order", "type", "policy", "place", "root"])
    def test_only_files_of_such_a_kind_go(self, house: House, what: str) -> None:
        registry = house.registry
        rows = self.backed_up(house, b"one")
        file_id = house.record(b"one").file_id
        page = self.page()
        if what == "number":
            page = self.page(kept=2)
        elif what == "order":
            # The newest is marked, the oldest is kept.
            marks = [VersionMark(file_id, rows[0].version_id, None)]
            registry.write_decided([], None, [*marks, VersionMark(file_id, rows[2].version_id, 7)])
        elif what == "type":
            mine = house.record(b"one").file_type
            page = page._replace(kinds=[it for it in page.kinds if it.file_type != mine])
        elif what == "policy":
            registry.assign_policy(file_id, "media", house.tick())
        elif what == "place":
            registry.set_store("backup", b"another store's i")
        else:
            root, _tree, _scanner = house.other_root()
            act = registry.begin_act(root, "prune", house.tick())
            assert self.begun(house, act) is None
            return
        assert registry.marked_roots(page, MANY) == []
        assert self.begun(house, self.act(house), page) is None
        if what == "policy":
            assert self.begun(house, self.act(house), self.page(explicit="media")) is not None

    def test_the_last_version_goes_where_none_is_kept(self, house: House) -> None:
        self.backed_up(house, b"one", marked=3)
        act = self.act(house)
        assert self.begun(house, act) is None
        going = self.begun(house, act, self.page(kept=0))
        assert going is not None
        assert house.registry.finish_marked(act, going, house.now_ns, house.now_ns) == 3
        assert self.left(house, b"one") == []

    def test_what_else_was_marked_meanwhile_stays(self, house: House) -> None:
        """And what was told goes, whatever the marks say by then."""
        one = self.backed_up(house, b"one")
        self.backed_up(house, b"two")
        act = self.act(house)
        going = self.begun(house, act)
        assert going is not None
        file_id = house.record(b"one").file_id
        marks = [VersionMark(file_id, one[2].version_id, 99)]
        marks.append(VersionMark(file_id, one[0].version_id, None))
        house.registry.write_decided([], None, marks)
        assert house.registry.finish_marked(act, going, house.now_ns, house.now_ns) == 4
        assert (self.left(house, b"one"), self.left(house, b"two")) == ([3], [3])

    def test_what_was_kept_after_that_time_stays(self, house: House) -> None:
        one = self.backed_up(house, b"one")
        act = self.act(house)
        going = self.begun(house, act)
        assert going is not None
        assert house.registry.finish_marked(act, going, one[0].created_ns, house.now_ns) == 1
        assert self.left(house, b"one") == [3, 2]
        assert house.registry.pending_operations(None) == []

    def test_few_among_many_go(self, house: House) -> None:
        self.backed_up(house, b"one", 30, marked=1)
        act = self.act(house)
        going = self.begun(house, act, self.page(kept=29), ids=3)
        assert going is not None
        assert house.registry.finish_marked(act, going, house.now_ns, house.now_ns) == 1
        assert self.left(house, b"one") == list(range(30, 1, -1))

    def test_no_more_files_go_than_there_are_ids(self, house: House) -> None:
        for path in (b"one", b"two", b"three"):
            self.backed_up(house, path)
        act = self.act(house)
        going = self.begun(house, act, ids=2)
        assert going is not None
        assert (going.files, len(self.about(house))) == (2, 2)
        assert house.registry.finish_marked(act, going, house.now_ns, house.now_ns) == 4
        again = self.begun(house, act)
        assert again is not None
        assert again.files == 1
