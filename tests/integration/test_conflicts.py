"""Two stories about one file: each situation by each strategy, on real files."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lifecycle_sync.act import removal
from lifecycle_sync.clock import NS_PER_SECOND, FixedClock
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.service import act_orders, trash_orders
from lifecycle_sync.service.act_orders import How
from lifecycle_sync.service.enforcing import BACKUPS, enforce
from lifecycle_sync.vault.vault import VaultKind
from tests.support import oracle
from tests.support.house import GRAIN_SECONDS, House
from tests.support.watched import Watched

_S = LifecycleState
# Written so many seconds before the registry's file, or after it.
OLDER, NEWER = -1000, 1000
EACH = [
    ("disk", OLDER),
    ("registry", NEWER),
    ("newest", OLDER),
    ("newest", NEWER),
    ("keep_both", NEWER),
]


class Estate(House):
    """A root in which policies act, a day after its files were written."""

    def __init__(self, base: Path, strategy: str) -> None:
        self.ahead = FixedClock(time.time_ns())
        super().__init__(base, clock=self.ahead, conflict_strategy=strategy)
        self.strategy = strategy
        self.written_ns = self.ahead.now_ns()
        self.engine.add_root(self.root, enforce=True)
        for name in ("file", "other", *"abcdefghij"):
            self.put(name, f"{name} of the registry")
        self.ahead.advance(3600)
        self.settle()
        act_orders.back_up(self.engine, [], How())

    def put(self, name: str, content: str, seconds: float = 0) -> None:
        """Write a file, dated as many seconds after the first ones."""
        path = self.write(name, content)
        at_ns = self.written_ns + int(seconds * NS_PER_SECOND)
        os.utime(path, ns=(at_ns, at_ns))

    def settle(self) -> None:
        self.sync()
        self.engine.decisions.settle()

    def name(self, name: str) -> str:
        return os.fspath(self.root / name)

    def take_away(self, order: str) -> None:
        """Archive or delete the file."""
        act = {"archive": act_orders.archive, "delete": act_orders.delete}[order]
        (outcome,) = act(self.engine, [self.name("file")], How())
        assert outcome.report.completed == 1
        assert not (self.root / "file").exists()
        self.settle()

    def resolve(self) -> None:
        """A scan, and then policies: nothing of theirs is due but backups."""
        self.settle()
        enforce(self.engine, [self.repository], How())
        self.settle()
        assert self.engine.registry.conflict_count(self.repository.repository_id) == 0

    def contents(self) -> dict[str, str]:
        """Of what lies at the place and beside it."""
        names = sorted(it for it in os.listdir(self.root) if it.startswith(("file", "other")))
        return {name: (self.root / name).read_text() for name in names}

    def trashed(self) -> set[str]:
        return {
            (self.root / ".lifecycle/trash" / folder / name).read_text()
            for folder in os.listdir(self.root / ".lifecycle/trash")
            for name in os.listdir(self.root / ".lifecycle/trash" / folder)
            if name.isdigit()
        }

    def resolution(self) -> dict[str, str]:
        """What the journal has of it."""
        _, rows = self.engine.registry.query(
            "SELECT details FROM sync_operations WHERE operation_type = 'conflict'"
        )
        ((details,),) = rows
        told = json.loads(str(details))
        assert told["strategy"] == self.strategy
        return dict(told)

    def state(self, name: str = "file") -> LifecycleState:
        return self.engine.find_record(self.name(name)).state


@pytest.fixture
def estate_of(tmp_path: Path) -> Iterator[Callable[[str], Estate]]:
    """Makes the estate of a test, with a strategy."""
    made: list[Estate] = []

    def make(strategy: str) -> Estate:
        made.append(Estate(tmp_path, strategy))
        return made[-1]

    yield make
    for estate in made:
        estate.engine.close()


MINE, YOURS = "written meanwhile", "file of the registry"


def kept(strategy: str, seconds: float) -> str:
    if strategy == "newest":
        return "disk" if seconds > 0 else "registry"
    return {"keep_both": "both"}.get(strategy, strategy)


@pytest.mark.parametrize(("strategy", "seconds"), EACH)
def test_a_file_at_the_place_of_an_archived_one(estate_of, strategy, seconds):
    estate = estate_of(strategy)
    estate.take_away("archive")
    estate.put("file", MINE, seconds)
    estate.resolve()
    keeps = kept(strategy, seconds)
    told = estate.resolution()
    assert (told["situation"], told["kept"]) == ("changed while archived", keeps)
    if keeps == "registry":
        assert estate.contents() == {"other": "other of the registry"}
        assert estate.state() is _S.ARCHIVED
        # Nothing is lost: what lay there is in the trash.
        assert MINE in estate.trashed()
        (outcome,) = act_orders.recall(estate.engine, [estate.name("file")], How())
        assert outcome.report.completed == 1
        assert estate.contents()["file"] == YOURS
    else:
        beside = {"file (restored 1)": YOURS} if keeps == "both" else {}
        assert estate.contents() == {"file": MINE, "other": "other of the registry", **beside}
        archive = estate.engine.vaults.get(VaultKind.ARCHIVE)
        versions = list(archive.versions_of(estate.record("file").file_id))
        content = versions[0].content
        assert content is not None
        assert b"".join(archive.read(content)).decode() == YOURS
    estate.check()


def test_what_was_put_away_and_not_told_to_the_archive_goes_back(estate_of, monkeypatch):
    """Cut off between the two, recovery finds no copy of it."""
    estate = estate_of("registry")
    estate.take_away("archive")
    estate.put("file", MINE)
    estate.settle()

    def cut(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(removal, "_tell_archived", cut)
        enforce(estate.engine, [estate.repository], How())
    estate.engine.acts.recover(estate.repository)
    assert estate.contents()["file"] == MINE
    assert estate.engine.registry.pending_operations(estate.repository.repository_id) == []
    estate.resolve()
    assert estate.state() is _S.ARCHIVED
    assert MINE in estate.trashed()


@pytest.mark.parametrize(("strategy", "seconds"), EACH)
def test_a_file_at_the_place_of_a_deleted_one(estate_of, strategy, seconds):
    estate = estate_of(strategy)
    estate.take_away("delete")
    estate.ahead.advance(3600)
    # Before it was deleted, or after that.
    estate.put("file", MINE, seconds if seconds < 0 else 4000)
    estate.resolve()
    keeps = kept(strategy, seconds)
    told = estate.resolution()
    assert (told["situation"], told["kept"]) == ("recreated after deletion", keeps)
    if keeps == "registry":
        assert estate.contents() == {"other": "other of the registry"}
        assert estate.trashed() == {MINE, YOURS}
    elif keeps == "disk":
        assert estate.contents() == {"file": MINE, "other": "other of the registry"}
        assert estate.trashed() == {YOURS}
    else:
        assert estate.contents() == {
            "file": MINE,
            "file (restored 1)": YOURS,
            "other": "other of the registry",
        }
        assert estate.trashed() == set()
    estate.check()


@pytest.mark.parametrize(("strategy", "seconds"), EACH)
def test_a_file_renamed_onto_another(estate_of, strategy, seconds):
    estate = estate_of(strategy)
    estate.put("other", "moved over it", seconds)
    estate.settle()
    other_id = estate.record("other").file_id
    os.replace(estate.root / "other", estate.root / "file")
    estate.resolve()
    keeps = kept(strategy, seconds)
    told = estate.resolution()
    assert (told["situation"], told["kept"]) == ("renamed onto another", keeps)
    if keeps == "registry":
        assert estate.contents() == {"file": YOURS, "other": "moved over it"}
        assert estate.record("other").file_id == other_id
        assert estate.trashed() == set()
    else:
        beside = {"file (restored 1)": YOURS} if keeps == "both" else {}
        assert estate.contents() == {"file": "moved over it", **beside}
    estate.check()


# Seen by a scan, what lies at the place of an archived one is the other situation.
@pytest.mark.parametrize(
    ("order", "seen"), [("archive", False), ("delete", False), ("delete", True)]
)
@pytest.mark.parametrize(("strategy", "seconds"), EACH)
def test_a_file_brought_back_to_a_place_that_is_taken(estate_of, strategy, seconds, order, seen):
    estate = estate_of(strategy)
    estate.take_away(order)
    estate.put("file", MINE, seconds)
    if seen:
        estate.settle()
    bring = {"archive": act_orders.recall, "delete": trash_orders.undelete}[order]
    (outcome,) = bring(estate.engine, [estate.name("file")], How())
    report = outcome.report
    keeps = kept(strategy, seconds)
    if keeps == "disk":
        assert (report.completed, report.skipped) == (0, 1)
        assert estate.contents()["file"] == MINE
        if order == "delete":
            assert estate.trashed() == {YOURS}
    elif keeps == "registry":
        assert report.completed == 1
        assert estate.contents()["file"] == YOURS
        assert MINE in estate.trashed()
    else:
        assert report.completed == 1
        assert estate.contents() == {
            "file": MINE,
            "file (restored 1)": YOURS,
            "other": "other of the registry",
        }
    operations = estate.engine.registry.query(
        "SELECT operation_type, status FROM sync_operations WHERE operation_type IN"
        " ('recall', 'undelete')"
    )[1]
    verb = {"archive": "recall", "delete": "undelete"}[order]
    assert operations == [(verb, "skipped" if keeps == "disk" else "completed")]
    estate.settle()
    estate.check()


# -- what must wait ----------------------------------------------------------------------------


def waiting(estate: Estate) -> None:
    """Enforced, and nothing done."""
    estate.settle()
    enforced = enforce(estate.engine, [estate.repository], How())
    assert enforced.outcomes[0].report.skipped == 1
    assert estate.contents()["file"] == MINE
    assert estate.engine.registry.conflict_count(estate.repository.repository_id) == 1


@pytest.mark.parametrize("order", ["archive", "delete"])
def test_what_is_too_young_is_not_taken_for_the_registry(estate_of, order):
    estate = estate_of("registry")
    estate.take_away(order)
    estate.put("file", MINE, 3600)
    waiting(estate)
    estate.ahead.advance(3600)
    estate.resolve()
    assert MINE in estate.trashed()


def test_what_somebody_writes_is_not_taken_for_the_registry(estate_of):
    estate = estate_of("registry")
    estate.take_away("archive")
    estate.put("file", MINE)
    with open(estate.root / "file", "r+"):
        waiting(estate)
    estate.resolve()


def test_a_root_that_only_advises_keeps_what_it_has(estate_of):
    estate = estate_of("registry")
    estate.take_away("archive")
    estate.put("file", MINE)
    repository = estate.repository
    estate.engine.registry.update_repository(repository.evolve(enforce=False))
    waiting(estate)
    estate.engine.registry.update_repository(repository)
    estate.resolve()


def test_backups_alone_resolve_nothing(estate_of):
    estate = estate_of("registry")
    estate.take_away("archive")
    estate.put("file", MINE)
    estate.settle()
    enforce(estate.engine, [estate.repository], How(), verbs=BACKUPS)
    assert estate.contents()["file"] == MINE


def test_where_nothing_is_kept_the_disk_counts(estate_of):
    estate = estate_of("registry")
    # Written after the backup, and so in no vault.
    estate.put("file", "never kept", 10)
    estate.sync()
    os.replace(estate.root / "other", estate.root / "file")
    estate.resolve()
    told = estate.resolution()
    assert (told["kept"], told["reason"]) == ("disk", "nothing is kept of what the registry knew")
    assert estate.contents() == {"file": "other of the registry"}


def test_a_file_that_is_gone_again_is_no_conflict_any_more(estate_of):
    estate = estate_of("registry")
    estate.take_away("archive")
    estate.put("file", MINE)
    estate.settle()
    os.remove(estate.root / "file")
    estate.resolve()
    assert estate.resolution()["kept"] == "neither"


def test_who_is_followed_has_it_in_the_journal_at_once(tmp_path):
    watched = Watched(tmp_path)
    for name in "abcdef":
        watched.write(name, f"content of {name}")
    # What is fresh is hashed once more, and at that very moment nothing could be compared.
    time.sleep(GRAIN_SECONDS)
    with watched.following():
        watched.settle()
        file_id = oracle.records(watched.engine)[b"b"].file_id
        os.replace(watched.path("a"), watched.path("b"))
        watched.settle()
        told = watched.engine.registry.operations(file_id, 10)
        assert [it.operation_type for it in told] == ["conflict"]
        watched.assert_equal()
    watched.engine.close()
