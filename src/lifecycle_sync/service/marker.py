"""The marker of a root: `.lifecycle/root.json` in it says which root of which registry it is."""

from __future__ import annotations

import errno
import json
import os
import uuid

from lifecycle_sync.errors import RegistryNewerError, RootError
from lifecycle_sync.fileops import FileOps, NotRegularFileError
from lifecycle_sync.model.repository import (
    COOKIES_DIRECTORY,
    MARKER_FORMAT,
    MARKER_NAME,
    PRIVATE_DIRECTORY,
    Marker,
    RootIdentity,
)
from lifecycle_sync.mounts import filesystem_of

_UNWRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM}


def identity_of(path: bytes) -> RootIdentity:
    """What identifies the folder at `path` beside its marker. Raises `OSError`."""
    filesystem = filesystem_of(path)
    inode = os.stat(path, follow_symlinks=False).st_ino if filesystem.stable_inodes else 0
    if inode >= 2**63:
        inode -= 2**64
    return RootIdentity(
        filesystem_type=filesystem.type,
        filesystem_id=filesystem.identity,
        inode=inode,
        stable_inodes=filesystem.stable_inodes,
        network=filesystem.network,
    )


def read_marker(fs: FileOps, root: bytes) -> Marker | None:
    """The marker of a root, None where there is none.

    Raises `RootError` for one that cannot be understood, `RegistryNewerError` for a newer one.
    """
    try:
        root_fd = fs.open_directory(root)
        try:
            private_fd = fs.open_directory(PRIVATE_DIRECTORY, root_fd)
        finally:
            fs.close(root_fd)
        try:
            text = fs.read_file(MARKER_NAME, private_fd)
        finally:
            fs.close(private_fd)
    except (FileNotFoundError, NotADirectoryError, NotRegularFileError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise
    try:
        fields = json.loads(text)
        format_number = int(fields["format"])
        # What a newer program writes may have other fields; only its number is to be understood.
        known = format_number <= MARKER_FORMAT
        root_id = uuid.UUID(str(fields["root_id"])).bytes if known else b""
        registry_id = uuid.UUID(str(fields["registry_id"])).bytes if known else b""
    except (ValueError, KeyError, TypeError) as error:
        raise RootError(
            f"its marker is damaged ({error})",
            operation="read marker",
            subject=os.path.join(root, PRIVATE_DIRECTORY, MARKER_NAME),
            remedy="delete that file, then `lifecycle accept` the folder (`add`, if it is no root)",
        ) from error
    if not known:
        raise RegistryNewerError(
            f"has format {format_number}; this program knows up to {MARKER_FORMAT}",
            operation="read marker",
            subject=os.path.join(root, PRIVATE_DIRECTORY, MARKER_NAME),
            remedy="upgrade lifecycle-sync",
        )
    return Marker(root_id, registry_id, format_number)


def write_marker(fs: FileOps, root: bytes, marker: Marker) -> bool:
    """Put a marker into a root; False where the root cannot be written to."""
    text = json.dumps(
        {
            "format": marker.format,
            "root_id": str(uuid.UUID(bytes=marker.root_id)),
            "registry_id": str(uuid.UUID(bytes=marker.registry_id)),
            "about": "This folder is a root of Lifecycle Sync. Keep this file: without it the"
            " folder counts as offline.",
        },
        indent=2,
    )
    try:
        root_fd = fs.open_directory(root)
        try:
            try:
                fs.mkdir(PRIVATE_DIRECTORY, root_fd)
            except FileExistsError:
                pass
            private_fd = fs.open_directory(PRIVATE_DIRECTORY, root_fd)
        finally:
            fs.close(root_fd)
        try:
            fs.write_file(MARKER_NAME, text.encode() + b"\n", private_fd)
        finally:
            fs.close(private_fd)
    except OSError as error:
        if error.errno in _UNWRITABLE:
            return False
        raise
    return True


def remove_marker(fs: FileOps, root: bytes) -> None:
    """Take the marker away, and its directory when it is empty then; raises no `OSError`."""
    try:
        root_fd = fs.open_directory(root)
    except OSError:
        return
    try:
        private_fd = fs.open_directory(PRIVATE_DIRECTORY, root_fd)
        try:
            fs.unlink(MARKER_NAME, private_fd)
            try:
                fs.rmdir(COOKIES_DIRECTORY, private_fd)
            except FileNotFoundError:
                pass  # it was never watched
        finally:
            fs.close(private_fd)
        fs.rmdir(PRIVATE_DIRECTORY, root_fd)
    except OSError:
        # Already gone, read-only, or not empty: the registry no longer knows the root either way.
        pass
    finally:
        fs.close(root_fd)
