"""The child that reads small files ahead of a backup: a fresh interpreter.

`python -m lifecycle_sync.act.ahead_worker PARENT_PID ALGORITHM MARGIN_NS`. Requests and answers are
marshal data behind a length of four bytes, and what they say of files stands column by column. A
request is (root, repository_id, at_ns, (paths, sizes, mtimes_ns, ctimes_ns, inodes, file_ids,
operation_ids, numbers, digests, policies, explicit, states)), where number and digest are of the
last version (0 and None without one) and state is what the file becomes. Its answer is the places
of whatever is not plain (another tuple, written just now, holes, attributes, an error), which the
parent then looks at by itself; and of the others what it takes to keep them: digests, sizes,
numbers of versions, their ids and lines, bytes stored, CRC-32s, members of a pack.

Files of one folder are read together, by the extension `_reading` where that could be built.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from itertools import groupby
from marshal import dumps, loads
from typing import Any, BinaryIO

from lifecycle_sync.act.metadata import group_name, user_name
from lifecycle_sync.clock import SystemClock
from lifecycle_sync.descent import Descent
from lifecycle_sync.extensions import extension
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.content import version_id
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.vault.events import PlainFile, encode_plain
from lifecycle_sync.vault.frames import FrameCompressor, key_of
from lifecycle_sync.vault.pack import packed

LENGTH_BYTES = 4
_BLOCK = 512
_STATES = {state.value: state for state in LifecycleState}
# What the extension was written for; one left over from another version has another.
_INTERFACE = 1
# Name, size, mtime_ns, ctime_ns, inode.
Recorded = tuple[bytes, int, int, int, int]
# The bytes, mode, atime_ns, links, owner, group.
Read = tuple[bytes, int, int, int, int, int]
Item = tuple[bytes, int, int, bytes, bytes, int, int, bytes]


def frame(message: Any) -> bytes:
    """A message as it goes over a pipe."""
    data = dumps(message)
    return len(data).to_bytes(LENGTH_BYTES, "little") + data


def receive(pipe: BinaryIO) -> bytes | None:
    """The next message, whole; None at the end."""
    size = int.from_bytes(_exactly(pipe, LENGTH_BYTES), "little")
    data = _exactly(pipe, size)
    return data if data and len(data) == size else None


def _exactly(pipe: BinaryIO, size: int) -> bytes:
    """So many bytes, or all there are: a pipe gives what it has."""
    data = pipe.read(size) or b""
    while 0 < len(data) < size:
        more = pipe.read(size - len(data))
        if not more:
            break
        data += more
    return data


class _Reading:
    def __init__(self, algorithm: str, margin_ns: int) -> None:
        self._fs = FileOps()
        self._clock = SystemClock()
        self._compressor = FrameCompressor()
        self._algorithm = algorithm
        self._margin_ns = margin_ns

    def answer(
        self, request: tuple[bytes, bytes, int, Sequence[Any]]
    ) -> tuple[list[int], list[Any]]:
        root, repository_id, at_ns, columns = request
        paths, sizes, mtimes, ctimes, inodes, *others = columns
        folders, _, names = zip(*[path.rpartition(b"/") for path in paths], strict=True)
        files = list(zip(names, sizes, mtimes, ctimes, inodes, strict=True))
        repository = repository_id.hex()
        odd: list[int] = []
        found: list[Item] = []
        try:
            descent = Descent(self._fs, root)
        except Exception:  # noqa: BLE001 - whatever it is, the parent meets it and says so
            return list(range(len(files))), []
        with descent:
            start = 0
            for folder, group in groupby(folders):
                end = start + len(list(group))
                reads = self._read_some(descent, folder, files[start:end])
                told = zip(*(column[start:end] for column in (paths, *others)), strict=True)
                for at, (file, read, it) in enumerate(
                    zip(files[start:end], reads, told, strict=True), start
                ):
                    if read is None:
                        odd.append(at)
                    else:
                        found.append(self._item(read, file, it, repository, at_ns))
                start = end
        return odd, list(zip(*found, strict=True))

    def _read_some(
        self, descent: Descent, folder: bytes, files: list[Recorded]
    ) -> list[Read | None]:
        """Read plain files of one folder; None for whatever is not as it was recorded."""
        try:
            dir_fd = descent.open(folder)
        except (OSError, ValueError):
            return [None] * len(files)
        trusted_ns = self._clock.now_ns() - self._margin_ns
        native = _native()
        if native is not None:
            reads: list[Read | None] = native.read_plain(dir_fd, files, trusted_ns)
            return reads
        return [self._read(dir_fd, file, trusted_ns) for file in files]

    def _read(self, dir_fd: int, file: Recorded, trusted_ns: int) -> Read | None:
        """What `_reading.read_plain` finds of each file."""
        name, size, mtime_ns, ctime_ns, inode = file
        if mtime_ns > trusted_ns or ctime_ns > trusted_ns:
            return None
        fs = self._fs
        wanted = (inode, size, mtime_ns, ctime_ns)
        try:
            fd, status = fs.open_read_stat(name, dir_fd)
            try:
                if (
                    wanted != _identity(status)
                    or status.st_blocks * _BLOCK < size
                    or fs.list_xattrs(fd)
                ):
                    return None
                data = fs.pread(fd, size + 1, 0)
                # By its name: the same inode with the same times, so nobody wrote into it.
                after = fs.stat(name, dir_fd=dir_fd, follow_symlinks=False)
            finally:
                fs.close(fd)
        except OSError:
            return None
        if len(data) != size or wanted != _identity(after) or after.st_dev != status.st_dev:
            return None
        return (
            data,
            status.st_mode & 0o7777,
            status.st_atime_ns,
            status.st_nlink,
            status.st_uid,
            status.st_gid,
        )

    def _item(
        self, read: Read, file: Recorded, told: tuple[Any, ...], repository: str, at_ns: int
    ) -> Item:
        data, mode, atime_ns, nlink, uid, gid = read
        _, size, mtime_ns, ctime_ns, inode = file
        path, file_id, operation_id, number, digest, policy, explicit, state = told
        key = key_of(self._algorithm, data)
        if digest != key.digest:
            number += 1
        version = version_id(file_id, number, key)
        plain = PlainFile(
            size,
            mtime_ns,
            ctime_ns,
            atime_ns,
            inode,
            nlink,
            mode,
            uid,
            gid,
            user_name(uid),
            group_name(gid),
        )
        line = encode_plain(
            plain,
            file_id=file_id,
            repository=repository,
            path=path,
            number=number,
            version_id=version,
            content=key,
            policy=policy,
            explicit=explicit,
            state=_STATES[state],
            at_ns=at_ns,
            operation_id=operation_id,
        )
        it = packed(key, size, self._compressor.frame(data))
        return key.digest, size, number, version, line, it.stored, it.check, it.data


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _native() -> Any:
    return extension("lifecycle_sync.act._reading", _INTERFACE)


def main(arguments: list[str]) -> None:
    """Serve the parent that the arguments name."""
    parent_pid, algorithm, margin_ns = arguments
    # Whoever stops a whole group of processes means the parent, which then decides.
    for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signal_number, signal.SIG_IGN)
    reading = _Reading(algorithm, int(margin_ns))
    while os.getppid() == int(parent_pid):
        data = receive(sys.stdin.buffer)
        if data is None:
            return
        # From our own parent, over a pipe that nobody else writes to.
        request = loads(data)  # noqa: S302
        try:
            sys.stdout.buffer.write(frame(reading.answer(request)))
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
