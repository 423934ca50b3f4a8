"""An encrypted vault from its first key to its last, by the real command."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.support.command import Done, lifecycle

DATA = "lifecycle-sync/vault"


def with_settings(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], *order: object
) -> Done:
    """The command with other settings for once."""
    with monkeypatch.context() as for_once:
        for name, value in settings.items():
            for_once.setenv(f"LIFECYCLE_{name}", value)
        return lifecycle(*order)  # type: ignore[arg-type]


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A key, to which vault and archive are encrypted."""
    path = tmp_path / "key"
    public = lifecycle("vault", "keygen", path).out.strip()
    assert path.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("LIFECYCLE_BACKUP_RECIPIENTS", public)
    monkeypatch.setenv("LIFECYCLE_ARCHIVE_RECIPIENTS", json.dumps([public]))
    return path


@pytest.fixture
def vault(tree: Path, key: Path) -> Path:
    """The vault of a tree that was backed up, without any secret."""
    (tree / "large.bin").write_bytes(os.urandom(2_000_000))
    lifecycle("run", tree, "--once", "-q")
    assert lifecycle("backup", "-q").code == 0
    return Path(os.environ["XDG_DATA_HOME"]) / DATA


def tree_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        # What is hidden is not followed.
        if path.is_file() and not any(it.startswith(".") for it in path.relative_to(folder).parts)
    }


def test_backed_up_without_a_secret_and_restored_with_it(tree, vault, key, tmp_path):
    refused = lifecycle("restore", tree, "--to", tmp_path / "out")
    assert refused.code == 1
    assert "--identity FILE" in refused.err
    assert not (tmp_path / "out").exists()
    done = lifecycle("restore", tree, "--to", tmp_path / "out", "--identity", key)
    assert done.code == 0, done.err
    (film,) = (tmp_path / "out").rglob("large.bin")
    assert tree_of(film.parent) == tree_of(tree)


def test_a_second_backup_stores_only_what_is_new(tree, vault):
    before = set(vault.rglob("*.age"))
    (tree / "new.txt").write_bytes(b"new")
    assert lifecycle("backup", "-q").code == 0
    # A pack and a manifest.
    assert len(set(vault.rglob("*.age")) - before) == 2


def test_archive_and_recall_need_no_key_while_the_trash_has_the_file(tree, vault, key):
    before = (tree / "large.bin").read_bytes()
    assert lifecycle("archive", tree / "large.bin", "-q").code == 0
    assert not (tree / "large.bin").exists()
    assert lifecycle("purge", "--archived", "--yes", "-q").code in {0, 2}
    done = lifecycle("recall", tree / "large.bin", "--identity", key)
    assert done.code == 0, done.err
    assert (tree / "large.bin").read_bytes() == before


def test_a_copy_and_a_mend_need_no_key(tree, vault, tmp_path):
    copy = tmp_path / "second"
    assert lifecycle("vault", "copy", copy).code == 0
    assert tree_of(copy) == tree_of(vault)
    pack = next((vault / "packs").rglob("*.age"))
    pack.chmod(0o600)
    pack.write_bytes(b"damaged")
    assert lifecycle("vault", "mend", copy, "--json").document["replaced"] == 1
    assert tree_of(copy) == tree_of(vault)


def test_a_vault_is_encrypted_to_another_key_and_back_to_none(
    tree, vault, key, tmp_path, monkeypatch
):
    other, place, plain = (tmp_path / name for name in ("other", "anew", "plain"))
    public = lifecycle("vault", "keygen", other).out.strip()
    order = ("vault", "rewrite", place, "--recipient", public, "--json")
    refused = lifecycle(*order)
    assert refused.code == 1
    assert "--identity" in refused.error["remedy"]
    foreseen = lifecycle(*order, "--identity", key, "--dry-run").document
    assert not any(place.rglob("*.age"))
    done = lifecycle(*order, "--identity", key)
    assert done.code == 0, done.err
    assert done.document["files"] == foreseen["files"] > 0
    again = lifecycle(*order, "--identity", key).document
    assert (again["files"], again["there"]) == (0, done.document["manifests"])

    new = {"BACKUP_PATH": os.fspath(place), "BACKUP_RECIPIENTS": public}
    files = set(place.rglob("*.age"))
    # What it tells is known on this machine already: nothing is stored again.
    assert with_settings(monkeypatch, new, "backup", "-q").code == 0
    assert set(place.rglob("*.age")) == files
    restore = ("restore", tree, "--to", tmp_path / "out", "--identity")
    assert with_settings(monkeypatch, new, *restore, key).code == 3
    assert with_settings(monkeypatch, new, *restore, other).code == 0

    order = ("vault", "rewrite", plain, "--plain", "--identity", other)
    assert with_settings(monkeypatch, new, *order).code == 0
    assert not list(plain.rglob("*.age"))
    bare = {"BACKUP_PATH": os.fspath(plain), "BACKUP_RECIPIENTS": ""}
    done = with_settings(monkeypatch, bare, "restore", tree, "--to", tmp_path / "last")
    assert done.code == 0, done.err
    (film,) = (tmp_path / "last").rglob("large.bin")
    assert tree_of(film.parent) == tree_of(tree)
    assert with_settings(monkeypatch, bare, "verify", "--all-bytes").code == 0


def test_recipients_says_who_reads_what(tree, vault, key, tmp_path, monkeypatch):
    (mine,) = lifecycle("vault", "recipients", "--json").document["recipients"]
    assert (mine["written"], mine["told"]) == (True, True)
    public = lifecycle("vault", "keygen", tmp_path / "other").out.strip()
    monkeypatch.setenv("LIFECYCLE_BACKUP_RECIPIENTS", public)
    shown = lifecycle("vault", "recipients").out
    assert f"{public}  reads what is written from now on" in shown
    assert "reads what was written before" in shown
    (tree / "new.txt").write_bytes(b"new")
    assert lifecycle("backup", "-q").code == 0
    told = lifecycle("vault", "recipients", "--json").document["recipients"]
    assert [(it["written"], it["told"]) for it in told] == [(True, True), (False, True)]


def test_a_rebuild_asks_for_the_key_before_it_does_anything(tree, vault, key):
    data = vault.parent
    for path in data.glob("registry.db*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    refused = lifecycle("rebuild", tree)
    assert refused.code == 1
    assert "--identity" in refused.err
    assert not (data / "registry.db").exists()
    assert lifecycle("rebuild", tree, "--identity", key).code == 0
    files = len(list(vault.rglob("*.age")))
    assert lifecycle("backup", "-q").code == 0
    # It was told everything, so nothing is stored a second time.
    assert (
        len(list((vault / "packs").rglob("*.age")) + list((vault / "objects").rglob("*.age")))
        <= files
    )


def test_a_key_is_never_overwritten(key):
    before = key.read_bytes()
    refused = lifecycle("vault", "keygen", key)
    assert refused.code == 2
    assert "name a new file" in refused.err
    assert key.read_bytes() == before


def test_a_plain_vault_is_not_encrypted_by_a_setting_alone(tree, tmp_path, monkeypatch):
    lifecycle("run", tree, "--once", "-q")
    assert lifecycle("backup", "-q").code == 0
    public = lifecycle("vault", "keygen", tmp_path / "key").out.strip()
    monkeypatch.setenv("LIFECYCLE_BACKUP_RECIPIENTS", public)
    (tree / "new.txt").write_bytes(b"new")
    refused = lifecycle("backup")
    assert refused.code != 0
    assert "is not encrypted, and recipients are set" in refused.err


@pytest.mark.parametrize(
    ("recipient", "word"),
    [
        ("age1nokey", "no public key"),
        ("AGE-SECRET-KEY-1QYQSZQGP", "secret key"),
        ("bob", "no public key"),
    ],
)
def test_a_recipient_that_is_none_is_a_fault_that_tells_no_secret(
    tree, tmp_path, monkeypatch, recipient, word
):
    lifecycle("run", tree, "--once", "-q")
    monkeypatch.setenv("LIFECYCLE_BACKUP_RECIPIENTS", recipient)
    refused = lifecycle("backup")
    assert refused.code == 2
    assert word in refused.err
    assert "QYQSZQGP" not in refused.err


def test_a_key_file_for_others_to_read_is_warned_of(tree, vault, key, tmp_path):
    key.chmod(0o644)
    done = lifecycle("restore", tree, "--to", tmp_path / "out", "--identity", key)
    assert done.code == 0
    assert "chmod 600" in done.err


def test_the_doctor_looks_at_keys(tree, vault, key, monkeypatch, tmp_path):
    def said() -> tuple[str, str]:
        (found,) = [
            it
            for it in lifecycle("doctor", "--json").document["findings"]
            if it["check"] == "vault.format"
        ]
        return found["level"], found["message"]

    assert said() == ("ok", "is an encrypted vault of kind backup")
    monkeypatch.setenv("LIFECYCLE_IDENTITY_PATH", os.fspath(key))
    assert said()[0] == "ok"
    key.chmod(0o644)
    assert said()[0] == "warning"
    key.write_text("no key")
    assert "no key that can be used" in said()[1]
    monkeypatch.setenv("LIFECYCLE_BACKUP_RECIPIENTS", "")
    assert "nothing can be written to it" in said()[1]


def test_a_registry_that_went_back_in_time_does_nothing_before_it_was_told(tree, vault, key):
    """Holds may stand in what it has forgotten."""
    data = vault.parent
    older = data.parent / "older"
    older.mkdir()
    for path in data.glob("registry.db*"):
        (shutil.copytree if path.is_dir() else shutil.copy)(path, older / path.name)
    assert lifecycle("hold", tree / "large.bin", "--reason", "court").code == 0
    assert lifecycle("backup", "-q").code == 0
    for path in data.glob("registry.db*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in older.iterdir():
        path.rename(data / path.name)
    for order in ("delete", "archive"):
        refused = lifecycle(order, tree / "large.bin")
        assert refused.code == 1, refused.out
        assert "--identity" in refused.err
    assert (tree / "large.bin").exists()
    assert lifecycle("backup", "-q", "--identity", key).code == 0
    refused = lifecycle("delete", tree / "large.bin")
    assert (refused.code, "court" in refused.out + refused.err) == (4, True)
    # What other machines write is nobody's loss here, and stops nothing.
    for path in (vault / "writers").iterdir():
        path.rename(path.with_name("another"))
    shutil.rmtree(data / "registry.db.index")
    assert lifecycle("backup", "-q").code == 0


def test_damage_is_named_as_it_lies_in_the_folder_and_healed_with_the_key(
    tree, vault, key, tmp_path
):
    pack = next((vault / "packs").rglob("*.age"))
    pack.chmod(0o600)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    found = lifecycle("verify", "--all-bytes", "--json")
    assert found.code == 1
    name = os.fspath(pack.relative_to(vault))
    assert name in json.dumps(found.document)
    healed = lifecycle("verify", "--all-bytes", "--heal", "--identity", key)
    assert healed.code == 0, healed.out
    again = lifecycle("verify", "--all-bytes")
    assert again.code == 0, healed.out + again.out
    assert (vault / "quarantine" / pack.name).read_bytes() == data
    assert lifecycle("restore", tree, "--to", tmp_path / "out", "--identity", key).code == 0
    (film,) = (tmp_path / "out").rglob("large.bin")
    assert tree_of(film.parent) == tree_of(tree)


def test_who_only_restores_needs_no_recipients(tree, vault, key, tmp_path, monkeypatch):
    monkeypatch.setenv("LIFECYCLE_BACKUP_RECIPIENTS", "")
    refused = lifecycle("backup")
    assert (refused.code, "RECIPIENTS" in refused.err) == (1, True)
    done = lifecycle("restore", tree, "--to", tmp_path / "out", "--identity", key)
    assert done.code == 0, done.err
    assert lifecycle("verify", "--all-bytes", "-q").code == 0
