"""FORMAT, RESTORE.md and SHA256SUMS written anew, and left alone where nobody knows better."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle_sync.errors import VaultCorruptError, VaultForeignError, VaultNewerError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.storage.local import LocalStorage
from lifecycle_sync.vault.format import VaultKind, sums_text
from lifecycle_sync.vault.front import MendedFront, Witness, mend_front
from lifecycle_sync.vault.prune import prune, withdraw
from tests.support.vaults import START_NS, STORE, EncryptedHouse, VaultHouse, flip

FRONT = ("FORMAT", "RESTORE.md", "SHA256SUMS")


def fill(house: VaultHouse, *, pruned: bool) -> None:
    with house.open() as vault:
        _, (first, _) = house.store(vault, {b"a": b"one", b"b": b"two"})
        if pruned:
            withdraw(vault, [first.version_id], START_NS, "asked")
            prune(vault, now_ns=START_NS, grace_ns=0)


@pytest.fixture(params=["plain", "pruned", "encrypted"])
def house(request, tmp_path) -> VaultHouse:
    house = EncryptedHouse(tmp_path) if request.param == "encrypted" else VaultHouse(tmp_path)
    fill(house, pruned=request.param == "pruned")
    return house


def mend(house: VaultHouse, *copies: Path, store_id: bytes | None = STORE) -> list[MendedFront]:
    fs = FileOps()
    known = frozenset(it.name.removesuffix(".age") for it in house.files("manifests"))
    with LocalStorage(str(house.path), fs) as storage:
        witnesses = [Witness(str(it), LocalStorage(str(it), fs)) for it in copies]
        found = mend_front(
            storage, VaultKind.BACKUP, store_id=store_id, manifests=known, copies=witnesses
        )
        for it in witnesses:
            it.storage.close()
    return found


def front(house: VaultHouse) -> dict[str, bytes]:
    return {name: (house.path / name).read_bytes() for name in FRONT}


def is_sound(house: VaultHouse) -> bool:
    with house.open() as vault:
        return vault.verify(contents=True).ok


def flips(house: VaultHouse) -> Iterator[tuple[str, int]]:
    for name in FRONT:
        size = (house.path / name).stat().st_size
        # RESTORE.md is read by people, and as long as that takes.
        for at in range(0, size, 1 if name != "RESTORE.md" else 97):
            yield name, at


def test_every_byte_of_it_may_be_flipped(house):
    before = front(house)
    assert mend(house) == []
    for name, at in flips(house):
        flip(house.path / name, at, bit=at % 8)
        damaged = (house.path / name).read_bytes()
        assert [it.name for it in mend(house) if it.source] == [name], (name, at)
        assert front(house) == before, (name, at)
        # What was replaced was not deleted.
        (aside,) = house.files("quarantine")
        assert aside.read_bytes() == damaged
        aside.unlink()
    assert is_sound(house)


@pytest.mark.parametrize("gone", [FRONT[:1], FRONT[1:2], FRONT[2:], FRONT[:2], FRONT[1:]])
def test_what_is_missing_comes_back(house, gone):
    before = front(house)
    for name in gone:
        (house.path / name).unlink()
    assert {it.name for it in mend(house)} == set(gone)
    assert front(house) == before


def test_where_all_is_gone_it_shuts_out_most(house):
    before = front(house)
    for name in FRONT:
        (house.path / name).unlink()
    assert {it.name for it in mend(house)} == set(FRONT)
    said = json.loads(front(house)["FORMAT"])
    # Older programs know nothing of what may be condemned.
    assert said == json.loads(before["FORMAT"]) | {"min_writer": 2}
    assert is_sound(house)


def test_nobody_who_knows_the_store_is_needed_where_manifests_say_it(tmp_path):
    house = VaultHouse(tmp_path)
    fill(house, pruned=False)
    before = front(house)
    (house.path / "FORMAT").unlink()
    with pytest.raises(VaultCorruptError, match="verify --heal"):
        house.open(store_id=None)
    mend(house, store_id=None)
    assert front(house) == before


def test_a_copy_says_which_it_was_where_the_sums_are_damaged_too(tmp_path):
    house = VaultHouse(tmp_path)
    fill(house, pruned=False)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name, data in front(house).items():
        (copy / name).write_bytes(data)
    before = front(house)
    (house.path / "FORMAT").write_bytes(b"")
    (house.path / "SHA256SUMS").write_bytes(b"")
    sources = {it.name: it.source for it in mend(house, copy)}
    assert sources["FORMAT"] == str(copy)
    assert front(house) == before


def test_the_vault_of_another_store_stays_as_it_is(tmp_path):
    """Somebody mounted another disk, and its FORMAT is damaged."""
    house = VaultHouse(tmp_path)
    fill(house, pruned=False)
    (house.path / "FORMAT").write_bytes(b"")
    (house.path / "SHA256SUMS").unlink()
    before = {it: it.read_bytes() for it in house.files()}
    fs = FileOps()
    with LocalStorage(str(house.path), fs) as storage:
        found = mend_front(
            storage, VaultKind.BACKUP, store_id=bytes(16), manifests=frozenset({"another"})
        )
    assert [(it.name, it.source) for it in found] == [("FORMAT", "")]
    assert {it: it.read_bytes() for it in house.files()} == before
    with pytest.raises(VaultCorruptError):
        house.open()


def test_one_that_is_whole_and_another_store_is_refused_by_who_opens_it(tmp_path):
    house = VaultHouse(tmp_path)
    fill(house, pruned=False)
    before = {it: it.read_bytes() for it in house.files()}
    assert mend(house, store_id=bytes(16)) == []
    assert {it: it.read_bytes() for it in house.files()} == before
    with pytest.raises(VaultForeignError):
        house.open(store_id=bytes(16))


@pytest.mark.parametrize("summed", [True, False])
def test_a_newer_format_is_no_damage(tmp_path, summed):
    house = VaultHouse(tmp_path)
    fill(house, pruned=False)
    newer = front(house) | {
        "FORMAT": front(house)["FORMAT"].replace(b'"min_reader":1', b'"min_reader":9')
    }
    (house.path / "FORMAT").write_bytes(newer["FORMAT"])
    sums = sums_text({name: newer[name] for name in FRONT[:2]})
    (house.path / "SHA256SUMS").write_bytes(sums if summed else sums.replace(b"FORMAT", b"format"))
    if summed:
        assert [it for it in mend(house) if it.source] == []
        with pytest.raises(VaultNewerError):
            house.open()
    else:
        # Nothing vouches for it, and manifests are read by this program: what it knows stands.
        assert mend(house)[0].source == "its manifests"


def test_an_empty_folder_becomes_no_vault(tmp_path):
    house = VaultHouse(tmp_path)
    house.path.mkdir()
    assert mend(house) == []
    assert house.files() == []
