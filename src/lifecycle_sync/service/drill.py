"""A restore for a trial: some versions of each root, drawn by lot, restored to a scratch folder and
compared with what was kept.

It goes the way of every restore, so that what it proves is what people will need: that the bytes
are those of the checksum, and size, kind, mode, times and target those of the version. What it came
to is noted in the registry, as evidence. The scratch folder lies beside the database, and goes.
"""

from __future__ import annotations

import os
import random
import stat as stat_module
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lifecycle_sync.act.occupied import Wanted
from lifecycle_sync.act.restore import Restored, Restorer
from lifecycle_sync.act.site import COMPLETED
from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import CancelledError, LifecycleError, StorageFullError, VaultKeyError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.check import DRILL, CheckNote
from lifecycle_sync.model.event import VersionEvent
from lifecycle_sync.model.file import Kind
from lifecycle_sync.model.ids import to_text
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.report.records import utf8_text
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.progress import Progress
from lifecycle_sync.storage.local import storage_error
from lifecycle_sync.vault.frames import new_hasher
from lifecycle_sync.vault.vault import Vault

# Bytes of one drill of one root; larger versions are for `verify`.
_BYTES_MAX = 1 << 30
# Lots that are drawn for each version that is wanted: others may be of another root, or pruned.
_LOTS = 40
_PIECE = 1 << 20


class Failure(NamedTuple):
    """A version that did not come back as it was kept."""

    path: bytes
    number: int
    vault: str
    reason: str


@dataclass
class DrillOutcome:
    """What a drill of one root came to. `versions` came back as they were, of so many `bytes`;
    `missed` counts pieces of metadata that this user could not give a file, which are no fault.
    `error` says why nothing could be tried."""

    repository: Repository
    seed: int
    versions: int = 0
    bytes: int = 0
    missed: int = 0
    failures: list[Failure] = field(default_factory=list)
    error: LifecycleError | None = None

    @property
    def ok(self) -> bool:
        return self.error is None and not self.failures


def drill(
    engine: Engine,
    repositories: Sequence[Repository],
    *,
    sample: int,
    seed: int,
    progress: Progress,
    cancel: CancelToken,
) -> list[DrillOutcome]:
    """Restore up to `sample` versions of each root from each vault that has any, and note what came
    of it. The same seed draws the same lots of the same vault. Raises `CancelledError`."""
    outcomes = []
    for repository in repositories:
        outcome = DrillOutcome(repository, seed)
        progress.begin("drill", repository.path, None, None)
        try:
            # One at a time: a second one would find the scratch folder of the first.
            with engine.locks.hold("drill", repository.repository_id, repository.path):
                _drill(engine, outcome, sample, progress, cancel)
        except CancelledError:
            raise
        except LifecycleError as error:
            outcome.error = error
        finally:
            progress.end()
        _note(engine, outcome)
        outcomes.append(outcome)
    return outcomes


def _drill(
    engine: Engine, outcome: DrillOutcome, sample: int, progress: Progress, cancel: CancelToken
) -> None:
    chooser = random.Random(f"{outcome.seed} {outcome.repository.repository_id.hex()}")
    place = os.path.join(
        os.fsencode(engine.registry.path + ".drill"),
        to_text(outcome.repository.repository_id).encode(),
    )
    for vault in engine.vaults.existing(to_read=True):
        if not vault.has_key:
            raise VaultKeyError(
                "is encrypted, and no secret key is at hand: what it keeps cannot be tried here",
                operation="drill",
                subject=vault.path,
                remedy="set identity_path, or restore for a trial where the key is",
            )
        cancel.check()
        chosen = _draw(engine, vault, outcome.repository, chooser, sample)
        if not chosen:
            continue
        _clear(engine.fs, place)
        _check_room(engine, sum(it.metadata.size for it in chosen))
        try:
            engine.fs.make_directories(place)
            owner = os.geteuid() == 0
            with Restorer(engine.fs, place, vault, owner=owner, cancel=cancel) as restorer:
                wanted = [Wanted(it, b"%d" % number) for number, it in enumerate(chosen)]
                for it in restorer.restore(wanted):
                    cancel.check()
                    _judge(engine.fs, place, vault, it, outcome)
                    progress.advance(1, it.wanted.version.metadata.size)
        except OSError as error:
            raise storage_error(error, "drill", os.fsdecode(place)) from error
        finally:
            _clear(engine.fs, place)
            _clear_empty(engine.fs, os.path.dirname(place))


def _clear_empty(fs: FileOps, folder: bytes) -> None:
    try:
        fs.rmdir(folder)
    except OSError:
        # Another root is tried there just now.
        pass


def _draw(
    engine: Engine,
    vault: Vault,
    repository: Repository,
    chooser: random.Random,
    sample: int,
) -> list[VersionEvent]:
    chosen: dict[bytes, VersionEvent] = {}
    size = 0
    for _ in range(_LOTS * sample):
        version = vault.version_at_part(chooser.random())
        if version is None or len(chosen) == sample:
            break
        mine = version.repository_id == repository.repository_id
        if not mine or version.version_id in chosen:
            continue
        if size + version.metadata.size > _BYTES_MAX:
            continue
        # What was pruned on purpose need not come back.
        if all(
            it.version_id != version.version_id for it in engine.registry.versions(version.file_id)
        ):
            continue
        chosen[version.version_id] = version
        size += version.metadata.size
    return list(chosen.values())


def _check_room(engine: Engine, size: int) -> None:
    found = engine.fs.statvfs(os.path.dirname(os.path.abspath(engine.registry.path)))
    free = found.f_bavail * found.f_frsize
    if 2 * size > free:
        raise StorageFullError(
            f"would take {size:,} bytes of the {free:,} that are free",
            operation="drill",
            subject=os.path.dirname(engine.registry.path),
            remedy="free some space, or draw a smaller sample",
        )


def _judge(fs: FileOps, place: bytes, vault: Vault, it: Restored, outcome: DrillOutcome) -> None:
    version = it.wanted.version
    reason = it.reason
    if it.outcome == COMPLETED:
        try:
            reason = _difference(fs, place, it)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
    if reason:
        failure = Failure(version.path, version.number, vault.kind.value, reason)
        outcome.failures.append(failure)
        return
    outcome.versions += 1
    outcome.bytes += version.metadata.size
    outcome.missed += len(it.missed)


def _difference(fs: FileOps, place: bytes, it: Restored) -> str:
    """What a restored file is that its version was not; empty where they are the same."""
    was, path = it.wanted.version.metadata, os.path.join(place, it.path)
    found = fs.stat(path, follow_symlinks=False)
    if Kind(found.st_mode >> 12) != was.kind:
        return "came back as another kind of file"
    if was.kind == Kind.SYMLINK:
        right = fs.readlink(path) == was.target
        return "" if right else "came back with another target"
    if found.st_size != was.size:
        return f"came back with {found.st_size} bytes, not {was.size}"
    key = it.wanted.version.content
    if key is not None:
        hasher = new_hasher(key.algorithm)
        fd = fs.open_read(path)
        try:
            position = 0
            while piece := fs.pread(fd, _PIECE, position):
                hasher.update(piece)
                position += len(piece)
        finally:
            fs.close(fd)
        if hasher.digest() != key.digest:
            return "came back with other bytes"
    if it.missed:
        # This user may not give it all of that.
        return ""
    if stat_module.S_IMODE(found.st_mode) != was.mode:
        return "came back with another mode"
    return "" if found.st_mtime_ns == was.mtime_ns else "came back with another time"


def _clear(fs: FileOps, place: bytes) -> None:
    """Remove a scratch folder, also one that somebody who was killed has left."""
    try:
        with os.scandir(place) as entries:
            found = list(entries)
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                _clear(fs, entry.path)
            else:
                fs.unlink(entry.path)
        fs.rmdir(place)
    except FileNotFoundError:
        return
    except OSError as error:
        raise storage_error(error, "drill", os.fsdecode(place)) from error


def _note(engine: Engine, outcome: DrillOutcome) -> None:
    root_id, now_ns = outcome.repository.repository_id, engine.now_ns()
    before = next(
        (it for it in engine.registry.checks() if (it.what, it.subject) == (DRILL, root_id)), None
    )
    message = f"seed {outcome.seed}"
    if outcome.error is not None:
        message = str(outcome.error)
    elif outcome.failures:
        first = outcome.failures[0]
        message = f"{utf8_text(first.path)}, version {first.number}: {first.reason}; {message}"
    engine.registry.note_check(
        CheckNote(
            DRILL,
            root_id,
            now_ns,
            outcome.versions + len(outcome.failures),
            outcome.bytes,
            len(outcome.failures) + (outcome.error is not None),
            message,
            now_ns if outcome.ok else before.since_ns if before else 0,
        )
    )
