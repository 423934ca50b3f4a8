"""Another name of a file comes, is written through and goes before anybody looked: whoever has the
first name is told nothing, and no event says which file it was."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import oracle
from tests.support.watched import Watched, until

pytestmark = pytest.mark.torture


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    house = Watched(tmp_path)
    house.write("a/file", b"one")
    house.write("b/other", b"two")
    yield house
    house.engine.close()


def write_through(name: bytes | Path) -> None:
    with open(name, "ab") as file:
        file.write(b"more")


def is_seen(watched: Watched) -> bool:
    """Whether what was written is recorded, as of now."""
    watched.settle()
    return oracle.records(watched.engine, watched.repository)[b"a/file"].size == len("onemore")


def is_removed(watched: Watched) -> None:
    watched.remove("b/link")


def is_replaced(watched: Watched) -> None:
    watched.rename("b/other", "b/link")


def is_moved_out(watched: Watched) -> None:
    os.rename(watched.path("b/link"), watched.base / "outside")


def is_removed_and_made_again(watched: Watched) -> None:
    watched.remove("b/link")
    watched.write("b/link", b"another")


@pytest.mark.parametrize("goes", [is_removed, is_replaced, is_moved_out, is_removed_and_made_again])
def test_a_name_that_nobody_saw_leaves_the_others_right(
    watched: Watched, goes: Callable[[Watched], None]
):
    with watched.following():
        watched.faults.suspend()
        os.link(watched.path("a/file"), watched.path("b/link"))
        write_through(watched.path("b/link"))
        goes(watched)
        watched.faults.resume()
        # What was moved may yet turn up elsewhere: that is waited for.
        until(lambda: is_seen(watched))
        watched.assert_equal()


def test_a_name_in_a_folder_that_nobody_saw_leaves_the_others_right(watched):
    with watched.following():
        watched.faults.suspend()
        os.mkdir(watched.path("c"))
        os.link(watched.path("a/file"), watched.path("c/link"))
        write_through(watched.path("c/link"))
        shutil.rmtree(watched.path("c"))
        watched.faults.resume()
        watched.assert_equal()


def test_a_name_in_another_root_leaves_the_others_right(watched):
    (watched.base / "other").mkdir()
    first, other = watched.add(), watched.engine.add_root(watched.base / "other").repository
    link = watched.base / "other/link"
    with watched.following(first, other):
        watched.faults.suspend()
        os.link(watched.path("a/file"), link)
        write_through(link)
        link.unlink()
        watched.faults.resume()
        until(lambda: is_seen(watched))
        watched.assert_equal(first, other)


def test_a_name_in_a_folder_that_is_polled_leaves_the_others_right(watched):
    # The folder itself, and that for cookies; it is watched before those in it.
    watched.faults.watch_limit = 2
    with watched.following():
        assert watched.health.polled_directories == 2
        os.link(watched.path("a/file"), watched.path("b/link"))
        write_through(watched.path("b/link"))
        watched.remove("b/link")
        watched.assert_equal()


def test_what_was_seen_to_have_one_name_casts_no_doubt_when_it_goes(watched):
    with watched.following():
        watcher = watched.follower._keeper.watcher
        assert watcher is not None
        newcomers = watcher._state.newcomers
        before = watched.health
        for number in range(20):
            watched.write(f"b/{number}.tmp")
        until(lambda: watched.health.events >= before.events + 20 and not newcomers._since)
        for number in range(20):
            watched.remove(f"b/{number}.tmp")
        watched.assert_equal()
        assert watched.health.recrawls == before.recrawls
