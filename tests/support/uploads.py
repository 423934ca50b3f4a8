"""An application with uploads: a table in memory, a folder."""

from __future__ import annotations

import itertools
from datetime import datetime
from pathlib import Path
from typing import Any


class Files:
    """The file repository of an application, as its people wrote it."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, Any]] = {}
        self._numbers = itertools.count(1)

    def create(self, row: dict[str, Any]) -> int:
        number = next(self._numbers)
        self.rows[number] = {"id": number, "expiry_at": None, "downloaded_at": None, **row}
        return number

    def get_by_id(self, number: int) -> dict[str, Any]:
        return self.rows[number]

    def get_all_active(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self.rows.values() if row.get("status") == "active"]

    def get_all(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self.rows.values()]

    def mark_expired(self, number: int) -> None:
        self.rows[number]["status"] = "expired"

    def get_downloaded_before(self, cutoff: datetime) -> list[dict[str, Any]]:
        return [
            dict(row)
            for row in self.rows.values()
            if row["downloaded_at"] and datetime.fromisoformat(row["downloaded_at"]) < cutoff
        ]

    def delete(self, number: int) -> None:
        del self.rows[number]


class Folder:
    """Its storage, which knows no ages."""

    backend_type = "local"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def put(self, name: str) -> Path:
        path = self.folder / name
        path.write_text(name)
        return path

    def delete(self, path: str) -> None:
        self.delete_by_name(path.rsplit("/", maxsplit=1)[-1])

    def list_files(self) -> list[str]:
        return [path.name for path in self.folder.iterdir()]

    def delete_by_name(self, name: str) -> None:
        (self.folder / name).unlink()
