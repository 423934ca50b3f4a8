"""Large contents on their way in: cut into parts, compressed, and stored while they are read.

The caller's thread hashes the content; one thread compresses and writes, another makes finished
parts durable and reads them back. Some blocks are on their way at once, never more. Each part names
the one before it in its tail and the last one the content, so that a content is found again, part
by part, where the manifests are lost.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault.content_lines import ObjectLine, ObjectPart
from lifecycle_sync.vault.format import OBJECTS, PART_SIZE_MAX, Part, object_name, part_tail
from lifecycle_sync.vault.frames import FrameStream, level_for, new_hasher
from lifecycle_sync.vault.sealing import NamedUpload

_BLOCK_SIZE = 1 << 20
_BLOCKS_MAX = 8
_PUBLISHING_MAX = 2
_FIRST = bytes(32)


class Workers:
    """The two threads of a writer, started when they are first needed."""

    def __init__(self) -> None:
        self._packer: ThreadPoolExecutor | None = None
        self._publisher: ThreadPoolExecutor | None = None

    @property
    def packer(self) -> ThreadPoolExecutor:
        if self._packer is None:
            self._packer = ThreadPoolExecutor(1, "vault-pack")
        return self._packer

    @property
    def publisher(self) -> ThreadPoolExecutor:
        if self._publisher is None:
            self._publisher = ThreadPoolExecutor(1, "vault-publish")
        return self._publisher

    def close(self) -> None:
        """Wait for what they do, and end them."""
        for executor in (self._packer, self._publisher):
            if executor is not None:
                executor.shutdown(wait=True)
        self._packer = self._publisher = None


class ObjectUpload:
    """One large content, written in order by one thread; made by `VaultWriter.open_object`.
    `salt` is a frame that readers pass over.

    Errors of the threads behind it are raised by the next call.
    """

    def __init__(
        self,
        storage: Storage,
        workers: Workers,
        algorithm: str,
        done: Callable[[ObjectLine], None],
        salt: bytes = b"",
    ) -> None:
        self._algorithm = algorithm
        self._hasher = new_hasher(algorithm)
        self._line = _AssemblyLine(storage, workers, salt)
        self._buffer = bytearray()
        self._blocks: deque[Future[None]] = deque()
        self._part_left = PART_SIZE_MAX
        self._workers = workers
        self._done = done
        self.over = False
        self.size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append to the content. The data may be reused by the caller afterwards."""
        assert not self.over, "the object is finished"
        view = memoryview(data)
        if not self._buffer and isinstance(data, bytes):
            # Whole blocks go on as they are.
            while len(view) >= _BLOCK_SIZE:
                self._pass_on(view[:_BLOCK_SIZE])
                view = view[_BLOCK_SIZE:]
        while view:
            taken = view[: _BLOCK_SIZE - len(self._buffer)]
            self._buffer += taken
            view = view[len(taken) :]
            if len(self._buffer) == _BLOCK_SIZE:
                self._pass_on(memoryview(self._buffer))
                self._buffer = bytearray()

    def finish(self) -> ContentKey:
        """The key of the content, all of whose bytes are durable now."""
        if self._buffer:
            self._pass_on(memoryview(self._buffer))
            self._buffer = bytearray()
        key = ContentKey(self._algorithm, self._hasher.digest())
        try:
            self._submit(lambda: self._line.end_part(key, self.size))
            while self._blocks:
                self._blocks.popleft().result()
            self._line.wait(0)
        except BaseException:
            self.abort()
            raise
        self.over = True
        self._done(ObjectLine(key, self.size, tuple(self._line.parts)))
        return key

    def abort(self) -> None:
        """Give up. Parts that were stored stay as bytes that nobody refers to."""
        self.over = True
        self._line.stop()
        while self._blocks:
            self._blocks.popleft().exception()
        self._line.abort()

    def _pass_on(self, block: memoryview) -> None:
        if not self._part_left:
            self._submit(lambda: self._line.end_part(None, 0))
            self._part_left = PART_SIZE_MAX
        self.size += len(block)
        self._part_left -= len(block)
        self._submit(lambda: self._line.add(block))
        self._hasher.update(block)

    def _submit(self, task: Callable[[], None]) -> None:
        while len(self._blocks) >= _BLOCKS_MAX or (self._blocks and self._blocks[0].done()):
            self._blocks.popleft().result()
        self._blocks.append(self._workers.packer.submit(task))


class _AssemblyLine:
    """What happens behind an upload: in the packer's thread, but for `wait`, `stop`, `abort`."""

    def __init__(self, storage: Storage, workers: Workers, salt: bytes) -> None:
        self._storage = storage
        self._salt = salt
        self._workers = workers
        self._upload: NamedUpload | None = None
        self._stream: FrameStream | None = None
        self._size = self._offset = 0
        self._previous = _FIRST
        self._publishing: deque[Future[None]] = deque()
        self._stopped = threading.Event()
        self.parts: list[ObjectPart] = []

    def add(self, block: memoryview) -> None:
        if self._stopped.is_set():
            return
        try:
            if self._stream is None:
                self._begin(block)
            assert self._stream is not None
            self._write(self._stream.add(block))
            self._size += len(block)
        except BaseException:
            # What comes after a block that is missing must not be stored.
            self._stopped.set()
            raise

    def end_part(self, key: ContentKey | None, size: int) -> None:
        if self._stopped.is_set():
            return
        try:
            if self._stream is None:
                self._begin(memoryview(b""))
            assert self._stream is not None and self._upload is not None
            part = Part(len(self.parts), self._offset, self._previous, key, size)
            self._write(self._stream.end() + self._salt + part_tail(part))
            sha256, stored = self._upload.end()
            self.wait(_PUBLISHING_MAX - 1)
            upload, self._upload = self._upload, None
            self._publishing.append(
                self._workers.publisher.submit(upload.publish, object_name(sha256))
            )
            self.parts.append(ObjectPart(sha256, stored, self._size))
            self._previous = sha256
            self._offset += self._size
            self._stream = None
        except BaseException:
            self._stopped.set()
            raise

    def wait(self, count: int) -> None:
        """Until at most so many parts are being made durable."""
        while len(self._publishing) > count:
            self._publishing.popleft().result()

    def stop(self) -> None:
        self._stopped.set()

    def abort(self) -> None:
        while self._publishing:
            self._publishing.popleft().exception()
        if self._upload is not None:
            self._upload.discard()
            self._upload = None

    def _begin(self, block: memoryview) -> None:
        self._upload = NamedUpload(self._storage, OBJECTS)
        self._stream = FrameStream(level_for(block))
        self._size = 0

    def _write(self, data: bytes) -> None:
        assert self._upload is not None
        if data:
            self._upload.write(data)
