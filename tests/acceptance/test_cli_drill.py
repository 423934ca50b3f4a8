"""Restores for a trial, and the evidence of examinations, by the real command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from lifecycle_sync.model.event import VersionEvent
from lifecycle_sync.service import drill
from tests.support.command import lifecycle


@pytest.fixture
def vault(tree: Path) -> Path:
    (tree / "link").symlink_to("notes.txt")
    (tree / "notes.txt").chmod(0o640)
    lifecycle("run", tree, "--once", "-q")
    assert lifecycle("backup", "-q").code == 0
    return Path(os.environ["XDG_DATA_HOME"]) / "lifecycle-sync/vault"


def scratch(vault: Path) -> list[Path]:
    return [path for path in vault.parent.rglob("*.drill/*") if path.exists()]


def test_versions_come_back_for_a_trial_and_that_is_evidence(tree, vault):
    assert "Evidence" in lifecycle("status").out
    before = lifecycle("status", "--json").document["checks"]
    assert {(it["what"], it["at"]) for it in before} == {("verify", None), ("drill", None)}
    done = lifecycle("drill", "--sample", "50", "--seed", "7", "--json")
    assert done.code == 0
    (root,) = done.document["roots"]
    files = lifecycle("status", "--json").document["roots"][0]["files"]
    assert (root["versions"], root["failures"]) == (files, [])
    assert lifecycle("drill", "--sample", "2").out.count("2 versions came back as kept") == 1
    assert lifecycle("verify", "--all", "-q").code == 0
    shown = {it["what"]: it for it in lifecycle("status", "--json").document["checks"]}
    assert (shown["drill"]["files"], shown["drill"]["faults"]) == (2, 0)
    assert shown["verify"]["since"] is not None
    assert scratch(vault) == []


def test_a_version_that_cannot_come_back_is_an_alarm(vault):
    (pack,) = (vault / "packs").rglob("*.zip")
    pack.chmod(0o600)
    data = bytearray(pack.read_bytes())
    data[len(data) // 3] ^= 1
    pack.write_bytes(bytes(data))
    done = lifecycle("drill", "--sample", "50")
    assert (done.code, "Remedy: `lifecycle verify --all --heal`" in done.out) == (1, True)
    assert "1 fault" in lifecycle("status").out
    looked = lifecycle("doctor", "--json")
    assert looked.code == 1
    assert "evidence.drill" in looked.out
    assert scratch(vault) == []
    assert lifecycle("verify", "--all", "--heal", "-q").code == 0
    assert lifecycle("drill", "--sample", "50", "-q").code == 0
    assert "1 fault" not in lifecycle("status").out


def test_the_same_seed_draws_the_same_lots(vault, monkeypatch):
    drawn: list[list[VersionEvent]] = []
    real = drill._draw

    def draw(*given: Any) -> list[VersionEvent]:
        drawn.append(real(*given))
        return drawn[-1]

    monkeypatch.setattr(drill, "_draw", draw)
    for seed in ("1", "1", "2"):
        assert lifecycle("drill", "--sample", "3", "--seed", seed, "-q").code == 0
    assert drawn[0] == drawn[1] != drawn[2]


def test_run_brings_copies_up_to_date_and_makes_none_where_a_disk_is_away(tree, vault, monkeypatch):
    place = vault.parent.parent.parent / "second"
    monkeypatch.setenv("LIFECYCLE_BACKUP_COPIES", str(place))
    done = lifecycle("run", "--once")
    assert (done.code, str(place) in done.err, place.exists()) == (0, True, False)
    # An empty mount point is no copy, nor is a fresh disk.
    place.mkdir()
    done = lifecycle("run", "--once")
    assert (done.code, "is empty: there is no copy in it" in done.err) == (0, True)
    assert list(place.iterdir()) == []
    (place / "lost+found").mkdir()
    done = lifecycle("run", "--once")
    assert (done.code, "is no vault and not empty" in done.err) == (0, True)
    assert [it.name for it in place.iterdir()] == ["lost+found"]
    (place / "lost+found").rmdir()
    assert lifecycle("vault", "copy", "-q").code == 0
    (tree / "new.txt").write_bytes(b"new")
    assert "second" not in lifecycle("run", "--once").err

    def packs(folder: Path) -> set[str]:
        return {path.name for path in (folder / "packs").rglob("*.zip")}

    with monkeypatch.context() as without:
        without.delenv("LIFECYCLE_BACKUP_COPIES")
        assert lifecycle("backup", "-q").code == 0
    assert packs(place) != packs(vault)
    assert lifecycle("run", "--once", "-q").code == 0
    assert packs(place) == packs(vault)
    shown = [it for it in lifecycle("status", "--json").document["checks"] if it["what"] == "copy"]
    assert [(it["path"], it["faults"]) for it in shown] == [(str(place), 0)]
