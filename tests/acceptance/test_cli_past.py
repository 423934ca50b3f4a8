"""`ls --at`, `diff` and `restore --at`: what backups tell of the past, by the real command."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.command import lifecycle

DAY = "2020-01-01"


@pytest.fixture
def moments(tree: Path) -> tuple[str, str]:
    """The tree changed between two backups; a moment after each."""
    lifecycle("run", tree, "--once", "-q")
    lifecycle("backup", "-q")
    first = _moment()
    (tree / "notes.txt").write_bytes(b"rewritten")
    (tree / "photos/a.jpg").unlink()
    (tree / "new.txt").write_bytes(b"new")
    lifecycle("backup", tree, "-q")
    return first, _moment()


def _moment() -> str:
    """Now to the microsecond, as --at takes it."""
    return (
        time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(now := time.time()))
        + f"{now % 1:.6f}"[1:]
    )


def test_a_folder_is_listed_as_it_was(tree, moments):
    first, second = moments
    done = lifecycle("ls", tree, "--at", first)
    assert done.code == 0
    assert [line.split()[-1] for line in done.out.splitlines()] == ["notes.txt", "photos/"]
    listed = [
        Path(it["path"]).name for it in lifecycle("ls", "-R", tree, "--at", first, "--json").lines
    ]
    assert listed == ["notes.txt", "b.jpg", "long.mp4", "a.jpg", "link"]
    (notes,) = lifecycle("ls", tree / "notes.txt", "--at", second, "--json").lines
    assert (notes["version"], notes["size"], notes["item"]) == (2, 9, "file")
    raw = lifecycle("ls", "-R", tree / "photos/2025", "--at", second, "--print0").out
    assert raw.split("\0")[:-1] == [
        str(tree / "photos/2025" / name) for name in ("b.jpg", "long.mp4")
    ]


def test_what_became_of_a_folder(tree, moments):
    first, second = moments
    lines = lifecycle("diff", tree, "--at", first, "--at", second, "--json").lines
    assert {(it["change"], Path(it["path"]).name) for it in lines} == {
        ("changed", "notes.txt"),
        ("removed", "a.jpg"),
        ("added", "new.txt"),
    }
    (changed,) = (it for it in lines if it["change"] == "changed")
    assert (changed["old"]["version"], changed["new"]["version"]) == (1, 2)
    text = lifecycle("diff", tree, "--at", first).out
    assert sorted(line[0] for line in text.splitlines()) == ["+", "-", "~"]
    assert lifecycle("diff", tree, "--at", second).out == ""
    # Backwards it is the other way round.
    back = lifecycle("diff", tree, "--at", second, "--at", first, "--json").lines
    assert {it["change"] for it in back} == {"changed", "removed", "added"}


def test_a_tree_comes_back_as_it_was(tree, moments, tmp_path):
    first, _ = moments
    out = tmp_path / "out"
    dry = lifecycle("restore", tree, "--at", first, "--to", out, "--dry-run")
    assert dry.code == 0
    assert not out.exists()
    assert lifecycle("restore", tree, "--at", first, "--to", out).code == 0
    assert (out / "files/notes.txt").read_bytes() == b"n" * 3_000
    assert (out / "files/photos/a.jpg").read_bytes() == b"same content"
    assert not (out / "files/new.txt").exists()
    # In place: what stands there stays.
    assert lifecycle("restore", tree, "--at", first).code == 0
    assert (tree / "notes.txt").read_bytes() == b"rewritten"
    assert (tree / "photos/a.jpg").read_bytes() == b"same content"
    assert (
        lifecycle("restore", tree / "notes.txt", "--at", first, "--conflict", "replace").code == 0
    )
    assert (tree / "notes.txt").read_bytes() == b"n" * 3_000


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("ls", "files", "--at", DAY), 2, "the first backup was at"),
        (("ls", "files/none", "--at", "0s"), 2, "was not there"),
        (("ls", "files", "--at", "+1d"), 2, "still to come"),
        (("ls", "--at", "1d"), 2, "needs a folder"),
        (("ls", "files", "--at", "1d", "--deleted"), 2, "does not go with --at"),
        (("ls", "files", "--at", "yesterday"), 2, "is no age and no date"),
        (("diff", "files"), 2, "--at"),
        (("diff", "files", "--at", "1d", "--at", "2d", "--at", "3d"), 2, "two moments"),
        (("restore", "files/none", "--at", "0s"), 2, "was not there at that moment"),
        (("restore", "files", "--at", "0s", "--deleted"), 2, "leave out"),
    ],
)
def test_what_cannot_be_answered_says_why(tree, moments, arguments, code, words):
    done = lifecycle(*arguments)
    assert words in done.err
    assert done.code == code
