"""What a vault cannot give comes from its copies, by the real command."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.command import lifecycle

NAMES = ("notes.txt", "large.bin")


class Places(NamedTuple):
    """A vault, and two copies of it that the settings name."""

    vault: Path
    copies: list[Path]


@pytest.fixture(params=["plain", "encrypted"])
def places(request, tree: Path, tmp_path: Path, monkeypatch) -> Places:
    if request.param == "encrypted":
        public = lifecycle("vault", "keygen", tmp_path / "key").out.strip()
        monkeypatch.setenv("LIFECYCLE_BACKUP_RECIPIENTS", public)
        monkeypatch.setenv("LIFECYCLE_ARCHIVE_RECIPIENTS", public)
        monkeypatch.setenv("LIFECYCLE_IDENTITY_PATH", str(tmp_path / "key"))
    copies = [tmp_path / "second/vault", tmp_path / "third/vault"]
    monkeypatch.setenv("LIFECYCLE_BACKUP_COPIES", "\n".join(map(str, copies)))
    (tree / "large.bin").write_bytes(os.urandom(2_000_000))
    lifecycle("run", tree, "--once", "-q")
    assert lifecycle("backup", "-q").code == 0
    assert lifecycle("vault", "copy").code == 0
    return Places(Path(os.environ["XDG_DATA_HOME"]) / "lifecycle-sync/vault", copies)


def spoil(folder: Path, pattern: str) -> None:
    """Put zeros into each of these files."""
    found = list(folder.rglob(pattern))
    assert found
    for path in found:
        path.chmod(0o600)
        path.write_bytes(bytes(path.stat().st_size))


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(it.relative_to(folder)): it.read_bytes() for it in folder.rglob("*") if it.is_file()
    }


def taken_away(tree: Path) -> dict[str, bytes]:
    """The contents of the files that are then not there any more."""
    found = {name: (tree / name).read_bytes() for name in NAMES}
    for name in NAMES:
        (tree / name).unlink()
    return found


def is_back(folder: Path, expected: dict[str, bytes]) -> bool:
    return {name: (folder / name).read_bytes() for name in NAMES} == expected


def test_each_content_comes_from_where_it_is_whole(tree, places):
    vault, (second, third) = places
    shutil.rmtree(vault / "objects")
    spoil(vault / "packs", "*.zip*")
    spoil(second / "packs", "*.zip*")
    before = files(vault / "packs"), files(second), files(third)
    expected = taken_away(tree)
    done = lifecycle("restore", tree / NAMES[0], tree / NAMES[1], "--json")
    (root,) = done.document["roots"]
    assert (done.code, root["completed"], root["failed"]) == (0, 2, 0)
    # The object from the first copy that has it, the small file from the only one.
    assert root["from_copies"] == {str(second): 1, str(third): 1}
    assert is_back(tree, expected)
    # Nothing is mended by it.
    assert (files(vault / "packs"), files(second), files(third)) == before
    told = lifecycle("history", tree / "notes.txt", "--json").out
    assert str(third) in told
    # And again: what is there needs nothing.
    assert lifecycle("restore", tree / NAMES[0], tree / NAMES[1]).code == 0


def test_it_is_said_and_what_mends_the_vault(tree, places, tmp_path):
    vault, (second, _third) = places
    spoil(vault / "packs", "*.zip*")
    expected = taken_away(tree)
    done = lifecycle("restore", tree, "--to", tmp_path / "rescue")
    assert done.code == 0
    assert f"read from the copy {second}" in done.out
    assert "`lifecycle verify --heal` mends" in done.out
    assert is_back(tmp_path / "rescue" / tree.name, expected)
    assert lifecycle("verify", "--all", "--heal").code == 0
    again = lifecycle("restore", tree, "--to", tmp_path / "other", "--json").document
    assert again["roots"][0]["from_copies"] == {}


def test_what_nobody_has_whole_fails_as_ever_and_the_rest_comes_back(tree, places):
    vault, copies = places
    expected = taken_away(tree)
    for place in (vault, *copies):
        spoil(place / "packs", "*.zip*")
    done = lifecycle("restore", tree / NAMES[0], tree / NAMES[1], "--json")
    (root,) = done.document["roots"]
    assert (done.code, root["completed"], root["failed"]) == (3, 1, 1)
    assert root["from_copies"] == {}
    assert not (tree / "notes.txt").exists()
    assert (tree / "large.bin").read_bytes() == expected["large.bin"]


def test_copies_that_are_away_or_of_another_vault_give_nothing(tree, places, tmp_path):
    vault, (second, third) = places
    second.rename(tmp_path / "away")
    front = third / "FORMAT"
    front.chmod(0o600)
    front.write_bytes(front.read_bytes().replace(b'"store_id":"', b'"store_id":"f'))
    spoil(vault / "packs", "*.zip*")
    taken_away(tree)
    assert lifecycle("restore", tree / "notes.txt").code != 0
    assert not (tree / "notes.txt").exists()


def test_the_archive_has_copies_too(tree, places, tmp_path, monkeypatch):
    copy = tmp_path / "archive copy"
    monkeypatch.setenv("LIFECYCLE_ARCHIVE_COPIES", str(copy))
    expected = {name: (tree / name).read_bytes() for name in NAMES}
    assert lifecycle("archive", tree / NAMES[0], tree / NAMES[1], "-q").code == 0
    assert lifecycle("vault", "copy", "--archive").code == 0
    archive = places.vault.parent / "archive"
    spoil(archive / "packs", "*.zip*")
    spoil(archive / "objects", "*.zst*")
    done = lifecycle("recall", tree / NAMES[0], tree / NAMES[1], "--json")
    (root,) = done.document["roots"]
    assert (done.code, root["from_copies"]) == (0, {str(copy): 2})
    assert is_back(tree, expected)


def test_where_the_vault_is_lost_its_copy_is_named_and_takes_its_place(tree, places, monkeypatch):
    vault, (second, third) = places
    shutil.rmtree(vault)
    # One whose disk is not mounted is none.
    monkeypatch.setenv("LIFECYCLE_BACKUP_COPIES", f"{tree.parent}/empty\n{second}\n{third}")
    (tree.parent / "empty").mkdir()
    expected = taken_away(tree)
    refused = lifecycle("restore", tree / NAMES[0], tree / NAMES[1])
    assert refused.code == 1
    assert f"let a copy take its place, {second}: set backup_path" in refused.err
    assert "--new-vault" in refused.err
    monkeypatch.setenv("LIFECYCLE_BACKUP_PATH", str(second))
    monkeypatch.setenv("LIFECYCLE_BACKUP_COPIES", str(third))
    assert lifecycle("restore", tree / NAMES[0], tree / NAMES[1]).code == 0
    assert is_back(tree, expected)
    assert lifecycle("backup", "-q").code == 0
