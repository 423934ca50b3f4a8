"""A lost registry comes back from vaults, trash and roots; an older one is brought forward."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from lifecycle_sync.clock import NS_PER_DAY
from lifecycle_sync.config import Settings
from lifecycle_sync.model.act import ActFile
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.model.repository import Repository, RepositoryKind
from lifecycle_sync.service.act_orders import How
from lifecycle_sync.service.choosing import RestoreOrder
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.rebuild import rebuild
from lifecycle_sync.service.restoring import restore

_DAYS_40 = 40 * NS_PER_DAY


class Place:
    """A root with a history of acts, and the settings of its registry."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = base / "root"
        self.settings = Settings(
            database_path=base / "state" / "registry.db",
            local_storage_path=None,
            backup_path=base / "vault",
            archive_path=base / "archive",
        )
        for name in ("a", "b", "d/x", "d/e/y", "deleted", "archived", "purged"):
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name * 50)
            os.utime(path, (1_600_000_000, 1_600_000_000))

    def live(self, engine: Engine) -> None:
        """Back up, change, delete, archive, purge."""
        repository = engine.add_root(self.root, enforce=True).repository
        engine.sync()
        assert engine.acts.back_up(repository).completed == 7
        (self.root / "a").write_text("second")
        os.utime(self.root / "a", (1_600_000_100, 1_600_000_100))
        engine.sync()
        assert engine.acts.back_up(repository).completed == 1
        engine.acts.delete(repository, [self.file(engine, "purged")])
        engine.acts.purge(repository, now_ns=engine.now_ns() + _DAYS_40)
        assert engine.acts.delete(repository, [self.file(engine, "deleted")]).completed == 1
        assert engine.acts.archive(repository, [self.file(engine, "archived")]).completed == 1

    def file(self, engine: Engine, name: str) -> ActFile:
        record = engine.find_record(os.fspath(self.root / name))
        return engine.registry.act_files([record.file_id])[record.file_id]

    def lose_database(self) -> None:
        shutil.rmtree(self.base / "state")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def _files(engine: Engine) -> dict[str, tuple[object, ...]]:
    rows = engine.registry.query(
        "SELECT file_id, file_path, state, checksum, backup_path, archive_path FROM file_registry"
    )[1]
    return {row[0]: row[1:] for row in rows}


def _versions(engine: Engine) -> set[tuple[object, ...]]:
    return set(
        engine.registry.query(
            "SELECT hex(file_id), hex(version_id), number, hex(checksum), size, created_ns"
            " FROM versions"
        )[1]
    )


def _acts(engine: Engine) -> set[tuple[object, ...]]:
    return set(
        engine.registry.query(
            "SELECT hex(operation_id), hex(file_id), operation_type FROM operations"
            " WHERE status = 'completed'"
        )[1]
    )


def _root(engine: Engine) -> Repository:
    (repository,) = [it for it in engine.roots.all() if it.kind is RepositoryKind.ROOT]
    return repository


def test_ids_versions_and_states_come_back_when_the_database_is_gone(place: Place):
    with Engine.open(place.settings) as engine:
        place.live(engine)
        files, versions = _files(engine), _versions(engine)
        registry_id = engine.registry.registry_id
    place.lose_database()
    report = rebuild(place.settings)
    assert report.registry_id == registry_id
    assert [root.outcome for root in report.roots] == ["scanned"]
    # It is not called lost what the vault has brought back.
    assert not any("enforced" in line or "holds" in line for line in report.lost), report.lost
    with Engine.open(place.settings) as engine:
        assert _files(engine) == files
        assert _versions(engine) == versions
        assert _root(engine).enforce


def test_after_a_rebuild_everything_listed_can_be_brought_back(place: Place):
    with Engine.open(place.settings) as engine:
        place.live(engine)
    place.lose_database()
    rebuild(place.settings)
    with Engine.open(place.settings) as engine:
        repository = _root(engine)
        with engine.acts.trash(repository) as trash:
            wanted = trash.find(path=b"deleted")
        assert engine.acts.undelete(repository, wanted).completed == 1
        assert engine.acts.recall(repository, [place.file(engine, "archived")]).completed == 1
        assert (place.root / "deleted").read_text() == "deleted" * 50
        assert (place.root / "archived").read_text() == "archived" * 50
        assert place.file(engine, "deleted").state is LifecycleState.UPLOADED


def test_after_a_rebuild_what_was_deleted_on_purpose_stays_deleted(place: Place):
    with Engine.open(place.settings) as engine:
        place.live(engine)
        before = _acts(engine)
        for name in ("a", "b"):
            (place.root / name).unlink()
    place.lose_database()
    rebuild(place.settings)
    with Engine.open(place.settings) as engine:
        assert _acts(engine) == before
        order = RestoreOrder([os.fspath(place.root)])
        (outcome,) = restore(engine, order, How())
        assert {done.path for done in outcome.report.sample} == {b"a", b"b"}
        assert (place.root / "a").read_text() == "second"
        assert not (place.root / "deleted").exists()
        assert not (place.root / "purged").exists()
        assert "files deleted on purpose left out: 2" in outcome.notes[1]


def test_without_its_roots_the_registry_comes_back_from_the_vaults_alone(place: Place):
    with Engine.open(place.settings) as engine:
        place.live(engine)
        versions, registry_id = _versions(engine), engine.registry.registry_id
    place.lose_database()
    shutil.rmtree(place.root)
    report = rebuild(place.settings)
    assert report.registry_id == registry_id
    assert [root.outcome for root in report.roots] == ["offline"]
    with Engine.open(place.settings) as engine:
        assert _versions(engine) == versions


def test_a_rebuild_done_twice_gives_the_same(place: Place):
    with Engine.open(place.settings) as engine:
        place.live(engine)
    place.lose_database()
    rebuild(place.settings)
    with Engine.open(place.settings) as engine:
        files = _files(engine)
    place.lose_database()
    rebuild(place.settings)
    with Engine.open(place.settings) as engine:
        assert _files(engine) == files


def test_a_database_rolled_back_to_an_older_copy_is_brought_forward_before_any_act(place: Place):
    older = place.base / "older"
    with Engine.open(place.settings) as engine:
        repository = engine.add_root(place.root).repository
        engine.sync()
        engine.acts.back_up(repository)
    shutil.copytree(place.base / "state", older)
    with Engine.open(place.settings) as engine:
        repository = _root(engine)
        (place.root / "a").write_text("second")
        engine.sync()
        engine.acts.back_up(repository)
        engine.acts.archive(repository, [place.file(engine, "archived")])
        files, versions = _files(engine), _versions(engine)
    place.lose_database()
    shutil.copytree(older, place.base / "state")
    with Engine.open(place.settings) as engine:
        repository = _root(engine)
        assert _versions(engine) < versions
        # The first act of all, of whatever kind, sees what the vaults tell.
        engine.acts.purge(repository)
        assert _versions(engine) == versions
        assert place.file(engine, "archived").state is LifecycleState.ARCHIVED
        engine.sync()
        # What the older database had not seen counts as changed, and is found to be the same.
        assert engine.acts.back_up(repository).unchanged == 1
        assert _files(engine) == files


def test_a_vault_that_cannot_be_read_is_told_as_lost_and_the_rest_comes_back(place: Place):
    with Engine.open(place.settings) as engine:
        place.live(engine)
    place.lose_database()
    (place.base / "archive" / "FORMAT").write_text("nonsense")
    report = rebuild(place.settings)
    assert any("archive" in line for line in report.lost)
    with Engine.open(place.settings) as engine:
        assert len(_versions(engine)) >= 8
