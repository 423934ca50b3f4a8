"""What a path may hold when a vault is opened there, and what is said then."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from lifecycle_sync.errors import (
    LifecycleError,
    StorageFullError,
    VaultCorruptError,
    VaultError,
    VaultForeignError,
    VaultMissingError,
    VaultNewerError,
    VaultReadOnlyError,
)
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.testing.fileops import Fault, FaultyFileOps, RecordingFileOps, fail
from lifecycle_sync.vault.format import VaultKind
from tests.support.vaults import STORE, VaultHouse, key_of


@pytest.fixture
def house(tmp_path):
    return VaultHouse(tmp_path)


def tree(folder: Path) -> dict[Path, int]:
    return {it: it.stat().st_mtime_ns for it in sorted(folder.rglob("*"))}


def refused(house: VaultHouse, kind: type[VaultError] = VaultError, **options: object) -> str:
    """The error that opening ends with; it has to say what to do."""
    before = tree(house.folder)
    with pytest.raises(VaultError) as caught:
        house.open(**options)
    assert type(caught.value) is kind
    assert caught.value.remedy
    assert caught.value.subject.startswith(os.fspath(house.path))
    assert tree(house.folder) == before
    return caught.value.cause


def test_a_vault_is_made_where_there_is_none(house):
    with house.open() as vault:
        assert vault.kind is VaultKind.BACKUP
        assert vault.store_id == STORE
        assert vault.manifests() == []
        assert vault.verify(contents=True).ok
    names = {it.name for it in house.path.iterdir()}
    assert names == {"FORMAT", "RESTORE.md", "SHA256SUMS", "packs", "objects", "manifests"}
    assert json.loads((house.path / "FORMAT").read_text()) == {
        "format": 1,
        "kind": "backup",
        "store_id": STORE.hex(),
        "min_reader": 1,
        "min_writer": 1,
    }


def test_where_nothing_is_nothing_is_made_unasked(house):
    assert "does not exist" in refused(house, VaultMissingError, create=False)
    assert "does not exist" in refused(house, VaultMissingError, create=True, read_only=True)
    house.path.mkdir()
    assert "empty" in refused(house, VaultMissingError, create=False)
    with house.open():
        pass


def test_another_kind_is_refused(house):
    with house.open(kind=VaultKind.ARCHIVE):
        pass
    assert "kind archive" in refused(house, VaultForeignError)


def test_another_store_is_refused(house):
    with house.open():
        pass
    assert "another store" in refused(house, VaultForeignError, store_id=bytes(16))
    with house.open(store_id=None) as vault:
        assert vault.store_id == STORE


def change_format(house: VaultHouse, **changes: object) -> None:
    path = house.path / "FORMAT"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_newer_format_is_refused(house):
    with house.open():
        pass
    change_format(house, format=3, min_reader=3, kind="something new")
    assert "format 3" in refused(house, VaultNewerError)
    assert "format 3" in refused(house, VaultNewerError, read_only=True)


def test_a_format_that_only_newer_ones_may_write_is_read(house):
    with house.open() as vault:
        house.store(vault, {b"a": b"one"})
    change_format(house, format=3, min_writer=3)
    assert "format 3" in refused(house, VaultNewerError)
    with house.open(read_only=True) as vault:
        assert vault.read_small(key_of(b"one")) == b"one"


@pytest.mark.parametrize("data", [b"", b"{}", b"no JSON", b'{"format":1,"kind":"backup"}'])
def test_a_damaged_format_file_is_said_to_be(house, data):
    with house.open():
        pass
    (house.path / "FORMAT").write_bytes(data)
    refused(house, VaultCorruptError)


def test_a_vault_without_its_format_file_is_not_made_anew(house):
    with house.open() as vault:
        house.store(vault, {b"a": b"one"})
    (house.path / "FORMAT").unlink()
    assert "copied in part" in refused(house, VaultCorruptError)


def test_a_folder_of_somebody_else_is_refused(house):
    house.path.mkdir()
    (house.path / "thesis.odt").write_bytes(b"x")
    assert "no vault" in refused(house, VaultForeignError)


def test_a_file_is_refused(house):
    house.path.write_bytes(b"x")
    assert "no folder" in refused(house, VaultForeignError)


def test_a_vault_inside_a_vault_is_refused(house, tmp_path):
    with house.open():
        pass
    inner = VaultHouse(house.path / "packs")
    with pytest.raises(VaultForeignError, match="inside the vault"):
        inner.open()
    assert house.files("packs") == []


def test_making_one_that_was_broken_off_is_made_up_for(house):
    total = count_calls(house)
    assert total > 20
    for nth in range(1, total + 1):
        shutil.rmtree(house.path, ignore_errors=True)
        house.lose_index()
        house.fs = FaultyFileOps(FileOps(), Fault(fail(errno.EIO), nth=nth))
        try:
            house.open().close()
        except LifecycleError:
            pass
        house.fs = FileOps()
        with house.open() as vault:
            house.store(vault, {b"a": b"one"})
            report = vault.verify(contents=True)
            assert report.ok and not report.litter, nth


def count_calls(house: VaultHouse) -> int:
    fs = RecordingFileOps(FileOps())
    house.fs = fs
    house.open().close()
    return len(fs.calls)


def test_format_is_durable_last(house):
    fs = RecordingFileOps(FileOps())
    house.fs = fs
    house.open().close()
    renames = [it.arguments["target"] for it in fs.calls if it.method == "rename_noreplace"]
    assert renames == ["RESTORE.md", "FORMAT", "SHA256SUMS"]


def test_two_who_make_it_at_once_get_one_vault(house, tmp_path):
    with house.open(store_id=None) as first:
        # As if this process had looked before the other wrote.
        from lifecycle_sync.vault import opening

        found = opening.create(first.storage, first.path, VaultKind.BACKUP, bytes(16))
        assert found.store_id == first.store_id
        assert first.verify(contents=True).ok


def test_litter_of_the_dead_is_removed_and_that_of_the_living_is_not(house):
    with house.open() as vault:
        for folder in ("packs", "objects", "manifests"):
            (house.path / folder / ".tmp-0011223344556677").write_bytes(b"half")
        (house.path / ".tmp-0011223344556677").write_bytes(b"half")
        living = vault.storage.upload("packs")
        with house.open(read_only=True) as reader:
            assert len(reader.verify(contents=False).litter) == 5
        with house.open() as second:
            assert len(second.verify(contents=False).litter) == 1
        living.discard()
        assert vault.verify(contents=False).litter == []


def test_a_vault_that_is_only_read_is_not_changed(house, tmp_path):
    with house.open() as vault:
        house.store(vault, {b"a": b"one"})
    before = tree(house.path)
    house.fs = RecordingFileOps(FileOps())
    with house.open(read_only=True, index_path="") as vault:
        assert vault.read_small(key_of(b"one")) == b"one"
        assert vault.verify(contents=True).ok
        assert len(list(vault.versions_at(bytes(16), b"a"))) == 0
        with pytest.raises(VaultError, match="to be read"):
            vault.writer()
    assert tree(house.path) == before
    changing = {"create", "write", "rename", "rename_noreplace", "unlink", "mkdir", "fsync"}
    assert not changing & set(house.fs.methods)


def test_a_read_only_filesystem_says_so_at_once(house):
    with house.open():
        pass
    house.fs = FaultyFileOps(FileOps(), Fault(fail(errno.EROFS), "create", lasting=True))
    assert "cannot be written" in refused(house, VaultReadOnlyError)
    with house.open(read_only=True):
        pass


def test_a_full_disk_says_so(house):
    house.fs = FaultyFileOps(FileOps(), Fault(fail(errno.ENOSPC), "write", lasting=True))
    with pytest.raises(StorageFullError):
        house.open()


@pytest.mark.parametrize("data", [b"", b"not a database", b"SQLite format 3\0" + bytes(2000)])
def test_an_index_that_is_none_is_made_anew(house, data):
    with house.open() as vault:
        house.store(vault, {b"a": b"one"})
    house.lose_index()
    house.index_path.write_bytes(data)
    with house.open() as vault:
        assert vault.read_small(key_of(b"one")) == b"one"


def test_an_index_of_another_vault_is_made_anew(house, tmp_path):
    with house.open() as vault:
        house.store(vault, {b"a": b"one"})
    other = VaultHouse(tmp_path / "other")
    other.index_path = house.index_path
    with other.open(store_id=bytes(16)) as vault:
        assert vault.contains([key_of(b"one")]) == set()
        assert vault.manifests() == []
    with house.open() as vault:
        assert vault.read_small(key_of(b"one")) == b"one"


def test_a_vault_that_was_rolled_back_is_believed_and_not_the_index(house, tmp_path):
    with house.open() as vault:
        house.store(vault, {b"a": b"one"})
    shutil.copytree(house.path, tmp_path / "older")
    with house.open() as vault:
        name, _ = house.store(vault, {b"b": b"two"})
    shutil.rmtree(house.path)
    shutil.copytree(tmp_path / "older", house.path)
    with house.open() as vault:
        assert vault.contains([key_of(b"one"), key_of(b"two")]) == {key_of(b"one")}
        assert [it.subject for it in vault.verify(contents=True).findings] == [f"manifests/{name}"]
