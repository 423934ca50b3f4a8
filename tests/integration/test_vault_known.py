"""The vault that was used before is the only one taken for it: no empty folder, no other."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from lifecycle_sync import mounts
from lifecycle_sync.config import Settings
from lifecycle_sync.errors import VaultError, VaultForeignError, VaultMissingError
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.vault.vault import VaultKind


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a").write_text("a")
    return Settings(
        database_path=tmp_path / "registry.db",
        local_storage_path=None,
        backup_path=tmp_path / "vault",
        archive_path=tmp_path / "archive",
    )


def _back_up(settings: Settings, *, again: bool = False) -> int:
    with Engine.open(settings) as engine:
        repository = engine.add_root(settings.database_path.parent / "root").repository
        engine.sync()
        files = engine.registry.files_under(repository.repository_id, b"", None, 10)
        return engine.acts.back_up(repository, files if again else None).completed


def test_an_empty_mount_point_is_not_made_a_new_vault(settings: Settings):
    assert _back_up(settings) == 1
    (settings.database_path.parent / "root" / "b").write_text("b")
    settings.backup_path.rename(settings.backup_path.with_name("unmounted"))
    settings.backup_path.mkdir()
    with pytest.raises(VaultMissingError) as error:
        _back_up(settings)
    assert "mount its disk" in error.value.remedy
    assert list(settings.backup_path.iterdir()) == []
    with Engine.open(settings) as engine:
        assert engine.registry.pending_operations(None) == []
    settings.backup_path.rmdir()
    settings.backup_path.with_name("unmounted").rename(settings.backup_path)
    assert _back_up(settings) == 1


@pytest.mark.parametrize("there", [True, False])
def test_no_vault_is_made_where_a_disk_belongs_that_is_not_mounted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, there: bool
):
    """Nor by a registry that has never seen the one on that disk."""
    disk = settings.backup_path.with_name("my disk")
    place = disk / "backups" / "vault"
    if there:
        place.mkdir(parents=True)
    table = settings.database_path.with_name("fstab")
    escaped = os.fspath(disk).replace(" ", "\\040")
    table.write_text(
        f"# of a laptop\n/dev/sda2 none swap sw 0 0\n/dev/sda1 / ext4 defaults 0 1\n\n"
        f"UUID=0c6f-11 {escaped} ext4 noauto,user 0 2\n"
    )
    monkeypatch.setattr(mounts, "FSTAB", os.fspath(table))
    settings = Settings(
        database_path=settings.database_path,
        local_storage_path=None,
        backup_path=place,
        archive_path=settings.archive_path,
    )
    with pytest.raises(VaultMissingError) as error:
        _back_up(settings)
    assert f"mount {disk}" in error.value.remedy
    assert place.exists() is there
    assert not there or list(place.iterdir()) == []
    # What is mounted, or on no such list, is as good a place as any.
    table.write_text("/dev/sda1 / ext4 defaults 0 1\nproc /proc proc defaults 0 0\n")
    assert _back_up(settings) == 1


def test_another_vault_at_its_place_is_refused(settings: Settings):
    _back_up(settings)
    shutil.rmtree(settings.backup_path)
    other = Settings(
        database_path=settings.database_path.with_name("other.db"),
        local_storage_path=None,
        backup_path=settings.backup_path,
        archive_path=settings.archive_path,
    )
    with Engine.open(other) as engine:
        engine.vaults.get(VaultKind.BACKUP)
    with pytest.raises(VaultForeignError) as error:
        _back_up(settings, again=True)
    assert "--new-vault" in error.value.remedy


def test_a_vault_that_was_given_up_is_replaced_by_a_new_one_with_everything_in_it(
    settings: Settings,
):
    _back_up(settings)
    shutil.rmtree(settings.backup_path)
    with pytest.raises(VaultError):
        _back_up(settings, again=True)
    with Engine.open(settings) as engine:
        engine.vaults.forget(VaultKind.BACKUP)
    assert _back_up(settings, again=True) == 1
    with Engine.open(settings) as engine:
        (repository,) = engine.roots.all()
        vault = engine.vaults.get(VaultKind.BACKUP)
        (version,) = vault.all_versions(repository.repository_id)
        assert version.content is not None
        assert vault.read_small(version.content) == b"a"
        assert vault.verify(contents=True).ok
