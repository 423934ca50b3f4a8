"""`lifecycle vault recipients add` and `remove`: who reads what is written from then on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.command import lifecycle


@pytest.fixture
def settings(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A settings file that a person wrote, and a registry of one root without a vault."""
    path = tmp_path / "lifecycle.toml"
    path.write_text('# mine\nbackup_path = "vault" # on this disk\n')
    monkeypatch.setenv("LIFECYCLE_CONFIG", str(path))
    lifecycle("run", tree, "--once", "-q")
    return path


def new_key(tmp_path: Path, name: str) -> tuple[str, Path]:
    path = tmp_path / name
    return lifecycle("vault", "keygen", path).out.strip(), path


def restored(tree: Path, key: Path, to: Path) -> set[str]:
    """The files that a key brings back on a machine that knows nothing."""
    lifecycle("restore", tree, "--to", to, "--identity", key)
    return {it.name for it in to.rglob("*") if it.is_file()}


def test_from_now_on_it_is_written_to_who_was_added_and_not_to_who_was_removed(
    tree, settings, tmp_path
):
    (first, _), (second, _) = new_key(tmp_path, "one"), new_key(tmp_path, "two")
    added = lifecycle("vault", "recipients", "add", first, "--json").document
    assert added["recipients"] == [first]
    assert lifecycle("backup", "-q").code == 0
    # The vault is encrypted, to what was added.
    assert list((tmp_path / "vault/manifests").glob("*.age"))

    said = lifecycle("vault", "recipients", "add", second)
    assert said.code == 0
    assert "does not read" in said.err
    assert "vault rewrite" in said.err
    assert settings.read_text().startswith('# mine\nbackup_path = "vault" # on this disk\n')
    shown = lifecycle("vault", "recipients").out
    assert f"{second}  reads what is written from now on" in shown
    (tree / "new.txt").write_bytes(b"new")
    lifecycle("backup", "-q")

    said = lifecycle("vault", "recipients", "remove", first[:20])
    assert said.code == 0
    assert "can still be read with the removed key" in said.err
    assert "vault rewrite" in said.err
    shown = lifecycle("vault", "recipients").out
    assert f"{first}  reads what was written before it was taken out" in shown
    assert f"{second}  reads what was written since it was added" in shown
    assert first not in settings.read_text()


def sealed_to(vault: Path, key: Path) -> set[str]:
    """The names of the files of a vault that a key opens."""
    from lifecycle_sync.vault.age import Identities

    found = set()
    for path in vault.rglob("*.age"):
        try:
            Identities(os.fspath(key)).open(path.read_bytes())
        except Exception:
            continue
        found.add(path.name)
    return found


def test_each_file_is_sealed_to_those_of_its_time(tree, settings, tmp_path):
    (first, one), (second, two) = new_key(tmp_path, "one"), new_key(tmp_path, "two")
    vault = tmp_path / "vault"
    lifecycle("vault", "recipients", "add", first)
    lifecycle("backup", "-q")
    old = {it.name for it in vault.rglob("*.age")}
    lifecycle("vault", "recipients", "add", second)
    (tree / "both.txt").write_bytes(b"for both")
    lifecycle("backup", "-q")
    both = {it.name for it in vault.rglob("*.age")} - old
    lifecycle("vault", "recipients", "remove", first)
    (tree / "new.txt").write_bytes(b"for the second alone")
    lifecycle("backup", "-q")
    new = {it.name for it in vault.rglob("*.age")} - old - both
    assert old
    assert both
    assert new
    assert sealed_to(vault, one) == old | both
    assert sealed_to(vault, two) == both | new


def test_removed_with_a_rewrite_it_reads_nothing_of_the_new_vault(tree, settings, tmp_path):
    (first, one), (second, two) = new_key(tmp_path, "one"), new_key(tmp_path, "two")
    lifecycle("vault", "recipients", "add", first, second)
    lifecycle("backup", "-q")
    new = tmp_path / "new"
    order = ("vault", "recipients", "remove", first, "--rewrite", new, "--identity", one, "--json")
    done = lifecycle(*order)
    assert done.code == 0, done.err
    assert done.document["recipients"] == [second]
    assert done.document["rewrite"]["manifests"] > 0
    # Where it was cut off after the first half, the same order goes on.
    again = lifecycle(*order).document
    assert (again["settings"], again["recipients"], again["rewrite"]["manifests"]) == (
        None,
        [second],
        0,
    )
    assert sealed_to(new, one) == set()
    assert sealed_to(new, two) == {it.name for it in new.rglob("*.age")}
    settings.write_text(settings.read_text().replace('"vault"', '"new"'))
    assert restored(tree, two, tmp_path / "out") >= {
        it.name for it in tree.rglob("*.txt") if not it.name.startswith(".")
    }


def test_orders_that_cannot_be_right_are_refused(tree, settings, tmp_path):
    first, _ = new_key(tmp_path, "one")
    before = settings.read_bytes()
    for order, words in (
        (("add", "age1nonsense"), "no public key"),
        (("add",), "which key"),
        (("remove", first), "is none of backup_recipients"),
        (("list", first), "takes no key"),
    ):
        refused = lifecycle("vault", "recipients", *order)
        assert (refused.code, words in refused.err) == (2, True), refused.err
        assert settings.read_bytes() == before
    lifecycle("vault", "recipients", "add", first, "--dry-run")
    assert settings.read_bytes() == before
    lifecycle("vault", "recipients", "add", first)
    last = lifecycle("vault", "recipients", "remove", first)
    assert (last.code, "the only key" in last.err) == (2, True)
    again = lifecycle("vault", "recipients", "add", first)
    assert (again.code, "nothing to change" in again.out) == (0, True)


def test_a_plain_vault_gets_no_recipients(tree, settings, tmp_path):
    public, _ = new_key(tmp_path, "one")
    lifecycle("backup", "-q")
    before = settings.read_bytes()
    refused = lifecycle("vault", "recipients", "add", public)
    assert (refused.code, "vault rewrite" in refused.err) == (1, True)
    assert settings.read_bytes() == before
    # And backups go on.
    (tree / "new.txt").write_bytes(b"new")
    assert lifecycle("backup", "-q").code == 0
