"""The walker's contract: errors, and trees that change in the middle of a walk.

Faults come through the file operations that the walk is given, at the call and the path that a test
names; the tree is changed at exactly such a call.
"""

# ruff: noqa: TID251 - changes the trees that a walk is tested on
from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.observation import Listing
from lifecycle_sync.observe.ignore import IgnoreRules
from lifecycle_sync.testing.fileops import (
    Fault,
    FaultyFileOps,
    FileOpsWrapper,
    Proceed,
    RecordingFileOps,
    fail,
)
from lifecycle_sync.testing.walker_contract_base import (
    WalkerContractBase,
    make_chain,
    open_descriptors,
    put,
    remove_chain,
)

_MOUNT_POINT = "another filesystem (mount point), not crossed"
_DEEP = 300


class FaultContract(WalkerContractBase):
    """What cannot be listed is an error and nothing below it is walked; the rest goes on."""

    @pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE])
    @pytest.mark.parametrize("method", ["open_directory", "fstat", "listdir"])
    def test_a_directory_that_fails_is_a_listing_with_the_error(
        self, root: bytes, method: str, code: int
    ) -> None:
        put(root, b"a/file")
        put(root, b"b/inner/file")
        put(root, b"c/file")
        before = open_descriptors()
        found = self.look(root, fs=faulty(root, method, b"b", fail(code)))
        assert list(found) == [b"", b"a", b"b", b"c"]
        self.check_failed(found, b"b", os.strerror(code))
        assert found[b"b"].inode == os.lstat(os.path.join(root, b"b")).st_ino
        assert open_descriptors() == before

    def check_failed(self, found: dict[bytes, Listing], path: bytes, error: str) -> None:
        """`path` failed, and it alone."""
        assert {p: it.error for p, it in found.items() if it.error is not None} == {path: error}
        assert found[path].signature is None
        assert len(found[path].columns) == 0

    @pytest.mark.parametrize("name", [b"file", b"inner", b"link"])
    def test_an_entry_that_cannot_be_examined_fails_its_directory(
        self, root: bytes, name: bytes
    ) -> None:
        put(root, b"a/file")
        put(root, b"a/inner/file")
        put(root, b"b/file")
        os.symlink(b"file", os.path.join(root, b"a/link"))
        fs = faulty(root, "stat", b"a/" + name, fail(errno.EIO))
        found = self.look(root, fs=fs)
        assert list(found) == [b"", b"a", b"b"]
        self.check_failed(found, b"a", os.strerror(errno.EIO))

    def test_an_entry_that_vanishes_does_not_hide_another_that_fails(self, root: bytes) -> None:
        for name in (b"a", b"b", b"c"):
            put(root, name)
        gone = faulty(root, "stat", b"a", fail(errno.ENOENT), lasting=True)
        both = faulty(root, "stat", b"c", fail(errno.EIO), inner=gone)
        self.check_failed(self.look(root, fs=both), b"", os.strerror(errno.EIO))

    @pytest.mark.parametrize("method", ["open_directory", "fstat", "listdir"])
    @pytest.mark.parametrize("code", [errno.EACCES, errno.ENOENT])
    def test_a_root_that_fails_is_one_listing_with_the_error(
        self, root: bytes, method: str, code: int
    ) -> None:
        put(root, b"a/file")
        found = self.look(root, fs=faulty(root, method, b"", fail(code)))
        assert list(found) == [b""]
        self.check_failed(found, b"", os.strerror(code))

    def test_what_is_ignored_is_not_even_examined(self, root: bytes) -> None:
        # A FUSE mount of another user (`.gvfs`) refuses even that, to root as well.
        put(root, b"file")
        put(root, b".gvfs/file")
        found = self.look(root, fs=faulty(root, "stat", b".gvfs", fail(errno.EACCES)))
        assert found[b""].error is None
        assert found[b""].ignored_count == 1

    def test_what_is_our_own_is_never_opened(self, root: bytes) -> None:
        put(root, b"vault/object")
        put(root, b".lifecycle/trash/file")
        vault = os.lstat(os.path.join(root, b"vault"))
        fs = RecordingFileOps(FileOps())
        own = frozenset({(vault.st_dev, vault.st_ino)})
        self.look(root, IgnoreRules(["!.*"]), fs=fs, own=own)
        opened = [call.arguments["name"] for call in fs.calls if call.method == "open_directory"]
        assert opened == [os.fsdecode(root)]

    def test_a_mount_point_that_the_parent_sees_is_not_opened(self, root: bytes) -> None:
        put(root, b"mounted/file")
        fs = Lying(FileOps(), root, "stat", b"mounted", device=1)
        recording = RecordingFileOps(fs)
        found = self.look(root, fs=recording)
        self.check_failed(found, b"mounted", _MOUNT_POINT)
        assert recording.methods.count("open_directory") == 1

    def test_a_filesystem_mounted_after_the_parent_was_listed_is_not_crossed(
        self, root: bytes
    ) -> None:
        put(root, b"mounted/file")
        put(root, b"other/file")
        found = self.look(root, fs=Lying(FileOps(), root, "fstat", b"mounted", device=1))
        self.check_failed(found, b"mounted", _MOUNT_POINT)

    def test_where_inodes_are_not_stable_they_are_not_compared(self, root: bytes) -> None:
        put(root, b"folder/file")
        first = self.look(root, stable_inodes=False)
        fs = Lying(FileOps(), root, "stat", b"folder/file", inode=1)
        fs = Lying(fs, root, "stat", b"folder", inode=1)
        second = self.look(root, stable_inodes=False, fs=fs)
        assert second[b"folder"].columns.inodes[0] != first[b"folder"].columns.inodes[0]
        assert [it.signature for it in second.values()] == [it.signature for it in first.values()]
        # The same is a swapped directory where they are.
        assert self.look(root, fs=fs)[b"folder"].error == "changed while it was listed"

    def test_inodes_of_64_bits_are_signed(self, root: bytes) -> None:
        put(root, b"folder/file")
        fs: FileOps = FileOps()
        for method in ("stat", "fstat"):
            fs = Lying(fs, root, method, b"folder", inode=2**63)
        fs = Lying(fs, root, "stat", b"folder/file", inode=2**63)
        found = self.look(root, fs=fs)
        true = os.lstat(os.path.join(root, b"folder"))
        assert found[b"folder"].inode == true.st_ino - 2**63
        assert found[b"folder"].columns.inodes[0] < 0
        assert found[b"folder"].signature != self.signatures(root)[b"folder"]

    def test_where_descriptors_run_out_ancestors_are_given_up(self, root: bytes) -> None:
        make_chain(root, b"d", 10, beside=b"e")
        path = b"/".join([b"d"] * 8)
        for method in ("open_directory", "listdir"):
            fs = faulty(root, method, path, fail(errno.EMFILE))
            found = self.look(root, fs=fs)
            assert fs.fired == 1
            assert len(found) == 21
            assert all(listing.error is None for listing in found.values())

    def test_where_none_can_be_given_up_the_directory_fails_alone(self, root: bytes) -> None:
        put(root, b"a/file")
        put(root, b"b/file")
        fs = faulty(root, "open_directory", b"a", fail(errno.EMFILE), lasting=True)
        self.check_failed(self.look(root, fs=fs), b"a", os.strerror(errno.EMFILE))

    def test_a_chain_of_directories_needs_two_descriptors_at_a_time(self, root: bytes) -> None:
        make_chain(root, b"d", 10)
        fs = Counting(FileOps())
        self.look(root, fs=fs)
        assert fs.opened == 11
        assert fs.open_most == 2

    def test_in_a_deep_and_broad_tree_few_descriptors_are_held_and_few_opened_again(
        self, light_root: bytes
    ) -> None:
        make_chain(light_root, b"d", _DEEP, beside=b"e")
        fs = Counting(FileOps())
        self.look(light_root, fs=fs)
        remove_chain(light_root, b"d", _DEEP, beside=b"e")
        assert fs.open_most <= 140
        assert fs.opened <= 4 * _DEEP
        assert fs.open_now == 0


class SwapContract(WalkerContractBase):
    """Whatever is swapped meanwhile, nothing outside the root is seen, and no wrong path."""

    @pytest.fixture
    def outside(self, root: bytes) -> bytes:
        """A folder that is none of the walk's business."""
        put(root + b".outside", b"secret")
        put(root + b".outside", b"inner/secret")
        return root + b".outside"

    def swap(
        self, root: bytes, method: str, path: bytes, action: Callable[[], object], **options: Any
    ) -> dict[bytes, Listing]:
        """A walk in which something happens just before a call; nothing foreign may be in it."""
        fs = faulty(root, method, path, action)
        found = self.look(root, fs=fs, **options)
        assert fs.fired == 1
        for listing in found.values():
            assert b"secret" not in listing.columns.names
            assert not listing.path.endswith(b"inner")
        return found

    def test_a_directory_swapped_for_a_symlink_is_not_followed(
        self, root: bytes, outside: bytes
    ) -> None:
        put(root, b"a/file")
        put(root, b"b/file")
        place = os.path.join(root, b"a")

        def act() -> None:
            os.rename(place, place + b".away")
            os.symlink(outside, place)

        found = self.swap(root, "open_directory", b"a", act)
        assert found[b"a"].error == "changed while it was listed"
        assert found[b"b"].error is None

    def test_a_directory_swapped_for_another_is_not_listed_in_its_place(
        self, root: bytes, outside: bytes
    ) -> None:
        put(root, b"a/file")
        put(root, b"b/file")
        act = swapping(os.path.join(root, b"a"), outside + b".away", outside)
        found = self.swap(root, "open_directory", b"a", act)
        assert found[b"a"].error == "changed while it was listed"
        assert found[b"b"].error is None

    def test_a_directory_swapped_for_a_file_is_an_error(self, root: bytes) -> None:
        put(root, b"a/file")
        place = os.path.join(root, b"a")

        def act() -> None:
            os.rename(place, place + b".away")
            put(root, b"a")

        found = self.swap(root, "open_directory", b"a", act)
        assert found[b"a"].error == "changed while it was listed"

    def test_a_directory_swapped_after_it_was_opened_is_listed_as_it_was(
        self, root: bytes, outside: bytes
    ) -> None:
        put(root, b"a/file")
        put(root, b"a/sub/file")
        place = os.path.join(root, b"a")

        def act() -> None:
            os.rename(place, place + b".away")
            os.symlink(outside, place)

        found = self.swap(root, "listdir", b"a", act)
        assert list(found[b"a"].columns.names) == [b"file"]
        assert list(found[b"a/sub"].columns.names) == [b"file"]

    def test_a_file_that_vanishes_before_it_is_examined_is_left_out(self, root: bytes) -> None:
        for name in (b"a", b"b", b"c"):
            put(root, name)
        place = os.path.join(root, b"b")
        found = self.swap(root, "stat", b"b", lambda: os.unlink(place))
        assert list(found[b""].columns.names) == [b"a", b"c"]
        assert found[b""].signature == self.signatures(root)[b""]

    def test_a_file_that_is_listed_twice_is_one_file(self, root: bytes) -> None:
        # As where it is replaced meanwhile, and its new entry comes after the old one.
        for name in (b"a", b"b", b"c"):
            put(root, name)
        found = self.look(root, fs=Stuttering(FileOps()))
        assert list(found[b""].columns.names) == [b"a", b"b", b"c"]
        assert found[b""].signature == self.signatures(root)[b""]

    def test_everything_may_vanish_before_it_is_examined(self, root: bytes) -> None:
        put(root, b"a")
        place = os.path.join(root, b"a")
        found = self.swap(root, "stat", b"a", lambda: os.unlink(place))
        assert found[b""].file_count == 0
        assert found[b""].signature == self.signatures(root)[b""]

    @pytest.mark.parametrize("method", ["stat", "open_directory", "listdir"])
    def test_a_directory_that_vanishes_is_left_out(self, root: bytes, method: str) -> None:
        put(root, b"a/file")
        os.mkdir(os.path.join(root, b"b"))
        place = os.path.join(root, b"b")
        found = self.swap(root, method, b"b", lambda: os.rmdir(place))
        assert list(found) == [b"", b"a"]
        assert all(listing.error is None for listing in found.values())

    def test_an_ancestor_that_was_moved_loses_only_what_was_still_to_be_walked(
        self, light_root: bytes
    ) -> None:
        # So deep that the descriptors of the upper ancestors have been given up.
        make_chain(light_root, b"d", _DEEP, beside=b"e")
        place, outside, away = (
            os.path.join(light_root, b"d/d/d"),
            light_root + b"2",
            light_root + b"3",
        )
        put(outside, b"e/secret")
        put(outside, b"d/e/secret")
        innermost = b"/".join([b"d"] * _DEEP)
        found = self.swap(light_root, "open_directory", innermost, swapping(place, away, outside))
        swapping(place, outside, away)()
        remove_chain(light_root, b"d", _DEEP, beside=b"e")
        assert len(found) == 2 * _DEEP + 1
        failed = {path for path, listing in found.items() if listing.error is not None}
        assert {found[path].error for path in failed} == {"changed while it was listed"}
        # Those above the swapped one, and those whose descriptors were still there, are whole.
        assert not failed & {b"e", b"d/e", b"d/d/e"}
        assert b"d/d/d/e" in failed
        assert b"d/" * (_DEEP - 1) + b"e" not in failed

    def test_a_root_that_was_unmounted_meanwhile_loses_what_was_still_to_be_walked(
        self, light_root: bytes
    ) -> None:
        make_chain(light_root, b"d", _DEEP, beside=b"e")
        outside, away = light_root + b"2", light_root + b"3"
        put(outside, b"e/secret")
        innermost = b"/".join([b"d"] * _DEEP)
        found = self.swap(
            light_root, "open_directory", innermost, swapping(light_root, away, outside)
        )
        swapping(light_root, outside, away)()
        remove_chain(light_root, b"d", _DEEP, beside=b"e")
        assert found[b"e"].error == "changed while it was listed"


# -- at one call on one path -------------------------------------------------------------------


def swapping(place: bytes, away: bytes, other: bytes) -> Callable[[], None]:
    """What moves `place` to `away`, and `other` to `place`."""

    def act() -> None:
        os.rename(place, away)
        os.rename(other, place)

    return act


def faulty(
    root: bytes,
    method: str,
    path: bytes,
    action: Callable[[], object],
    *,
    lasting: bool = False,
    inner: FileOps | None = None,
) -> FaultyFileOps:
    """Operations in which `action` happens before such a call on `path`: the first, or every."""
    wanted = os.path.join(root, path) if path else root
    over = False

    def where(_: str, arguments: dict[str, Any]) -> bool:
        nonlocal over
        # Once it has happened nothing is to be looked up any more.
        if over or _subject(arguments) != wanted:
            return False
        over = not lasting
        return True

    fault = Fault(action, method, where=where, lasting=lasting)
    return FaultyFileOps(FileOps() if inner is None else inner, fault)


class Counting(FileOpsWrapper):
    """How many directories are open, were at most, and were opened in all."""

    def __init__(self, inner: FileOps) -> None:
        self.opened = self.open_now = self.open_most = 0

    def around(
        self, method: str, proceed: Proceed, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        result = proceed(*args, **kwargs)
        if method == "open_directory":
            self.opened += 1
            self.open_now += 1
            self.open_most = max(self.open_most, self.open_now)
        elif method == "close":
            self.open_now -= 1
        return result


class Stuttering(FileOpsWrapper):
    """Tells every name twice."""

    def around(
        self, method: str, proceed: Proceed, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        result = proceed(*args, **kwargs)
        return result * 2 if method == "listdir" else result


class Lying(FileOpsWrapper):
    """Adds to the device or inode that a method says a path has."""

    def __init__(
        self,
        inner: FileOps,
        root: bytes,
        method: str,
        path: bytes,
        *,
        device: int = 0,
        inode: int = 0,
    ) -> None:
        self._lie = (method, os.path.join(root, path), device, inode)

    def around(
        self, method: str, proceed: Proceed, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        result = proceed(*args, **kwargs)
        lying, path, device, inode = self._lie
        if method != lying or _subject(self.arguments(method, args, kwargs)) != path:
            return result
        fields = list(result)
        fields[1] += inode
        fields[2] += device
        times = {name: getattr(result, name) for name in dir(result) if name.endswith("_ns")}
        return os.stat_result(fields, times)


def _subject(arguments: dict[str, Any]) -> bytes:
    """The absolute path that a call is about."""
    subject: int | str | bytes = next(
        arguments[parameter] for parameter in ("name", "path", "fd") if parameter in arguments
    )
    if isinstance(subject, int):
        return os.readlink(b"/proc/self/fd/%d" % subject)
    directory = arguments.get("dir_fd")
    above = b"" if directory is None else os.readlink(b"/proc/self/fd/%d" % directory)
    return os.path.join(above, os.fsencode(subject))
