"""Hashes files by name, and says of each whether the digest belongs to what the disk shows.

A file is opened without following symlinks, fstat'ed, read to its end and lstat'ed by its name: the
digest counts only if all saw one and the same tuple (device, inode, size, mtime, ctime). `Hasher`
does this for the names of one directory; `hash_in_root` descends to directories component by
component, so that nothing outside the root is read. Every fault of a file is its own outcome; only
a root that cannot be opened and a cancellation end the work.

This module runs in the hash workers too, whose size and start-up are what it imports.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from lifecycle_sync.descent import Descent
from lifecycle_sync.errors import UsageError
from lifecycle_sync.fileops import FileOps, NotRegularFileError
from lifecycle_sync.observe.throttle import Throttle

if TYPE_CHECKING:
    from lifecycle_sync.clock import Clock
    from lifecycle_sync.model.record import HashResult, HashTask
    from lifecycle_sync.observe.checkpoints import Checkpoints, Seen
    from lifecycle_sync.observe.resumable import Sha256

# (status, digest, size, mtime_ns, ctime_ns, inode, racy, error): a `HashResult` without its row_id.
Outcome = tuple[str, bytes | None, int, int, int, int, bool, str | None]

# Up to here a file is read by one call into a fresh bytes object; for more, the allocation costs
# more than reading in pieces into a buffer that is there already.
_SMALL_BYTES = 64 << 10
_CHUNK_BYTES = 1 << 20
# From here on the hashing of a file is put down now and then, for another process to go on with.
RESUME_BYTES = 1 << 30
CHECKPOINT_SECONDS = 5.0
# After so many files the clock is read and a cancellation looked for.
_STEP_FILES = 64
# O_DIRECTORY | O_NOFOLLOW says ENOTDIR of a symlink on Linux, ELOOP elsewhere.
_NO_DIRECTORY = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_INT64_MAX = 2**63 - 1
_INT64_MIN = -(2**63)

_UNSTABLE: Outcome = ("unstable", None, 0, 0, 0, 0, False, None)
_VANISHED: Outcome = ("vanished", None, 0, 0, 0, 0, False, None)
_NOT_REGULAR: Outcome = ("not_regular", None, 0, 0, 0, 0, False, None)

_tuple_of: Callable[[os.stat_result], tuple[int, int, int, int, int]] = attrgetter(
    "st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns"
)


class Stoppable(Protocol):
    """What a `CancelToken` is to the hasher: `check` raises when the work is to stop."""

    def check(self) -> None: ...


def hash_constructor(algorithm: str) -> Callable[..., Any]:
    """What makes a new hash object, with `update` and `digest`, of "sha256" or "blake3".

    Raises `UsageError` for any other name, and for "blake3" where its package is missing.
    """
    if algorithm == "sha256":
        from hashlib import sha256

        return sha256
    if algorithm == "blake3":
        try:
            from blake3 import blake3
        except ImportError:
            raise UsageError(
                "the package blake3 is not installed",
                operation="hash files",
                subject=algorithm,
                remedy="pip install blake3, or choose sha256",
            ) from None
        return blake3
    raise UsageError(
        "no such hash algorithm",
        operation="hash files",
        subject=algorithm,
        remedy="choose sha256 or blake3",
    )


class Hasher:
    """Hashes the files of one directory after the other. Owns a buffer: one a thread.

    `margin_ns` is how much older than the look a time must be for its tuple to prove something.
    `on_bytes` is called with the bytes read since its last call: after each chunk of a large file,
    and once for some small ones. `cancel` is checked as often. No more than `bytes_per_second` are
    read, in the mean. With `checkpoints` the SHA-256 of a large file goes on where it was stopped.
    """

    def __init__(
        self,
        fs: FileOps,
        *,
        algorithm: str,
        margin_ns: int,
        clock: Clock,
        cancel: Stoppable,
        on_bytes: Callable[[int], None] | None = None,
        bytes_per_second: float | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self._fs = fs
        self._throttle = Throttle(bytes_per_second, cancel)
        self._checkpoints = checkpoints if algorithm == "sha256" else None
        self._new_hash = hash_constructor(algorithm)
        self._margin_ns = margin_ns
        self._clock = clock
        self._cancel = cancel
        self._on_bytes = on_bytes
        self._buffer = memoryview(b"")

    def hash_names(
        self, dir_fd: int, names: Sequence[bytes], *, drop_cache: bool = False
    ) -> list[Outcome]:
        """The outcome of each name, in order. Raises only what `cancel` raises.

        With `drop_cache` the clean pages of a file leave the page cache first, so that what is
        hashed comes from the disk.
        """
        outcomes: list[Outcome] = []
        for start in range(0, len(names), _STEP_FILES):
            self._cancel.check()
            step = names[start : start + _STEP_FILES]
            # Looked for in all at once, because in each it would take a twentieth of the time.
            if b"/" not in b"".join(step):
                self._hash_step(dir_fd, step, drop_cache, outcomes)
                continue
            for name in step:
                if b"/" in name:
                    outcomes.append(unreadable("not one component of a path"))
                else:
                    self._hash_step(dir_fd, [name], drop_cache, outcomes)
        return outcomes

    def _hash_step(
        self, dir_fd: int, names: Sequence[bytes], drop_cache: bool, outcomes: list[Outcome]
    ) -> None:
        # A small file takes 5 microseconds, of which looking up a method would be a part.
        fs, new_hash, append = self._fs, self._new_hash, outcomes.append
        open_read_stat, pread, stat, close = fs.open_read_stat, fs.pread, fs.stat, fs.close
        # Read before the first of some files: an early look can only call more of them racy.
        trusted_ns = self._clock.now_ns() - self._margin_ns
        small_bytes = 0
        for name in names:
            try:
                fd, opened = open_read_stat(name, dir_fd)
                try:
                    if drop_cache:
                        fs.drop_cache(fd)
                    observed = _tuple_of(opened)
                    _, inode, size, mtime_ns, ctime_ns = observed
                    digest = None
                    if size <= _SMALL_BYTES:
                        # One byte more than there should be shows a file that grows.
                        data = pread(fd, size + 1, 0)
                        if len(data) == size:
                            digest = new_hash(data).digest()
                            small_bytes += size
                    if digest is None:
                        # Large, or a short read, which need not be the end.
                        settled = max(mtime_ns, ctime_ns) <= trusted_ns
                        digest = self._digest(fd, observed, settled=settled)
                    # The second fstat of "fstat, read, fstat, lstat" is left out: where this
                    # lstat shows the inode and the tuple of the first fstat, an fstat between
                    # them could only have said the same; where it does not, the file is unstable
                    # anyway.
                    named = _tuple_of(stat(name, dir_fd=dir_fd, follow_symlinks=False))
                finally:
                    close(fd)
            except (OSError, ValueError) as error:
                append(failure(error))
                continue
            if digest is None or named != observed:
                append(_UNSTABLE)
                continue
            racy = mtime_ns > trusted_ns or ctime_ns > trusted_ns
            if inode > _INT64_MAX:
                inode -= 2**64
            if mtime_ns > _INT64_MAX or mtime_ns < _INT64_MIN or ctime_ns > _INT64_MAX:
                mtime_ns, ctime_ns = _clamp(mtime_ns), _clamp(ctime_ns)
            append(("ok", digest, size, mtime_ns, ctime_ns, inode, racy, None))
            if size > _SMALL_BYTES:
                # That took a while, and the files behind it must not all look racy.
                trusted_ns = self._clock.now_ns() - self._margin_ns
        if small_bytes:
            if self._on_bytes is not None:
                self._on_bytes(small_bytes)
            self._throttle.took(small_bytes)

    def _digest(
        self, fd: int, seen: tuple[int, int, int, int, int], *, settled: bool
    ) -> bytes | None:
        """The digest of a file that was seen with a tuple; None when it has more or fewer bytes.

        A file that grows is read to one byte past its size, not for ever. One that is not `settled`
        may change without its tuple telling: nobody goes on with it.
        """
        size = seen[2]
        if not self._buffer:
            self._buffer = memoryview(bytearray(_CHUNK_BYTES))
        buffer, preadv, on_bytes = self._buffer, self._fs.preadv, self._on_bytes
        long = self._long(seen) if settled and size >= RESUME_BYTES else None
        hashed = self._new_hash() if long is None else long.hashed
        position = 0 if long is None else long.position
        if position and on_bytes is not None:
            on_bytes(position)
        while position <= size:
            self._cancel.check()
            count = preadv(fd, [buffer[: size + 1 - position]], position)
            if count == 0:
                break
            hashed.update(buffer[:count])
            position += count
            if on_bytes is not None:
                on_bytes(count)
            self._throttle.took(count)
            if long is not None:
                long.note(position)
        digest: bytes = hashed.digest()
        if long is not None:
            long.done()
        return digest if position == size else None

    def _long(self, seen: tuple[int, int, int, int, int]) -> _Long | None:
        """A hash that can be put down; None where there is none to be had."""
        if self._checkpoints is None:
            return None
        # Only where there are such files: that costs a process some memory.
        from lifecycle_sync.observe.checkpoints import Seen
        from lifecycle_sync.observe.resumable import sha256

        file = Seen(*seen)
        position, state = self._checkpoints.load(file) or (0, None)
        hashed = sha256(state)
        return None if hashed is None else _Long(self._checkpoints, file, hashed, position)


class _Long:
    """The hashing of one large file, put down every few seconds."""

    def __init__(self, checkpoints: Checkpoints, file: Seen, hashed: Sha256, position: int) -> None:
        self.hashed = hashed
        self.position = position
        self._checkpoints = checkpoints
        self._file = file
        self._noted_at = monotonic()

    def note(self, position: int) -> None:
        now = monotonic()
        if now - self._noted_at >= CHECKPOINT_SECONDS and position % 64 == 0:
            self._noted_at = now
            self._checkpoints.save(self._file, position, self.hashed.state())

    def done(self) -> None:
        self._checkpoints.drop(self._file)


def hash_in_directory(
    fs: FileOps,
    dir_fd: int,
    tasks: Sequence[HashTask],
    *,
    algorithm: str,
    margin_ns: int,
    clock: Clock,
    drop_cache: bool = False,
    on_bytes: Callable[[int], None] | None = None,
    cancel: Stoppable,
) -> list[HashResult]:
    """Hash files of the one directory that `dir_fd` is open on. Parameters as in `Hasher`."""
    hasher = Hasher(
        fs,
        algorithm=algorithm,
        margin_ns=margin_ns,
        clock=clock,
        cancel=cancel,
        on_bytes=on_bytes,
    )
    names = [task.name for task in tasks]
    return results_of(tasks, hasher.hash_names(dir_fd, names, drop_cache=drop_cache))


def hash_file(
    fs: FileOps,
    root: bytes,
    path: bytes,
    *,
    algorithm: str,
    margin_ns: int,
    clock: Clock,
    on_bytes: Callable[[int], None] | None = None,
    cancel: Stoppable,
    row_id: int = 0,
) -> HashResult:
    """Hash one file by its path relative to `root`. Raises `OfflineError` without a root."""
    hasher = Hasher(
        fs,
        algorithm=algorithm,
        margin_ns=margin_ns,
        clock=clock,
        cancel=cancel,
        on_bytes=on_bytes,
    )
    directory, _, name = path.rpartition(b"/")
    (outcome,) = hash_in_root(fs, hasher, root, [(directory, [name])])
    from lifecycle_sync.model.record import HashResult

    return HashResult(row_id, *outcome)


def hash_in_root(
    fs: FileOps,
    hasher: Hasher,
    root: bytes,
    groups: Iterable[tuple[bytes, Sequence[bytes]]],
    *,
    drop_cache: bool = False,
) -> list[Outcome]:
    """The outcomes of (directory, names) groups, one after the other in one list.

    Directories are relative to `root`. Files of a directory that is gone, or is no directory any
    more, have vanished. Raises `OfflineError` when the root itself cannot be opened.
    """
    outcomes: list[Outcome] = []
    with Descent(fs, root) as descent:
        for directory, names in groups:
            try:
                dir_fd = descent.open(directory)
            except (OSError, ValueError) as error:
                # Not "not a regular file": it is a directory on the way that is something else.
                gone = isinstance(error, OSError) and error.errno in _NO_DIRECTORY
                outcomes += [_VANISHED if gone else failure(error)] * len(names)
                continue
            outcomes += hasher.hash_names(dir_fd, names, drop_cache=drop_cache)
    return outcomes


def results_of(tasks: Sequence[HashTask], outcomes: Sequence[Outcome]) -> list[HashResult]:
    """Tasks and their outcomes, in the same order, as results."""
    # Imported by whoever makes results; a worker does not, and is a tenth smaller without.
    from lifecycle_sync.model.record import HashResult

    row_ids = [task.row_id for task in tasks]
    columns = zip(*outcomes, strict=True)
    return list(map(HashResult._make, zip(row_ids, *columns, strict=True)))


def failure(error: Exception) -> Outcome:
    """The outcome of a file that could not be opened or read."""
    if isinstance(error, NotRegularFileError):
        return _NOT_REGULAR
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.ENOENT:
        return _VANISHED
    # What O_NOFOLLOW says of a symlink, and open of a socket.
    if code in (errno.ELOOP, errno.ENXIO):
        return _NOT_REGULAR
    return unreadable(os.strerror(code) if code is not None else str(error))


def unreadable(cause: str) -> Outcome:
    """The outcome of a file that is there and cannot be read, because of `cause`."""
    return ("unreadable", None, 0, 0, 0, 0, False, cause)


def _clamp(time_ns: int) -> int:
    return min(max(time_ns, _INT64_MIN), _INT64_MAX)
