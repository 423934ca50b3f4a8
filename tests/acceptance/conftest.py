"""Fixtures of the tests that use the program as people do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory; home, data and settings of this test alone."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    for name in os.environ:
        if name.startswith("LIFECYCLE_"):
            monkeypatch.delenv(name)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def tree(work: Path) -> Path:
    """A small folder of files: two with one content, one nested, one link, one ignored."""
    root = work / "files"
    (root / "photos/2025").mkdir(parents=True)
    (root / "notes.txt").write_bytes(b"n" * 3_000)
    (root / "photos/a.jpg").write_bytes(b"same content")
    (root / "photos/2025/b.jpg").write_bytes(b"same content")
    (root / "photos/2025/long.mp4").write_bytes(os.urandom(200_000))
    (root / "photos/link").symlink_to("a.jpg")
    (root / ".hidden").write_bytes(b"h")
    return root
