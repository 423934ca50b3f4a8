"""`doctor` and `rebuild` as people call them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.command import lifecycle


@pytest.fixture
def database(tree: Path) -> Path:
    """The registry of an indexed tree."""
    assert lifecycle("run", tree, "--once").code == 0
    return Path(os.environ["XDG_DATA_HOME"]) / "lifecycle-sync/registry.db"


def test_the_doctor_finds_nothing_wrong_with_a_sound_registry(database):
    done = lifecycle("doctor", "--json")
    assert done.code == 0
    document = done.document
    assert document["faults"] == 0
    assert {"check", "level", "subject", "message", "remedy"} == document["findings"][0].keys()
    text = lifecycle("doctor").out
    assert text.startswith("Examination")
    assert "registry.integrity" in text
    assert "registry.integrity" not in lifecycle("doctor", "--quiet").out


def test_the_doctor_ends_with_1_where_there_is_a_fault_and_tells_how_to_mend_it(database):
    with database.open("r+b") as file:
        file.truncate(5000)
    done = lifecycle("doctor")
    assert done.code == 1
    assert "fault" in done.out
    assert "rebuild" in done.out


def test_faulty_settings_are_findings(work):
    (work / "lifecycle.toml").write_text("nonsense = 1\nhash_algorithm = 'md5'\n")
    done = lifecycle("doctor", "--json")
    assert done.code == 1
    assert done.document["faults"] == 2
    assert all(item["remedy"] for item in done.document["findings"])


def test_rebuild_refuses_a_whole_registry(database):
    done = lifecycle("rebuild")
    assert done.code == 2
    assert "--force" in done.err


def test_rebuild_makes_a_torn_registry_again_and_keeps_the_old_one(database, tree):
    before = lifecycle("ls", "-R", "--json").lines
    with database.open("r+b") as file:
        file.truncate(8192)
    assert lifecycle("status").code == 1
    done = lifecycle("rebuild", tree, "--json")
    assert done.code == 0
    document = done.document
    assert Path(document["set_aside"]["path"]).stat().st_size == 8192
    (root,) = document["roots"]
    assert (root["path"], root["outcome"], root["files"]) == (str(tree), "scanned", 5)
    after = lifecycle("ls", "-R", "--json").lines
    assert [item["checksum"] for item in after] == [item["checksum"] for item in before]


def test_rebuild_tells_people_what_it_did(database, tree):
    database.unlink()
    done = lifecycle("rebuild", tree)
    assert done.code == 0
    assert f"{database}  (rebuilt)" in done.out
    assert str(tree) in done.out
    assert "Lost" in done.out
