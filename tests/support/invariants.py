"""What must hold of an estate after anything has happened to it, and after recovery."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lifecycle_sync.act.occupied import Wanted
from lifecycle_sync.act.restore import Restorer
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.model.trash import SIDECAR_NAME
from lifecycle_sync.vault.vault import Vault, VaultKind
from tests.support import oracle
from tests.support.estate import COPY, KEY, REWRITTEN, SECOND, SETTINGS, Estate, Look

_AWAY = {LifecycleState.ARCHIVED, LifecycleState.DELETED}
# Rows that every order and every pass adds to.
_RUNS = {"act_runs", "runs"}


def snapshot(estate: Estate) -> dict[str, Any]:
    """All rows of the registry and all that lies in the root and the vaults."""
    query = estate.engine.registry.query
    _, tables = query(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    )
    found: dict[str, Any] = {
        name: query(f"SELECT * FROM {name}")[1] for (name,) in tables if name not in _RUNS
    }
    for top in ("root", "vault", "archive"):
        found.update(_tree(estate.base / top, top))
    return found


def _tree(folder: Path, words: str) -> Iterator[tuple[str, object]]:
    if not folder.is_dir():
        return
    for entry in os.scandir(folder):
        status = entry.stat(follow_symlinks=False)
        here = f"{words}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            # The times of folders move with every look for litter.
            yield here, status.st_mode
            yield from _tree(Path(entry.path), here)
        else:
            yield here, Look.at(entry.path)


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))


def check(estate: Estate, *, adds: bool = False, exact: bool = True) -> None:
    """After recovery: nothing lost, nothing left over, the registry in step with the disk.

    `exact`: files are in all what they were; otherwise their contents are."""
    nothing_pending(estate)
    states_are_right(estate)
    versions_restore(estate, exact=exact)
    no_source_is_lost(estate, exact=exact)
    vaults_are_whole(estate)
    no_litter(estate)
    one_pass_finds_nothing(estate, adds=adds)


def check_meddled(estate: Estate) -> None:
    """After others have changed files while an act was at work: contents survive, wherever they
    went, and after one pass all that is said is right."""
    nothing_pending(estate)
    estate.house.sync(wait=False)
    states_are_right(estate)
    versions_restore(estate, exact=False)
    no_source_is_lost(estate, exact=False, anywhere=True)
    vaults_are_whole(estate)
    no_litter(estate)
    in_step(estate)


def check_durable(estate: Estate) -> None:
    """After the power went, perhaps with an older database or none: what was kept or promised is
    there, and after one pass all that is said is right."""
    nothing_pending(estate)
    estate.house.sync(wait=False)
    states_are_right(estate)
    versions_restore(estate, exact=True)
    no_source_is_lost(estate, exact=False, anywhere=True)
    vaults_are_whole(estate)
    no_litter(estate)
    in_step(estate)


def nothing_pending(estate: Estate) -> None:
    pending = estate.engine.registry.pending_operations(None)
    assert not pending, f"pending: {pending}"


def states_are_right(estate: Estate) -> None:
    """Before any pass: live records have their files, those that are away have none."""
    live = set(estate.paths())
    records = estate.everything()
    here = {it.path for it in records if it.state not in _AWAY}
    for record in records:
        if record.state not in _AWAY:
            assert record.path in live, f"{record.path!r} is {record.state} and not there"
        else:
            there = record.path in live and record.path not in here
            assert not there, f"{record.path!r} is {record.state} and there"


def versions_restore(estate: Estate, *, exact: bool) -> None:
    """What was kept before is kept, and every version is bit for bit what the file was."""
    ledger = estate.ledger
    missing = ledger.versions - ledger.beyond - estate.versions()
    assert not missing, f"no vault tells of {missing}"
    kept: set[tuple[bytes, str]] = set()
    for vault in estate.vaults():
        for file_id, content in _restored(estate, vault, exact=exact):
            kept.add((file_id, content))
    for record in estate.everything():
        for row in estate.engine.registry.versions(record.file_id):
            if row.checksum is not None:
                key = (record.file_id, row.checksum.hex())
                assert key in kept, f"no vault has version {row.number} of {record.path!r}"
        if record.state is LifecycleState.ARCHIVED:
            archive = estate.engine.vaults.get(VaultKind.ARCHIVE, create=False)
            assert list(archive.versions_of(record.file_id)), f"{record.path!r} is not archived"


def _restored(estate: Estate, vault: Vault, *, exact: bool) -> Iterator[tuple[bytes, str]]:
    out = estate.base / "out"
    shutil.rmtree(out, ignore_errors=True)
    events = list(vault.all_versions(estate.house.repository.repository_id))
    wanted = [Wanted(event, b"%d/%s" % (number, event.path)) for number, event in enumerate(events)]
    out.mkdir()
    with Restorer(FileOps(), os.fsencode(out), vault) as restorer:
        done = restorer.restore(wanted)
    assert all(item.outcome == "completed" and not item.missed for item in done), done
    for event, item in zip(events, wanted, strict=True):
        look = Look.at(os.path.join(os.fsencode(out), item.to))
        known = estate.ledger.looks[event.path]
        right = any(look.is_as(it, exact=exact) for it in known)
        assert right, f"{event.path!r} came back as {look}"
        yield event.file_id, look.content
    assert not (out / ".lifecycle").exists(), "staging is left"
    shutil.rmtree(out)


def no_source_is_lost(estate: Estate, *, exact: bool, anywhere: bool = False) -> None:
    """What lay in the root or in the trash lies there still, or in a vault."""
    found: dict[bytes, set[str]] = {}
    for path in estate.paths():
        look = Look.at(estate.house.path(path))
        found.setdefault(path, set()).add(look.content)
        known = estate.ledger.looks.get(path)
        if known is not None:
            right = any(look.is_as(it, exact=exact) for it in known)
        else:
            right = look.kind == "symlink" or look.content in estate.ledger.contents
        assert right, f"{path!r} is now {look}"
    for path, file in estate.in_trash():
        found.setdefault(path, set()).add(Look.at(file).content)
    for vault in estate.vaults():
        for event in vault.all_versions(estate.house.repository.repository_id):
            target = os.fsdecode(event.metadata.target or b"")
            content = event.content.digest.hex() if event.content else target
            found.setdefault(event.path, set()).add(content)
    everywhere = set().union(*found.values())
    for path, contents in estate.ledger.sources.items():
        lost = contents - (everywhere if anywhere else found.get(path, set()))
        assert not lost, f"lost of {path!r}: {lost}"


def vaults_are_whole(estate: Estate) -> None:
    for vault in estate.vaults():
        report = vault.verify(contents=True)
        assert not report.findings, report.findings
        assert not report.litter, report.litter
        assert not report.foreign, report.foreign


def stands_for_the_vault(estate: Estate, name: str, *, tidy: bool = True) -> None:
    """What lies beside the backup vault, a copy or written anew, is whole and has its versions."""
    with estate.beside(name) as other:
        report = other.verify(contents=True)
        assert not report.findings, report.findings
        assert not (tidy and report.litter), report.litter
        repository = estate.house.repository.repository_id
        told = {event.version_id for event in other.all_versions(repository)}
        wanted = {
            event.version_id
            for vault in estate.vaults()
            if vault.kind is VaultKind.BACKUP
            for event in vault.all_versions(repository)
        }
        assert told == wanted, f"{name} has {len(told)} versions of {len(wanted)}"


def no_litter(estate: Estate) -> None:
    """No staging, no empty batches, no torn sidecars; of locks only those that are kept."""
    for folder, folders, names in os.walk(estate.root):
        inside = ".lifecycle" in folder
        torn = [name for name in names if name.startswith(".") and name != ".lifecycle"]
        assert not torn, f"{torn} in {folder}"
        assert not inside or os.path.basename(folder) != "tmp", f"staging left in {folder}"
        if inside and os.path.basename(os.path.dirname(folder)) == "trash":
            assert not folders
            assert set(names) - {os.fsdecode(SIDECAR_NAME)}, f"an empty batch: {folder}"
    databases = {"registry.db", "registry.db-wal", "registry.db-shm", "registry.db.lock"}
    ours = {"root", "vault", "archive", "ledger", "registry.db.locks", "registry.db.index"}
    # Scratch of a drill that was killed stays until the next.
    ours |= {"registry.db.drill", "outside", "steps", "deed", KEY, f"{KEY}.public", COPY, REWRITTEN}
    ours |= {SETTINGS, SECOND, f"{SECOND}.public"}
    strange = {it.name for it in estate.base.iterdir()} - databases - ours
    assert not strange, strange


def one_pass_finds_nothing(estate: Estate, *, adds: bool) -> None:
    """A pass over the root finds no file that nobody knew, and misses none."""
    report = estate.house.sync(wait=False)
    assert report.removed == 0, f"{report.removed} files had vanished"
    assert adds or report.counts.added == 0, f"{report.counts.added} files were new"
    in_step(estate)
    ids = estate.ids_of_paths()
    for path, file_id in ids.items():
        known = estate.ledger.ids.get(path, file_id)
        assert known == file_id, f"{path!r} got another id"


def in_step(estate: Estate) -> None:
    """The registry equals the disk."""
    there = oracle.disk(estate.root)
    here = {
        path: oracle.known(record)
        for path, record in estate.house.records().items()
        if record.state not in _AWAY
    }
    assert here == there
    oracle.assert_sound(estate.engine)


def end_of(estate: Estate) -> dict[bytes, Look | LifecycleState]:
    """What an order has come to, without what differs from run to run."""
    found: dict[bytes, Look | LifecycleState] = {
        path: Look.at(estate.house.path(path)) for path in estate.paths()
    }
    for record in estate.everything():
        if record.state in _AWAY:
            found[b"away: " + record.path] = record.state
    return found


def same_end(
    one: dict[bytes, Look | LifecycleState],
    other: dict[bytes, Look | LifecycleState],
    *,
    exact: bool,
) -> list[str]:
    """Where two ends differ."""
    differing = []
    for key in sorted(one.keys() | other.keys()):
        here, there = one.get(key), other.get(key)
        if isinstance(here, Look) and isinstance(there, Look):
            same = here.is_as(there, exact=exact)
        else:
            same = here == there
        if not same:
            differing.append(f"{key!r}: {here} and not {there}")
    return differing
