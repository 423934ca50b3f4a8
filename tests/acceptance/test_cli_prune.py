"""`lifecycle vault prune` by the real command: what goes, what waits, and what is said of it."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from tests.support.command import lifecycle


@pytest.fixture
def vault(tree: Path) -> Path:
    """The vault of a tree of which one file has six versions, and two are kept."""
    lifecycle("run", tree, "--once", "-q")
    lifecycle("policy", "set", "few", "--path", "*many*", "--max-versions", "2")
    for number in range(6):
        (tree / "many.bin").write_bytes(random.Random(number).randbytes(200_000 + number))
        lifecycle("run", tree, "--once", "-q")
        assert lifecycle("backup", "-q").code == 0
    return Path(os.environ["XDG_DATA_HOME"]) / "lifecycle-sync/vault"


def stored(vault: Path) -> int:
    folders = [vault / "packs", vault / "objects"]
    return sum(it.stat().st_size for top in folders for it in top.rglob("*") if it.is_file())


def test_versions_that_no_rule_keeps_go_and_the_room_comes_back(tree, vault, tmp_path):
    before = stored(vault)
    foreseen = lifecycle("vault", "prune", "--dry-run", "--json").document
    assert foreseen["versions"] == 4
    assert stored(vault) == before
    first = lifecycle("vault", "prune", "--yes", "--json").document
    assert {key: first[key] for key in ("versions", "condemned")} == {
        key: foreseen[key] for key in ("versions", "condemned")
    }
    assert first["deleted"]["files"] == 0
    assert first["waiting"]["files"] == first["condemned"]["files"]
    assert stored(vault) >= before
    second = lifecycle("vault", "prune", "--grace", "0", "--yes", "--json").document
    assert second["deleted"]["files"] == first["waiting"]["files"]
    assert before - stored(vault) > 3 * 200_000
    third = lifecycle("vault", "prune", "--grace", "0", "--yes", "--json").document
    assert (third["versions"], third["condemned"]["files"], third["deleted"]["files"]) == (0, 0, 0)
    assert lifecycle("verify", "--all").code == 0
    target = tmp_path / "restored"
    lifecycle("restore", tree / "many.bin", "--to", target)
    (restored,) = target.rglob("many.bin")
    assert restored.read_bytes() == (tree / "many.bin").read_bytes()
    assert lifecycle("history", tree / "many.bin").out.count("prune") >= 1


def test_the_registry_knows_no_more_than_the_vault(tree, vault):
    lifecycle("vault", "prune", "--grace", "0", "--yes")
    shown = lifecycle("show", tree / "many.bin", "--json").document
    assert len(shown["versions"]) == 2
    lifecycle("rebuild", "--yes")
    shown = lifecycle("show", tree / "many.bin", "--json").document
    assert len(shown["versions"]) == 2


def test_a_person_is_asked_first(tree, vault):
    before = stored(vault)
    refused = lifecycle("vault", "prune")
    assert refused.code == 2
    assert "--yes" in refused.err
    assert stored(vault) == before


def test_what_is_held_stays(tree, vault):
    lifecycle("hold", tree / "many.bin", "--reason", "a court wants it")
    report = lifecycle("vault", "prune", "--yes", "--json").document
    assert (report["versions"], report["waits"]) == (0, {"hold": 4})
    lifecycle("release", tree / "many.bin")
    assert lifecycle("vault", "prune", "--yes", "--json").document["versions"] == 4


def test_status_tells_what_waits(tree, vault):
    assert "waiting to be deleted" not in lifecycle("status").out
    condemned = lifecycle("vault", "prune", "--yes", "--json").document["condemned"]
    (note,) = [
        it for it in lifecycle("status", "--json").document["checks"] if it["what"] == "prune"
    ]
    assert (note["files"], note["bytes"]) == (condemned["files"], condemned["bytes"])
    assert note["since"] is not None
    assert "waiting to be deleted" in lifecycle("status").out


def test_while_pruning_is_paused_nothing_goes(tree, vault):
    lifecycle("pause", "--reason", "an audit")
    refused = lifecycle("vault", "prune", "--yes")
    assert refused.code == 4
    assert "an audit" in refused.err
    lifecycle("resume")
    assert lifecycle("vault", "prune", "--yes").code == 0


def test_a_vault_that_cannot_be_written_to_is_pruned_by_nobody(tree, vault):
    for damage in ("format", "store"):
        path = vault / "FORMAT"
        data = path.read_bytes()
        told = json.loads(data)
        told |= {"min_writer": 9} if damage == "format" else {"store_id": "0" * 32}
        path.write_text(json.dumps(told))
        refused = lifecycle("vault", "prune", "--yes")
        assert refused.code != 0
        assert "remedy" in refused.err.lower() or ":" in refused.err
        path.write_bytes(data)
    assert lifecycle("vault", "prune", "--yes").code == 0


def test_a_copy_is_pruned_of_what_was_condemned(tree, vault, tmp_path):
    place = tmp_path / "second"
    lifecycle("vault", "copy", place)
    assert lifecycle("vault", "prune", "--copy", place, "--yes", "--json").document["deleted"] == {
        "files": 0,
        "bytes": 0,
    }
    lifecycle("vault", "prune", "--grace", "0", "--yes")
    lifecycle("vault", "copy", place)
    before = stored(place)
    assert before > stored(vault)
    lifecycle("vault", "prune", "--copy", place, "--grace", "0", "--yes")
    assert stored(place) == stored(vault)
    assert lifecycle("vault", "copy", place, "--json").document["copied"] == 0
    assert json.loads((place / "FORMAT").read_bytes())["min_writer"] == 2
    target = tmp_path / "from the copy"
    lifecycle("restore", tree / "many.bin", "--to", target)
    assert lifecycle("vault", "prune", "--copy", tmp_path / "nothing", "--yes").code != 0


def test_a_manifest_that_is_lost_for_good_is_given_up_by_a_person(tree, vault):
    (lost,) = [it for it in (vault / "manifests").iterdir() if it.name.startswith("0000000003")]
    lost.unlink()
    waits = lifecycle("vault", "prune", "--dry-run")
    assert (waits.code, lost.name in waits.err, "give-up" in waits.err) == (1, True, True)
    refused = lifecycle("vault", "give-up", lost.name)
    assert (refused.code, "--yes" in refused.err) == (2, True)
    ahead = lifecycle("vault", "give-up", lost.name, "--dry-run", "--json").document
    done = lifecycle("vault", "give-up", lost.name, "--yes", "--json").document
    assert done == ahead | {"dry_run": False}
    (it,) = done["manifests"]
    assert (it["name"], it["why"], it["taken_up"]) == (lost.name, "is missing", True)
    assert lifecycle("vault", "prune", "--grace", "0", "--yes").code == 0
    assert lifecycle("verify", "--all").code == 0
    assert lifecycle("vault", "give-up", lost.name, "--yes").code == 2
