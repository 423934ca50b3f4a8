"""A vault written anew: the same contents and events under other names, whatever comes between."""

from __future__ import annotations

import os
import random
import shutil

import pytest

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import CancelledError, VaultKeyError
from lifecycle_sync.vault import opening
from lifecycle_sync.vault.age import Recipients
from lifecycle_sync.vault.rewriting import RewriteReport, rewrite_vault
from lifecycle_sync.vault.vault import Vault, VaultKind
from tests.support.vaults import (
    REPOSITORY,
    STORE,
    EncryptedHouse,
    VaultHouse,
    contents_of,
    flip,
    read,
)

LARGE = random.Random(9).randbytes((2 << 20) + 5)
BATCHES = (
    {b"a": b"alpha" * 50, b"film": LARGE},
    {b"b": b"beta", b"same": b"alpha" * 50},
    {b"c": b"gamma" * 3},
)


@pytest.fixture
def source(tmp_path, monkeypatch) -> EncryptedHouse:
    monkeypatch.setattr("lifecycle_sync.vault.objects.PART_SIZE_MAX", 1 << 20)
    house = EncryptedHouse(tmp_path / "old")
    with house.open() as vault:
        for batch in BATCHES:
            house.store(vault, batch)
    return house


@pytest.fixture(params=["plain", "encrypted"])
def target(request, tmp_path) -> VaultHouse:
    folder = tmp_path / "new"
    return VaultHouse(folder) if request.param == "plain" else EncryptedHouse(folder)


def written(source: EncryptedHouse, target: VaultHouse, **options: object) -> RewriteReport:
    keys = [target.public] if isinstance(target, EncryptedHouse) else []
    recipients = Recipients(keys) if keys else None
    with source.open(key=True, read_only=True) as vault:
        storage = opening.open_storage(os.fspath(target.path), target.fs, create=True)
        path = os.fspath(target.path)
        found = opening.read_format(storage, path, VaultKind.BACKUP, STORE, write=True)
        if found is None:
            found = opening.create(storage, path, VaultKind.BACKUP, STORE, recipients=keys)
        key = os.fspath(target.key_path) if isinstance(target, EncryptedHouse) else ""
        sealed = opening.seal_storage(
            storage, path, found, target.fs, write=True, recipients=recipients, identity_path=key
        )
        with sealed:
            return rewrite_vault(vault, sealed, now_ns=1, **options)  # type: ignore[arg-type]


def opened(house: VaultHouse, **options: object) -> Vault:
    if isinstance(house, EncryptedHouse):
        return house.open(key=True, **options)
    return house.open(**options)


def same(one: Vault, other: Vault) -> None:
    """They tell and keep the same."""
    events = list(one.events(one.manifests()))
    assert list(other.events(other.manifests())) == events
    versions = list(one.all_versions(REPOSITORY))
    assert list(other.all_versions(REPOSITORY)) == versions
    for key in contents_of(versions):
        assert read(other, key) == read(one, key)
    report = other.verify(contents=True)
    assert report.ok, report.findings
    assert not report.unreferenced + report.foreign


def test_it_tells_and_keeps_the_same(source, target):
    report = written(source, target)
    assert (report.manifests, report.damaged) == (3, [])
    names = {path.name for path in target.files()}
    assert not names & {path.name for path in source.files()} - {
        "FORMAT",
        "RESTORE.md",
        "SHA256SUMS",
        "RECIPIENTS",
        "test",
    }
    with source.open(key=True) as old, opened(target) as new:
        same(old, new)


def test_cut_off_anywhere_it_goes_on(source, target):
    """And each step of it leaves a vault that is whole, as far as it goes."""
    for files in range(6):
        cancel = CancelToken()
        seen = 0

        def stop(count: int, size: int, cancel=cancel, files=files) -> None:
            nonlocal seen
            seen += count
            if seen > files:
                cancel.cancel()

        try:
            written(source, target, progress=stop, cancel=cancel)
        except CancelledError:
            with opened(target, read_only=True) as new:
                assert new.verify(contents=True).ok
    written(source, target)
    assert written(source, target).there == 3
    with source.open(key=True) as old, opened(target) as new:
        versions = list(old.all_versions(REPOSITORY))
        assert list(new.all_versions(REPOSITORY)) == versions
        assert all(read(new, key) == read(old, key) for key in contents_of(versions))


def test_a_second_run_brings_what_is_new(source, target):
    written(source, target)
    with source.open() as vault:
        source.store(vault, {b"later": b"later"})
    report = written(source, target)
    assert (report.manifests, report.there, report.files) == (1, 3, 1)
    with source.open(key=True) as old, opened(target) as new:
        same(old, new)


def test_what_is_damaged_is_named_and_all_else_comes_along(source, target):
    part = max(source.files("objects"), key=lambda path: path.stat().st_size)
    flip(part, 5000)
    report = written(source, target)
    assert [name for name, _ in report.damaged] == [
        f"objects/{part.parent.name}/{part.name.removesuffix('.age')}"
    ]
    with opened(target) as new:
        for batch in BATCHES:
            for path, data in batch.items():
                if data is not LARGE:
                    (version,) = new.versions_at(REPOSITORY, path)
                    assert version.content is not None
                    assert read(new, version.content) == data


def test_what_was_damaged_and_is_mended_is_brought_by_the_next_run(source, target):
    part = max(source.files("objects"), key=lambda path: path.stat().st_size)
    flip(part, 5000)
    assert len(written(source, target).damaged) == 1
    flip(part, 5000)
    report = written(source, target)
    assert (report.there, report.manifests, report.damaged) == (3, 1, [])
    with source.open(key=True) as old, opened(target) as new:
        versions = list(old.all_versions(REPOSITORY))
        assert list(new.all_versions(REPOSITORY)) == versions
        assert all(read(new, key) == read(old, key) for key in contents_of(versions))
        assert new.verify(contents=True).ok
    assert written(source, target).manifests == 0


def test_contents_are_found_again_where_its_manifests_are_lost(source, target):
    """Parts of objects name the one before them: by its new name."""
    written(source, target)
    for path in target.files("manifests"):
        path.unlink()
    shutil.rmtree(f"{target.index_path}.manifests", ignore_errors=True)
    with opened(target) as new:
        assert new.find_lost() == 4


def test_a_checkpoint_whose_manifests_are_gone_speaks_for_itself(source, target):
    with source.open(key=True) as vault:
        vault.checkpoint()
        versions = list(vault.all_versions(REPOSITORY))
    for path in source.files("manifests")[:3]:
        path.unlink()
    assert written(source, target).manifests == 1
    with opened(target) as new:
        assert sorted(it.path for it in new.all_versions(REPOSITORY)) == sorted(
            it.path for it in versions
        )
        assert new.verify(contents=True).ok


def test_a_plain_vault_is_encrypted(tmp_path, monkeypatch):
    plain, target = VaultHouse(tmp_path / "plain"), EncryptedHouse(tmp_path / "new")
    with plain.open() as vault:
        for batch in BATCHES:
            plain.store(vault, batch)
    monkeypatch.setattr(
        plain, "open", lambda key=False, **options: VaultHouse.open(plain, **options)
    )
    written(plain, target)  # type: ignore[arg-type]
    with plain.open() as old, opened(target) as new:
        same(old, new)


def test_without_the_key_nothing_is_begun(source, target):
    source.lose_machine()
    with source.open(read_only=True) as vault, pytest.raises(VaultKeyError):
        rewrite_vault(vault, vault.storage, now_ns=1)
