"""The contract of a registry: what following a root asks of it, and notes in it."""

from __future__ import annotations

import pytest

from lifecycle_sync.errors import NotFoundError
from lifecycle_sync.model.check import CheckNote
from lifecycle_sync.model.loop import LoopNote
from lifecycle_sync.model.operation import RunType
from lifecycle_sync.model.watch import ScrubNote, WatchNote
from lifecycle_sync.testing.registry_contract_base import House, RegistryContractBase


class WatchContract(RegistryContractBase):
    """`WatchStore`, and what scans of parts mean to whole ones."""

    def test_directories_under_a_path_are_those_at_it_and_below(self, house: House) -> None:
        house.write(b"top", b"a/one", b"a/b/two", b"a-b/three", b"a.d/four", b"ab/five")
        house.scan()
        under = house.registry.directories_under(house.root, b"a", None, 10)
        assert [directory.path for directory in under] == [b"a", b"a/b"]
        everything = house.registry.directories_under(house.root, b"", None, 10)
        assert [d.path for d in everything] == [b"", b"a", b"a-b", b"a.d", b"a/b", b"ab"]

    def test_directories_under_a_path_come_in_pages_without_those_that_are_gone(
        self, house: House
    ) -> None:
        house.write(b"a/one", b"a/b/two", b"a/c/three", b"a/d/four")
        house.scan()
        house.tree.rename_folder(b"a/c", b"z")
        house.scan()
        found, after = [], None
        while page := house.registry.directories_under(house.root, b"a", after, 2):
            assert len(page) <= 2
            found += [directory.path for directory in page]
            after = found[-1]
        assert found == [b"a", b"a/b", b"a/d"]

    def test_links_of_an_inode_say_in_which_directories_they_are(self, house: House) -> None:
        house.write(b"a/one", b"a/other")
        house.tree.link(b"a/one", b"b/two")
        house.scan()
        inode = house.tree.files[b"a/one"].inode
        assert house.registry.linked_directories(house.root, [inode]) == [b"a", b"b"]
        assert house.registry.linked_directories(house.root, [inode + 1000]) == []
        house.tree.remove(b"b/two")
        house.scan()
        assert house.registry.linked_directories(house.root, [inode]) == [b"a"]

    def test_what_was_written_to_is_hashed_again_by_name_or_all_in_a_directory(
        self, house: House
    ) -> None:
        house.settled(b"a/one", b"a/two", b"b/three")
        seq = house.registry.last_seq()
        assert house.registry.hash_again(house.root, {b"a": {b"one", b"nobody"}, b"no": None}) == 1
        assert self.to_hash(house) == {b"one"}
        assert house.registry.hash_again(house.root, {b"a": None}) == 2
        assert self.to_hash(house) == {b"one", b"two"}
        assert house.registry.last_seq() == seq
        house.hash()
        assert self.to_hash(house) == set()

    def test_with_a_file_the_other_names_of_its_inode_are_hashed_again(self, house: House) -> None:
        house.write(b"a/one")
        house.tree.link(b"a/one", b"b/two")
        house.tree.edit(b"a/one", nlink=2)
        house.tree.edit(b"b/two", nlink=2)
        house.scan()
        house.hash()
        assert house.registry.hash_again(house.root, {b"a": {b"one"}}) == 1
        assert self.to_hash(house) == {b"one", b"two"}

    def test_a_root_has_nothing_noted_at_first_and_each_note_stands_by_itself(
        self, house: House
    ) -> None:
        assert house.registry.watch_note(house.root) == WatchNote()
        house.registry.note_recrawl(house.root, True)
        house.registry.note_health(house.root, house.now_ns, '{"a": 1}')
        house.reopen()
        assert house.registry.watch_note(house.root) == WatchNote(True, house.now_ns, '{"a": 1}')
        house.registry.note_recrawl(house.root, False)
        assert house.registry.watch_note(house.root) == WatchNote(False, house.now_ns, '{"a": 1}')
        house.registry.remove_repository(house.root)
        with pytest.raises(NotFoundError):
            house.registry.watch_note(house.root)

    def test_of_each_loop_the_last_time_is_known(self, house: House) -> None:
        assert house.registry.loops() == []
        first = LoopNote("backup", 1, 2, 3, "failed", "no space left")
        other = LoopNote("clean-up", 4, 5, 6, "completed")
        for note in (other, first, first._replace(started_ns=7, ended_ns=8, due_ns=9)):
            house.registry.note_loop(note)
        house.reopen()
        assert house.registry.loops() == [
            LoopNote("backup", 7, 8, 9, "failed", "no space left"),
            other,
        ]

    def test_old_realtime_runs_are_forgotten_and_no_others(self, house: House) -> None:
        house.scan()
        for _ in range(4):
            run = house.registry.begin_run(house.root, RunType.REALTIME, house.tick(), whole=False)
            house.scanner.end(run)
        house.scan()
        before = house.registry.runs(house.root, 10)
        house.registry.prune_runs(house.root, 2)
        left = house.registry.runs(house.root, 10)
        assert left == [before[0], before[1], before[2], before[5]]
        assert house.registry.runs(house.root, 10, whole=True) == [before[0], before[5]]
        house.registry.prune_runs(house.root, 0)
        assert house.registry.runs(house.root, 10) == [before[0], before[5]]

    @staticmethod
    def to_hash(house: House) -> set[bytes]:
        return {task.name for task in house.registry.to_hash(house.root, 0, 100)}

    def test_of_each_examination_the_last_time_is_known(self, house: House) -> None:
        assert house.registry.checks() == []
        first = CheckNote("verify", b"/srv/vault", 5, 10, 1000, 0, "", 3)
        again = CheckNote("verify", b"/srv/vault", 9, 12, 1200, 1, "one file is damaged", 4)
        drill = CheckNote("drill", house.root, 7, 20, 500, 0, "seed 4", 7)
        for note in (first, drill, again):
            house.registry.note_check(note)
        assert house.registry.checks() == [drill, again]

    def test_how_far_a_scrub_has_come_is_kept_until_its_root_goes(self, house: House) -> None:
        other, _, _ = house.other_root()
        assert house.registry.scrub_note(house.root) == ScrubNote()
        first, second = ScrubNote(1, 2, 3, 4, 5, 6), ScrubNote(7, 8, 9, 10, 11, 12)
        house.registry.note_scrub(house.root, first)
        house.registry.note_scrub(house.root, second)
        house.registry.note_scrub(other, first)
        house.reopen()
        assert house.registry.scrub_note(house.root) == second
        house.registry.remove_repository(house.root)
        with pytest.raises(NotFoundError):
            house.registry.scrub_note(house.root)
        assert house.registry.scrub_note(other) == first
