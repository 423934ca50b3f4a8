"""Where watches are."""

from __future__ import annotations

import pytest

from lifecycle_sync.observe.watch_tree import ANCHORED, WatchTree

ROOT, A, B = 1, 2, 3


@pytest.fixture
def tree() -> WatchTree:
    it = WatchTree()
    assert it.place(ROOT, ANCHORED, b"")
    assert it.place(A, ROOT, b"a")
    assert it.place(B, A, b"b")
    return it


def test_a_directory_that_moves_takes_those_in_it_along(tree):
    assert tree.place(A, ROOT, b"moved")
    assert tree.path(B) == b"moved/b"


def test_nothing_is_placed_in_itself(tree):
    """Of a mount that came and went it may seem so; its path would have no end."""
    assert not tree.place(A, B, b"c")
    assert not tree.place(A, A, b"c")
    assert tree.path(A) == b"a" and tree.path(B) == b"a/b"
