"""The steps of an act, numbered: every call of its file operations, every commit of its registry.

A first run counts them, later ones let something happen at one of them: the process ends, an error
comes back, a directory becomes a symlink. So a test can try all moments of an act, not some.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lifecycle_sync.fileops import FileOps, Name
from lifecycle_sync.registry.sqlite import SqliteRegistry
from lifecycle_sync.testing.fileops import FileOpsWrapper, Proceed

# What changes something by itself; what is composed of these is not among them.
CHANGES = frozenset(
    """create open_lock_file write write_at truncate fsync syncfs mkdir make_directories rmdir
    unlink link rename rename_noreplace symlink chmod_fd chown_fd chown set_times_fd set_times
    set_xattr
    """.split()
)
# What an act learns from the disk, and may learn with an error.
READS = frozenset(
    """stat fstat pread preadv listdir open_directory open_read_stat open_write readlink extents
    list_xattrs get_xattr""".split()
)
COMMIT = "commit"


class Steps:
    """Counts what goes through it once it is armed. `names` are the steps so far, in words.

    At step `at`, counted from 0, `action` is called: before it, or (`after`) when it was done.
    Steps of several threads are counted in the order in which they come.
    """

    def __init__(
        self,
        at: int | None = None,
        action: Callable[[], object] | None = None,
        *,
        after: bool = False,
        methods: frozenset[str] = CHANGES,
        commits: bool = True,
    ) -> None:
        self.methods = methods
        self.commits = commits
        self.names: list[str] = []
        self.armed = False
        self._at = at
        self.action = action or (lambda: None)
        self._after = after
        self._lock = threading.Lock()

    def begin(self, name: str) -> bool:
        """A step is about to be made; whether it is the chosen one, for `end`."""
        with self._lock:
            if not self.armed:
                return False
            self.names.append(name)
            due = self._at == len(self.names) - 1
        if due and not self._after:
            self.action()
        return due

    def end(self, due: bool) -> None:
        """The step was made."""
        if due and self._after:
            self.action()


class SteppedFileOps(FileOpsWrapper):
    """File operations whose calls are steps."""

    def __init__(self, inner: FileOps, steps: Steps) -> None:
        self._steps = steps

    def around(
        self, method: str, proceed: Proceed, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        steps = self._steps
        if not steps.armed or method not in steps.methods:
            return proceed(*args, **kwargs)
        due = steps.begin(self._words(method, args, kwargs))
        result = proceed(*args, **kwargs)
        steps.end(due)
        return result

    def _words(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        given = self.arguments(method, args, kwargs)
        names = (given.get(key) for key in ("name", "source", "target", "path"))
        return " ".join([method, *(_text(it) for it in names if isinstance(it, str | bytes))])


def _text(name: str | bytes) -> str:
    return name if isinstance(name, str) else name.decode("utf-8", "backslashreplace")


def step_commits(registry: SqliteRegistry, steps: Steps) -> None:
    """Make every commit of a registry a step, too."""
    database = registry._db
    write = database.write

    @contextmanager
    def stepped(*, durable: bool = False, in_parts: bool = False) -> Iterator[Any]:
        with write(durable=durable, in_parts=in_parts) as connection:
            yield connection
            due = steps.commits and steps.begin(COMMIT)
        steps.end(due)

    database.write = stepped  # type: ignore[method-assign]


class PlainFileOps(FileOps):
    """What a system without `renameat2` and `syncfs` does, call by call."""

    def rename_noreplace(self, source: Name, target: Name, source_fd: int, target_fd: int) -> None:
        self.link(source, target, source_fd, target_fd)
        try:
            self.unlink(source, source_fd)
        except BaseException:
            self.unlink(target, target_fd)
            raise

    def syncfs(self, fd: int) -> bool:
        self.fsync(fd)
        return False
