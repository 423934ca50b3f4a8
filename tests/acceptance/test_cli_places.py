"""A prune has copied what is needed, the copy is damaged, and what it was copied out of is not
deleted yet: by the real command nothing is missing, and nothing is said to be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.command import lifecycle

_COPIED = {"p7.jpg": os.urandom(20_000), "p8.jpg": os.urandom(20_000)}


@pytest.fixture
def root(tree: Path) -> Path:
    """Two files that stand in a pack which a prune made, and whose copies there are damaged."""
    vault = Path(os.environ["XDG_DATA_HOME"]) / "lifecycle-sync/vault"
    for name, data in _COPIED.items():
        (tree / name).write_bytes(data)
    lifecycle("run", tree, "--once", "-q")
    for turn in range(2):
        for number in range(6):
            (tree / f"p{number}.jpg").write_bytes(bytes([turn]) + os.urandom(200_000))
        lifecycle("sync", "-q")
        assert lifecycle("backup", "-q").code == 0
    assert lifecycle("policy", "set", "media", "--max-versions", "1").code == 0
    before = set((vault / "packs").rglob("*.zip"))
    assert lifecycle("vault", "prune", "--yes").code == 0
    copied = set((vault / "packs").rglob("*.zip")) - before
    assert copied
    for path in copied:
        path.chmod(0o600)
        path.write_bytes(bytes(path.stat().st_size))
    for name in _COPIED:
        (tree / name).unlink()
    return tree


def brought_back(root: Path, to: Path) -> None:
    assert lifecycle("restore", root, "--to", to).code == 0
    for name, data in _COPIED.items():
        assert (to / root.name / name).read_bytes() == data


def test_all_of_it_comes_back_before_and_after_it_is_healed_and_pruned(root, tmp_path):
    brought_back(root, tmp_path / "before")
    seen = lifecycle("verify", "--all")
    assert seen.code == 1
    assert "Cannot be restored" not in seen.out
    assert "is whole in another place" in seen.out
    brought_back(root, tmp_path / "seen")
    healed = lifecycle("verify", "--all", "--heal")
    assert healed.code == 0
    assert lifecycle("verify", "--all", "--heal").code == 0
    assert lifecycle("vault", "prune", "--grace", "0", "--yes").code == 0
    assert lifecycle("verify", "--contents").code == 0
    brought_back(root, tmp_path / "pruned")


def test_a_healing_says_where_it_has_it_from(root, tmp_path):
    healed = lifecycle("verify", "--all", "--heal")
    assert healed.code == 0
    assert "contents from another place in the vault" in healed.out
    brought_back(root, tmp_path / "healed")
