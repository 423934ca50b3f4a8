"""Brings files into a vault: read, packed and committed, for a backup and for an archive.

A file that is not what its record says is left to the next scan. A version is made only where the
content differs from the last one; otherwise it is recorded that this was checked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple, Self

from lifecycle_sync.act.ahead import Plain, Wanted, windows
from lifecycle_sync.act.breaker import BROKEN, OF_THE_DISK
from lifecycle_sync.act.reading import NotAsRecorded, Read, Reader
from lifecycle_sync.act.site import SKIPPED, Results, Site, note
from lifecycle_sync.errors import CancelledError
from lifecycle_sync.model.act import ActFile, ActOutcome, RecordChange, VersionRow
from lifecycle_sync.model.content import ContentKey, version_id
from lifecycle_sync.model.event import Event, VersionEvent
from lifecycle_sync.model.file import FileFlag, LifecycleState
from lifecycle_sync.model.many import many
from lifecycle_sync.vault.events import VersionLine
from lifecycle_sync.vault.pack import Packed
from lifecycle_sync.vault.vault import Vault

_SUSPECT = FileFlag.SUSPECT.value
_LAST_NUMBER, _CHECKSUM, _DIGEST, _PATH = map(
    attrgetter, ("last_number", "checksum", "digest", "path")
)
_STOPPED = "asked to stop"
# How much is read before the vault is asked what it has of it.
_WINDOW_FILES = 512
_WINDOW_BYTES = 4 << 20


class Kept(NamedTuple):
    """A file whose content is in the vault: `event` is None where its last version holds it."""

    operation_id: bytes
    file: ActFile
    key: ContentKey | None
    event: VersionEvent | VersionLine | None


class Keeping:
    """Brings files into one vault: `read` them, then `commit`; what goes wrong with one of them is
    told in `results`. A context manager, for one thread at a time.

    `state` is what the versions say the files become (None: they stay what they are); `always`
    makes a version although the last one has the same content (a second vault has not). `stored`
    are the digests of contents that others, who commit before, have brought into the vault; where
    it was `empty` before those, nobody is asked what else is in it.
    """

    def __init__(
        self,
        site: Site,
        vault: Vault,
        results: Results,
        *,
        state: LifecycleState | None,
        always: bool = False,
        stored: set[bytes] | None = None,
        empty: bool = False,
    ) -> None:
        self._site = site
        self._vault = vault
        self._results = results
        self._state = state
        self._always = always
        self._empty = empty
        self._writer = vault.writer()
        self._window: list[tuple[bytes, ActFile, Read | Plain]] = []
        self._window_bytes = 0
        self._stored: set[bytes] = set() if stored is None else stored
        self.kept: list[Kept] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """What was not committed is given up. Calling it again does nothing."""
        self._writer.close()

    def read(self, ordered: Sequence[Wanted]) -> None:
        """Read files and store what is new of them."""
        with Reader(self._site, self._writer) as reader:
            for part, answers in self._ahead(ordered):
                stops = self._site.cancel.cancelled or self._site.breaker.tripped
                if stops or None in answers:
                    self._read_some(part, answers, stops, reader)
                    continue
                # There are many of them, and most were read ahead.
                self._window += [
                    (*wanted, plain) for wanted, plain in zip(part, answers, strict=True) if plain
                ]
                self._site.told.advance(len(part), sum([file.size for _, file in part]))
                self._wait(sum([it.packed.stored for it in answers if it]))
            self._take_window()

    def _read_some(
        self,
        part: Sequence[Wanted],
        answers: Sequence[Plain | None],
        stops: bool,
        reader: Reader,
    ) -> None:
        files = size = stored = 0
        for (operation_id, file), plain in zip(part, answers, strict=True):
            if plain is None or stops:
                self._read(operation_id, file, reader)
                continue
            self._window.append((operation_id, file, plain))
            files += 1
            size += file.size
            stored += plain.packed.stored
        self._site.told.advance(files, size)
        self._wait(stored)

    def commit(self) -> str | None:
        """The name of the manifest, None where there was nothing to tell."""
        site = self._site
        _, files, _, made = zip(*self.kept, strict=True) if self.kept else ((),) * 4
        events: list[Event | VersionLine] = [it for it in made if it is not None]
        folders = {path.rpartition(b"/")[0] for path in map(_PATH, files)}
        directories = site.directories(self._vault)
        news = directories.news(site, folders) if folders else []
        if not (events or news):
            return None
        manifest = site.commit(self._vault, self._writer, [*news, *events])
        directories.told(news)
        return manifest

    def _ahead(
        self, ordered: Sequence[Wanted]
    ) -> Iterator[tuple[Sequence[Wanted], Sequence[Plain | None]]]:
        """The files in parts, and what was read of each of them ahead, if anything was."""
        ahead = self._site.ahead
        if ahead is None:
            yield ordered, [None] * len(ordered)
            return
        under_way: deque[Sequence[Wanted]] = deque()
        for part in windows(ordered):
            if not ahead.has_room:
                yield under_way.popleft(), ahead.answer()
            ahead.ask(part, self._state, self._site.now_ns())
            under_way.append(part)
        while under_way:
            yield under_way.popleft(), ahead.answer()

    def _read(self, operation_id: bytes, file: ActFile, reader: Reader) -> None:
        site = self._site
        if site.cancel.cancelled:
            self._results.skip(operation_id, file, _STOPPED)
            return
        if site.breaker.tripped:
            self._results.skip(operation_id, file, BROKEN)
            return
        try:
            read = reader.read(file)
            self._window.append((operation_id, file, read))
            self._wait(len(read.data or b""))
        except NotAsRecorded as reason:
            self._results.skip(operation_id, file, str(reason))
        except CancelledError:
            self._results.skip(operation_id, file, _STOPPED)
        except OSError as error:
            reason_text = (error.strerror or str(error)).lower()
            self._results.fail(operation_id, file, f"cannot be read ({reason_text})")
            if error.errno in OF_THE_DISK:
                site.breaker.count()
        site.told.advance(1, 0)

    def _wait(self, size: int) -> None:
        """Contents are looked up in the vault many at a time."""
        self._window_bytes += size
        if len(self._window) >= _WINDOW_FILES or self._window_bytes >= _WINDOW_BYTES:
            self._take_window()

    def _take_window(self) -> None:
        window, self._window, self._window_bytes = self._window, [], 0
        known = set[ContentKey]()
        if not self._empty:
            keys = [read.key for _, _, read in window if read.key is not None]
            known = self._vault.contains(keys)
        if window and self._take_new(window, known):
            return
        stored, always, packs = self._stored, self._always, list[Packed]()
        kept = list[tuple[bytes, ActFile, ContentKey | None, VersionEvent | VersionLine | None]]()
        for operation_id, file, read in window:
            key = read[0]
            again = False
            if key is not None:
                if (
                    file.checksum is not None
                    and key[1] != file.checksum
                    and key.algorithm == file.algorithm
                    and not file.hash_due
                ):
                    # Nobody wrote it, as far as the filesystem knows: not a change but damage.
                    self._suspect(operation_id, file)
                    continue
                # The content of its last version: in another vault it has the same number.
                if file.last_number:
                    again = (file.last_algorithm, file.last_checksum) == key
                if key not in known and key[1] not in stored:
                    if type(read) is Plain:
                        packs.append(read.packed)
                        stored.add(key[1])
                    elif isinstance(read, Read) and read.data is not None:
                        self._writer.add(key, read.data, again=True)
                        stored.add(key[1])
            event: VersionEvent | VersionLine | None = None
            if not again or always or key not in known:
                if isinstance(read, Plain):
                    event = read.version
                else:
                    event = self._version(operation_id, file, read, again=again)
            # The bytes are the writer's now.
            kept.append((operation_id, file, key, event))
        self.kept += many(Kept, kept)
        self._writer.add_packed(self._site.algorithm, packs)

    def _take_new(
        self, window: Sequence[tuple[bytes, ActFile, Read | Plain]], known: set[ContentKey]
    ) -> bool:
        """Take a window in which there is nothing but plain files that no version is of yet, which
        is most of a first backup, with little to do for each; False where it is another one."""
        operation_ids, files, reads = zip(*window, strict=True)
        if any(map(_LAST_NUMBER, files)) or set(map(type, reads)) != {Plain}:
            return False
        keys, contents, versions = zip(*reads, strict=True)
        checksums = list(map(_CHECKSUM, files))
        if checksums != list(map(_DIGEST, keys)) and any(checksums):
            return False
        stored, packs = self._stored, list[Packed]()
        for key, content in zip(keys, contents, strict=True):
            if key[1] not in stored and key not in known:
                stored.add(key[1])
                packs.append(content)
        self.kept += many(Kept, zip(operation_ids, files, keys, versions, strict=True))
        self._writer.add_packed(self._site.algorithm, packs)
        return True

    def _suspect(self, operation_id: bytes, file: ActFile) -> None:
        reason = "its content changed and its times did not (suspect); earlier versions are kept"
        change = RecordChange(file.file_id, expected=file.fingerprint, set_flags=_SUSPECT)
        outcome = ActOutcome(operation_id, SKIPPED, note(reason=reason), change)
        self._results.add(file, outcome, reason)

    def _version(
        self,
        operation_id: bytes,
        file: ActFile,
        read: Read,
        *,
        again: bool,
    ) -> VersionEvent:
        number = file.last_number if again else file.last_number + 1
        return VersionEvent(
            file_id=file.file_id,
            repository_id=self._site.repository_id,
            path=file.path,
            number=number,
            version_id=version_id(file.file_id, number, read.key),
            content=read.key,
            metadata=read.metadata,
            policy_name=file.policy_name,
            policy_explicit=file.policy_explicit,
            state=self._state or file.state,
            at_ns=self._site.now_ns(),
            operation_id=operation_id,
        )


def location(vault: Vault, manifest: str | None) -> str:
    """Where in which vault a version is told of, as its row has it."""
    return f"{vault.store_id.hex()}/{manifest}" if manifest else vault.store_id.hex()


def content_place(vault: Vault, key: ContentKey | None) -> str:
    """Where in which vault a file's bytes lie, as `backup_path` and `archive_path` have it."""
    return f"{vault.store_id.hex()}/{key}" if key else vault.store_id.hex()


def version_row(
    file: ActFile, event: VersionEvent | VersionLine | None, where: str
) -> VersionRow | None:
    """The row that the registry keeps of a version; None where it has it already."""
    if event is None or event.number <= file.last_number:
        return None
    key = event.content
    size, mtime_ns = file.size, file.mtime_ns
    if not isinstance(event, VersionLine):
        size, mtime_ns = event.metadata.size, event.metadata.mtime_ns
    algorithm, digest = key or ("sha256", None)
    return VersionRow(
        event.version_id, event.number, algorithm, digest, size, mtime_ns, event.at_ns, where
    )


def fail_the_rest(results: Results, ordered: Sequence[tuple[bytes, ActFile]], reason: str) -> None:
    """No manifest tells of them: whatever was read, none of them is backed up."""
    told = {outcome.operation_id for outcome in results.outcomes}
    for operation_id, file in ordered:
        if operation_id not in told:
            results.fail(operation_id, file, reason)
