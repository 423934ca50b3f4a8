"""Copies that are made after a healing, each a vault of its own: nothing in them is missed that was
dealt with in the vault, and what is lost is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle_sync.errors import VaultCorruptError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.storage.local import LocalStorage
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault import opening
from lifecycle_sync.vault.copying import CopyReport, check_copy, copy_files
from lifecycle_sync.vault.findings import VerifyReport
from lifecycle_sync.vault.healing import Copy, HealReport, Source, heal
from lifecycle_sync.vault.prune import prune
from lifecycle_sync.vault.vault import Vault
from lifecycle_sync.vault.verify import Problem
from tests.support.vaults import REPOSITORY, EncryptedHouse, VaultHouse, flip, key_of, read

SMALL = {b"%d" % number: b"content %d" % number * 40 for number in range(12)}
BIG = {b"big": bytes(range(256)) * 5_000}
ALL = SMALL | BIG


class Having:
    """Somebody who has all contents, but for some."""

    def __init__(self, *but: bytes) -> None:
        self._contents = {key_of(it): it for it in ALL.values() if it not in but}

    def read(self, key: ContentKey) -> Iterator[bytes] | None:
        data = self._contents.get(key)
        return None if data is None else iter([data])


class Pair:
    """A vault, and a copy of it that is opened as a vault of its own."""

    def __init__(self, folder: Path, *, encrypted: bool = False) -> None:
        make = EncryptedHouse if encrypted else VaultHouse
        self.house, self.copied = make(folder), make(folder / "second")
        self.key = {"key": True} if encrypted else {}
        if isinstance(self.house, EncryptedHouse) and isinstance(self.copied, EncryptedHouse):
            self.copied.key_path = self.house.key_path
            self.copied.public = self.house.public
        with self.house.open(**self.key) as vault:
            self.house.store(vault, SMALL)
            self.house.store(vault, BIG)

    def damage(self, *folders: str) -> None:
        """A flipped bit in the middle of the first file of each folder."""
        for folder in folders:
            path = self.house.files(folder)[0]
            flip(path, path.stat().st_size // 2)

    def heal(self, *but: bytes) -> HealReport:
        with self.house.open(**self.key) as vault:
            findings = vault.verify(share=1.0).findings
            assert findings
            report = heal(vault, findings, sources=[Source("files", Having(*but))])
            again = vault.verify().findings
            if again:
                report.join(heal(vault, again, sources=[Source("files", Having(*but))]))
            return report

    def copy(self, *, dry_run: bool = False) -> CopyReport:
        self.copied.path.mkdir(exist_ok=True, parents=True)
        with self.house.open(**self.key) as vault, self.storage() as target:
            if not dry_run and not self.copied.files("manifests"):
                for name in ("FORMAT", "RESTORE.md", "SHA256SUMS", "RECIPIENTS"):
                    if (self.house.path / name).exists():
                        shutil.copy(self.house.path / name, self.copied.path / name)
            it = opening.seal_storage(
                target, os.fspath(self.copied.path), vault.format, FileOps(), write=False
            )
            report = copy_files(vault.storage, it, check=True, dry_run=dry_run)
            assert report.damaged == []
            return report

    def below(self, vault: Vault, storage: LocalStorage) -> Storage:
        """What a copy of a vault is read from, and written to, without keys."""
        return opening.seal_storage(storage, "", vault.format, FileOps(), write=False)

    def storage(self) -> LocalStorage:
        return LocalStorage(os.fspath(self.copied.path), FileOps())

    def empty_quarantine(self) -> None:
        for path in self.house.files("quarantine"):
            path.unlink()

    def verify(self) -> VerifyReport:
        """The copy, as a vault that nobody has seen before; twice, the second time whole."""
        self.copied.lose_index()
        with self.copied.open(create=False, **self.key) as vault:
            first, second = vault.verify(share=1.0), vault.verify(contents=True)
            assert {it.subject for it in first.findings} <= {it.subject for it in second.findings}
            return second

    def assert_whole(self) -> None:
        report = self.verify()
        assert report.findings == []
        with self.copied.open(create=False, **self.key) as vault:
            told = {it.path: it.content for it in vault.all_versions(REPOSITORY)}
            assert {path: read(vault, key) for path, key in told.items() if key} == ALL


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


FOLDERS = [["packs"], ["objects"], ["packs", "objects"]]


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
@pytest.mark.parametrize("emptied", [False, True], ids=["kept", "emptied"])
@pytest.mark.parametrize("folders", FOLDERS, ids="+".join)
def test_a_first_copy_after_a_healing_misses_nothing(tmp_path, folders, emptied, encrypted):
    pair = Pair(tmp_path, encrypted=encrypted)
    pair.damage(*folders)
    assert pair.heal().lost == []
    if emptied:
        pair.empty_quarantine()
    foreseen = pair.copy(dry_run=True)
    done = pair.copy()
    assert (done.copied, done.bytes) == (foreseen.copied, foreseen.bytes)
    pair.assert_whole()
    with pair.house.open(**pair.key) as vault, pair.storage() as storage:
        assert vault.verify(contents=True).ok
        check = check_copy(vault, pair.below(vault, storage), "second", share=1.0)
        assert (check.behind, check.damaged) == (0, [])
    assert pair.copy().copied == 0


def test_a_pack_that_was_not_there_and_was_stored_anew_is_missed_no_more(pair):
    """Its contents came in two packs, so none has its name."""
    pair.house.files("packs")[0].unlink()
    with pair.house.open() as vault:
        assert {it.problem for it in vault.verify().findings} == {Problem.MISSING}
        with vault.writer() as writer:
            for data in list(SMALL.values())[:6]:
                writer.add(key_of(data), data)
            writer.commit([])
        assert vault.verify().findings
    assert pair.heal().lost == []
    with pair.house.open() as vault:
        assert vault.verify(share=1.0).ok
    pair.copy()
    pair.assert_whole()


def test_a_copy_knows_of_the_manifests_that_were_set_aside(pair):
    damaged = pair.house.files("manifests")[0]
    pair.damage("manifests")
    pair.heal()
    foreseen, done = pair.copy(dry_run=True), pair.copy()
    assert (done.copied, done.bytes) == (foreseen.copied, foreseen.bytes)
    # Where nobody has told the versions again it has as few as the vault, and says so no louder.
    with pair.house.open() as vault:
        assert vault.verify(contents=True).findings == pair.verify().findings == []
    assert [path.name for path in pair.copied.files("quarantine")] == [damaged.name]
    assert pair.copy().copied == 0
    # A prune waits for it there, too, until somebody gives it up.
    with (
        pair.copied.open(create=False) as vault,
        pytest.raises(VaultCorruptError, match="is missing"),
    ):
        prune(vault, now_ns=pair.copied.clock.now_ns(), grace_ns=0)


def test_a_manifest_whose_place_in_quarantine_is_empty_is_missed_in_both(pair):
    pair.damage("manifests")
    pair.heal()
    pair.empty_quarantine()
    pair.copy()
    with pair.house.open() as vault:
        found = {it.problem for it in vault.verify().findings}
    assert found == {it.problem for it in pair.verify().findings} == {Problem.MISSING}


def test_one_that_came_back_is_not_taken_for_set_aside(pair, tmp_path):
    pair.copy()
    pair.damage("manifests")
    with pair.house.open() as vault, pair.storage() as storage:
        found = vault.verify(share=1.0).findings
        assert heal(vault, found, copies=[Copy("second", storage)]).quarantined
    shutil.rmtree(pair.copied.path)
    foreseen, done = pair.copy(dry_run=True), pair.copy()
    assert (done.copied, done.bytes) == (foreseen.copied, foreseen.bytes)
    assert pair.copied.files("quarantine") == []
    pair.assert_whole()


def test_one_that_is_whole_in_the_copy_is_not_set_aside_there(pair):
    pair.copy()
    pair.damage("manifests")
    pair.heal()
    pair.copy()
    assert pair.copied.files("quarantine") == []
    pair.assert_whole()


@pytest.mark.parametrize("folders", FOLDERS, ids="+".join)
def test_a_healing_between_two_copies(pair, folders):
    pair.copy()
    pair.damage(*folders)
    assert pair.heal().lost == []
    assert pair.copy().copied >= 1
    pair.assert_whole()


@pytest.mark.parametrize("emptied", [False, True], ids=["kept", "emptied"])
def test_what_nobody_had_is_missed_in_the_copy_too(pair, emptied):
    pair.damage("objects")
    assert pair.heal(*BIG.values()).lost == [key_of(BIG[b"big"])]
    if emptied:
        pair.empty_quarantine()
    pair.copy()
    for _ in range(2):
        report = pair.verify()
        assert key_of(BIG[b"big"]) in {key for it in report.findings for key in it.lost}


def test_without_a_key_a_file_that_is_gone_stays_missed(tmp_path):
    """Nobody can tell what its versions ask for, so what was forgotten may be missing."""
    pair = Pair(tmp_path, encrypted=True)
    pair.house.files("packs")[0].unlink()
    with pair.house.open() as vault:
        for _ in range(3):
            assert Problem.MISSING in {it.problem for it in vault.verify().findings}


def test_the_vault_is_healed_from_a_copy_that_was_made_after_a_healing(pair):
    pair.damage("packs", "objects")
    pair.heal()
    pair.copy()
    pair.damage("packs", "objects", "manifests")
    with pair.house.open() as vault, pair.storage() as storage:
        for _ in range(2):
            found = vault.verify(share=1.0).findings
            assert heal(vault, found, copies=[Copy("second", storage)]).lost == []
        assert vault.verify(contents=True).ok
        _assert_gives_all(vault)


def test_the_copy_is_healed_from_the_vault_and_pruned_as_a_vault_of_its_own(pair):
    pair.damage("packs")
    pair.heal()
    pair.copy()
    flip(pair.copied.files("packs")[0], 100)
    with pair.copied.open(create=False) as vault:
        storage = LocalStorage(os.fspath(pair.house.path), FileOps())
        with storage:
            found = vault.verify(share=1.0).findings
            assert heal(vault, found, copies=[Copy("first", storage)]).lost == []
        assert vault.verify(contents=True).ok
        prune(vault, now_ns=pair.copied.clock.now_ns(), grace_ns=0)
        _assert_gives_all(vault)
        assert vault.verify(contents=True).ok
    pair.assert_whole()


def _assert_gives_all(vault: Vault) -> None:
    for data in ALL.values():
        assert read(vault, key_of(data)) == data
