"""The contract of a registry: listings that fail, directories that go."""

from __future__ import annotations

from dataclasses import replace

from lifecycle_sync.model.file import (
    FileFlag,
    LifecycleState,
    Tracking,
)
from lifecycle_sync.testing.registry_contract_base import (
    MANY,
    House,
    RegistryContractBase,
)

_S, _T = LifecycleState, Tracking
NEW = (_S.UPLOADED, _T.TRACKED, FileFlag(0))


class DirectoryContract(RegistryContractBase):
    """Listings that fail, and directories that are no longer there."""

    def test_a_directory_is_found_by_its_path_with_its_signature(self, house: House) -> None:
        house.write(b"a/one.txt")
        house.scan()
        stored = house.registry.directories(house.root, [b"", b"a", b"b"])
        assert set(stored) == {b"", b"a"}
        assert stored[b"a"].signature == house.tree.look(b"a").listing.signature
        assert (stored[b"a"].path, stored[b"a"].scanned_ns) == (b"a", house.now_ns)
        assert stored[b"a"].directory_id != stored[b""].directory_id
        assert house.registry.directories(house.root, []) == {}

    def test_signatures_are_those_of_all_directories_that_have_one(self, house: House) -> None:
        other, tree, scanner = house.other_root()
        tree.write(b"z/1")
        scanner.scan()
        house.write(b"a/1", b"b/1", b"racy/1", b"gone/1", b"failing/1")
        house.tree.edit(b"racy/1", racy=True)
        house.scan()
        house.tree.remove(b"gone")
        house.tree.failing[b"failing"] = "permission denied"
        house.scan()
        signatures = list(house.registry.signatures(house.root))
        assert dict(signatures) == {
            path: house.tree.look(path).listing.signature for path in (b"", b"a", b"b")
        }
        assert len(signatures) == 3
        assert {path for path, _ in house.registry.signatures(other)} == {b"", b"z"}

    def test_a_directory_with_a_racy_entry_has_no_signature(self, house: House) -> None:
        house.write(b"a/one.txt")
        house.scan()
        directory_id = house.directory(b"a").directory_id
        house.tick()
        house.tree.write(b"a/one.txt", b"other")
        house.tree.edit(b"a/one.txt", racy=True)
        house.scan()
        row = house.directory(b"a")
        assert (row.directory_id, row.signature, row.scanned_ns) == (
            directory_id,
            None,
            house.now_ns,
        )

    def test_an_unchanged_directory_moves_its_generation_and_no_record(self, house: House) -> None:
        house.settled(b"a/one.txt")
        before, seq = house.record(b"a/one.txt"), house.registry.last_seq()
        run = house.scan()
        assert house.record(b"a/one.txt") == replace(
            before, scanned_ns=house.now_ns, scan_generation=run.generation
        )
        assert house.registry.last_seq() == seq
        assert house.directory(b"a").scanned_ns == house.now_ns

    def test_directory_paths_are_those_that_are_not_gone_in_their_order(self, house: House) -> None:
        house.write(b"b/1", b"a/b/1", b"a!/1", b"\xff/1", b"a/1")
        house.scan()
        assert list(house.registry.directory_paths(house.root)) == [
            b"",
            b"a",
            b"a!",
            b"a/b",
            b"b",
            b"\xff",
        ]
        house.tree.remove(b"a")
        house.scan()
        assert list(house.registry.directory_paths(house.root)) == [b"", b"a!", b"b", b"\xff"]
        assert b"a/b" in house.registry.directories(house.root, [b"a/b"])

    def test_more_directories_than_a_page_are_all_there(self, house: House) -> None:
        paths = [b"%04d" % number for number in range(2100)]
        for path in paths:
            house.tree.make_folder(path)
        house.scan()
        assert list(house.registry.directory_paths(house.root)) == [b"", *paths]

    def test_the_files_in_a_directory_are_all_but_the_deleted(self, house: House) -> None:
        house.write(b"a/1", b"a/2", b"a/3", b"a/4", b"a/b/5")
        house.tree.edit(b"a/1", racy=True)
        house.scan()
        house.tree.edit(b"a/1", racy=False)
        house.store(house.result(b"a/2", b"2" * 32))
        house.tree.ignored = {b"a/2"}
        house.tree.remove(b"a/3")
        house.scan()
        house.registry.unregister(house.record(b"a/4").file_id, house.tick())
        house.tree.remove(b"a/1")
        house.scan_without_settling()
        files = house.registry.files_in(house.directory(b"a").directory_id)
        assert {(f.name, f.tracking, f.hashed) for f in files} == {
            (b"1", _T.TRACKED, False),
            (b"2", _T.IGNORED, True),
            (b"4", _T.UNREGISTERED, False),
        }
        entry = house.tree.files[b"a/4"]
        (four,) = [file for file in files if file.name == b"4"]
        assert four[1:7] == (b"4", 8, entry.size, entry.mtime_ns, entry.ctime_ns, entry.inode)

    def test_the_row_of_a_file_says_that_it_is_racy(self, house: House) -> None:
        house.write(b"one.txt")
        house.tree.edit(b"one.txt", racy=True)
        house.scan()
        (file,) = house.registry.files_in(house.directory(b"").directory_id)
        assert file.flags & FileFlag.RACY

    # -- failed and gone -------------------------------------------------------------------

    def test_a_listing_that_failed_touches_no_record_at_or_below_it(self, house: House) -> None:
        house.settled(b"a/one.txt", b"a/b/two.txt", b"c/three.txt")
        before = {path: house.record(path) for path in house.found()}
        seq = house.registry.last_seq()
        house.tree.failing[b"a"] = "permission denied"
        house.tree.remove(b"a/one.txt")
        house.scan()
        assert house.registry.last_seq() == seq
        assert house.missing() == []
        for path, record in before.items():
            after = house.record(path)
            assert replace(after, scanned_ns=0, scan_generation=0) == replace(
                record, scanned_ns=0, scan_generation=0
            )

    def test_a_failed_listing_is_told_until_one_succeeds(self, house: House) -> None:
        house.settled(b"a/one.txt")
        house.tree.failing[b"a"] = "permission denied"
        house.scan()
        house.reopen()
        failed = house.registry.directory_totals(house.root).failed
        assert failed == ((b"a", "permission denied"),)
        house.tree.failing[b"a"] = "input/output error"
        house.scan()
        failed = house.registry.directory_totals(house.root).failed
        assert failed == ((b"a", "input/output error"),)
        house.tree.failing.clear()
        house.scan()
        assert house.registry.directory_totals(house.root).failed == ()

    def test_what_changed_while_listings_failed_is_seen_when_one_succeeds(
        self, house: House
    ) -> None:
        house.settled(b"a/one.txt", b"a/two.txt")
        house.tree.failing[b"a"] = "permission denied"
        house.scan()
        house.tree.remove(b"a/one.txt")
        house.tree.failing.clear()
        house.scan()
        assert house.found() == [b"a/two.txt"]

    def test_a_file_under_a_failed_listing_was_last_seen_before_it(self, house: House) -> None:
        house.settled(b"a/one.txt")
        house.scan()
        seen_ns = house.now_ns
        house.tree.failing[b"a"] = "permission denied"
        house.scan()
        house.tree.failing.clear()
        house.tree.files.pop(b"a/one.txt")
        house.scan_without_settling()
        assert [file.last_seen_ns for file in house.missing()] == [seen_ns]

    def test_a_directory_that_could_never_be_listed_has_a_row(self, house: House) -> None:
        house.tree.make_folder(b"a")
        house.tree.failing[b"a"] = "permission denied"
        house.scan()
        assert list(house.registry.directory_paths(house.root)) == [b"", b"a"]
        assert house.directory(b"a").signature is None

    def test_unseen_are_those_a_whole_scan_did_not_come_by(self, house: House) -> None:
        house.settled(b"a/1", b"b/1", b"b/c/1", b"d/1")
        house.tree.remove(b"b")
        house.tick()
        run = house.scanner.begin()
        house.scanner.record(run)
        unseen = house.registry.unseen_directories(run, None, MANY)
        assert [row.path for row in unseen] == [b"b", b"b/c"]
        assert unseen[0] == house.directory(b"b")
        assert [row.path for row in house.registry.unseen_directories(run, b"b", MANY)] == [b"b/c"]
        assert [row.path for row in house.registry.unseen_directories(run, None, 1)] == [b"b"]

    def test_below_a_failed_listing_nothing_is_unseen_and_beside_it_is(self, house: House) -> None:
        house.settled(b"a/1", b"a/b/1", b"a/b/c/1", b"a!/1", b"ab/1", b"b/1")
        house.tree.failing[b"a"] = "permission denied"
        for gone in (b"a!", b"ab", b"b"):
            house.tree.remove(gone)
        house.tick()
        run = house.scanner.begin()
        house.scanner.record(run)
        unseen = house.registry.unseen_directories(run, None, MANY)
        assert [row.path for row in unseen] == [b"a!", b"ab", b"b"]

    def test_when_the_root_cannot_be_listed_nothing_is_unseen(self, house: House) -> None:
        house.settled(b"a/1", b"\xff\xff/1")
        house.tree.failing[b""] = "input/output error"
        house.scan()
        assert house.found() == [b"a/1", b"\xff\xff/1"]
        assert house.missing() == []

    def test_a_listing_that_failed_in_an_earlier_scan_protects_nothing(self, house: House) -> None:
        house.settled(b"a/b/1")
        house.tree.failing[b"a"] = "permission denied"
        house.scan()
        house.tree.failing.clear()
        house.tree.remove(b"a")
        house.scan()
        assert house.found() == []

    def test_the_root_itself_can_be_unseen(self, house: House) -> None:
        house.settled(b"one.txt")
        house.tick()
        run = house.scanner.begin()
        unseen = house.registry.unseen_directories(run, None, MANY)
        assert [row.path for row in unseen] == [b""]

    def test_the_files_of_a_directory_that_is_gone_are_noted_as_missing(self, house: House) -> None:
        house.settled(b"a/1", b"a/b/2", b"3")
        house.scan()
        seen_ns = house.now_ns
        house.tree.remove(b"a")
        run = house.scan_without_settling()
        assert house.missing_paths() == {b"a/1", b"a/b/2"}
        assert {file.last_seen_ns for file in house.missing()} == {seen_ns}
        assert house.registry.unseen_directories(run, None, MANY) == []
        assert house.record(b"a/1").state is _S.UPLOADED
        assert house.registry.directory_totals(house.root).directories == 1

    def test_a_directory_that_comes_back_unchanged_is_looked_at_again(self, house: House) -> None:
        house.settled(b"a/1")
        before = house.record(b"a/1")
        folder, file = house.tree.folders[b"a"], house.tree.files[b"a/1"]
        house.tree.remove(b"a")
        house.scan_without_settling()
        house.tree.folders[b"a"], house.tree.files[b"a/1"] = folder, file
        house.scan()
        assert house.missing() == []
        assert house.record(b"a/1").file_id == before.file_id
        assert list(house.registry.directory_paths(house.root)) == [b"", b"a"]

    def test_the_files_of_a_directory_that_is_ignored_now_are_ignored(self, house: House) -> None:
        house.settled(b"a/1", b"a/b/2", b"3")
        ids = {path: house.record(path).file_id for path in (b"a/1", b"a/b/2")}
        house.tree.ignored.add(b"a")
        seq = house.registry.last_seq()
        house.scan()
        assert house.missing() == []
        assert house.changed_since(seq) == {b"a/1", b"a/b/2"}
        for path in ids:
            assert house.record(path).tracking is _T.IGNORED
        house.tree.ignored.clear()
        house.scan()
        for path, file_id in ids.items():
            record = house.record(path)
            assert (record.file_id, record.tracking) == (file_id, _T.TRACKED)

    def test_an_unregistered_file_stays_so_when_its_directory_is_ignored(
        self, house: House
    ) -> None:
        house.settled(b"a/1", b"a/2")
        house.registry.unregister(house.record(b"a/1").file_id, house.tick())
        house.tree.ignored.add(b"a")
        house.scan()
        assert house.record(b"a/1").tracking is _T.UNREGISTERED
        assert house.record(b"a/2").tracking is _T.IGNORED

    def test_the_totals_are_those_of_the_directories_as_last_scanned(self, house: House) -> None:
        house.write(b"a/1", b"a/b/2", b"c/3", b"hidden")
        house.tree.ignored.add(b"hidden")
        _, tree, scanner = house.other_root()
        tree.write(b"o", b"12345")
        scanner.scan()
        house.scan()
        size = sum(len(house.tree.files[path].content) for path in (b"a/1", b"a/b/2", b"c/3"))
        totals = house.registry.directory_totals(house.root)
        assert (totals.directories, totals.files, totals.bytes) == (4, 3, size)
        assert (totals.ignored, totals.special, totals.failed) == (1, 0, ())
        both = house.registry.directory_totals(None)
        assert (both.directories, both.files, both.bytes) == (5, 4, size + 5)

    def test_sockets_and_other_special_files_are_counted(self, house: House) -> None:
        (change,) = house.scanner.batch([house.tree.look(b"")]).changes
        house.record_change(replace(change, special_count=3))
        assert house.registry.directory_totals(house.root).special == 3
