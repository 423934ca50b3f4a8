"""The names other programs import: pinned, and paid for only when used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import lifecycle_sync

PUBLIC = [
    "CleanupService",
    "FileCleanupManager",
    "FileMetadata",
    "FileType",
    "FileWatcherConfig",
    "LifecycleError",
    "LifecyclePolicy",
    "LifecycleScheduler",
    "LifecycleState",
    "LifecycleSync",
    "OrphanedFileDetector",
    "ReconciliationConfig",
    "Settings",
    "SyncManager",
    "SyncManagerConfig",
    "SyncOperation",
    "TempFileContext",
    "TempStorageCleanupService",
    "TempStorageCleanupSettings",
    "__version__",
    "get_storage_provider",
    "load_config",
    "temp_file_async",
]
COSTLY = {"apsw", "asyncio", "blake3", "click", "msgspec", "pathspec", "platformdirs", "rich"}


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)


def test_the_public_names_are_these():
    assert sorted(lifecycle_sync.__all__) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_each_public_name_is_there_and_knows_itself(name):
    value = getattr(lifecycle_sync, name)
    if name != "__version__":
        assert value.__name__ == name
    assert getattr(lifecycle_sync, name) is value


def test_all_names_come_with_a_star():
    names: dict[str, object] = {}
    exec("from lifecycle_sync import *", names)
    assert set(PUBLIC) <= names.keys()


def test_dir_lists_the_names_before_they_are_imported():
    done = run("import lifecycle_sync; print(' '.join(dir(lifecycle_sync)))")
    assert set(PUBLIC) <= set(done.stdout.split())


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'lifecycle_sync' has no attribute 'Lifecycle'"):
        lifecycle_sync.Lifecycle  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError):
        from lifecycle_sync import Lifecycle  # type: ignore[attr-defined]  # noqa: F401


def test_the_version_is_a_version():
    assert lifecycle_sync.__version__[0].isdigit()


def test_importing_the_package_imports_nothing_costly():
    done = run("import sys, lifecycle_sync; print(' '.join(sys.modules))")
    assert not COSTLY & set(done.stdout.split()), done.stderr


def test_a_noun_costs_no_library():
    done = run("import sys; from lifecycle_sync import FileType; print(' '.join(sys.modules))")
    assert not COSTLY & set(done.stdout.split()), done.stderr


def test_windows_is_refused_with_the_reason():
    done = run("import sys; sys.platform = 'win32'; import lifecycle_sync")
    assert done.returncode != 0
    assert "ImportError: Lifecycle Sync runs on Linux and macOS, not on Windows" in done.stderr
