"""Negative controls: with one guard taken out, these tests must find it, or they prove nothing."""

from __future__ import annotations

import pytest

from lifecycle_sync.act import recovery, removal, taking
from lifecycle_sync.act.taking import TAKEN, Taking
from lifecycle_sync.act.trash import Trash
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.registry.sqlite_acts import SqliteActs
from tests.support.points import Case, PointError
from tests.support.workloads import SCANS, WORKLOADS


def _try(case: Case, points: list[int]) -> None:
    for point in points:
        case.try_point(point)


def finds(case: Case, *words: str, after: bool = False) -> None:
    """At one of these steps at least something is found."""
    points = [
        2 * number + after
        for number, it in enumerate(case.count())
        if any(it.startswith(word) for word in words)
    ]
    assert points
    with pytest.raises(PointError):
        _try(case, points)


def test_no_recovery_is_found(monkeypatch):
    monkeypatch.setattr(recovery, "recover", lambda site: [])
    finds(Case(WORKLOADS["delete"]), "rename_noreplace", after=True)


def test_an_outcome_without_an_intent_is_found(monkeypatch):
    """Recovery has nothing to go by when the rows come only afterwards."""

    def none(self, repository_id):
        return []

    monkeypatch.setattr(SqliteActs, "pending_operations", none)
    finds(Case(WORKLOADS["undelete"]), "rename_noreplace", after=True)


def test_a_taking_and_a_purge_without_their_checks_are_found(monkeypatch):
    """Each of them is there for the case that the other one comes too early."""

    def take(self: Taking, entry):
        folder, _, source = entry.path.rpartition(b"/")
        self._enter(folder)
        name = self._names[entry.path]
        self._fs.rename_noreplace(source, name, self._folder_fd, self._batch_fd)
        self._empty = False
        return TAKEN

    monkeypatch.setattr(Taking, "take", take)
    monkeypatch.setattr(Trash, "_doubt", lambda *_: "")
    finds(Case(WORKLOADS["delete-kept"], "replace"), "create", "commit", "fsync")


def test_a_purge_without_the_last_check_is_found(monkeypatch):
    monkeypatch.setattr(Trash, "_doubt", lambda *_: "")
    finds(Case(WORKLOADS["archive"], "late-writer"), "syncfs", "commit")


def test_a_descent_that_follows_symlinks_is_found(monkeypatch):
    import os

    def follow(self, name, dir_fd=None):
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)

    monkeypatch.setattr(FileOps, "open_directory", follow)
    monkeypatch.setattr(taking, "differences", lambda *_, **__: [])
    finds(Case(WORKLOADS["undelete"], "swap"), "open_directory", "stat")


def test_an_archive_that_takes_before_it_keeps_is_found(monkeypatch):
    """The copy is made only after the file has gone."""

    def archive(site, files, *, grace_ns, reason="", by=""):
        return removal.delete(site, files, grace_ns=0, reason=reason, by=by)

    monkeypatch.setattr(removal, "archive", archive)
    finds(Case(WORKLOADS["archive"]), "commit")


def test_a_pending_row_that_a_scan_may_settle_is_found(monkeypatch):
    from lifecycle_sync.service import scan

    monkeypatch.setattr(scan, "_drop_taken", lambda *_: None)
    finds(Case(SCANS["delete"], "delete"), "open_directory d")
