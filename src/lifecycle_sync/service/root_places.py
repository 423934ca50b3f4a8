"""Which folders can be roots at all: what they are, where they lie, and whose they are already."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from lifecycle_sync.config import Settings
from lifecycle_sync.errors import RootError, UsageError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.ids import to_text
from lifecycle_sync.model.repository import Repository, RepositoryKind


def usable_folder(fs: FileOps, path: str | os.PathLike[str]) -> bytes:
    """The real path of a folder that can be listed. Raises `RootError` for anything else."""
    text = os.fspath(path)
    # Resolved once, here: later a symlink in its place is not followed.
    root = os.path.realpath(os.fsencode(text))
    try:
        mode = os.stat(root).st_mode
        if not stat.S_ISDIR(mode):
            raise RootError(
                "is not a folder", operation="add root", subject=text, remedy="name a folder"
            )
        _refuse_unreadable(fs, root)
    except FileNotFoundError as error:
        raise RootError(
            "does not exist",
            operation="add root",
            subject=text,
            remedy="check the spelling, or make the folder first",
        ) from error
    except OSError as error:
        raise RootError(
            f"cannot be read ({error.strerror})",
            operation="add root",
            subject=text,
            remedy="give this user the right to list it",
        ) from error
    return root


def _refuse_unreadable(fs: FileOps, root: bytes) -> None:
    fd = fs.open_directory(root)
    try:
        fs.listdir(fd)
    finally:
        fs.close(fd)


def check_place(root: bytes, roots: Iterable[Repository], settings: Settings) -> None:
    """Refuse a folder that cannot be a root where it lies. Raises `RootError`."""
    if root == b"/":
        _refuse(root, "is the whole filesystem", "name a folder below it")
    if root == os.path.realpath(os.fsencode(os.path.expanduser("~"))):
        _refuse(root, "is a home directory itself", "name the folders in it that matter")
    for known in roots:
        if known.kind is RepositoryKind.LOOSE:
            continue
        other = os.fsdecode(known.path)
        if _inside(root, known.path):
            _refuse(root, f"lies inside the root {other}", "it is managed already")
        if _inside(known.path, root):
            _refuse(root, f"contains the root {other}", "remove that root first")
    for name, place in (
        ("vault", settings.backup_path),
        ("archive", settings.archive_path),
    ):
        kept = os.path.realpath(os.fsencode(place))
        if root == kept or _inside(root, kept):
            _refuse(root, f"is in the {name}, {place}", "name another folder")
        if _inside(kept, root):
            _refuse(root, f"contains the {name}, {place}", f"put the {name} outside of it")


def _refuse(root: bytes, cause: str, remedy: str) -> None:
    raise RootError(cause, operation="add root", subject=root, remedy=remedy)


def check_id(root: bytes, wanted_id: bytes, roots: Iterable[Repository]) -> None:
    """Refuse an id, or a folder, that is another root's. Raises `UsageError`."""
    for known in roots:
        other = (known.repository_id == wanted_id) != (known.path == root)
        if other and known.kind is RepositoryKind.ROOT:
            known_id, path = to_text(known.repository_id), os.fsdecode(known.path)
            raise UsageError(
                f"the repository {known_id} is {path}",
                operation="add root",
                subject=root,
                remedy="use the id and the folder that belong together, or remove that one",
            )


def _inside(path: bytes, folder: bytes) -> bool:
    return path.startswith(folder.rstrip(b"/") + b"/")
