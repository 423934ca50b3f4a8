"""Reads small files ahead of the one who keeps them, in another process.

What is plain comes back as it goes into a vault: a member of a pack, and the line of its version.
For anything else the answer is None, and the file is read in this process, where whatever is
special about it is seen to. Without the process (it cannot be started, or has died) every answer is
None: slower, and nothing else.
"""

from __future__ import annotations

import subprocess
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import repeat
from marshal import loads
from typing import Any, NamedTuple

from lifecycle_sync.act.ahead_worker import frame, receive
from lifecycle_sync.children import PIPE_BYTES, pipe_size, start_worker
from lifecycle_sync.model.act import ActFile
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.model.file import Kind, LifecycleState
from lifecycle_sync.model.many import many
from lifecycle_sync.vault.events import VersionLine
from lifecycle_sync.vault.pack import Packed

# A file, after the id of its operation.
Wanted = tuple[bytes, ActFile]
# One window may be asked for while the answer to the one before is still in the pipe: which must
# have room for all of it, or both ends would wait for each other.
_WINDOW_FILES = 400
_WINDOW_BYTES = PIPE_BYTES * 7 // 8
_SMALL_BYTES = 64 << 10
_REGULAR = Kind.REGULAR
# What an answer has beside a content, and of a path at most, for a byte of it.
_MORE_BYTES, _PATH_TIMES = 800, 7


class Plain(NamedTuple):
    """A file with nothing special about it, as it was read: its content, packed, and its version.

    The version is the file's last one once more where that has the same content."""

    key: ContentKey
    packed: Packed
    version: VersionLine


def windows(files: Sequence[Wanted]) -> Iterator[Sequence[Wanted]]:
    """The files in as many at a time as may be asked for at once."""
    start, left = 0, _WINDOW_BYTES
    for place, (_, file) in enumerate(files):
        size = file.size
        cost = 0
        if size <= _SMALL_BYTES and file.kind is _REGULAR:
            cost = size + _MORE_BYTES + _PATH_TIMES * len(file.path)
        if place - start == _WINDOW_FILES or (cost > left and place > start):
            yield files[start:place]
            start, left = place, _WINDOW_BYTES
        left -= cost
    if start < len(files):
        yield files[start:]


class Ahead:
    """One reading process for one root. A context manager; for one thread."""

    def __init__(
        self, root: bytes, repository_id: bytes, *, algorithm: str, margin_ns: int
    ) -> None:
        self._root = root
        self._repository_id = repository_id
        self._algorithm = algorithm
        self._arguments = [algorithm, str(margin_ns)]
        self._process: subprocess.Popen[bytes] | None = None
        self._broken = False
        self._under_way_max = 1
        # Of each window: its files, the places of those that were asked for, and when.
        self._asked: deque[tuple[Sequence[Wanted], list[int], int]] = deque()

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the process, which takes a while to be ready, before there is anything to ask."""
        if self._process is None and not self._broken:
            self._send(b"")

    @property
    def has_room(self) -> bool:
        """Whether another window may be asked for before an answer is taken."""
        return len(self._asked) < self._under_way_max

    def ask(self, files: Sequence[Wanted], state: LifecycleState | None, at_ns: int) -> None:
        """Begin to read a window of files, while there is room for it.

        `state` is what their versions say they become (None: they stay what they are), and `at_ns`
        when.
        """
        assert self.has_room, "an answer has to be taken first"
        places = [
            place
            for place, (_, file) in enumerate(files)
            if file[3] is _REGULAR and file[4] <= _SMALL_BYTES
        ]
        chosen = files if len(places) == len(files) else [files[place] for place in places]
        self._asked.append((files, places, at_ns))
        if not self._broken and places:
            self._send(
                frame((self._root, self._repository_id, at_ns, self._columns(chosen, state)))
            )

    def _columns(
        self, files: Sequence[Wanted], state: LifecycleState | None
    ) -> tuple[Sequence[Any], ...]:
        """What the other process has to know of files, column by column: there are many of them."""
        operation_ids, acts = zip(*files, strict=True)
        _, file_ids, paths, _, *what, states, _, _, _, _, policies, explicit, numbers, _, _ = zip(
            *acts, strict=True
        )
        digests: Sequence[bytes | None] = (None,) * len(files)
        if any(numbers):
            digests = [
                file.last_checksum
                if file.last_number and file.last_algorithm == self._algorithm
                else None
                for file in acts
            ]
        became = [it.value for it in states] if state is None else (state.value,) * len(files)
        return (
            paths,
            *what,
            file_ids,
            operation_ids,
            numbers,
            digests,
            policies,
            explicit,
            became,
        )

    def answer(self) -> list[Plain | None]:
        """What came of the oldest window: an item a file."""
        files, places, at_ns = self._asked.popleft()
        found: list[Plain | None] = [None] * len(files)
        data = None
        if places and not self._broken and self._process is not None:
            assert self._process.stdout is not None
            data = receive(self._process.stdout)  # type: ignore[arg-type]
        if data is None:
            self._broken = self._broken or bool(places)
            return found
        # From our own child, over a pipe that nobody else writes to.
        odd, columns = loads(data)  # noqa: S302
        if columns:
            digests, sizes, numbers, version_ids, lines, stored, checks, members = columns
            keys = list(many(ContentKey, zip(repeat(self._algorithm), digests)))
            contents = many(Packed, zip(digests, sizes, stored, checks, members, strict=True))
            versions = many(VersionLine, zip(numbers, version_ids, keys, repeat(at_ns), lines))
            plain = many(Plain, zip(keys, contents, versions, strict=True))
            if len(keys) == len(files):
                return list(plain)
            left_out = set(odd)
            for number, place in enumerate(places):
                if number not in left_out:
                    found[place] = next(plain)
        return found

    def _send(self, request: bytes) -> None:
        try:
            if self._process is None:
                self._process = start_worker("lifecycle_sync.act.ahead_worker", self._arguments)
                assert self._process.stdout is not None
                if pipe_size(self._process.stdout) >= PIPE_BYTES:
                    self._under_way_max = 2
            assert self._process.stdin is not None
            view = memoryview(request)
            while view:
                view = view[self._process.stdin.write(view) or 0 :]
        except OSError:
            self._broken = True

    def close(self) -> None:
        """End the process. Calling it again does nothing."""
        process, self._process = self._process, None
        self._broken = True
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        process.wait()
