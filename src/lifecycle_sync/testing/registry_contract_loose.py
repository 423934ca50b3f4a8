"""The contract of a registry: loose repositories, and roots that are put around their files."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lifecycle_sync.errors import UsageError
from lifecycle_sync.model.file import FileRecord
from lifecycle_sync.model.repository import RepositoryKind
from lifecycle_sync.testing.memory_tree import name
from lifecycle_sync.testing.registry_contract_base import MANY, House, RegistryContractBase

LOOSE, ROOT = RepositoryKind.LOOSE, RepositoryKind.ROOT


class LooseContract(RegistryContractBase):
    """What `add_repository` and `update_repository` do with loose ones."""

    def loose(self, house: House, path: bytes, *files: bytes) -> list[FileRecord]:
        """A loose repository with some files that were registered in it."""
        repository_id, tree, scanner = house.other_root(path, LOOSE)
        records = []
        for file in files:
            house.tick()
            tree.write(file, b"content of " + file)
            run = scanner.begin(whole=False)
            records.append(house.registry.register(run, scanner.look_at(file), file, "media"))
            scanner.end(run)
            assert records[-1].repository_id == repository_id
        return records

    def roots(self, house: House) -> list[bytes]:
        return [repository.path for repository in house.registry.repositories()]

    @pytest.mark.parametrize(
        ("loose", "root", "taken"),
        [
            (b"/mnt/a/b", b"/mnt/a", b"b/one.txt"),
            (b"/mnt/a/b", b"/mnt", b"a/b/one.txt"),
            (b"/mnt/a/b", b"/mnt/a/b", b"one.txt"),
        ],
    )
    def test_a_root_takes_over_what_loose_ones_have_in_it_under_its_id(
        self, house: House, loose: bytes, root: bytes, taken: bytes
    ) -> None:
        (before,) = self.loose(house, loose, b"one.txt")
        seq = house.registry.last_seq()
        house.tick()
        added = house.add_root(root)
        house.reopen()
        after = house.file(before.file_id)
        assert (after.repository_id, after.path) == (added, taken)
        assert replace(
            after, repository_id=b"", path=b"", seq=0, changed_ns=0, scan_generation=0
        ) == replace(before, repository_id=b"", path=b"", seq=0, changed_ns=0, scan_generation=0)
        assert house.registry.file_at(added, taken) == after
        assert after in house.registry.changes(seq, MANY)
        assert self.roots(house) == [root, b"/srv/files"]

    def test_what_was_taken_over_is_known_to_the_next_scan(self, house: House) -> None:
        (before,) = self.loose(house, b"/mnt/a/b", b"one.txt")
        root, tree, scanner = house.other_root(b"/mnt/a")
        tree.write(b"b/one.txt")
        tree.edit(
            b"b/one.txt",
            content=b"content of one.txt",
            inode=before.inode,
            mtime_ns=before.mtime_ns,
            ctime_ns=before.ctime_ns,
        )
        tree.write(b"b/two.txt")
        house.tick()
        scanner.scan()
        after = house.registry.file_at(root, b"b/one.txt")
        assert after is not None
        assert (after.file_id, after.policy_name) == (before.file_id, "media")
        assert house.registry.live_count(root) == 2
        assert house.registry.missing(root, 0, MANY) == []

    def test_what_was_taken_over_and_is_not_there_is_deleted_by_the_next_scan(
        self, house: House
    ) -> None:
        (before,) = self.loose(house, b"/mnt/a/b", b"one.txt")
        _, _, scanner = house.other_root(b"/mnt/a")
        house.tick()
        scanner.scan()
        assert house.file(before.file_id).state.value == "deleted"

    def test_a_root_inside_a_loose_one_leaves_it_its_own(self, house: House) -> None:
        inside, outside = self.loose(house, b"/mnt", b"a/one.txt", b"two.txt")
        root = house.add_root(b"/mnt/a")
        assert house.file(inside.file_id).repository_id == root
        assert house.file(inside.file_id).path == b"one.txt"
        assert house.file(outside.file_id) == outside
        assert self.roots(house) == [b"/mnt", b"/mnt/a", b"/srv/files"]

    def test_a_root_beside_a_loose_one_takes_nothing(self, house: House) -> None:
        records = self.loose(house, b"/mnt/a", b"one.txt")
        records += self.loose(house, b"/mnt/ab", b"two.txt")
        house.add_root(b"/mnt/a!")
        house.add_root(b"/mnt/b")
        assert [house.file(record.file_id) for record in records] == records

    def test_a_root_takes_nothing_from_another_root(self, house: House) -> None:
        house.settled(b"a/one.txt")
        before = house.record(b"a/one.txt")
        house.add_root(b"/srv")
        assert house.record(b"a/one.txt") == before

    def test_a_loose_one_takes_nothing_and_is_refused_where_one_is(self, house: House) -> None:
        (record,) = self.loose(house, b"/mnt/a", b"one.txt")
        for path in (b"/mnt/a", b"/srv/files"):
            with pytest.raises(UsageError):
                house.add_root(path, LOOSE)
        house.add_root(b"/mnt", LOOSE)
        assert house.file(record.file_id) == record

    def test_a_root_that_goes_elsewhere_takes_over_what_is_there(self, house: House) -> None:
        (before,) = self.loose(house, b"/mnt/a", b"one.txt")
        house.registry.update_repository(replace(house.repository, path=b"/mnt"))
        after = house.file(before.file_id)
        assert (after.repository_id, after.path) == (house.root, b"a/one.txt")
        assert self.roots(house) == [b"/mnt"]

    def test_a_root_cannot_go_where_another_is(self, house: House) -> None:
        house.add_root(b"/mnt")
        before = house.repository
        with pytest.raises(UsageError):
            house.registry.update_repository(replace(before, path=b"/mnt"))
        assert house.repository == before

    def test_a_missing_file_is_missing_in_the_root_that_took_it_over(self, house: House) -> None:
        loose, tree, scanner = house.other_root(b"/mnt/a", LOOSE)
        for file in (b"one.txt", b"two.txt"):
            tree.write(file)
            run = scanner.begin(whole=False)
            house.registry.register(run, scanner.look_at(file), file, None)
            scanner.end(run)
        tree.remove(b"one.txt")
        house.tick()
        run = scanner.begin()
        scanner.record(run)
        assert house.registry.missing_count(loose) == 1
        root = house.add_root(b"/mnt")
        assert house.registry.missing_count(root) == 1
        assert [name(file.path) for file in house.registry.missing(root, 0, MANY)] == [b"one.txt"]
