"""`lifecycle vault copy` and `mend`: a second place for a vault, by the real command."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from lifecycle_sync.errors import CancelledError
from lifecycle_sync.service import healing
from tests.support.command import lifecycle, lifecycle_on_terminal


@pytest.fixture
def vault(tree: Path) -> Path:
    """The vault of a tree that was backed up."""
    (tree / "large.bin").write_bytes(os.urandom(2_000_000))
    lifecycle("run", tree, "--once", "-q")
    assert lifecycle("backup", "-q").code == 0
    return Path(os.environ["XDG_DATA_HOME"]) / "lifecycle-sync/vault"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "second/vault"


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def spoil(path: Path) -> None:
    """Flip a bit in the middle, as a disk does, and keep the size."""
    os.chmod(path, 0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_a_copy_is_the_same_vault_and_a_second_run_copies_what_is_new(tree, vault, place):
    foreseen = lifecycle("vault", "copy", place, "--dry-run", "--json").document
    assert not place.exists()
    first = lifecycle("vault", "copy", place, "--json").document
    assert (first["copied"], first["bytes"]) == (foreseen["copied"], foreseen["bytes"])
    assert files(place) == files(vault)
    assert lifecycle("vault", "copy", place, "--json").document["copied"] == 0
    (tree / "new.txt").write_bytes(b"new")
    lifecycle("backup", "-q")
    second = lifecycle("vault", "copy", place, "--json").document
    # A pack and a manifest.
    assert (second["copied"], second["there"]) == (2, first["copied"])
    assert files(place) == files(vault)


def test_a_vault_that_is_lost_is_the_copy(tree, vault, place):
    lifecycle("vault", "copy", place)
    shutil.rmtree(vault)
    shutil.copytree(place, vault)
    (tree / "notes.txt").unlink()
    assert lifecycle("restore", tree / "notes.txt").code == 0
    assert (tree / "notes.txt").read_bytes() == b"n" * 3_000
    assert lifecycle("verify", "--all-bytes").code == 0


def test_what_is_damaged_in_the_copy_is_found_by_check_and_replaced(vault, place):
    lifecycle("vault", "copy", place)
    spoil(next((place / "packs").rglob("*.zip")))
    assert lifecycle("vault", "copy", place, "--json").document["copied"] == 0
    done = lifecycle("vault", "copy", place, "--check", "--json").document
    assert (done["copied"], done["replaced"]) == (1, 1)
    assert files(place) == files(vault)


def test_what_is_damaged_in_the_vault_is_not_copied_and_is_mended_from_the_copy(vault, place):
    lifecycle("vault", "copy", place)
    whole = files(vault)
    spoil(next((vault / "packs").rglob("*.zip")))
    next((vault / "objects").rglob("*.zst")).unlink()
    assert lifecycle("verify", "--all-bytes").code == 1
    # A new copy has what is whole, and says what is not.
    other = place.parent / "other"
    done = lifecycle("vault", "copy", other, "--json")
    assert done.code == 3
    assert [it["reason"] for it in done.document["damaged"]] == ["is not what its name says"]
    foreseen = lifecycle("vault", "mend", place, "--dry-run", "--json").document
    assert foreseen["copied"] == 2
    assert files(vault) != whole
    mended = lifecycle("vault", "mend", place, "--json").document
    assert (mended["copied"], mended["replaced"]) == (2, 1)
    assert files(vault) == whole
    assert lifecycle("verify", "--all-bytes").code == 0
    assert lifecycle("vault", "mend", place, "--json").document["copied"] == 0


def test_damage_in_the_copy_never_reaches_the_vault(vault, place):
    lifecycle("vault", "copy", place)
    spoil(next((vault / "packs").rglob("*.zip")))
    spoiled = files(vault)
    # At another place, so that neither is the other's.
    path = next((place / "packs").rglob("*.zip"))
    os.chmod(path, 0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    done = lifecycle("vault", "mend", place)
    assert done.code == 3
    assert "is not what its name says" in done.err
    assert files(vault) == spoiled


def test_a_copy_that_was_cut_off_is_a_vault_and_goes_on(tree, vault, place):
    lifecycle("vault", "copy", place)
    (last,) = (place / "manifests").glob("*.zst")
    last.unlink()
    next((place / "objects").rglob("*.zst")).unlink()
    done = lifecycle("vault", "copy", place, "--json").document
    assert done["copied"] == 2
    assert files(place) == files(vault)


def test_places_that_are_none_are_refused(tree, vault, place, tmp_path):
    cases = {
        tree / "copy": "lies in the root",
        vault: "is a vault or the registry",
        vault / "inner": "is a vault or the registry",
        tree.parent: "has a root in it",
    }
    for where, words in cases.items():
        done = lifecycle("vault", "copy", where)
        assert (done.code, words in done.err) == (2, True), done
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_bytes(b"")
    assert "is no vault and not empty" in lifecycle("vault", "copy", tmp_path / "full").err
    assert "does not exist" in lifecycle("vault", "mend", tmp_path / "none").err
    lifecycle("archive", tree / "notes.txt", "-q")
    lifecycle("vault", "copy", place, "--archive")
    done = lifecycle("vault", "copy", place)
    assert done.code == 1
    assert "kind archive" in done.err


def test_on_a_terminal_it_shows_how_it_goes_on(vault, place):
    code, text = lifecycle_on_terminal("vault", "copy", place)
    assert (code, "Traceback" in text) == (0, False), text
    assert "copied" in text
    next((vault / "packs").rglob("*.zip")).unlink()
    code, text = lifecycle_on_terminal("vault", "mend", place)
    assert code == 0, text
    assert "mended 1 file" in text


# -- healed ----------------------------------------------------------------------------------


def test_damage_is_healed_from_files_that_still_match(tree, vault):
    spoil(next((vault / "objects").rglob("*.zst")))
    (pack,) = (vault / "packs").rglob("*.zip")
    pack.chmod(0o600)
    pack.write_bytes(bytes(pack.stat().st_size))
    # One of them changed since: nobody has what the vault had of it.
    (tree / "notes.txt").write_bytes(b"something else")
    done = lifecycle("verify", "--all", "--heal", "--json")
    assert done.code == 1
    found = done.document["vaults"][0]
    assert {it["path"] for it in found["affected"]} == {str(tree / "notes.txt")}
    assert sorted(it["healed"] for it in found["findings"]) == [False, True]
    assert {it["source"] for it in found["healing"]["healed"]} == {"files that still match"}
    aside = {path.name for path in (vault / "quarantine").iterdir()}
    assert aside == {pack.name}
    large = (tree / "large.bin").read_bytes()
    (tree / "large.bin").unlink()
    assert lifecycle("restore", tree / "large.bin").code == 0
    assert (tree / "large.bin").read_bytes() == large
    # It stays named until somebody stores it anew, or a copy turns up.
    assert lifecycle("verify").code == 1


def test_where_manifest_and_contents_are_damaged_what_files_still_have_is_kept_again(tree, vault):
    """No manifest tells what was in the packs, so it is the registry that asks for it."""
    (tree / "a.txt").write_bytes(b"as it was")
    assert lifecycle("backup", "-q").code == 0
    (tree / "a.txt").write_bytes(b"as it is")
    for folder in ("packs", "objects", "manifests"):
        for path in (vault / folder).rglob("*.z*"):
            path.chmod(0o600)
            path.write_bytes(bytes(path.stat().st_size))
    done = lifecycle("verify", "--all", "--heal", "--json")
    # Nobody can tell what else the manifests told: where links point, and contents that changed.
    assert done.code == 1
    (failed,) = done.document["vaults"][0]["healing"]["failed"]
    assert failed["reason"].startswith("2 versions of it that the registry knows cannot be told")
    names = ("notes.txt", "large.bin")
    before = {name: (tree / name).read_bytes() for name in names}
    for name in names:
        (tree / name).unlink()
        assert lifecycle("restore", tree / name).code == 0
    assert {name: (tree / name).read_bytes() for name in names} == before
    # And what is there of the others is kept by what was said to keep it.
    assert lifecycle("backup", "--again", "-q").code == 0
    (tree / "photos/link").unlink()
    assert lifecycle("restore", tree / "photos/link").code == 0


def test_a_healing_that_was_cut_off_before_the_registry_told_is_begun_again(
    tree, vault, monkeypatch
):
    """The manifest goes last, or nobody would ask the registry, nor look into its packs, again."""
    for folder in ("packs", "manifests"):
        for path in (vault / folder).rglob("*.z*"):
            path.chmod(0o600)
            # The end of a pack: all of its members are whole.
            data = path.read_bytes()
            path.write_bytes(data[:-6] + bytes(6))
    for name in ("notes.txt", "large.bin"):
        (tree / name).rename(tree.parent / name)
    with monkeypatch.context() as once:
        once.setattr(healing, "retell", _cut_off)
        assert lifecycle("verify", "--all", "--heal").code == 1
    lifecycle("verify", "--all", "--heal")
    for name in ("notes.txt", "large.bin"):
        assert lifecycle("restore", tree / name).code == 0
        assert (tree / name).read_bytes() == (tree.parent / name).read_bytes()


def _cut_off(*_: object, **__: object) -> None:
    raise CancelledError("asked to stop")


def test_healed_from_a_copy_that_the_settings_name_everything_is_as_it_was(
    vault, place, monkeypatch
):
    monkeypatch.setenv("LIFECYCLE_BACKUP_COPIES", str(place))
    lifecycle("vault", "copy", place)
    whole = files(vault)
    spoil(next((vault / "packs").rglob("*.zip")))
    next((vault / "objects").rglob("*.zst")).unlink()
    spoil(next((place / "manifests").iterdir()))
    before = lifecycle("verify", "--all", "--json")
    assert (before.code, before.document["vaults"][0]["copies"][0]["ok"]) == (1, False)
    healed = lifecycle("verify", "--all", "--heal")
    assert (healed.code, "healed" in healed.out) == (0, True)
    after = files(vault)
    assert {name: data for name, data in after.items() if "quarantine" not in name} == whole
    assert files(place) == whole
    assert lifecycle("verify", "--all").code == 0
    shown = lifecycle("verify", "--sample", "50%", "--rate", "900MB/s")
    assert (shown.code, "read whole" in shown.out, "set aside" in shown.out) == (0, True, True)


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_a_copy_that_is_made_after_a_healing_takes_the_place_of_the_vault(
    tree, place, tmp_path, monkeypatch, encrypted
):
    if encrypted:
        public = lifecycle("vault", "keygen", tmp_path / "key").out.strip()
        monkeypatch.setenv("LIFECYCLE_BACKUP_RECIPIENTS", public)
        monkeypatch.setenv("LIFECYCLE_IDENTITY_PATH", str(tmp_path / "key"))
    lifecycle("run", tree, "--once", "-q")
    (tree / "large.bin").write_bytes(os.urandom(2_000_000))
    assert lifecycle("backup", "-q").code == 0
    first = Path(os.environ["XDG_DATA_HOME"]) / "lifecycle-sync/vault"
    for path in [*(first / "packs").rglob("*.*"), *(first / "objects").rglob("*.*")]:
        spoil(path)
    assert lifecycle("verify", "--all", "--heal").code == 0
    foreseen = lifecycle("vault", "copy", place, "--dry-run", "--json").document
    done = lifecycle("vault", "copy", place, "--json").document
    assert (done["copied"], done["bytes"]) == (foreseen["copied"], foreseen["bytes"])
    shutil.rmtree(first)
    monkeypatch.setenv("LIFECYCLE_BACKUP_PATH", str(place))
    for how in ("--structure", "--all", "--contents"):
        assert lifecycle("verify", how).code == 0
    before = {name: (tree / name).read_bytes() for name in ("notes.txt", "large.bin")}
    for name in before:
        (tree / name).unlink()
    assert lifecycle("restore", tree / "notes.txt", tree / "large.bin").code == 0
    assert {name: (tree / name).read_bytes() for name in before} == before
    assert lifecycle("vault", "prune", "--grace", "0", "--yes").code == 0
    assert lifecycle("verify", "--contents").code == 0


def test_all_copies_of_the_settings_are_brought_up_to_date_at_once(vault, place, monkeypatch):
    assert lifecycle("vault", "copy").code == 2
    monkeypatch.setenv("LIFECYCLE_BACKUP_COPIES", f"{place}\n{place.parent / 'third'}")
    assert lifecycle("vault", "copy", "--dry-run").code == 0
    assert not place.exists()
    done = lifecycle("vault", "copy", "--json")
    assert [it["copied"] for it in done.document["copies"]] == [len(files(vault)) - 3] * 2
    assert files(place) == files(place.parent / "third") == files(vault)


def copied_to(place: Path) -> dict[str, Any]:
    """The evidence of a copy."""
    checks: list[dict[str, Any]] = lifecycle("status", "--json").document["checks"]
    (found,) = [it for it in checks if it["what"] == "copy" and it["path"] == str(place)]
    return found


def test_a_backup_by_hand_brings_the_copies_up_to_date(tree, vault, place, monkeypatch):
    other = place.parent / "other"
    monkeypatch.setenv("LIFECYCLE_BACKUP_COPIES", f"{other}\n{place}")
    # None is made by it, for a disk may not be mounted there.
    (tree / "first.txt").write_bytes(b"first")
    done = lifecycle("backup", "-q")
    assert (done.code, f"`lifecycle vault copy {place}` makes a new one" in done.err) == (0, True)
    assert not place.exists()
    assert lifecycle("vault", "copy").code == 0
    assert not copied_to(place)["message"]
    (tree / "second.txt").write_bytes(b"second")
    assert lifecycle("backup", "-q", "--dry-run").code == 0
    assert files(place) == files(vault)
    done = lifecycle("backup", "-q")
    assert (done.code, done.err) == (0, "")
    assert files(place) == files(other) == files(vault)
    # The disk of the first one is away: that is told, and the other is brought up to date.
    other.rename(place.parent / "away")
    (tree / "third.txt").write_bytes(b"third")
    done = lifecycle("backup", "--json")
    assert (done.code, str(other) in done.document["copies_error"]["cause"]) == (0, True)
    assert files(place) == files(vault)
    assert (copied_to(other)["faults"], copied_to(place)["faults"]) == (1, 0)


def test_an_archiving_by_hand_brings_the_copies_of_the_archive_up_to_date(
    tree, vault, place, monkeypatch
):
    monkeypatch.setenv("LIFECYCLE_ARCHIVE_COPIES", str(place))
    lifecycle("archive", tree / "notes.txt", "-q")
    assert lifecycle("vault", "copy", "--archive").code == 0
    assert lifecycle("archive", tree / "large.bin", "-q").code == 0
    assert files(place) == files(vault.parent / "archive")


def test_where_a_copy_was_none_is_made_unless_it_is_named(tree, vault, place, monkeypatch):
    other = place.parent / "other"
    monkeypatch.setenv("LIFECYCLE_BACKUP_COPIES", f"{place}\n{other}")
    assert lifecycle("vault", "copy").code == 0
    (tree / "new.txt").write_bytes(b"new")
    for away in ("empty", "gone"):
        shutil.rmtree(place)
        if away == "empty":
            # Its mount point.
            place.mkdir()
        done = lifecycle("vault", "copy", "--json")
        assert (done.code, len(done.document["copies"])) == (3, 1)
        assert str(place) in done.document["errors"][0]["subject"]
        assert f"vault copy {place}" in done.document["errors"][0]["remedy"]
        assert not place.exists() or not list(place.iterdir())
        assert files(other) == files(vault)
        assert lifecycle("vault", "copy", place).code == 0
        assert files(place) == files(vault)
        assert not copied_to(place)["message"]
    shutil.rmtree(place)
    shutil.rmtree(other)
    # Nothing was done at all.
    assert lifecycle("vault", "copy").code == 1


def test_a_copy_that_is_away_is_told_and_is_no_damage(vault, place, monkeypatch):
    monkeypatch.setenv("LIFECYCLE_BACKUP_COPIES", str(place))
    done = lifecycle("verify", "--all")
    assert (done.code, str(place) in done.out) == (0, True)


@pytest.mark.parametrize(
    "options",
    ["--sample 5", "--sample 0%", "--sample 101%", "--rate fast", "--rate 0", "--all --structure"],
)
def test_a_way_to_verify_that_is_none_is_refused(options):
    assert lifecycle("verify", *options.split()).code == 2


def test_to_heal_reads_every_byte_and_a_look_at_the_structure_leaves_the_evidence(vault):
    def evidence() -> dict[str, Any]:
        (it,) = [it for it in lifecycle("status", "--json").document["checks"] if it["bytes"]]
        return {name: it[name] for name in ("what", "at", "bytes", "faults")}

    assert lifecycle("verify", "--all").code == 0
    whole = evidence()
    assert (whole["what"], whole["faults"]) == ("verify", 0)
    assert lifecycle("verify").code == 0
    assert evidence() == whole
    # The size is right: only who reads the bytes finds it.
    spoil(next((vault / "packs").rglob("*.zip")))
    assert lifecycle("verify").code == 0
    healed = lifecycle("verify", "--heal")
    assert (healed.code, "healed" in healed.out) == (0, True)
    assert lifecycle("verify", "--all").code == 0


def test_the_doctor_tells_of_every_examination(tree, vault):
    for order in (("verify", "--all"), ("drill",), ("vault", "prune", "--yes")):
        assert lifecycle(*order).code == 0, order
    told = lifecycle("doctor", "--json").document["findings"]
    about = {it["check"] for it in told}
    assert {"evidence.verify", "evidence.drill", "evidence.prune"} <= about


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("FORMAT", "flip"),
        ("FORMAT", "unlink"),
        ("RESTORE.md", "flip"),
        ("RESTORE.md", "unlink"),
        # Where it is missing whoever opens the vault writes it.
        ("SHA256SUMS", "flip"),
    ],
)
def test_the_front_of_a_vault_comes_back(vault, name, how):
    before = (vault / name).read_bytes()
    if how == "flip":
        spoil(vault / name)
    else:
        (vault / name).unlink()
    assert lifecycle("verify").code == 1
    healed = lifecycle("verify", "--heal", "--json")
    assert healed.code == 0, healed.out
    (damage,) = healed.document["vaults"][0]["findings"]
    assert (damage["subject"], damage["healed"]) == (name, True)
    assert (vault / name).read_bytes() == before
    assert lifecycle("verify", "--all").code == 0


def test_the_front_of_a_copy_comes_back(vault, place, monkeypatch):
    monkeypatch.setenv("LIFECYCLE_BACKUP_COPIES", str(place))
    lifecycle("vault", "copy")
    (place / "FORMAT").write_bytes(b"")
    (place / "SHA256SUMS").unlink()
    assert "FORMAT" in lifecycle("verify", "--structure").out
    (copy,) = lifecycle("verify", "--heal", "--json").document["vaults"][0]["copies"]
    assert (copy["ok"], copy["mended"]) == (True, 2)
    for name in ("FORMAT", "SHA256SUMS"):
        assert (place / name).read_bytes() == (vault / name).read_bytes()


def test_a_policy_chooses_the_copies_that_its_files_go_to(tree, vault, place, monkeypatch):
    other = place.parent / "third"
    monkeypatch.setenv("LIFECYCLE_BACKUP_COPIES", f"{place}\n{other}")
    order = ("policy", "set", "large", "--path", "*large.bin", "--copy")
    refused = lifecycle(*order, place.parent / "nowhere")
    assert (refused.code, "large" in refused.err, "backup_copies" in refused.err) == (2, True, True)
    assert lifecycle(*order, place).code == 0
    lifecycle("vault", "copy")
    large = {it.name for it in (vault / "objects").rglob("*.zst")}
    assert {it.name for it in (place / "objects").rglob("*.zst")} == large
    assert list((other / "objects").rglob("*.zst")) == []
    assert "left out by policies" in lifecycle("vault", "copy").out
    told = lifecycle("explain", tree / "large.bin", "--json").document["copies"]
    assert [(it["place"], it["goes"]) for it in told] == [(str(place), True), (str(other), False)]
    assert "not there" in lifecycle("explain", tree / "large.bin").out
    assert lifecycle("verify", "--all").code == 0
    assert lifecycle("policy", "set", "large", "--all-copies").code == 0
    lifecycle("vault", "copy")
    assert {it.name for it in (other / "objects").rglob("*.zst")} == large
    shown = lifecycle("policy", "set", "large", "--no-copies")
    assert "to none" in shown.out
    assert lifecycle("policy", "show", "large", "--json").document["copies"] == []
