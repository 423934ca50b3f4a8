"""File operations that are recorded, fail, tear or kill: wrappers around a `FileOps`.

A wrapper is an instance of a class made for it, below the class of what it wraps, in which every
public method first goes through the wrapper. What a composed method does by `self` therefore goes
through it as well: a `write_file` shows as itself and as its create, write, sync, close, rename
and sync, and each of them can fail. Wrappers can be stacked; the outer one sees a call first.
"""

from __future__ import annotations

import inspect
import os
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Self

from lifecycle_sync.fileops import FileOps

Proceed = Callable[..., Any]
# A wrapper gets its `FileOps` from what it wraps; the type checker is told beforehand.
if TYPE_CHECKING:
    _Base = FileOps
else:
    _Base = object
# What each class makes for itself.
_OWN_MEMBERS = {"__dict__", "__weakref__"}


class FileOpsWrapper(_Base):
    """Sends every public method of the wrapped operations through `around`."""

    _inner: FileOps
    # The parameters of what is intercepted.
    _parameters: Mapping[str, tuple[str, ...]]

    def __new__(cls, inner: FileOps, *_: object, **__: object) -> Self:
        # The wrapper's members are copied to the new class: as a base that comes before the wrapped
        # class it could stand only once in a stack.
        members = {name: it for name, it in vars(cls).items() if name not in _OWN_MEMBERS}
        bases = (type(inner),) if isinstance(inner, cls) else (type(inner), cls)
        kind = type(cls.__name__, bases, members)
        wrapper: Self = object.__new__(kind)
        wrapper._inner = inner
        if isinstance(inner, FileOpsWrapper):
            wrapper._parameters = inner._parameters
        else:
            wrapper._parameters = _public_methods(type(inner))
        for name in wrapper._parameters:
            setattr(kind, name, _through(wrapper, kind, name))
        return wrapper

    def __getattr__(self, name: str) -> Any:
        # What the wrapped operations keep on themselves; methods are found before this.
        return getattr(object.__getattribute__(self, "_inner"), name)

    def around(
        self, method: str, proceed: Proceed, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Called for each call of a public method; `proceed(*args, **kwargs)` makes it."""
        raise NotImplementedError

    def arguments(
        self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """The arguments of a call by the names of the parameters; defaults are left out."""
        return {**dict(zip(self._parameters[method], args, strict=False)), **kwargs}


def _public_methods(kind: type[FileOps]) -> dict[str, tuple[str, ...]]:
    methods = {}
    for name in dir(kind):
        if not name.startswith("_"):
            parameters = tuple(inspect.signature(getattr(kind, name)).parameters)
            methods[name] = parameters[1:] if parameters[:1] == ("self",) else parameters
    return methods


def _through(wrapper: FileOpsWrapper, kind: type, name: str) -> Callable[..., Any]:
    # `caller` is the outermost wrapper, `wrapper` the one whose turn it is.
    def method(caller: FileOps, *args: Any, **kwargs: Any) -> Any:
        return wrapper.around(name, getattr(super(kind, caller), name), args, kwargs)

    method.__name__ = name
    return method


# -- what was called -----------------------------------------------------------------------------


class Call(NamedTuple):
    """One call. `arguments` are the given ones as text, by parameter: names decoded, descriptors
    as the path they stand for, data as its length."""

    method: str
    arguments: Mapping[str, str]

    def __str__(self) -> str:
        inside = ", ".join(f"{name}={value}" for name, value in self.arguments.items())
        return f"{self.method}({inside})"


class RecordingFileOps(FileOpsWrapper):
    """Keeps in `calls` what was called, in order; a composed method stands before its steps."""

    def __init__(self, inner: FileOps) -> None:
        self._lock = threading.Lock()
        self.calls: list[Call] = []

    @property
    def methods(self) -> list[str]:
        """The names alone."""
        return [call.method for call in self.calls]

    def around(
        self, method: str, proceed: Proceed, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        given = self.arguments(method, args, kwargs)
        call = Call(method, {k: _text(k, v) for k, v in given.items() if v is not None})
        with self._lock:
            self.calls.append(call)
        return proceed(*args, **kwargs)


def _text(name: str, value: object) -> str:
    if isinstance(value, int) and (name.endswith("fd") or name == "path"):
        return _path_of(value)
    if name == "data" and isinstance(value, bytes | bytearray | memoryview):
        return f"{memoryview(value).nbytes} bytes"
    if name == "mode" and isinstance(value, int):
        return oct(value)
    return os.fsdecode(value) if isinstance(value, bytes) else str(value)


def _path_of(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return f"descriptor {fd}"


# -- what goes wrong -----------------------------------------------------------------------------


def fail(code: int) -> Callable[[], NoReturn]:
    """What raises the `OSError` of an errno."""

    def raise_error() -> NoReturn:
        raise OSError(code, os.strerror(code))

    return raise_error


def kill() -> NoReturn:
    """End this process as `kill -9` does: no cleanup, no handlers, no flushing."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("survived SIGKILL")


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and at which call.

    `action` is `fail(errno.EIO)`, `kill`, or any hook (one that swaps a directory for a symlink,
    say; the call then goes on). It runs at the `nth` call, counted from 1, of those that match: of
    `method` (None: of any) and for which `where(method, arguments)` holds, the arguments by
    parameter. `after` runs it once the call was made, `lasting` at every later match too.
    `keep_bytes` tears a `write`: so many bytes reach the file, then the action runs, and the rest
    is never written.

    A `close` that is to fail closes the descriptor first, as the kernel does.
    """

    action: Callable[[], object]
    method: str | None = None
    nth: int = 1
    where: Callable[[str, dict[str, Any]], bool] | None = None
    after: bool = False
    lasting: bool = False
    keep_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.keep_bytes is not None and (self.method != "write" or self.after):
            raise ValueError("only a write can be torn, and only before it is whole")


class FaultyFileOps(FileOpsWrapper):
    """Lets things go wrong at chosen calls. `fired` counts how often it did.

    Raises `ValueError` for a fault at a method that there is not.
    """

    def __init__(self, inner: FileOps, *faults: Fault) -> None:
        for fault in faults:
            if fault.method is not None and fault.method not in self._parameters:
                raise ValueError(f"there is no method {fault.method}")
        self._lock = threading.Lock()
        self._faults = faults
        self._matches = [0] * len(faults)
        self.fired = 0

    def around(
        self, method: str, proceed: Proceed, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        due = self._due(method, self.arguments(method, args, kwargs))
        before = [fault for fault in due if not (fault.after or method == "close")]
        for fault in before:
            if fault.keep_bytes is not None:
                given = self.arguments(method, args, kwargs)
                proceed(given["fd"], memoryview(given["data"])[: fault.keep_bytes])
                return fault.action()
            fault.action()
        result = proceed(*args, **kwargs)
        for fault in due:
            if fault not in before:
                fault.action()
        return result

    def _due(self, method: str, arguments: dict[str, Any]) -> list[Fault]:
        due = []
        with self._lock:
            for number, fault in enumerate(self._faults):
                if fault.method not in (None, method):
                    continue
                if fault.where is not None and not fault.where(method, arguments):
                    continue
                self._matches[number] += 1
                matches = self._matches[number]
                if matches == fault.nth or (fault.lasting and matches > fault.nth):
                    due.append(fault)
            self.fired += len(due)
        return due
