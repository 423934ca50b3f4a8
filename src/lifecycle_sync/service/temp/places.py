"""Which folders may be cleaned as temporary ones."""

from __future__ import annotations

import os

from lifecycle_sync.errors import UsageError
from lifecycle_sync.model.repository import MARKER_NAME, PRIVATE_DIRECTORY

_REMEDY = "name a folder that is for temporary files alone (in Python force=True takes any)"


def temp_folder(path: str | os.PathLike[str], *, force: bool = False) -> str:
    """The folder's real path. Raises `UsageError` for `/`, a home directory itself and what lies
    in a root under management, unless `force` is set."""
    text = os.fspath(path)
    real = os.path.realpath(text)
    if force:
        return real
    cause = ""
    if real == "/":
        cause = "is the whole filesystem"
    elif real in _homes():
        cause = "is a home directory itself"
    else:
        root = _root_around(real)
        if root:
            cause = f"lies in the root {root}, whose files are under management"
    if cause:
        raise UsageError(cause, operation="clean temporary files", subject=text, remedy=_REMEDY)
    return real


def _homes() -> set[str]:
    homes = {os.path.realpath(os.path.expanduser("~"))}
    try:
        import pwd

        homes.add(os.path.realpath(pwd.getpwuid(os.getuid()).pw_dir))
    except (ImportError, KeyError):
        pass  # a container's user without an entry
    return homes


def _root_around(folder: str) -> str:
    marker = os.path.join(os.fsdecode(PRIVATE_DIRECTORY), os.fsdecode(MARKER_NAME))
    while True:
        if os.path.lexists(os.path.join(folder, marker)):
            return folder
        above = os.path.dirname(folder)
        if above == folder:
            return ""
        folder = above
