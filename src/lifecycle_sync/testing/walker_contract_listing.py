"""The walker's contract: what a listing says of a directory, and what is left out of it."""

# ruff: noqa: TID251 - makes the trees that a walk is tested on
from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifecycle_sync.clock import NS_MAX
from lifecycle_sync.model.file import Kind
from lifecycle_sync.observe.ignore import IgnoreRules
from lifecycle_sync.testing.walker_contract_base import (
    WalkerContractBase,
    expected_signature,
    expected_table,
    expected_tree,
    put,
    table,
    tick,
)

EVERYTHING = IgnoreRules(defaults=False)
# More than an implementation reads at a time.
_MANY = 8_500

Plan = tuple[list[bytes], bytes, str]
_NAMES = st.binary(min_size=1, max_size=4).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in {b".", b".."}
)
_PLANS = st.lists(
    st.tuples(
        st.lists(st.sampled_from([b"a", b"b", b"\xff"]), max_size=3),
        _NAMES,
        st.sampled_from(["file", "file", "file", "link", "folder", "fifo"]),
    ),
    max_size=12,
)


def plant(root: bytes) -> None:
    """A little of everything."""
    put(root, b"plain.txt")
    put(root, b"empty", b"")
    put(root, b"folder-", b"sorts before what is in folder")
    put(root, b"\xff\xfe is not utf-8")
    put(root, b"line\nbreak/line\nbreak")
    put(root, "Ω 写真 \N{CAMERA}".encode())
    put(root, b"folder/below/deep", b"deep")
    os.link(put(root, b"folder/first name"), os.path.join(root, b"folder/second name"))
    os.truncate(put(root, b"sparse"), 1 << 40)
    os.makedirs(os.path.join(root, b"nothing/in/here"))
    for name, target in (
        (b"to file", b"../plain.txt"),
        (b"to folder", b"below"),
        (b"to itself", b"to itself"),
        (b"up", b".."),
        (b"dangling", b"/nowhere/at/all"),
    ):
        os.symlink(target, os.path.join(root, b"folder", name))


def grow(root: bytes, plans: Iterable[Plan]) -> None:
    """Make what is asked for, as far as it goes together."""
    for parents, name, kind in plans:
        folder = os.path.join(root, *parents)
        path = os.path.join(folder, name)
        try:
            os.makedirs(folder, exist_ok=True)
            if kind == "file" and not stat.S_ISFIFO(_mode(path)):
                put(root, os.path.relpath(path, root), name)
            elif kind == "link":
                os.symlink(name, path)
            elif kind == "folder":
                os.mkdir(path)
            elif kind == "fifo":
                os.mkfifo(path)
        except OSError:
            pass


def _mode(path: bytes) -> int:
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return 0


class ListingContract(WalkerContractBase):
    """Columns, counts and roots."""

    def test_a_walk_agrees_with_an_independent_look(self, root: bytes) -> None:
        plant(root)
        self.check(root, EVERYTHING)

    def check(self, root: bytes, rules: IgnoreRules) -> None:
        expected = expected_tree(root, rules)
        found = self.look(root, rules)
        assert list(found) == list(expected)
        for path, directory in expected.items():
            listing = found[path]
            assert listing.error is None
            assert listing.inode == directory.inode
            assert table(listing.columns) == expected_table(directory)
            assert listing.file_count == len(listing.columns) == len(directory.files)
            assert listing.byte_count == sum(status.st_size for _, status in directory.files)
            assert listing.special_count == directory.specials
            assert listing.ignored_count == directory.ignored
            assert listing.columns.racy == frozenset()
            assert len(listing.columns.btimes_ns) == len(directory.files)
            assert listing.signature == expected_signature(directory, rules)

    @settings(
        max_examples=25,
        deadline=None,
        # The same test runs for every implementation, each example in a folder of its own.
        suppress_health_check=[
            HealthCheck.differing_executors,
            HealthCheck.function_scoped_fixture,
        ],
    )
    @given(plans=_PLANS, more=_PLANS)
    def test_a_walk_agrees_with_an_independent_look_at_any_tree(
        self, light_root: bytes, plans: list[Plan], more: list[Plan]
    ) -> None:
        with tempfile.TemporaryDirectory(dir=light_root) as folder:
            root = os.fsencode(folder)
            grow(root, plans)
            self.check(root, IgnoreRules())
            before = self.signatures(root)
            assert self.signatures(root) == before
            known = {path: expected_table(d) for path, d in expected_tree(root).items()}
            tick()
            grow(root, more)
            after = self.signatures(root)
            for path, directory in expected_tree(root).items():
                if path in before and expected_table(directory) != known[path]:
                    rules = IgnoreRules()
                    visible = expected_tree(root, rules)[path]
                    changed = expected_signature(visible, rules) != before[path]
                    assert (after[path] != before[path]) is changed
            self.check(root, IgnoreRules())

    def test_access_times_are_those_of_the_files(self, root: bytes) -> None:
        place = put(root, b"file")
        os.utime(place, ns=(1_234_567_890_123_456_789, 5))
        assert list(self.look(root)[b""].columns.atimes_ns) == [1_234_567_890_123_456_789]

    def test_columns_can_be_asked_for_when_the_directory_is_gone(self, root: bytes) -> None:
        plant(root)
        expected = expected_tree(root, EVERYTHING)
        found = self.look(root, EVERYTHING)
        shutil.rmtree(root)
        for path, directory in expected.items():
            assert table(found[path].columns) == expected_table(directory)

    def test_an_empty_root_is_one_listing_without_files(self, root: bytes) -> None:
        found = self.look(root)
        assert list(found) == [b""]
        assert found[b""].file_count == found[b""].byte_count == len(found[b""].columns) == 0
        assert found[b""].signature is not None

    def test_symlinks_are_recorded_and_never_followed(self, root: bytes, tmp_path: Path) -> None:
        outside = os.fsencode(tmp_path / "outside")
        put(outside, b"secret")
        os.symlink(outside, os.path.join(root, b"to outside"))
        os.symlink(os.path.join(outside, b"secret"), os.path.join(root, b"to secret"))
        os.symlink(b".", os.path.join(root, b"here"))
        found = self.look(root)
        assert list(found) == [b""]
        columns = found[b""].columns
        assert list(columns.names) == [b"here", b"to outside", b"to secret"]
        assert list(columns.kinds) == [Kind.SYMLINK] * 3
        assert columns.sizes[0] == 1  # the length of its target

    def test_special_files_are_counted_and_nothing_waits_for_them(self, root: bytes) -> None:
        put(root, b"file")
        os.mkfifo(os.path.join(root, b"fifo"))
        here = os.open(root, os.O_RDONLY)
        with socket.socket(socket.AF_UNIX) as listening:
            # A socket's path is short, the test's may not be.
            listening.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
        listing = self.look(root)[b""]
        assert listing.special_count == 2
        assert list(listing.columns.names) == [b"file"]

    def test_a_directory_of_thousands_is_whole_and_in_order(self, light_root: bytes) -> None:
        for number in range(_MANY):
            os.close(
                os.open(os.path.join(light_root, b"%d" % number), os.O_CREAT | os.O_WRONLY, 0o600)
            )
        for number in (0, 4_200, _MANY - 1):
            os.mkdir(os.path.join(light_root, b"%d.d" % number))
            os.symlink(b"%d" % number, os.path.join(light_root, b"%d.l" % number))
            put(light_root, b"%d.tmp" % number)
            os.mkfifo(os.path.join(light_root, b"%d.fifo" % number))
        self.check(light_root, IgnoreRules())

    def test_times_that_64_bits_cannot_hold_are_clamped(self, root: bytes) -> None:
        early, late = put(root, b"early"), put(root, b"late")
        os.utime(early, ns=(0, -1_500_000_000))
        os.utime(late, (2**63 // 10**9 + 60, 2**63 // 10**9 + 60))
        if os.lstat(late).st_mtime_ns <= NS_MAX:
            pytest.skip("the filesystem has no times beyond the year 2262")
        listing = self.look(root)[b""]
        assert list(listing.columns.mtimes_ns) == [-1_500_000_000, NS_MAX]
        assert listing.columns.atimes_ns[1] == NS_MAX
        # It is later than the look.
        assert listing.columns.racy == {1}

    @pytest.mark.parametrize("kind", ["missing", "file", "symlink"])
    def test_a_root_that_is_no_directory_is_one_listing_with_an_error(
        self, root: bytes, kind: str
    ) -> None:
        place = os.path.join(root, b"place")
        if kind == "file":
            put(root, b"place")
        elif kind == "symlink":
            os.symlink(b".", place)
        (listing,) = self.begin(place)
        assert listing.path == b""
        assert listing.error
        assert listing.signature is None
        assert len(listing.columns) == 0


class IgnoreContract(WalkerContractBase):
    """What is left out."""

    def test_ignored_entries_are_counted_and_neither_shown_nor_entered(self, root: bytes) -> None:
        for path in (b"kept", b"x.tmp", b"x~", b".hidden", b".git/config", b"old.bak/kept"):
            put(root, path)
        found = self.look(root)
        assert list(found) == [b"", b"old.bak"]
        assert list(found[b""].columns.names) == [b"kept"]
        assert found[b""].ignored_count == 4
        assert found[b"old.bak"].ignored_count == 0

    def test_patterns_add_to_the_defaults_and_take_from_them(self, root: bytes) -> None:
        for path in (b"a.log", b"keep.log", b"logs/x", b"sub/logs", b".config/app", b".cache/x"):
            put(root, path)
        found = self.look(root, IgnoreRules(["*.log", "!keep.log", "logs/", "!.config"]))
        assert list(found) == [b"", b".config", b"sub"]
        assert list(found[b""].columns.names) == [b"keep.log"]
        assert list(found[b"sub"].columns.names) == [b"logs"]
        assert found[b""].ignored_count == 3

    def test_an_ignored_entry_leaves_the_signature_as_it_is(self, root: bytes) -> None:
        put(root, b"kept")
        before = self.signatures(root)
        put(root, b"x.tmp")
        put(root, b".git/config")
        assert self.signatures(root) == before

    def test_other_rules_make_other_signatures(self, root: bytes) -> None:
        put(root, b"folder/kept")
        before, after = self.signatures(root), self.signatures(root, IgnoreRules(["unheard-of"]))
        assert all(before[path] != after[path] for path in before)

    def test_our_own_files_and_directories_are_left_out(self, root: bytes) -> None:
        put(root, b"kept")
        vault = os.path.dirname(put(root, b"backups/vault/object"))
        database = put(root, b"registry.db")
        own = frozenset((s.st_dev, s.st_ino) for s in map(os.lstat, (vault, database)))
        elsewhere = frozenset((device + 1, inode) for device, inode in own)
        found = self.look(root, own=own)
        assert list(found) == [b"", b"backups"]
        assert list(found[b""].columns.names) == [b"kept"]
        assert found[b""].ignored_count == found[b"backups"].ignored_count == 0
        assert b"backups/vault" in self.look(root, own=elsewhere)

    def test_our_own_change_leaves_the_signature_as_it_is(self, root: bytes) -> None:
        put(root, b"kept")
        alone = self.signatures(root)
        place = put(root, b"registry.db")
        status = os.lstat(place)
        own = frozenset({(status.st_dev, status.st_ino)})
        assert self.signatures(root, own=own) == alone

    def test_the_private_directory_is_left_out_at_the_top_alone(self, root: bytes) -> None:
        put(root, b".lifecycle/root.json")
        put(root, b"sub/.lifecycle/file")
        found = self.look(root, EVERYTHING)
        assert list(found) == [b"", b"sub", b"sub/.lifecycle"]
        assert found[b""].ignored_count == 0
        assert list(self.look(root, IgnoreRules(["!.lifecycle"]))) == [
            b"",
            b"sub",
            b"sub/.lifecycle",
        ]
