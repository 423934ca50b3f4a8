"""The vault that was used before is the only one taken for it: no empty folder, no other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

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
