"""One setting of a person's own settings file given another value, and nothing else of it touched.

Comments and the order of lines stay. Whatever way the new text was found, it counts only when the
file, read again as the settings are, says the same as before but for that one setting.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from lifecycle_sync.config import Settings
from lifecycle_sync.config_files import parse_text, read_file
from lifecycle_sync.errors import UsageError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.storage.local import storage_error

_OPERATION = "change setting"


def set_list(settings: Settings, name: str, values: Sequence[str], fs: FileOps) -> Path:
    """Give a setting that is a list these entries, durably, in the file that `settings` came from;
    its path.

    Raises `UsageError` where there is no such file, where the environment stands over it, and where
    its text cannot be changed safely; `StorageError`.
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
    file = read_file(path)
    if file.table is None or file.text is None or file.faults:
        raise UsageError(
            "; ".join(file.faults) or "cannot be read",
            operation=_OPERATION,
            subject=str(path),
            remedy="correct the file first",
        )
    wanted = {**file.table, name: list(values)}
    for text in _texts(path.suffix, file.text, file.table, name, list(values)):
        if parse_text(path.suffix, text) == wanted:
            _write(path, text, fs)
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


def _write(path: Path, text: str, fs: FileOps) -> None:
    """In its place at once, so that who reads it finds the one or the other."""
    try:
        status = fs.stat(path)
        folder = fs.open_directory(os.fspath(path.parent))
        try:
            fs.write_file(path.name, text.encode(), folder, status.st_mode & 0o777)
            if status.st_uid != os.geteuid() or status.st_gid != os.getegid():
                fs.chown(path.name, status.st_uid, status.st_gid, folder)
        finally:
            fs.close(folder)
    except OSError as error:
        raise storage_error(error, "write settings", os.fspath(path)) from error
