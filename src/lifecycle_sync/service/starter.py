"""The first steps: a commented settings file, and the registry it names."""

from __future__ import annotations

import os
from pathlib import Path

from lifecycle_sync.config import Settings, load_config, with_overrides
from lifecycle_sync.errors import UsageError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.service.engine import Engine

FILE_NAME = "lifecycle.toml"

TEMPLATE = """\
# Settings of Lifecycle Sync. What is commented out stands at its default. Relative paths start at
# the folder of this file; `~` is your home. In the environment each setting is LIFECYCLE_ and its
# name in capitals, and stands over this file.

# The folders under management, which `lifecycle run` registers and follows.
roots = [
    # "/srv/uploads",
]

# The registry: what is known of the files. It can be lost and rebuilt.
database_path = "registry.db"

# Where archived files and the versions of backed up ones live: outside the folders above, and
# better on another disk.
archive_path = "archive"
backup_path = "backup"

# What is not followed, written as in a .gitignore. Hidden files, and those ending in ~, .tmp, .bak
# or .swp, are left out too, unless ignore_defaults is false.
# ignore = ["*.partial", "/incoming/"]
# ignore_defaults = true

# Seconds between two syncs of `lifecycle run`.
# registry_sync_interval = 300

# Checksums: sha256 or blake3. Without them damage and duplicates are not found.
# calculate_hashes = true
# hash_algorithm = "sha256"
# Processes that hash; one a core where it is left out. With 1, backup and archiving work in one
# process, too, where they else read ahead in a second one.
# worker_threads = 4
"""


def write_settings_file(path: str) -> Path:
    """Write the commented settings file, which must not exist yet.

    `path` is the file, or a folder in which it is called lifecycle.toml. Raises `UsageError`.
    """
    target = Path(os.path.abspath(os.path.expanduser(path)))
    if target.is_dir() or target.suffix != ".toml":
        target /= FILE_NAME
    fs = FileOps()
    try:
        folder_fd = fs.open_directory(os.path.realpath(target.parent))
    except OSError as error:
        raise UsageError(
            (error.strerror or str(error)).lower(),
            operation="write settings",
            subject=str(target.parent),
            remedy="name a folder that exists",
        ) from error
    try:
        # Exclusive: two at once, or a second time, must not lose what a person wrote.
        fd = fs.create(target.name, folder_fd, 0o644)
        try:
            fs.write(fd, TEMPLATE.encode())
            fs.fsync(fd)
        finally:
            fs.close(fd)
        fs.fsync(folder_fd)
    except FileExistsError as error:
        raise UsageError(
            "exists already and is left as it is",
            operation="write settings",
            subject=str(target),
            remedy="edit it, or name another place with --path",
        ) from error
    except OSError as error:
        raise UsageError(
            (error.strerror or str(error)).lower(),
            operation="write settings",
            subject=str(target),
            remedy="name a folder that can be written to with --path",
        ) from error
    finally:
        fs.close(folder_fd)
    return target


def make_registry(settings_file: Path, database: str | None) -> tuple[Settings, bool]:
    """Make the registry that a settings file names; False where it was there already.

    The file goes again when that fails, so that the order can be repeated.
    """
    try:
        settings = with_overrides(load_config(settings_file), database=database)
        made = not settings.database_path.exists()
        Engine.open(settings).close()
    except BaseException:
        FileOps().unlink(os.fspath(settings_file))
        raise
    return settings, made
