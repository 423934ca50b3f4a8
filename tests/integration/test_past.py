"""A root as it was: what backups and the journal tell of a moment, and what differs between two."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle_sync.clock import NS_PER_SECOND, FixedClock
from lifecycle_sync.errors import NotFoundError, UsageError
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.model.file import Kind
from lifecycle_sync.model.past import PastFile
from lifecycle_sync.service import choosing, restoring, trash_orders
from lifecycle_sync.service.act_orders import How
from lifecycle_sync.service.past import Past, backups_of, differences, past_of, present_of
from lifecycle_sync.vault.past import PastTable
from tests.support.house import House

HOUR = 3600 * NS_PER_SECOND
OLD_NS = 1_600_000_000_000_000_000


class Years:
    """A root that is backed up from time to time."""

    def __init__(self, base: Path) -> None:
        # Ahead of what the filesystem stamps, so that nothing is too fresh.
        self.clock = FixedClock(time.time_ns() + HOUR)
        self.house = House(base, clock=self.clock)

    def write(self, path: str, content: bytes) -> None:
        self.house.write(path, content)
        os.utime(self.house.path(path), ns=(OLD_NS, OLD_NS + len(content)))

    def back_up(self) -> int:
        """All that lies there now; the moment after."""
        self.look()
        report = self.house.engine.acts.back_up(self.house.repository)
        assert not report.failed
        assert not report.skipped
        return self.later()

    def look(self) -> None:
        self.later()
        self.house.sync(wait=False)

    def later(self) -> int:
        self.clock.advance(3600)
        then = self.clock.now_ns()
        self.clock.advance(3600)
        return then

    def delete(self, *paths: str) -> int:
        files = [
            file
            for file in self.house.engine.registry.files_under(
                self.house.repository.repository_id, b"", None, 1000
            )
            if os.fsdecode(file.path) in paths
        ]
        assert self.house.engine.acts.delete(self.house.repository, files).completed == len(paths)
        return self.later()

    @contextmanager
    def at(self, moment: int) -> Iterator[Past]:
        engine = self.house.engine
        with backups_of(engine) as vault:
            past = past_of(engine, vault, self.house.repository, moment)
            with past.table:
                yield past

    def paths(self, moment: int) -> list[str]:
        with self.at(moment) as past:
            return [os.fsdecode(file.path) for file in past.table.files()]

    def restored(self, moment: int, to: Path, name: str = "") -> dict[str, bytes]:
        order = choosing.RestoreOrder(
            [os.path.join(self.house.root, name) if name else str(self.house.root)],
            to=str(to),
            at_ns=moment,
        )
        restoring.restore(self.house.engine, order, How())
        return {
            str(path.relative_to(to)): path.read_bytes() for path in to.rglob("*") if path.is_file()
        }


@pytest.fixture
def years(tmp_path: Path) -> Iterator[Years]:
    made = Years(tmp_path)
    yield made
    made.house.engine.close()


def test_each_moment_has_the_versions_that_had_been_kept_by_then(years, tmp_path):
    years.write("a.txt", b"one")
    years.write("d/b.txt", b"b")
    first = years.back_up()
    years.write("a.txt", b"the second")
    years.write("c.txt", b"new")
    second = years.back_up()
    assert years.paths(first) == ["a.txt", "d/b.txt"]
    assert years.paths(second) == ["a.txt", "c.txt", "d/b.txt"]
    assert years.restored(first, tmp_path / "1") == {"root/a.txt": b"one", "root/d/b.txt": b"b"}
    assert years.restored(second, tmp_path / "2")["root/a.txt"] == b"the second"
    assert years.restored(first, tmp_path / "3", "d") == {"d/b.txt": b"b"}


def test_what_was_gone_then_is_not_there_and_what_went_later_is(years, tmp_path):
    years.write("ordered.txt", b"ordered")
    years.write("by-hand.txt", b"by hand")
    years.write("stays.txt", b"stays")
    first = years.back_up()
    years.house.remove("by-hand.txt")
    years.look()
    second = years.later()
    third = years.delete("ordered.txt")
    assert years.paths(first) == ["by-hand.txt", "ordered.txt", "stays.txt"]
    assert years.paths(second) == ["ordered.txt", "stays.txt"]
    assert years.paths(third) == ["stays.txt"]
    # Although it was deleted on purpose: it was there.
    assert "root/ordered.txt" in years.restored(second, tmp_path / "out")


def test_a_file_that_came_back_is_there_again(years):
    years.write("a.txt", b"a")
    years.back_up()
    gone = years.delete("a.txt")
    trash_orders.undelete(years.house.engine, [os.fsdecode(years.house.path("a.txt"))], How())
    back = years.later()
    assert years.paths(gone) == []
    assert years.paths(back) == ["a.txt"]


def test_an_archived_file_is_counted_and_not_there(years):
    years.write("a.txt", b"a")
    years.write("b.txt", b"b")
    before = years.back_up()
    engine, repository = years.house.engine, years.house.repository
    file = engine.registry.files_under(repository.repository_id, b"a.txt", None, 1)
    engine.acts.archive(repository, [it for it in file if it.path == b"a.txt"])
    after = years.later()
    with years.at(after) as past:
        assert past.archived == 1
    assert years.paths(after) == ["b.txt"]
    assert years.paths(before) == ["a.txt", "b.txt"]


def test_a_file_lies_where_it_had_been_moved_to(years):
    years.write("old/a.txt", b"a")
    before = years.back_up()
    years.house.rename("old/a.txt", "new/a.txt")
    years.look()
    after = years.later()
    assert years.paths(before) == ["old/a.txt"]
    assert years.paths(after) == ["new/a.txt"]
    with years.at(before) as old, years.at(after) as new:
        (difference,) = differences(old, new)
        assert difference.change == "moved"
        # Seen from either folder it went, or came.
        assert [it.change for it in differences(old, new, b"old")] == ["removed"]
        assert [it.change for it in differences(old, new, b"new")] == ["moved"]


def test_another_file_that_took_a_path_stands_there(years, tmp_path):
    years.write("a.txt", b"first")
    first = years.back_up()
    years.house.remove("a.txt")
    years.look()
    years.write("a.txt", b"another file")
    second = years.back_up()
    assert years.restored(first, tmp_path / "1") == {"root/a.txt": b"first"}
    assert years.restored(second, tmp_path / "2") == {"root/a.txt": b"another file"}


def test_in_place_only_what_is_missing_comes_back(years):
    years.write("a.txt", b"then")
    years.write("b.txt", b"gone since")
    moment = years.back_up()
    years.write("a.txt", b"now, and longer")
    years.house.remove("b.txt")
    years.look()
    order = choosing.RestoreOrder([str(years.house.root)], at_ns=moment)
    (outcome,) = restoring.restore(years.house.engine, order, How())
    assert outcome.report.completed == 1
    assert (years.house.root / "a.txt").read_bytes() == b"now, and longer"
    assert (years.house.root / "b.txt").read_bytes() == b"gone since"


def test_moments_without_a_past_are_refused(years):
    years.write("a.txt", b"a")
    before = years.later()
    years.back_up()
    with pytest.raises(NotFoundError, match="first backup was at"):
        years.paths(before)
    with pytest.raises(UsageError, match="still to come"):
        years.paths(years.clock.now_ns() + HOUR)
    order = choosing.RestoreOrder([str(years.house.root)], version=1, at_ns=before)
    with pytest.raises(UsageError):
        restoring.restore(years.house.engine, order, How())


def test_what_became_of_a_folder_until_now(years):
    for name in ("same", "changed", "removed", "moved"):
        years.write(f"{name}.txt", name.encode())
    then = years.back_up()
    years.write("changed.txt", b"changed indeed")
    years.house.remove("removed.txt")
    years.house.rename("moved.txt", "d/moved.txt")
    years.write("added.txt", b"added")
    years.look()
    with years.at(then) as old:
        new = present_of(years.house.engine, years.house.repository)
        with new.table:
            found = {
                (it.change.value, os.fsdecode(file.path))
                for it in differences(old, new)
                if (file := it.new or it.old) is not None
            }
    assert found == {
        ("changed", "changed.txt"),
        ("removed", "removed.txt"),
        ("moved", "d/moved.txt"),
        ("added", "added.txt"),
    }


# -- the table -----------------------------------------------------------------------------


def _file(number: int, path: bytes, at: int) -> PastFile:
    return PastFile(
        bytes([number]) * 16,
        path,
        at,
        bytes([number, at]) * 8,
        at,
        Kind.REGULAR,
        at,
        at,
        ContentKey("sha256", b"d" * 32),
    )


_versions = st.lists(
    st.builds(
        _file, st.integers(1, 4), st.sampled_from([b"a", b"a/b", b"a.x", b"b"]), st.integers(1, 9)
    ),
    unique_by=lambda it: (it.file_id, it.at_ns),
    max_size=20,
)


@settings(max_examples=60, deadline=None)
@given(_versions)
def test_of_each_file_the_last_version_stands_and_at_each_path_one_file(versions):
    last: dict[bytes, PastFile] = {}
    for it in sorted(versions, key=lambda it: it.at_ns):
        last[it.file_id] = it
    at_path: dict[bytes, PastFile] = {}
    for it in sorted(last.values(), key=lambda it: (it.at_ns, it.file_id)):
        at_path[it.path] = it
    with PastTable() as table:
        table.add(versions)
        table.settle()
        assert list(table.files()) == [at_path[path] for path in sorted(at_path)]
        below_a = [it for it in at_path.values() if it.path == b"a" or it.path.startswith(b"a/")]
        assert list(table.files(b"a")) == sorted(below_a, key=lambda it: it.path)
        assert len(table) == len(at_path)
