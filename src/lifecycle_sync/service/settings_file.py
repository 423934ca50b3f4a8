"""One setting of a person's own settings file given another value, and nothing else of it touched.

Comments and the order of lines stay. Whatever way the new text was found, it counts only when the
file, read again as the settings are, says the same as before but for that one setting.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from lifecycle_sync.config import Settings, load_config
from lifecycle_sync.config_files import parse_text, read_file
from lifecycle_sync.errors import BusyError, UsageError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.storage.local import storage_error

_OPERATION = "change setting"


def set_list(settings: Settings, name: str, values: Sequence[str], fs: FileOps) -> Path:
    """Give a setting that is a list these entries, durably, in the file that `settings` came from;
    its path.

    Raises `UsageError` where there is no such file, where the environment stands over it, and where
    its text cannot be changed safely; `BusyError` where somebody else changes the file, or has
    changed this setting since `settings` were read; `StorageError`.
    """
    line = f"{name} = {json.dumps(list(values), ensure_ascii=False)}"
    variable = f"LIFECYCLE_{name.upper()}"
    if variable in os.environ:
        raise UsageError(
            f"{variable} in the environment stands over the settings file",
            operation=_OPERATION,
            subject=name,
            remedy=f"change it where it is set, or unset it; in the file it would be: {line}",
        )
    if settings.source is None:
        raise UsageError(
            "there is no settings file to change",
            operation=_OPERATION,
            subject=name,
            remedy=f"`lifecycle init` writes one, in which this belongs: {line}",
        )
    # A link to a file that is kept elsewhere stays one.
    path = Path(os.path.realpath(settings.source))
    with _held(path, fs) as folder:
        before = _state(fs.stat(path.name, dir_fd=folder))
        file = read_file(path)
        if file.table is None or file.text is None or file.faults:
            raise UsageError(
                "; ".join(file.faults) or "cannot be read",
                operation=_OPERATION,
                subject=str(path),
                remedy="correct the file first",
            )
        there = tuple(getattr(load_config(path), name))
        if there == tuple(values):
            return path
        if there != tuple(getattr(settings, name)):
            raise _changed_meanwhile(path)
        wanted = {**file.table, name: list(values)}
        for text in _texts(path.suffix, file.text, file.table, name, list(values)):
            if parse_text(path.suffix, text) == wanted:
                _replace(path, text, before, folder, fs)
                return path
    raise UsageError(
        "cannot be changed without a person",
        operation=_OPERATION,
        subject=str(path),
        remedy=f"write into it: {line}",
    )


def _texts(
    suffix: str, text: str, table: dict[str, object], name: str, values: list[str]
) -> Iterator[str]:
    """What the file might say then."""
    if suffix == ".json":
        yield json.dumps({**table, name: values}, indent=2, ensure_ascii=False) + "\n"
        return
    if suffix != ".toml":
        return
    array = _array(values)
    found = re.search(rf"^[ \t]*{name}[ \t]*=[ \t]*", text, re.MULTILINE)
    if found is not None and name in table:
        # The list ends at one of these, whatever stands in its comments and strings.
        for end in re.finditer(r"\]", text[found.end() :]):
            yield text[: found.end()] + array + text[found.end() + end.end() :]
    elif name not in table:
        # Before the first table, or at the end.
        heads = [it.start() for it in re.finditer(r"^[ \t]*\[", text, re.MULTILINE)]
        for at in (*heads, len(text)):
            gap = "" if not text[:at] or text[:at].endswith("\n") else "\n"
            yield f"{text[:at]}{gap}{name} = {array}\n{text[at:]}"


def _array(values: list[str]) -> str:
    if not values:
        return "[]"
    # JSON's strings are TOML's, too.
    return "[\n" + "".join(f"    {json.dumps(it, ensure_ascii=False)},\n" for it in values) + "]"


@contextmanager
def _held(path: Path, fs: FileOps) -> Iterator[int]:
    """The folder of the file, in which nobody else changes settings by this program meanwhile; what
    one left there that was killed is removed."""
    try:
        folder = fs.open_directory(os.fspath(path.parent))
        try:
            if not fs.lock(folder, wait=False):
                raise _changed_meanwhile(path)
            left = re.compile(re.escape(f".{path.name}.") + "[0-9a-f]{16}")
            for entry in fs.listdir(folder):
                if left.fullmatch(entry):
                    fs.unlink(entry, folder)
            yield folder
        finally:
            fs.close(folder)
    except OSError as error:
        raise storage_error(error, "write settings", os.fspath(path)) from error


def _state(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _replace(path: Path, text: str, before: tuple[int, ...], folder: int, fs: FileOps) -> None:
    """In its place at once, so that who reads it finds the one or the other; with its owner before
    that, who may be the only one to read it. What a person saved meanwhile stays."""
    status = fs.stat(path.name, dir_fd=folder)
    temporary = f".{path.name}.{os.urandom(8).hex()}"
    fd = fs.create(temporary, folder)
    try:
        try:
            fs.chmod_fd(fd, stat.S_IMODE(status.st_mode) & 0o777)
            fs.write(fd, text.encode())
            if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                fs.chown_fd(fd, status.st_uid, status.st_gid)
            fs.fsync(fd)
        finally:
            fs.close(fd)
        if _state(fs.stat(path.name, dir_fd=folder)) != before:
            raise _changed_meanwhile(path)
        fs.rename(temporary, path.name, folder, folder)
    except BaseException:
        with suppress(OSError):
            fs.unlink(temporary, folder)
        raise
    fs.fsync(folder)


def _changed_meanwhile(path: Path) -> BusyError:
    return BusyError(
        "somebody else has changed it, or does just now",
        operation=_OPERATION,
        subject=str(path),
        remedy="nothing was changed; look at it, and give the order again",
    )
