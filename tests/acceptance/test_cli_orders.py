"""`init`, `add`, `accept`, `remove`: orders that change what is under management."""

from __future__ import annotations

import json
import os
from pathlib import Path

import apsw
import pytest

from lifecycle_sync.config import load_config
from tests.support.command import lifecycle


def database() -> Path:
    return Path(os.environ["XDG_DATA_HOME"]) / "lifecycle-sync/registry.db"


# -- init ----------------------------------------------------------------------------------


def test_init_writes_settings_that_can_be_read_and_makes_the_registry(work):
    done = lifecycle("init")
    assert done.code == 0
    file = work / "lifecycle.toml"
    assert f"Wrote {file}" in done.out
    assert (work / "registry.db").exists()
    settings = load_config(file)
    assert settings.database_path == work / "registry.db"
    assert settings.roots == ()
    assert lifecycle("status").code == 0


def test_what_the_settings_file_comments_out_is_the_default(work):
    lifecycle("init")
    text = (work / "lifecycle.toml").read_text()
    lines = [line for line in text.splitlines() if line.startswith("# ") and " = " in line]
    assert len(lines) >= 5
    plain = load_config(work / "lifecycle.toml")
    for line in lines:
        name = line[2:].partition(" = ")[0]
        if name in {"ignore", "worker_threads"}:
            continue  # examples, not defaults
        (work / "full.toml").write_text(line[2:] + "\n")
        assert getattr(load_config(work / "full.toml"), name) == getattr(plain, name)


def test_a_second_init_refuses_and_changes_nothing(work):
    lifecycle("init")
    (work / "lifecycle.toml").write_text("# mine\n")
    done = lifecycle("init")
    assert done.code == 2
    assert "exists already and is left as it is" in done.err
    assert "--path" in done.err
    assert (work / "lifecycle.toml").read_text() == "# mine\n"


def test_init_elsewhere(work):
    (work / "etc").mkdir()
    document = lifecycle("init", "--path", "etc", "--json").document
    assert document["settings"]["path"] == str(work / "etc/lifecycle.toml")
    assert document["registry_made"] is True
    assert lifecycle("--config", "etc/lifecycle.toml", "status").code == 0
    missing = lifecycle("init", "--path", "nowhere")
    assert (missing.code, "does not exist" in missing.err or "no such" in missing.err) == (2, True)


def test_an_init_that_fails_can_be_repeated(work):
    (work / "registry.db").mkdir()
    assert lifecycle("init").code == 2
    assert not (work / "lifecycle.toml").exists()
    (work / "registry.db").rmdir()
    assert lifecycle("init").code == 0


# -- add -----------------------------------------------------------------------------------


def test_add_starts_in_advice_and_enforces_when_told(tree):
    done = lifecycle("add", tree)
    assert done.code == 0
    assert f"{tree}: registered; policies only advise" in done.out
    assert "lifecycle sync" in done.err
    again = lifecycle("add", tree)
    assert (again.code, again.out) == (0, f"{tree}: is a root already\n")
    looked = lifecycle("add", tree, "--enforce", "--dry-run")
    assert "would act on it" in looked.out
    (root,) = lifecycle("status", "--json").document["roots"]
    assert root["enforce"] is False
    assert lifecycle("add", tree, "--enforce").code == 0
    (root,) = lifecycle("status", "--json").document["roots"]
    assert root["enforce"] is True


def test_a_dry_run_registers_nothing(tree):
    done = lifecycle("add", tree, "--dry-run", "--json")
    assert done.code == 0
    assert done.document["dry_run"] is True
    assert done.document["roots"][0]["created"] is True
    assert not database().exists()
    assert not (tree / ".lifecycle").exists()
    lifecycle("init")
    lifecycle("add", tree, "--dry-run")
    assert lifecycle("status", "--json").document["roots"] == []


# -- remove --------------------------------------------------------------------------------


def test_remove_asks_and_without_a_terminal_wants_yes(tree):
    lifecycle("run", tree, "--once")
    done = lifecycle("remove", tree)
    assert done.code == 2
    assert "--yes" in done.err
    looked = lifecycle("remove", tree, "--dry-run")
    assert looked.out == f"{tree}: would be removed with 5 records; its files stay\n"
    assert len(lifecycle("status", "--json").document["roots"]) == 1


def test_remove_forgets_the_records_and_leaves_the_files(tree):
    lifecycle("run", tree, "--once")
    before = sorted(path for path in tree.rglob("*") if ".lifecycle" not in path.parts)
    document = lifecycle("remove", tree, "--yes", "--json").document
    assert (document["path"], document["records"]) == (str(tree), 5)
    assert sorted(tree.rglob("*")) == before
    assert lifecycle("find").out == ""
    again = lifecycle("remove", tree, "--yes")
    assert again.code == 2
    assert "is no root of this registry" in again.err
    assert lifecycle("run", tree, "--once").code == 0


# -- accept --------------------------------------------------------------------------------


def test_accept_of_what_nothing_holds_says_so(tree):
    lifecycle("run", tree, "--once")
    done = lifecycle("accept", tree)
    assert done.code == 0
    assert "nothing: no guard holds it" in done.out
    refused = lifecycle("accept", tree / "notes.txt")
    assert refused.code == 2
    assert "neither a root nor a suspect file" in refused.err


@pytest.fixture
def rotten(tree: Path) -> Path:
    """A file whose checksum in the registry is not that of its bytes, as after bit rot."""
    lifecycle("run", tree, "--once")
    # Until it has been hashed once more nothing is certain of it.
    lifecycle("sync")
    connection = apsw.Connection(os.fspath(database()))
    connection.execute(
        "UPDATE files SET checksum = zeroblob(32), hash_due = 0, flags = 0 WHERE name = ?",
        (b"notes.txt",),
    )
    connection.close()
    return tree / "notes.txt"


def test_a_scrub_finds_damage_and_accept_takes_it(rotten):
    assert lifecycle("sync").code == 0
    done = lifecycle("sync", "--scrub")
    assert done.code == 3
    assert "1 file suspect" in done.out
    found = lifecycle("find", "--suspect")
    assert f"{rotten}  [suspect]" in found.out
    assert "suspect" in lifecycle("show", rotten).out
    assert "Suspect" in lifecycle("run", "--once").out
    (event,) = lifecycle("history", rotten, "--json").document["operations"]
    assert (event["operation_type"], event["status"]) == ("scrub", "failed")
    assert json.loads(event["details"])["reason"].startswith("content changed")
    accepted = lifecycle("accept", rotten)
    assert accepted.code == 0
    assert "accepted the content of notes.txt as it is now" in accepted.out
    assert lifecycle("find", "--suspect").out == ""
    assert lifecycle("sync", "--scrub").code == 0


# -- the registry --------------------------------------------------------------------------


def test_a_question_without_a_registry_tells_how_to_make_one(work):
    for order in (
        ["status"],
        ["ls"],
        ["find"],
        ["sql", "SELECT 1"],
        ["show", "x"],
        ["accept", "x"],
    ):
        done = lifecycle(*order)
        assert done.code == 1, order
        assert "does not exist" in done.err
        assert "`lifecycle init`" in done.err
    assert not database().exists()


def test_a_database_that_is_none_is_left_alone(work, tree):
    (work / "photo.db").write_bytes(b"\xff\xd8" * 600)
    done = lifecycle("run", tree, "--once", "--database", "photo.db")
    assert done.code == 1
    assert "is not a SQLite database" in done.err
    assert "--database" in done.err
    assert (work / "photo.db").read_bytes() == b"\xff\xd8" * 600
    assert not (tree / ".lifecycle").exists()
