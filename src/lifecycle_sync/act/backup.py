"""Keeps versions of files in a vault: a backup.

intent -> read, pack -> packs and objects durable -> manifest, the commit point -> outcome. Of many
files several parts are under way, in three threads: one is read, the one before is made durable,
and the journal learns what came of the one before that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import repeat
from operator import attrgetter

from lifecycle_sync.act.keeping import (
    Keeping,
    Kept,
    content_place,
    fail_the_rest,
    location,
    version_row,
)
from lifecycle_sync.act.site import (
    COMPLETED,
    Done,
    Ordered,
    Results,
    Site,
    intend,
    note,
)
from lifecycle_sync.errors import LifecycleError
from lifecycle_sync.model.act import UNSET, ActFile, ActOutcome, RecordChange, VersionRow
from lifecycle_sync.model.event import VersionEvent
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.model.many import many
from lifecycle_sync.model.observation import Fingerprint
from lifecycle_sync.vault.events import VersionLine
from lifecycle_sync.vault.vault import Vault

_UNCHANGED = "unchanged since its last version"
_UNCHANGED_DETAILS = note(result=_UNCHANGED)
_FILE_ID, _PATH, _SIZE, _MTIME, _LAST_NUMBER = map(
    attrgetter, ("file_id", "path", "size", "mtime_ns", "last_number")
)


def back_up(site: Site, parts: Iterable[list[ActFile]]) -> Iterator[list[Done]]:
    """Back up files of one root, each part with a manifest of its own; what became of each part.

    Raises what concerns the vault as a whole (full, damaged, unreachable), after the journal says
    so of every file that was begun.
    """
    # First: with no vault to be had nothing is begun.
    vault = site.vaults.backup()
    coming = iter(parts)
    first = next(coming, None)
    if first is None:
        return
    second = next(coming, None)
    if second is None:
        part = _Part(site, vault, first)
        part.read()
        part.commit()
        yield part.record()
        return
    with (
        ThreadPoolExecutor(1, "lifecycle-journal") as journal,
        ThreadPoolExecutor(1, "lifecycle-commit") as committer,
    ):
        yield from _InTurn(site, vault, journal, committer).run([first, second], coming)


class _InTurn:
    """Many parts, several of them under way, each step of them in order: while this thread reads
    one, one thread commits the one before, and another, the only one that writes to the journal,
    records what came of the one before that, and writes the intents of the next."""

    def __init__(
        self, site: Site, vault: Vault, journal: ThreadPoolExecutor, committer: ThreadPoolExecutor
    ) -> None:
        self._site = site
        self._vault = vault
        self._journal = journal
        self._committer = committer
        self._stored: set[bytes] = set()
        self._empty = vault.is_empty()
        # Parts with their intents, not yet read; read, until they are committed; and after that.
        self._begun: deque[Future[_Part]] = deque()
        self._committing: tuple[_Part, Future[None]] | None = None
        self._recording: Future[list[Done]] | None = None

    def run(
        self, first: list[list[ActFile]], coming: Iterator[list[ActFile]]
    ) -> Iterator[list[Done]]:
        """The parts that are there, and those that come."""
        for files in first:
            self._begin(files)
        try:
            while self._begun:
                part = self._begun[0].result()
                part.read()
                yield from self._settle()
                self._committing = part, self._committer.submit(part.commit)
                self._begun.popleft()
                stop = self._site.cancel.cancelled or self._site.breaker.tripped
                files_after = None if stop else next(coming, None)
                if files_after is not None:
                    self._begin(files_after)
            yield from self._settle()
            yield from self._settle()
        except BaseException as error:
            self._end(error)
            raise

    def _end(self, error: BaseException) -> None:
        """Of the parts before the one that failed the journal learns what came of them; what was
        begun after it is not done either."""
        if self._committing is not None:
            part, committed = self._committing
            if committed.exception() is None:
                self._journal.submit(part.record)
        for future in self._begun:
            if future.exception() is None:
                future.result().fail(error)

    def _begin(self, files: list[ActFile]) -> None:
        self._begun.append(
            self._journal.submit(
                _Part, self._site, self._vault, files, self._stored, empty=self._empty
            )
        )

    def _settle(self) -> Iterator[list[Done]]:
        """Wait for the part that is recorded, and for the one that is committed, which then is
        recorded."""
        recording, self._recording = self._recording, None
        committing, self._committing = self._committing, None
        if committing is not None:
            part, committed = committing
            committed.result()
            self._recording = self._journal.submit(part.record)
        if recording is not None:
            yield recording.result()


class _Part:
    """Files whose intents stand in the journal."""

    def __init__(
        self,
        site: Site,
        vault: Vault,
        files: list[ActFile],
        stored: set[bytes] | None = None,
        *,
        empty: bool = False,
    ) -> None:
        """Writes the intents. `stored` are the digests of what parts before this one have stored,
        into a vault that may have been `empty` before."""
        self._site = site
        self._vault = vault
        self._ordered: Ordered = intend(site, "backup", files, unless_held=False)
        self._results = Results(self._ordered.refused)
        self._manifest: str | None = None
        self._keeping = Keeping(
            site,
            vault,
            self._results,
            state=LifecycleState.BACKUP_COMPLETE,
            stored=stored,
            empty=empty,
        )

    def read(self) -> None:
        try:
            self._keeping.read(self._ordered.files)
        except BaseException as error:
            self.fail(error)
            raise

    def commit(self) -> None:
        """Make it durable in the vault: from then on all of it is backed up."""
        with self._keeping as keeping:
            try:
                self._manifest = keeping.commit()
            except BaseException as error:
                self.fail(error)
                raise

    def record(self) -> list[Done]:
        """Tell the journal of what the vault was told."""
        return _backed_up(
            self._site, self._vault, self._keeping.kept, self._results, self._manifest
        )

    def fail(self, error: BaseException) -> None:
        """None of these files is backed up, and the journal is told why; what is no error of the
        vault's or the registry's is left to recovery. Again it does nothing more."""
        self._keeping.close()
        if isinstance(error, LifecycleError | OSError):
            fail_the_rest(self._results, self._ordered.files, str(error))
            self._results.finish(self._site, [])


def _backed_up(
    site: Site, vault: Vault, kept: list[Kept], results: Results, manifest: str | None
) -> list[Done]:
    """Tell the journal of what a manifest tells."""
    where = location(vault, manifest)
    algorithm, place = site.algorithm, f"{vault.store_id.hex()}/{site.algorithm}:"
    complete, no_content = LifecycleState.BACKUP_COMPLETE, content_place(vault, None)
    # Column by column: there are many of them.
    operation_ids, files, keys, events = zip(*kept, strict=True) if kept else ((),) * 4
    digests = [key and key.digest for key in keys]
    places = [place + digest.hex() if digest else no_content for digest in digests]
    changes = zip(
        map(_FILE_ID, files),
        repeat(complete),
        many(Fingerprint, [file[3:8] for file in files]),
        repeat(None),
        repeat(None),
        digests,
        repeat(algorithm),
        places,
        repeat(UNSET),
        _version_rows(files, events, where),
        repeat(0),
        repeat(0),
        repeat(None),
    )
    details = [f'{{"version":{it.number}}}' if it else _UNCHANGED_DETAILS for it in events]
    outcomes = zip(operation_ids, repeat(COMPLETED), details, many(RecordChange, changes))
    reasons = ["" if it else _UNCHANGED for it in events]
    done = zip(
        map(_FILE_ID, files), map(_PATH, files), repeat(COMPLETED), reasons, map(_SIZE, files)
    )
    results.extend(many(ActOutcome, outcomes), many(Done, done))
    return results.finish(site, [(vault.store_id, manifest)] if manifest else [])


def _version_rows(
    files: Sequence[ActFile], events: Sequence[VersionEvent | VersionLine | None], where: str
) -> Iterable[VersionRow | None]:
    """`version_row` of each."""
    if set(map(type, events)) != {VersionLine} or any(map(_LAST_NUMBER, files)):
        return [version_row(file, it, where) for file, it in zip(files, events, strict=True)]
    numbers, version_ids, keys, at_ns, _ = zip(*events, strict=True)
    algorithms, digests = zip(*keys, strict=True)
    sizes, mtimes = map(_SIZE, files), map(_MTIME, files)
    return many(
        VersionRow,
        zip(version_ids, numbers, algorithms, digests, sizes, mtimes, at_ns, repeat(where)),
    )
