"""The contract of a registry: pages of records."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest

from lifecycle_sync.errors import UsageError
from lifecycle_sync.model.file import FileFlag, FileRecord, FileType, LifecycleState
from lifecycle_sync.model.record import FileQuery
from lifecycle_sync.testing.registry_contract_base import (
    MANY,
    SECOND_NS,
    START_NS,
    House,
    RegistryContractBase,
)

_S, _T = LifecycleState, FileType
ORDERS = ["path", "size", "mtime", "seq"]


def pages(house: House, query: FileQuery, limit: int) -> list[bytes]:
    """The paths of all pages of a question, and that none is longer than it may be."""
    found: list[bytes] = []
    cursor = None
    while True:
        page = house.registry.find(query, cursor, limit)
        assert len(page.records) <= limit
        found += [record.path for record in page.records]
        if page.next_cursor is None:
            return found
        assert page.records
        cursor = page.next_cursor


class FindContract(RegistryContractBase):
    """`find`."""

    # -- which records ---------------------------------------------------------------------

    def test_a_found_record_is_the_record(self, house: House) -> None:
        house.settled(b"a/one.txt")
        page = house.registry.find(FileQuery(), None, 10)
        assert page.records == (house.record(b"a/one.txt"),)

    def test_nothing_is_found_in_an_empty_registry(self, house: House) -> None:
        assert house.found() == []
        assert house.registry.find(FileQuery(), None, 10).records == ()

    def test_a_repository_shows_its_own_and_no_repository_all(self, house: House) -> None:
        other, tree, scanner = house.other_root()
        tree.write(b"b.txt")
        scanner.scan()
        house.settled(b"a.txt", b"c.txt")
        assert house.found() == [b"a.txt", b"c.txt"]
        # Root by root: /srv/files before /srv/other.
        assert pages(house, FileQuery(), 1) == [b"a.txt", b"c.txt", b"b.txt"]
        assert pages(house, FileQuery(repository_id=other), 1) == [b"b.txt"]

    def test_only_tracked_records_are_found(self, house: House) -> None:
        house.settled(b"1", b"2", b"3")
        house.tree.ignored.add(b"1")
        house.scan()
        house.registry.unregister(house.record(b"2").file_id, house.tick())
        for order in ORDERS:
            assert house.found(order=order) == [b"3"]

    def test_the_deleted_are_found_only_when_asked_for(self, house: House) -> None:
        house.settled(b"1", b"2")
        house.tree.remove(b"1")
        house.scan()
        assert house.found() == [b"2"]
        assert house.found(states=frozenset({_S.UPLOADED, _S.EXPIRED})) == [b"2"]
        assert house.found(include_deleted=True) == [b"1", b"2"]
        assert house.found(states=frozenset({_S.DELETED})) == [b"1"]
        assert house.found(states=frozenset({_S.DELETED}), include_deleted=True) == [b"1"]
        assert house.found(states=frozenset({_S.UPLOADED}), include_deleted=True) == [b"2"]

    def test_a_missing_file_is_found_until_it_is_settled(self, house: House) -> None:
        house.settled(b"1")
        house.tree.remove(b"1")
        house.scan_without_settling()
        assert house.found() == [b"1"]

    def test_under_is_a_folder_with_all_below_it_and_none_beside_it(self, house: House) -> None:
        house.settled(
            b"a/1", b"a/b/2", b"a/b/c/3", b"ab/4", b"a!/5", b"a.txt", b"A/6", b"b/a/7", b"a/b!/8"
        )
        assert set(house.found(under=b"a")) == {b"a/1", b"a/b/2", b"a/b/c/3", b"a/b!/8"}
        assert set(house.found(under=b"a/b")) == {b"a/b/2", b"a/b/c/3"}
        assert house.found(under=b"a/b/c/3") == []
        assert house.found(under=b"nowhere") == []
        assert len(house.found(under=b"")) == 9

    def test_without_recursion_only_the_folder_itself_counts(self, house: House) -> None:
        house.settled(b"1", b"a/2", b"a/b/3", b"ab/4")
        assert house.found(recursive=False) == [b"1"]
        assert house.found(recursive=False, under=b"a") == [b"a/2"]
        assert house.found(recursive=False, under=b"b") == []

    @pytest.mark.parametrize("order", ORDERS)
    def test_under_holds_in_every_order_and_takes_signs_for_themselves(
        self, house: House, order: str
    ) -> None:
        house.settled(b"a_b/1", b"axb/2", b"a%/3", b"a*/4", b"\xff/5", b"\xff\xff/6")
        for folder, file in {
            b"a_b": b"a_b/1",
            b"a%": b"a%/3",
            b"a*": b"a*/4",
            b"\xff": b"\xff/5",
        }.items():
            assert house.found(under=folder, order=order) == [file]
            assert house.found(under=folder, recursive=False, order=order) == [file]

    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [
            (b"*.txt", {b"one.txt", b"a/two.txt", b"[x].txt", b"*.txt"}),
            (b"t*", {b"a/two.txt"}),
            (b"*", None),
            (b"?.csv", {b"1.csv"}),
            (b"[0-9].csv", {b"1.csv"}),
            (b"[!0-9].csv", set()),
            (b"[!x].csv", {b"1.csv"}),
            (b"[[]x].txt", {b"[x].txt"}),
            (b"[*].txt", {b"*.txt"}),
            (b"*.TXT", set()),
            (b"a/*", set()),
            (b"caf*", {b"caf\xc3\xa9", b"caf\xe9"}),
            (b"*\xe9", {b"caf\xe9"}),
            (b"caf\xe9", {b"caf\xe9"}),
            (b"one.txt", {b"one.txt"}),
            (b"", set()),
        ],
    )
    def test_a_glob_holds_for_the_last_component(
        self, house: House, pattern: bytes, expected: set[bytes] | None
    ) -> None:
        paths = [
            b"one.txt",
            b"a/two.txt",
            b"[x].txt",
            b"*.txt",
            b"1.csv",
            b"caf\xc3\xa9",
            b"caf\xe9",
        ]
        house.settled(*paths)
        assert set(house.found(name_glob=pattern)) == (set(paths) if expected is None else expected)

    def test_sizes_are_bounds_that_are_in(self, house: House) -> None:
        for size in range(5):
            house.tree.write(b"%d" % size, b"x" * size)
        house.scan()
        assert house.found(min_size=3) == [b"3", b"4"]
        assert house.found(max_size=1) == [b"0", b"1"]
        assert house.found(min_size=2, max_size=2) == [b"2"]
        assert house.found(max_size=0) == [b"0"]
        assert house.found(min_size=3, max_size=2) == []

    def test_modified_before_is_exclusive_and_after_inclusive(self, house: House) -> None:
        house.settled(b"1", b"2", b"3")
        for number, mtime_ns in ((b"1", -5), (b"2", 0), (b"3", 5)):
            house.tree.edit(number, mtime_ns=mtime_ns)
        house.scan()
        assert house.found(modified_before_ns=0) == [b"1"]
        assert house.found(modified_before_ns=1) == [b"1", b"2"]
        assert house.found(modified_after_ns=0) == [b"2", b"3"]
        assert house.found(modified_after_ns=-5, modified_before_ns=5) == [b"1", b"2"]

    def test_changed_since_is_inclusive(self, house: House) -> None:
        house.settled(b"1")
        house.write(b"2")
        house.scan()
        then = house.now_ns
        house.write(b"3")
        house.scan()
        assert house.found(changed_since_ns=then) == [b"2", b"3"]
        assert house.found(changed_since_ns=then + 1) == [b"3"]
        assert house.found(changed_since_ns=house.now_ns + 1) == []
        assert house.found(changed_since_ns=0) == [b"1", b"2", b"3"]

    def test_states_types_and_flags_are_any_of_those_given(self, house: House) -> None:
        house.settled(b"1.txt", b"2.jpg", b"3.zip", b"4.jpg")
        house.tree.edit(b"1.txt", racy=True)
        house.tree.write(b"1.txt", b"other")
        house.tree.edit(b"1.txt", racy=True)
        house.scan()
        for name, state, flags in (
            (b"2.jpg", _S.EXPIRED, 0),
            (b"3.zip", _S.PROCESSING, FileFlag.CLAIMED),
        ):
            file_id = house.record(name).file_id
            house.registry.set_state(file_id, state, house.tick(), set_flags=int(flags))
        assert house.found(states=frozenset({_S.EXPIRED})) == [b"2.jpg"]
        assert house.found(states=frozenset({_S.EXPIRED, _S.PROCESSING})) == [b"2.jpg", b"3.zip"]
        assert house.found(types=frozenset({_T.IMAGE})) == [b"2.jpg", b"4.jpg"]
        assert house.found(types=frozenset({_T.IMAGE, _T.DOCUMENT})) == [
            b"1.txt",
            b"2.jpg",
            b"4.jpg",
        ]
        assert house.found(flags=FileFlag.CLAIMED.value) == [b"3.zip"]
        both = (FileFlag.CLAIMED | FileFlag.RACY).value
        assert house.found(flags=both) == [b"1.txt", b"3.zip"]
        assert house.found(flags=FileFlag.SUSPECT.value) == []

    def test_every_field_that_is_set_must_hold(self, house: House) -> None:
        house.settled(b"a/1.jpg", b"a/2.jpg", b"a/1.txt", b"1.jpg")
        query = {
            "under": b"a",
            "name_glob": b"1*",
            "types": frozenset({_T.IMAGE}),
            "states": frozenset({_S.UPLOADED}),
            "min_size": 1,
            "max_size": 100,
            "modified_before_ns": house.now_ns,
            "modified_after_ns": START_NS,
            "changed_since_ns": START_NS,
        }
        for order in ORDERS:
            assert house.found(**query, order=order) == [b"a/1.jpg"]

    # -- orders and pages ------------------------------------------------------------------

    def zoo(self, house: House) -> list[bytes]:
        """Files of many places, with equal sizes and times among them."""
        paths = [
            b"a!/1",
            b"a/1",
            b"a/b/1",
            b"a/b!",
            b"a.txt",
            b"ab",
            b"b",
            b"\xff",
            b"\xff\xff/\xff",
        ]
        for number, path in enumerate(paths):
            house.tree.write(path, b"x" * (number % 3))
            house.tree.edit(path, mtime_ns=START_NS - (number % 4) * SECOND_NS)
        house.scan()
        return paths

    def test_by_path_is_folder_by_folder_and_name_by_name(self, house: House) -> None:
        self.zoo(house)
        assert house.found() == [
            b"a.txt",
            b"ab",
            b"b",
            b"\xff",
            b"a/1",
            b"a/b!",
            b"a!/1",
            b"a/b/1",
            b"\xff\xff/\xff",
        ]

    def test_by_size_is_largest_first(self, house: House) -> None:
        self.zoo(house)
        sizes = [house.record(path).size for path in house.found(order="size")]
        assert sizes == sorted(sizes, reverse=True)
        assert len(sizes) == 9

    def test_by_mtime_is_oldest_first(self, house: House) -> None:
        self.zoo(house)
        times = [house.record(path).mtime_ns for path in house.found(order="mtime")]
        assert times == sorted(times)
        assert len(times) == 9

    def test_by_seq_is_as_they_changed(self, house: House) -> None:
        paths = self.zoo(house)
        house.tick()
        house.tree.write(paths[3], b"changed")
        house.scan()
        seqs = [house.record(path).seq for path in house.found(order="seq")]
        assert seqs == sorted(seqs)
        assert house.found(order="seq")[-1] == paths[3]

    @pytest.mark.parametrize("order", ORDERS)
    @pytest.mark.parametrize("limit", [1, 2, 4, 9, 10])
    def test_pages_cover_everything_once_in_order(
        self, house: House, order: str, limit: int
    ) -> None:
        self.zoo(house)
        query = FileQuery(repository_id=house.root, order=order)
        assert pages(house, query, limit) == house.found(order=order)

    @pytest.mark.parametrize("order", ORDERS)
    def test_pages_of_a_narrower_question_cover_it_once(self, house: House, order: str) -> None:
        self.zoo(house)
        query = FileQuery(house.root, b"a", max_size=1, order=order)
        expected = house.found(under=b"a", max_size=1, order=order)
        assert len(expected) > 1
        assert pages(house, query, 1) == expected

    @pytest.mark.parametrize("order", ORDERS)
    def test_pages_over_all_roots_cover_everything_once(self, house: House, order: str) -> None:
        _, tree, scanner = house.other_root(b"/srv")
        for path in (b"a/1", b"z"):
            tree.write(path, b"x")
        scanner.scan()
        self.zoo(house)
        records: list[FileRecord] = []
        cursor = None
        while True:
            page = house.registry.find(FileQuery(order=order), cursor, 2)
            records += page.records
            cursor = page.next_cursor
            if cursor is None:
                break
        assert len({record.file_id for record in records}) == len(records) == 11

    def test_deleted_records_of_one_path_are_all_on_some_page(self, house: House) -> None:
        for _ in range(3):
            house.settled(b"one.txt")
            house.tree.remove(b"one.txt")
            house.scan()
        house.settled(b"one.txt")
        for order in ORDERS:
            query = FileQuery(repository_id=house.root, include_deleted=True, order=order)
            assert len(pages(house, query, 1)) == 4

    @pytest.mark.parametrize("order", ORDERS)
    def test_a_page_begins_behind_its_cursor_whatever_went_before_it(
        self, house: House, order: str
    ) -> None:
        self.zoo(house)
        asked = house.found(order=order)
        query = FileQuery(repository_id=house.root, order=order)
        page = house.registry.find(query, None, 3)
        for record in page.records:
            house.registry.unregister(record.file_id, house.tick())
        rest = house.registry.find(query, page.next_cursor, MANY)
        assert [record.path for record in rest.records] == asked[3:]

    def test_the_last_page_has_no_cursor(self, house: House) -> None:
        house.settled(b"1", b"2")
        query = FileQuery(repository_id=house.root)
        assert house.registry.find(query, None, 2).next_cursor is None
        assert house.registry.find(query, None, 1).next_cursor is not None

    def test_a_cursor_of_another_question_is_refused(self, house: House) -> None:
        house.settled(b"1", b"2", b"3")
        query = FileQuery(repository_id=house.root)
        cursor = house.registry.find(query, None, 1).next_cursor
        for other in (
            FileQuery(),
            replace(query, under=b"a"),
            replace(query, order="size"),
            replace(query, min_size=0),
            replace(query, include_deleted=True),
        ):
            with pytest.raises(UsageError):
                house.registry.find(other, cursor, 1)

    @pytest.mark.parametrize("cursor", ["", "x", "[]", "{}", "null", "7", '["x"]', '["x", 1, 2]'])
    def test_what_is_no_cursor_is_refused(self, house: House, cursor: str) -> None:
        with pytest.raises(UsageError):
            house.registry.find(FileQuery(), cursor, 1)

    @pytest.mark.parametrize("order", ORDERS)
    def test_a_cursor_that_was_tampered_with_is_no_worse_than_a_wrong_one(
        self, house: House, order: str
    ) -> None:
        house.settled(b"1", b"2", b"3")
        query = FileQuery(repository_id=house.root, order=order)
        cursor = house.registry.find(query, None, 1).next_cursor
        assert cursor is not None
        wrong = [
            cursor[:cut] + put + cursor[cut + 1 :]
            for cut in range(len(cursor))
            for put in "xA[]{}0"
        ]
        for tampered in [*wrong, cursor + cursor, cursor.replace("]", ', {"a": 1}]')]:
            with suppress(UsageError):
                house.registry.find(query, tampered, 1)

    def test_an_order_that_there_is_not_is_refused(self, house: House) -> None:
        with pytest.raises(UsageError):
            house.registry.find(FileQuery(order="name"), None, 1)
