"""The walker's contract: when a directory's signature changes, and when there is none."""

# ruff: noqa: TID251 - makes and changes the trees that a walk is tested on
from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lifecycle_sync.clock import FixedClock
from lifecycle_sync.observe.ignore import IgnoreRules
from lifecycle_sync.testing.walker_contract_base import (
    WalkerContractBase,
    expected_signature,
    expected_tree,
    put,
    tick,
)
from lifecycle_sync.testing.walker_contract_listing import EVERYTHING, plant

_OLD_NS = 1_600_000_000_000_000_000


def _rewrite_and_restore(folder: bytes) -> None:
    place = os.path.join(folder, b"file")
    before = os.lstat(place)
    with open(place, "r+b") as file:
        file.write(b"CONTENT")
    os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace_by_a_twin(folder: bytes) -> None:
    place = os.path.join(folder, b"file")
    before = os.lstat(place)
    twin = put(folder, b"twin")
    os.utime(twin, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(twin, place)


def _replace_by_a_link(folder: bytes) -> None:
    place = os.path.join(folder, b"file")
    os.unlink(place)
    os.symlink(b"content", place)


def _relink(folder: bytes) -> None:
    os.unlink(os.path.join(folder, b"link"))
    os.symlink(b"elsewhere", os.path.join(folder, b"link"))


def _swap_names(folder: bytes) -> None:
    one, other = os.path.join(folder, b"file"), os.path.join(folder, b"same")
    os.rename(one, one + b"2")
    os.rename(other, one)
    os.rename(one + b"2", other)


def _replace_a_directory(folder: bytes) -> None:
    # Made before the other goes, so that the inode cannot be the same.
    os.mkdir(os.path.join(folder, b"new"))
    os.rename(os.path.join(folder, b"new"), os.path.join(folder, b"empty"))


# What must change the signature of the directory it is done in.
CHANGES: dict[str, Callable[[bytes], object]] = {
    "a file appears": lambda folder: put(folder, b"new"),
    "a file goes": lambda folder: os.unlink(os.path.join(folder, b"file")),
    "a file gets another name": lambda folder: os.rename(
        os.path.join(folder, b"file"), os.path.join(folder, b"fire")
    ),
    "two files swap their names": _swap_names,
    "a file grows": lambda folder: put(folder, b"file", b"content and more"),
    "another mtime": lambda folder: os.utime(os.path.join(folder, b"file"), ns=(5, 5)),
    "another mode, so another ctime": lambda folder: os.chmod(os.path.join(folder, b"file"), 0o640),
    "another content of the same size, mtime restored": _rewrite_and_restore,
    "another inode": _replace_by_a_twin,
    "another kind": _replace_by_a_link,
    "a symlink with another target": _relink,
    "a directory appears": lambda folder: os.mkdir(os.path.join(folder, b"new")),
    "a directory goes": lambda folder: os.rmdir(os.path.join(folder, b"empty")),
    "another directory of the same name": _replace_a_directory,
    "a FIFO appears": lambda folder: os.mkfifo(os.path.join(folder, b"fifo")),
}

# What must not.
REMAINS: dict[str, Callable[[bytes], object]] = {
    "a file is read": lambda folder: Path(os.fsdecode(folder), "file").read_bytes(),
    "a file changes further down": lambda folder: put(folder, b"sub/file", b"something else"),
    "a file appears further down": lambda folder: put(folder, b"sub/new"),
    "a subdirectory gets another mode": lambda folder: os.chmod(
        os.path.join(folder, b"sub"), 0o700
    ),
    "the directory gets another mtime": lambda folder: os.utime(folder, ns=(5, 5)),
    "something ignored appears": lambda folder: put(folder, b"new.tmp"),
}


def _prepare(root: bytes) -> bytes:
    folder = os.path.join(root, b"folder")
    for path in (b"file", b"same", b"sub/file"):
        place = put(folder, path)
        os.utime(place, ns=(_OLD_NS, _OLD_NS))
    os.symlink(b"target", os.path.join(folder, b"link"))
    os.mkdir(os.path.join(folder, b"empty"))
    return folder


class SignatureContract(WalkerContractBase):
    """Equal trees, equal signatures; any difference, another one."""

    def test_a_second_walk_gives_the_same_signatures(self, root: bytes) -> None:
        plant(root)
        first = self.signatures(root)
        assert None not in first.values()
        assert self.signatures(root) == first

    @pytest.mark.parametrize("stable_inodes", [True, False])
    def test_signatures_are_those_of_the_documented_format(
        self, root: bytes, stable_inodes: bool
    ) -> None:
        plant(root)
        os.mkfifo(os.path.join(root, b"fifo"))
        found = self.signatures(root, EVERYTHING, stable_inodes=stable_inodes)
        assert found == {
            path: expected_signature(directory, EVERYTHING, stable_inodes=stable_inodes)
            for path, directory in expected_tree(root, EVERYTHING).items()
        }

    @pytest.mark.parametrize("change", CHANGES)
    def test_a_change_gives_its_directory_and_no_other_a_new_signature(
        self, root: bytes, change: str
    ) -> None:
        folder = _prepare(root)
        before = self.signatures(root)
        tick()
        CHANGES[change](folder)
        after = self.signatures(root)
        assert after[b"folder"] != before[b"folder"]
        assert {path for path in before if after.get(path, before[path]) != before[path]} == {
            b"folder"
        }

    @pytest.mark.parametrize("remains", REMAINS)
    def test_the_signature_remains_when(self, root: bytes, remains: str) -> None:
        folder = _prepare(root)
        before = self.signatures(root)[b"folder"]
        tick()
        REMAINS[remains](folder)
        assert self.signatures(root)[b"folder"] == before

    def test_a_name_cannot_pass_for_two(self, root: bytes) -> None:
        # Directories that differ in nothing but where one name ends and the next begins.
        rules = IgnoreRules(defaults=False)
        for folder, names in ((b"one", (b"ab", b"c")), (b"other", (b"a", b"bc"))):
            os.mkdir(os.path.join(root, folder))
            for name in names:
                os.mkdir(os.path.join(root, folder, name))
        found = self.signatures(root, rules, stable_inodes=False)
        assert found[b"one"] != found[b"other"]
        assert found[b"one/ab"] == found[b"other/a"]


class RacyContract(WalkerContractBase):
    """An entry that may change again without its tuple showing it proves nothing."""

    MARGIN_NS = 20_000_000

    def test_a_file_just_changed_is_racy_and_its_directory_without_signature(
        self, root: bytes
    ) -> None:
        put(root, b"old")
        place = put(root, b"new")
        put(root, b"sub/older")
        tick()
        os.chmod(place, 0o600)
        changed_ns = os.lstat(place).st_ctime_ns
        just_now = FixedClock(changed_ns + self.MARGIN_NS - 1)
        found = self.look(root, clock=just_now, margin_ns=self.MARGIN_NS)
        names = list(found[b""].columns.names)
        assert {names[at] for at in found[b""].columns.racy} == {b"new"}
        assert found[b""].signature is None
        long_ago = FixedClock(changed_ns + self.MARGIN_NS)
        found = self.look(root, clock=long_ago, margin_ns=self.MARGIN_NS)
        assert found[b""].columns.racy == frozenset()
        assert found[b""].signature is not None

    def test_only_the_directory_of_the_racy_file_lacks_a_signature(self, root: bytes) -> None:
        put(root, b"sub/older")
        tick()
        place = put(root, b"new")
        clock = FixedClock(os.lstat(place).st_ctime_ns + 1_000)
        found = self.look(root, clock=clock, margin_ns=2_000)
        assert found[b""].signature is None
        assert found[b""].columns.racy == {0}
        assert found[b"sub"].signature is not None

    def test_an_mtime_in_the_future_is_racy(self, root: bytes) -> None:
        now_ns = 4_000_000_000_000_000_000
        for name, mtime_ns in ((b"a", 5), (b"b", now_ns + 1), (b"c", now_ns), (b"d", now_ns + 1)):
            os.utime(put(root, name), ns=(5, mtime_ns))
        listing = self.look(root, clock=FixedClock(now_ns), margin_ns=0)[b""]
        assert listing.signature is None
        assert listing.columns.racy == {1, 3}

    def test_the_margin_is_counted(self, root: bytes) -> None:
        place = put(root, b"file")
        clock = FixedClock(os.lstat(place).st_ctime_ns + 2_000_000_000)
        assert self.look(root, clock=clock, margin_ns=1_999_999_999)[b""].signature is not None
        assert self.look(root, clock=clock, margin_ns=2_000_000_001)[b""].signature is None

    def test_what_is_ignored_or_a_directory_makes_nothing_racy(self, root: bytes) -> None:
        put(root, b"old")
        tick()
        before_ns = os.lstat(os.path.join(root, b"old")).st_ctime_ns
        put(root, b"new.tmp")
        put(root, b"sub/.hidden")
        os.mkfifo(os.path.join(root, b"fifo"))
        found = self.look(root, clock=FixedClock(before_ns), margin_ns=0)
        assert found[b""].signature is not None
        assert found[b"sub"].signature is not None
