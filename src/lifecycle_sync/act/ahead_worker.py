"""The child that reads small files ahead of a backup: a fresh interpreter.

`python -m lifecycle_sync.act.ahead_worker PARENT_PID ALGORITHM MARGIN_NS`. Requests and answers are
marshal data behind a length of four bytes. A request is (root, repository_id, at_ns, [(directory,
[(name, size, mtime_ns, ctime_ns, inode, file_id, operation_id, number, digest, policy, explicit,
state), ...]), ...]), where `number` and `digest` are of the last version (0 and None without one)
and `state` is what the file becomes. Its answer is the numbers (in the order of the request) of
whatever is not plain (another tuple, written just now, holes, attributes, an error), which the
parent then looks at by itself; and of the others what it takes to keep them, column by column:
digests, sizes, numbers of versions, their ids and lines, bytes stored, CRC-32s, members of a pack.
"""

from __future__ import annotations

import os
import signal
import sys
from marshal import dumps, loads
from typing import Any, BinaryIO

from lifecycle_sync.act.metadata import group_name, user_name
from lifecycle_sync.clock import SystemClock
from lifecycle_sync.descent import Descent
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.content import version_id
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.vault.events import PlainFile, encode_plain
from lifecycle_sync.vault.frames import FrameCompressor, key_of
from lifecycle_sync.vault.pack import packed

LENGTH_BYTES = 4
_BLOCK = 512
_STATES = {state.value: state for state in LifecycleState}
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

    def answer(self, request: tuple[bytes, bytes, int, list[Any]]) -> tuple[list[int], list[Any]]:
        root, repository_id, at_ns, groups = request
        repository = repository_id.hex()
        odd: list[int] = []
        found: list[Item] = []
        number = 0
        try:
            descent = Descent(self._fs, root)
        except Exception:  # noqa: BLE001 - whatever it is, the parent meets it and says so
            return list(range(sum(len(files) for _, files in groups))), []
        with descent:
            for folder, files in groups:
                try:
                    dir_fd = descent.open(folder)
                except (OSError, ValueError):
                    odd += range(number, number + len(files))
                    number += len(files)
                    continue
                trusted_ns = self._clock.now_ns() - self._margin_ns
                above = folder + b"/" if folder else b""
                for at, file in enumerate(files, number):
                    try:
                        read = self._read(dir_fd, file[:5], trusted_ns)
                    except OSError:
                        read = None
                    if read is None:
                        odd.append(at)
                    else:
                        found.append(self._item(read, above + file[0], file, repository, at_ns))
                number += len(files)
        return odd, list(zip(*found, strict=True))

    def _read(
        self, dir_fd: int, file: tuple[bytes, int, int, int, int], trusted_ns: int
    ) -> tuple[os.stat_result, bytes] | None:
        """What `fstat` says of a plain file, and its bytes."""
        fs = self._fs
        name, size, mtime_ns, ctime_ns, inode = file
        fd, status = fs.open_read_stat(name, dir_fd)
        try:
            plain = (
                status.st_size == size
                and status.st_mtime_ns == mtime_ns
                and status.st_ctime_ns == ctime_ns
                and status.st_ino == inode
                and mtime_ns <= trusted_ns
                and ctime_ns <= trusted_ns
                and status.st_blocks * _BLOCK >= size
                and not fs.list_xattrs(fd)
            )
            if not plain:
                return None
            data = fs.pread(fd, size + 1, 0)
            again = fs.fstat(fd)
        finally:
            fs.close(fd)
        here = fs.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        wanted = (status.st_dev, inode, size, mtime_ns, ctime_ns)
        for it in (again, here):
            if wanted != (it.st_dev, it.st_ino, it.st_size, it.st_mtime_ns, it.st_ctime_ns):
                return None
        return (status, data) if len(data) == size else None

    def _item(
        self,
        read: tuple[os.stat_result, bytes],
        path: bytes,
        file: tuple[Any, ...],
        repository: str,
        at_ns: int,
    ) -> Item:
        status, data = read
        _, size, mtime_ns, ctime_ns, inode, file_id, operation_id, number, digest, *rest = file
        policy, explicit, state = rest
        key = key_of(self._algorithm, data)
        if digest != key.digest:
            number += 1
        version = version_id(file_id, number, key)
        plain = PlainFile(
            size,
            mtime_ns,
            ctime_ns,
            status.st_atime_ns,
            inode,
            status.st_nlink,
            status.st_mode & 0o7777,
            status.st_uid,
            status.st_gid,
            user_name(status.st_uid),
            group_name(status.st_gid),
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
