"""Acts on files, measured in a fresh process: the part of `bench.work` that needs a vault.

Each is timed from opening the registry to having closed it, and its peak memory read then; only
after that is looked at what came of it. `inspect` and `give_back` look from another process.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.measure import peak_bytes
from lifecycle_sync.config import Settings
from lifecycle_sync.model.act import ActFile
from lifecycle_sync.model.event import StateEvent, VersionEvent
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.service import choosing, restoring, trash_orders
from lifecycle_sync.service.act_orders import How
from lifecycle_sync.service.act_report import Report
from lifecycle_sync.service.cycle import SyncReport
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.pruning import Pruning, prune_vault
from lifecycle_sync.vault.vault import Vault, VaultKind

Arguments = dict[str, Any]
Result = dict[str, Any]

_PAGE = 1000
# Of how many files, and of how many bytes at most, the content is compared.
_COMPARED = 200
_COMPARED_BYTES = 600 << 20


def settings_of(arguments: Arguments) -> Settings:
    """The registry that is named, the vaults beside it."""
    database = Path(arguments["database"])
    return Settings(
        database_path=database,
        local_storage_path=None,
        archive_path=database.parent / "archive",
        backup_path=database.parent / "vault",
        backup_recipients=tuple(arguments.get("recipients", ())),
        identity_path=arguments.get("identity"),
        worker_threads=arguments.get("workers"),
        walker=arguments.get("walker", "auto"),
    )


def demand_seen(report: SyncReport, arguments: Arguments) -> None:
    """Exit unless the pass came by all files of the tree."""
    if not report.scanned or report.error is not None:
        sys.exit(f"the pass failed: {report.error or report.verdict}")
    if report.counts.files != arguments["files"]:
        sys.exit(
            f"{report.counts.files} files were found, the tree was made with {arguments['files']}:"
            f" remove {arguments['root']} and its .json"
        )


class _Watch:
    """The clocks of one measurement."""

    def __init__(self) -> None:
        self._begun, self._cpu = time.perf_counter(), time.process_time()

    def stop(self) -> Result:
        return {
            "work": time.perf_counter() - self._begun,
            "cpu": time.process_time() - self._cpu,
            "peak_bytes": peak_bytes("self"),
        }


def _only(engine: Engine) -> Repository:
    (repository,) = engine.roots.all()
    return repository


def _counts(report: Report) -> Result:
    if report.failed or report.skipped:
        first = report.done[0]
        sys.exit(f"{report.verb} left {os.fsdecode(first.path)}: {first.reason}")
    return {"completed": report.completed, "bytes": report.size, "act_seconds": report.seconds}


def backup(arguments: Arguments) -> Result:
    """A check of the tree, then a backup of what is due, to the last manifest."""
    watch = _Watch()
    with Engine.open(settings_of(arguments)) as engine:
        (seen,) = engine.sync(hashes=False)
        report = engine.acts.back_up(_only(engine))
    result = watch.stop()
    demand_seen(seen, arguments)
    return result | _counts(report)


def restore(arguments: Arguments) -> Result:
    """The newest version of every file into another folder, as the command does it."""
    watch = _Watch()
    with Engine.open(settings_of(arguments)) as engine:
        order = choosing.RestoreOrder([arguments["root"]], to=arguments["target"])
        (outcome,) = restoring.restore(engine, order, How())
    result = watch.stop()
    if outcome.failure is not None:
        sys.exit(f"restore: {outcome.failure}")
    return result | _counts(outcome.report)


def delete(arguments: Arguments) -> Result:
    """All files into the trash, until the vault was told; the check before it has its own clock."""
    watch = _Watch()
    with Engine.open(settings_of(arguments)) as engine:
        begun = time.perf_counter()
        (seen,) = engine.sync(hashes=False)
        looking = time.perf_counter() - begun
        repository = _only(engine)
        report = engine.acts.delete(repository, _files(engine, repository))
    result = watch.stop()
    demand_seen(seen, arguments)
    whole = result["work"]
    return result | _counts(report) | {"work": whole - looking, "with_check": whole}


def _files(engine: Engine, repository: Repository) -> Iterator[ActFile]:
    after = None
    while page := engine.registry.files_under(repository.repository_id, b"", after, _PAGE):
        after = page[-1].path
        yield from page


def prune(arguments: Arguments) -> Result:
    """All versions but the newest of each file, and the room they take; no grace."""
    with Engine.open(settings_of(arguments)) as engine:
        for policy in engine.statements.policies():
            engine.statements.put_policy(replace(policy, max_versions=1))
        engine.decisions.settle()
    watch = _Watch()
    with Engine.open(settings_of(arguments)) as engine:
        outcome = prune_vault(engine, Pruning(grace_days=0), How())
    result = watch.stop()
    if outcome.exit_code:
        sys.exit(f"not all was pruned: {outcome}")
    return result | {
        "versions": outcome.versions,
        "deleted": outcome.vault.deleted,
        "freed": outcome.vault.deleted_bytes,
        "copied": outcome.vault.copied_bytes,
    }


def verify(arguments: Arguments) -> Result:
    """Every byte of the vault."""
    watch = _Watch()
    with Engine.open(settings_of(arguments)) as engine:
        vault = engine.vaults.get(VaultKind.BACKUP, create=False)
        contents = bool(arguments.get("contents"))
        report = vault.verify(contents=contents, share=1.0)
    result = watch.stop()
    if not report.ok:
        sys.exit(f"the vault is damaged: {report.findings[0]}")
    return result | {
        "versions": report.versions,
        "contents": report.contents_read,
        "hashed_bytes": report.hashed_bytes,
    }


# -- looking at what came of it ------------------------------------------------------------


def inspect(arguments: Arguments) -> Result:
    """How many versions the vault keeps of the tree; the content of some is compared."""
    root = os.fsencode(arguments["root"])
    with Engine.open(settings_of(arguments)) as engine:
        vault = engine.vaults.get(VaultKind.BACKUP, create=False)
        events = list(vault.all_versions(_only(engine).repository_id))
        compared = left = 0
        for event in random.Random(len(events)).sample(events, len(events)):
            left += event.metadata.size
            if compared >= _COMPARED or (compared and left > _COMPARED_BYTES):
                break
            _compare(vault, event, os.path.join(root, event.path))
            compared += 1
    return {"versions": len({event.path for event in events}), "compared": compared}


def _compare(vault: Vault, event: VersionEvent, path: bytes) -> None:
    assert event.content is not None
    with open(path, "rb") as file:
        same = all(piece == file.read(len(piece)) for piece in vault.read(event.content))
        if not same or file.read(1):
            sys.exit(f"the vault has other bytes than {os.fsdecode(path)}")


def give_back(arguments: Arguments) -> Result:
    """What the trash holds and the vault was told of deletions; some files are undeleted, for
    whoever wants to compare them."""
    with Engine.open(settings_of(arguments)) as engine:
        vault = engine.vaults.get(VaultKind.BACKUP, create=False)
        told = {
            event.file_id
            for event in vault.events(vault.manifests())
            if isinstance(event, StateEvent) and event.state is LifecycleState.DELETED
        }
        lying = [it for it in trash_orders.trashed(engine) if isinstance(it, trash_orders.Trashed)]
        some = random.Random(len(lying)).sample(lying, min(_COMPARED, len(lying)))
        back = engine.acts.undelete(_only(engine), [(it.batch, it.entry) for it in some])
    if back.completed != len(some):
        sys.exit(f"{back.completed} of {len(some)} files came out of the trash")
    paths = [os.fsdecode(it.entry.path) for it in some]
    return {"told": len(told), "trashed": len(lying), "given_back": paths}


ACTS: tuple[Callable[[Arguments], Result], ...] = (
    backup,
    restore,
    delete,
    prune,
    verify,
    inspect,
    give_back,
)
