"""The walker's contract: the order of a walk, depth, descriptors and cancelling."""

# ruff: noqa: TID251 - makes the trees that a walk is tested on
from __future__ import annotations

import gc
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import CancelledError
from lifecycle_sync.testing.walker_contract_base import (
    IN_MEMORY,
    WalkerContractBase,
    expected_tree,
    make_chain,
    open_descriptors,
    put,
    remove_chain,
)
from lifecycle_sync.testing.walker_contract_listing import EVERYTHING, plant

_DEPTH = 2_000


class TreeContract(WalkerContractBase):
    """All of a tree, whatever its shape."""

    def test_parents_come_first_and_directories_by_the_bytes_of_their_names(
        self, root: bytes
    ) -> None:
        for path in (b"b", b"a/z", b"a/a/a", b"a-/x", b"B", b"\xff", "é".encode(), b"a.b/c"):
            os.makedirs(os.path.join(root, path))
        found = list(self.look(root, EVERYTHING))
        assert found == list(expected_tree(root))
        assert found[:4] == [b"", b"B", b"a", b"a/a"]
        assert found[-2:] == ["é".encode(), b"\xff"]

    def test_names_are_in_the_order_of_their_bytes_whatever_they_encode(self, root: bytes) -> None:
        # As text, a lone surrogate and what lies beyond the basic plane sort differently.
        names = [b"a", b"\xff", b"\x80", "\N{CAMERA}".encode(), "\uffee".encode(), b"\xed\xa0"]
        for name in names:
            put(root, name)
        assert list(self.look(root)[b""].columns.names) == sorted(names)

    def test_two_thousand_levels_are_walked_to_the_end(self, light_root: bytes) -> None:
        make_chain(light_root, b"d", _DEPTH)
        try:
            found = self.look(light_root)
            assert len(found) == _DEPTH + 1
            innermost = b"/".join([b"d"] * _DEPTH)
            assert list(found[innermost].columns.names) == [b"leaf"]
        finally:
            remove_chain(light_root, b"d", _DEPTH)

    def test_at_every_level_of_a_deep_tree_there_may_be_more_to_walk(
        self, light_root: bytes
    ) -> None:
        # Ancestors wait with pending subdirectories, far more than there are descriptors.
        make_chain(light_root, b"d", _DEPTH, beside=b"e")
        try:
            found = self.look(light_root)
            assert len(found) == 2 * _DEPTH + 1
            assert all(listing.error is None for listing in found.values())
            assert list(found)[-1] == b"e"
        finally:
            remove_chain(light_root, b"d", _DEPTH, beside=b"e")

    def test_a_path_longer_than_the_kernel_takes_is_walked(self, root: bytes) -> None:
        name = b"n" * 250
        make_chain(root, name, 20)
        try:
            listing = list(self.look(root).values())[-1]
            assert len(listing.path) == 20 * 251 - 1
            assert list(listing.columns.names) == [b"leaf"]
        finally:
            remove_chain(root, name, 20)

    def test_another_filesystem_is_not_entered(self) -> None:
        if not os.path.ismount(IN_MEMORY):
            pytest.skip(f"{IN_MEMORY} is no filesystem of its own")
        found = self.look(b"/dev")
        assert found[b"shm"].error == "another filesystem (mount point), not crossed"
        assert not any(path.startswith(b"shm/") for path in found)
        assert found[b""].error is None


class DescriptorContract(WalkerContractBase):
    """No descriptor is kept, few are needed, and a walk can be stopped."""

    @pytest.mark.parametrize("left", [2, 3, 12])
    def test_few_descriptors_are_enough(self, light_root: bytes, left: int) -> None:
        make_chain(light_root, b"d", 60, beside=b"e")
        with _descriptors_left(left):
            found = self.look(light_root)
        assert len(found) == 121
        assert all(listing.error is None for listing in found.values())

    def test_where_no_descriptor_is_left_the_listing_says_so(self, root: bytes) -> None:
        with _descriptors_left(0):
            (listing,) = self.look(root).values()
        assert listing.error

    def test_a_finished_walk_leaves_no_descriptor_open(self, root: bytes) -> None:
        plant(root)
        before = open_descriptors()
        self.look(root)
        assert open_descriptors() == before

    @pytest.mark.parametrize("steps", [0, 1, 3, 7])
    def test_a_walk_that_is_closed_leaves_no_descriptor_open(self, root: bytes, steps: int) -> None:
        make_chain(root, b"d", 5, beside=b"e")
        before = open_descriptors()
        walk = self.begin(root)
        for _ in range(steps):
            next(walk)
        walk.close()  # type: ignore[attr-defined]
        assert open_descriptors() == before

    def test_a_walk_that_is_dropped_leaves_no_descriptor_open(self, root: bytes) -> None:
        make_chain(root, b"d", 5, beside=b"e")
        before = open_descriptors()
        walk = self.begin(root)
        next(walk)
        next(walk)
        del walk
        gc.collect()
        assert open_descriptors() == before

    def test_a_walk_stops_at_the_next_directory_when_it_is_cancelled(self, root: bytes) -> None:
        make_chain(root, b"d", 5, beside=b"e")
        before = open_descriptors()
        cancel = CancelToken()
        walk = self.begin(root, cancel=cancel)
        assert next(walk).path == b""
        assert next(walk).path == b"d"
        cancel.cancel()
        with pytest.raises(CancelledError):
            next(walk)
        assert open_descriptors() == before

    def test_a_cancelled_walk_does_not_even_begin(self, root: bytes) -> None:
        cancel = CancelToken()
        cancel.cancel()
        with pytest.raises(CancelledError):
            next(self.begin(root, cancel=cancel))


@contextmanager
def _descriptors_left(count: int) -> Iterator[None]:
    """So many can still be opened."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The lowest free numbers are taken first, so the gaps below count as well.
    used = {int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/dev/fd/{fd}")}
    limit, free = 0, 0
    while free < count or limit in used:
        free += limit not in used
        limit += 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
