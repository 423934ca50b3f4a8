"""What an order would meet, for a dry run: the disk and the registry compared, nothing recorded.

Records are compared with the files themselves; files without a record are found by a walk.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from lifecycle_sync.act.reading import differs
from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import SystemClock
from lifecycle_sync.decide.differences import unchanged
from lifecycle_sync.descent import Descent
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.act import ActFile
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.model.repository import RepositoryKind
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.listings import listings_of
from lifecycle_sync.service.targets import Target, TargetKind, files_of

_BATCH = 1000


class Seen(NamedTuple):
    """A file as it is now. `record` is None for one that the registry does not know yet; `changed`
    says that it is another than the record's, `there` that it lies at its place."""

    path: bytes
    size: int
    record: ActFile | None = None
    changed: bool = False
    there: bool = True


def survey(engine: Engine, targets: Iterable[Target], cancel: CancelToken) -> Iterator[Seen]:
    """All files of targets of one root, those with records first. Changes nothing."""
    targets = list(targets)
    if not targets:
        return
    repository = targets[0].repository
    stable = repository.identity.stable_inodes
    fs = FileOps()
    with Descent(fs, repository.path) as descent:
        for file in files_of(engine, targets):
            cancel.check()
            yield _seen(fs, descent, file, stable)
        for target in targets:
            if target.kind is TargetKind.FILE and target.file_id is None:
                found = os.lstat(target.whole_path)
                yield Seen(target.path, found.st_size)
    folders = [target for target in targets if target.kind is not TargetKind.FILE]
    if folders and repository.kind is RepositoryKind.ROOT:
        yield from _unknown(engine, folders, cancel)


def _seen(fs: FileOps, descent: Descent, file: ActFile, stable: bool) -> Seen:
    folder, _, name = file.path.rpartition(b"/")
    try:
        found = fs.stat(name, dir_fd=descent.open(folder), follow_symlinks=False)
    except OSError:
        return Seen(file.path, file.size, file, there=False)
    if file.state is LifecycleState.DELETED:
        # Another file has its place, and no record yet.
        return Seen(file.path, found.st_size)
    if file.state is LifecycleState.ARCHIVED:
        return Seen(file.path, file.size, file)
    changed = differs(file, found, stable_inodes=stable)
    return Seen(file.path, found.st_size, file, changed)


def _unknown(engine: Engine, folders: list[Target], cancel: CancelToken) -> Iterator[Seen]:
    """Files that lie there and have no record."""
    registry, repository = engine.registry, folders[0].repository
    listings = listings_of(
        registry,
        repository,
        engine.cycle.rules,
        known=registry.directory_totals(repository.repository_id),
        own=engine.cycle.own_files(),
        fs=FileOps(),
        clock=SystemClock(),
        cancel=cancel,
        walker=engine.settings.walker,
    )
    for listing in listings:
        cancel.check()
        if listing.error is not None:
            continue
        stored = registry.directories(repository.repository_id, [listing.path]).get(listing.path)
        if unchanged(stored, listing):
            continue
        records = registry.files_in(stored.directory_id) if stored is not None else []
        names = {record.name for record in records}
        columns = listing.columns
        for position, name in enumerate(columns.names):
            path = listing.path + b"/" + name if listing.path else name
            if name not in names and any(target.holds(path) for target in folders):
                yield Seen(path, columns.sizes[position])


def held_among(engine: Engine, found: Iterable[Seen]) -> Iterator[tuple[Seen, str]]:
    """Each with the reason of a hold on it, empty where there is none."""
    batch: list[Seen] = []

    def told() -> Iterator[tuple[Seen, str]]:
        ids = [seen.record.file_id for seen in batch if seen.record is not None]
        held = engine.registry.held(ids, engine.now_ns()) if ids else {}
        for seen in batch:
            yield seen, held.get(seen.record.file_id, "") if seen.record is not None else ""

    for seen in found:
        batch.append(seen)
        if len(batch) >= _BATCH:
            yield from told()
            batch.clear()
    yield from told()
