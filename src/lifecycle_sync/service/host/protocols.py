"""What `CleanupService` asks of an application: its storage, and its table of files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Protocol, runtime_checkable


class StorageBackend(Protocol):
    """Where the application keeps its files."""

    @property
    def backend_type(self) -> str:
        """ "local" for a folder; only there orphans are looked for."""

    def delete(self, path: str) -> object:
        """Delete the file that the table calls by this path. Raises `FileNotFoundError` for one
        that is gone, anything else for one that could not be deleted."""

    def list_files(self) -> Iterable[str]:
        """The names of all files; asked of a local storage only."""

    def delete_by_name(self, name: str) -> object:
        """Delete a file by a name of `list_files`."""


@runtime_checkable
class AgeingBackend(Protocol):
    """A storage that also knows how old its files are."""

    def modified_ns(self, name: str) -> int | None:
        """When a file was last modified, in nanoseconds since 1970; None for one that is gone."""


class FileRepository(Protocol):
    """The application's table of files, as dictionaries with `id` and `path`, and, where there is
    one, `expiry_at` and `downloaded_at` (a datetime or ISO text; naive: local time)."""

    def get_all_active(self) -> Iterable[Mapping[str, Any]]:
        """Those that are neither expired nor deleted."""

    def get_all(self) -> Iterable[Mapping[str, Any]]:
        """All of them: whatever has a row is no orphan."""

    def mark_expired(self, file_id: Any) -> object:
        """Say that a file was deleted because its time was over."""

    def get_downloaded_before(self, cutoff: datetime) -> Iterable[Mapping[str, Any]]:
        """Those that were downloaded before a moment, of the kind (naive or aware) that the table
        itself has."""

    def delete(self, file_id: Any) -> object:
        """Delete a row."""
