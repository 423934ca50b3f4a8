"""One pass over a folder of temporary files, in batches: found, judged by whoever asks, discarded.

The folder is read as a stream and never as a whole, so memory does not grow with it. A file is
looked at once more at the moment it goes: if its inode, size or mtime is no longer what was judged,
or somebody has it open for writing, or a living process has leased it, it stays.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, islice
from typing import NamedTuple

from lifecycle_sync.act.disposal import Discarded, discard, discard_judged, failure
from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.decide.job_names import JobNames
from lifecycle_sync.descent import Descent
from lifecycle_sync.errors import OfflineError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.repository import MARKER_NAME, PRIVATE_DIRECTORY
from lifecycle_sync.model.temp import TempFile
from lifecycle_sync.service.temp.leases import leased

_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
_LOOKED_AT = 256
_MARKER = PRIVATE_DIRECTORY + b"/" + MARKER_NAME
# What a vault has.
_VAULT = (b"FORMAT", b"manifests")
# So many files are unlinked by one thread to see how it goes, and more threads take part where less
# than this share of its time was work.
_PROBE = 256
# So many files go between two looks at the holds: within a millisecond or so. Where nobody can set
# any, so many go at once.
_TOGETHER, _WITHOUT_HOLDS = 64, 256
_WAITING_SHARE = 0.5

_log = logging.getLogger("lifecycle_sync.temp")

# Whether a path (absolute, as bytes) is held, and must stay whatever happens. One with a method
# `refresh` is asked by that to take up what was said since, right before files go.
Held = Callable[[bytes], bool]


class Condemned(NamedTuple):
    """A file that is to go, and why. One that was `ordered` by name is not asked for its age."""

    file: TempFile
    reason: str
    ordered: bool = False


# What came of a file.
Told = Callable[[Condemned, Discarded], None]


class Sweep:
    """The files below one folder. Thread-safe but for `batches`, which is one caller's."""

    def __init__(
        self,
        fs: FileOps,
        base: bytes,
        names: JobNames,
        *,
        held: Held | None = None,
        writers_unknown: bool = False,
        cancel: CancelToken | None = None,
    ) -> None:
        self._fs = fs
        self._base = base
        self._names = names
        self._held = held
        self._writers_unknown = writers_unknown
        self.cancel = cancel or CancelToken()
        self.scanned = 0
        # Whether the part in C unlinks, which leaves the interpreter to others.
        self.unlinks_alone = fs.unlink_judged(-1, ()) is not None
        self._waits = False
        self.errors: list[str] = []
        self._leased = leased(fs, os.fsdecode(base))

    # -- finding ---------------------------------------------------------------------------

    def batches(self, size: int) -> Iterator[list[TempFile]]:
        """All regular files, but for our own, `size` at a time. Folders that cannot be read are
        errors; symlinks are not followed, and other filesystems not entered."""
        files = self.files()
        while batch := list(islice(files, size)):
            yield batch
            if self.cancel.cancelled:
                return

    def files(self) -> Iterator[TempFile]:
        """The same, one by one."""
        count = 0
        try:
            descent = Descent(self._fs, self._base)
        except OfflineError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return  # nobody has put anything there yet
            raise
        with descent:
            waiting = [b""]
            while waiting and not self.cancel.cancelled:
                folder = waiting.pop()
                try:
                    # Its own descriptor: the shared one goes elsewhere between two batches.
                    fd = self._fs.open_directory(b".", descent.open(folder))
                except OSError as error:
                    self._failed(folder, failure(error).reason)
                    continue
                try:
                    if folder and self._is_anothers(fd, folder):
                        continue
                    for some in self._in(fd, folder, descent.device, waiting):
                        count += len(some)
                        # A clean-up may go over the folder twice.
                        self.scanned = max(self.scanned, count)
                        yield from some
                except OSError as error:
                    self._failed(folder, failure(error).reason)
                finally:
                    self._fs.close(fd)

    def _is_anothers(self, fd: int, folder: bytes) -> bool:
        """Whether a folder is a root under management, a vault, or a folder of temporary files in
        its own right: what lies in it is no temporary file of this one."""
        if self._has(fd, _MARKER) or all(self._has(fd, it) for it in _VAULT):
            self._failed(folder, "it is a root or a vault, and stays as it is")
            return True
        # It has leases of its own, which say who works there.
        return self._has(fd, PRIVATE_DIRECTORY)

    def _has(self, fd: int, name: bytes) -> bool:
        try:
            self._fs.stat(name, dir_fd=fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def _in(
        self, fd: int, folder: bytes, device: int, waiting: list[bytes]
    ) -> Iterator[list[TempFile]]:
        with os.scandir(fd) as entries:
            while some := list(islice(entries, _LOOKED_AT)):
                texts: list[str] = []
                for entry in some:
                    if entry.is_file(follow_symlinks=False):
                        texts.append(entry.name)
                    elif entry.is_dir(follow_symlinks=False):
                        name = os.fsencode(entry.name)
                        if folder or name != PRIVATE_DIRECTORY:
                            waiting.append(folder + b"/" + name if folder else name)
                yield self._looked_at(fd, folder, device, texts)

    def _looked_at(
        self, fd: int, folder: bytes, device: int, texts: Iterable[str]
    ) -> list[TempFile]:
        """Those of some names in an open folder that are regular files on its filesystem."""
        names = [text.encode(_ENCODING, _ERRORS) for text in texts]
        parse = self._names.parse
        files: list[TempFile] = []
        for name, text, found in zip(names, texts, self._fs.look(fd, names), strict=True):
            if isinstance(found, int):
                if found != errno.ENOENT:
                    self._failed(
                        folder + b"/" + name if folder else name,
                        failure(OSError(found, os.strerror(found))).reason,
                    )
                continue
            mode, size, blocks, mtime_ns, on, inode, links = found
            if on == device and stat.S_ISREG(mode):
                owner = parse(text) or ()
                files.append(
                    TempFile(folder, name, size, blocks, mtime_ns, on, inode, links, *owner)
                )
        return files

    def named(self, names: Iterable[bytes]) -> Iterator[TempFile]:
        """The files of exactly these names, right in the folder."""
        try:
            descent = Descent(self._fs, self._base)
        except OfflineError:
            return
        with descent:
            texts = [os.fsdecode(name) for name in names]
            for file in self._looked_at(descent.root_fd, b"", descent.device, texts):
                self.scanned += 1
                yield file

    # -- what must stay --------------------------------------------------------------------

    def kept(self, file: TempFile) -> str:
        """Why a file must stay whoever it belongs to; empty where it may go."""
        if (file.device, file.inode) in self._leased:
            return "a living process has leased it"
        if self._held is not None and self._held(os.path.join(self._base, file.path)):
            return "a hold is on it"
        return ""

    # -- discarding ------------------------------------------------------------------------

    def discard(
        self,
        condemned: Iterable[Condemned],
        told: Told,
        *,
        workers: int = 1,
        enough: Callable[[], bool] | None = None,
    ) -> None:
        """Unlink them, in the order given, by that many threads at most: by one where it is seldom
        the disk that is waited for. Before each file a thread asks whether it is `enough`, and then
        none takes another. `told` is called in one thread at a time."""
        waiting = iter(condemned)
        if workers <= 1 or not self._waits:
            self.probe(islice(waiting, None if workers <= 1 else _PROBE), told, enough)
            if workers <= 1 or not self._waits:
                self._discard_all(waiting, told, enough)
                return
        taking, telling = threading.Lock(), threading.Lock()
        stop = threading.Event()

        def each() -> Iterator[Condemned]:
            while True:
                with taking:
                    if stop.is_set() or self.cancel.cancelled:
                        return
                    if enough is not None and enough():
                        stop.set()
                        return
                    one = next(waiting, None)
                if one is None:
                    return
                yield one

        def tell(one: Condemned, done: Discarded) -> None:
            with telling:
                told(one, done)

        def work() -> None:
            try:
                # Each file is asked for only when the one before has gone.
                self._discard_all(each(), tell, None, one_by_one=True)
            except BaseException:
                stop.set()
                raise

        with ThreadPoolExecutor(workers, "lifecycle-sweep") as pool:
            for ending in [pool.submit(work) for _ in range(workers)]:
                ending.result()

    def probe(
        self,
        condemned: Iterator[Condemned],
        told: Told,
        enough: Callable[[], bool] | None = None,
    ) -> bool:
        """Unlink some, and see whether more than half of the time is waited."""
        begun, cpu = time.perf_counter(), time.thread_time()
        self._discard_all(condemned, told, enough)
        wall = time.perf_counter() - begun
        self._waits = time.thread_time() - cpu < wall * _WAITING_SHARE
        return self._waits

    def all_of(self, condemned: Sequence[Condemned]) -> list[tuple[Condemned, Discarded]]:
        """Unlink them in this thread; what came of each that was tried."""
        done: list[tuple[Condemned, Discarded]] = []
        self._discard_all(iter(condemned), lambda one, came: done.append((one, came)), None)
        return done

    def _discard_all(
        self,
        condemned: Iterator[Condemned],
        told: Told,
        enough: Callable[[], bool] | None,
        *,
        one_by_one: bool = False,
    ) -> None:
        # What is enough is asked after each one. Holds are asked for right before the files go: of
        # those who cannot take them up again for many, for each.
        refresh = getattr(self._held, "refresh", None)
        each = one_by_one or enough is not None or (self._held is not None and refresh is None)
        together = _WITHOUT_HOLDS if self._held is None else _TOGETHER
        with Descent(self._fs, self._base) as descent:
            while not self.cancel.cancelled and not (enough is not None and enough()):
                some = list(islice(condemned, 1 if each else together))
                if not some:
                    return
                if refresh is not None:
                    refresh()
                for folder, group in groupby(some, _folder):
                    try:
                        fd = descent.open(folder)
                    except OSError as error:
                        for one in group:
                            told(one, failure(error))
                        continue
                    self._discard_in(fd, group, told)

    def _discard_in(self, fd: int, group: Iterable[Condemned], told: Told) -> None:
        """Unlink some files of one folder."""
        going: list[Condemned] = []
        kept = self.kept if self._leased or self._held is not None else None
        for one in group:
            reason = "" if kept is None else kept(one.file)
            if reason:
                told(one, Discarded(False, reason))
            elif one.ordered:
                # An order names files; a sweep meets them, and is careful.
                file = one.file
                this = (file.device, file.inode)
                told(one, discard(self._fs, fd, file.name, expected=this, regular=True))
            else:
                going.append(one)
        files = [
            (name, (device, inode, size, mtime_ns))
            for (_, name, size, _, mtime_ns, device, inode, *_), _, _ in going
        ]
        done = discard_judged(
            self._fs, fd, files, writers_unknown=self._writers_unknown, cancel=self.cancel
        )
        for one, came_of_it in zip(going, done, strict=False):
            told(one, came_of_it)

    def _failed(self, path: bytes, reason: str) -> None:
        message = f"{os.fsdecode(os.path.join(self._base, path))}: {reason}"
        self.errors.append(message)
        _log.error("%s", message)


def _folder(one: Condemned) -> bytes:
    return one.file.folder


def jobs_of(batch: Iterable[TempFile]) -> set[str]:
    """The ids of all jobs that the names of these files speak of."""
    return {job for file in batch for job in (file.job_id, *file.perhaps) if job is not None}
