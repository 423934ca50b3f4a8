"""What was condemned and has gone: a version that needs it is missed, whatever happens meanwhile;
where none does, nobody asks again, and nothing is known less of what there is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.model.event import CondemnedEvent
from lifecycle_sync.vault import verify_manifests
from lifecycle_sync.vault.copying_out import stand_in
from lifecycle_sync.vault.format import SMALL_SIZE_MAX, manifest_path
from lifecycle_sync.vault.hashing import digest_named
from lifecycle_sync.vault.healing import Source, heal
from lifecycle_sync.vault.index import ObjectPlace, PackPlace
from lifecycle_sync.vault.prune import PruneReport, prune, withdraw
from lifecycle_sync.vault.vault import Vault
from tests.support.vaults import EncryptedHouse, VaultHouse, flip, key_of, noise, read

_SIZES = [40_000, SMALL_SIZE_MAX + 500]


_A, _B, _C = noise(1), noise(2), noise(3)


class Holding:
    """Files that still have some contents."""

    def __init__(self, *contents: bytes) -> None:
        self._contents = {key_of(it): it for it in contents}

    def read(self, key: ContentKey) -> Iterator[bytes] | None:
        data = self._contents.get(key)
        return None if data is None else iter([data])


class Locked(EncryptedHouse):
    """An encrypted vault, and its key."""

    def open(self, **options: Any) -> Vault:
        return super().open(**{"key": True} | options)


@pytest.fixture(params=["plain", "encrypted"])
def house(tmp_path: Path, request: pytest.FixtureRequest) -> VaultHouse:
    return VaultHouse(tmp_path) if request.param == "plain" else Locked(tmp_path / "house")


def file_of(house: VaultHouse, vault: Vault, data: bytes) -> tuple[str, Path]:
    """The file in which a content lies, as the vault and as the disk names it."""
    place = vault.index.place(key_of(data))
    if isinstance(place, PackPlace):
        name = f"packs/{place.sha256.hex()[:2]}/{place.sha256.hex()}.zip"
    else:
        assert isinstance(place, ObjectPlace)
        ((sha256, *_),) = place.parts
        name = f"objects/{sha256.hex()[:2]}/{sha256.hex()}.zst"
    path = house.path / name
    return name, path if path.exists() else house.path / f"{name}.age"


def condemn(house: VaultHouse, vault: Vault, data: bytes) -> tuple[str, Path]:
    """As one does who knows of no version that needs it."""
    name, path = file_of(house, vault, data)
    sha256 = digest_named(name)
    assert sha256 is not None
    packs, objects = ((sha256,), ()) if name.startswith("packs") else ((), (sha256,))
    with vault.writer() as writer:
        writer.commit([CondemnedEvent(packs, objects, house.clock.now_ns())])
    house.clock.advance(1)
    return name, path


def condemned_and_needed(house: VaultHouse, vault: Vault) -> tuple[str, Path]:
    """A content that a version needs: the manifest that tells of it, and its file."""
    house.store(vault, {b"b": _B})
    manifest, _ = house.store(vault, {b"a": _A})
    return manifest, condemn(house, vault, _A)[1]


def run(house: VaultHouse, vault: Vault) -> PruneReport:
    return prune(vault, now_ns=house.clock.now_ns(), grace_ns=0)


def pruned(house: VaultHouse, vault: Vault, data: bytes, *others: bytes) -> None:
    """A vault of which one content was pruned, and others are kept."""
    _, versions = house.store(vault, {b"going": data})
    for number, it in enumerate(others):
        house.store(vault, {b"%d" % number: it})
    house.clock.advance(1)
    withdraw(vault, [it.version_id for it in versions], house.clock.now_ns(), "asked")
    assert run(house, vault).deleted == 1
    house.clock.advance(1)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The manifests of which lines were looked at."""
    names: list[str] = []
    check_lines = verify_manifests._check_lines

    def noted(look: Any, reader: Any) -> tuple[int, int | None]:
        names.append(reader.name)
        return check_lines(look, reader)

    monkeypatch.setattr(verify_manifests, "_check_lines", noted)
    return names


@pytest.mark.parametrize("size", _SIZES)
@pytest.mark.parametrize("looked", [True, False])
def test_what_is_needed_and_taken_away_is_missed_by_a_look_at_the_structure(house, size, looked):
    """Though all manifests were looked at before, and by one who comes after."""
    data, other = noise(1, size), noise(2, size)
    with house.open() as vault:
        house.store(vault, {b"a": data, b"b": other})
        if looked:
            assert vault.verify().ok
        name, path = condemn(house, vault, data)
        if looked:
            report = vault.verify()
            assert report.ok and report.condemned == [name]
            assert report.unreferenced == []
        path.unlink()
        for _ in range(3):
            found = vault.verify().findings
            assert key_of(data) in {key for it in found for key in it.lost}
    with house.open() as vault:
        found = vault.verify().findings
        assert heal(vault, found, sources=[Source("files", Holding(data, other))]).lost == []
        assert vault.verify().ok
        assert read(vault, key_of(data)) == data


def test_what_no_version_needs_is_asked_for_once(house, asked):
    with house.open() as vault:
        pruned(house, vault, _A, _B, noise(3, _SIZES[1]))
        assert vault.verify().ok
        asked.clear()
        for _ in range(2):
            assert vault.verify().ok
        assert asked == []
        assert vault.verify(contents=True).ok
        assert read(vault, key_of(_B)) == _B


def test_what_came_back_and_is_taken_away_again_is_asked_for_again(house):
    with house.open() as vault:
        manifest, path = condemned_and_needed(house, vault)
        away = [path, _on_disk(house, manifest)]
        kept = [it.read_bytes() for it in away]
        # Who needs it cannot be read just now, so nobody does.
        path.unlink()
        flip(away[1], 100)
        assert not vault.verify().ok
        for it, content in zip(away, kept, strict=True):
            it.write_bytes(content)
        house.clock.advance(1)
        assert vault.verify(contents=True).ok
        assert read(vault, key_of(_A)) == _A
        path.unlink()
        house.clock.advance(1)
        assert key_of(_A) in {key for it in vault.verify().findings for key in it.lost}


def _on_disk(house: VaultHouse, manifest: str) -> Path:
    path = house.path / manifest_path(manifest)
    return path if path.exists() else path.with_name(f"{path.name}.age")


def test_what_comes_back_while_it_is_looked_for_is_relied_on_no_more_than_before(house):
    with house.open() as vault:
        _manifest, path = condemned_and_needed(house, vault)
        first = manifest_path(vault.manifests()[0])
        data = path.read_bytes()
        path.unlink()

        def back(_files: int, _size: int) -> None:
            if vault.index.checked_detail("", first) is not None and not path.exists():
                path.write_bytes(data)

        vault.verify(progress=back)
        assert path.exists()
        assert read(vault, key_of(_A)) == _A
        path.unlink()
        house.clock.advance(1)
        assert not vault.verify().ok
        path.write_bytes(data)
        house.clock.advance(1)
        # It was forgotten, and is found where it was.
        assert key_of(_A) in vault.verify().elsewhere
        house.clock.advance(1)
        assert vault.verify(contents=True).ok
        assert read(vault, key_of(_A)) == _A


def test_what_a_verify_saw_before_it_went_does_not_hide_it(house):
    """Two at once: one has looked at the lines of a manifest, and notes that only now."""
    with house.open() as vault:
        manifest, path = condemned_and_needed(house, vault)
        path.unlink()
        assert not vault.verify().ok
        now_ns, claims = house.clock.now_ns(), vault.index.claims()
        vault.index.note_checked("", [manifest_path(manifest)], now_ns, detail=1, claims=claims)
        assert not vault.verify().ok


def test_an_index_that_begins_anew_meanwhile_knows_what_it_knew(house):
    """Its numbers of packs are others then. That is what a healing in another process does."""
    with house.open() as vault:
        pruned(house, vault, _A, _B, _C)

        def begin_anew(_size: int) -> None:
            with house.open() as other:
                other.index.clear()
                other.refresh()

        assert vault.verify(share=1.0, pace=begin_anew).ok
        assert read(vault, key_of(_B)) == _B
        assert vault.verify().ok


@pytest.mark.parametrize("verified", [True, False])
def test_what_a_dead_writer_told_of_something_that_has_gone_is_taken_back(house, verified):
    with house.open() as vault:
        _, versions = house.store(vault, {b"a": _A})
        house.store(vault, {b"b": _B})
        with house.open() as slow:
            writer = slow.writer()
            assert slow.contains([key_of(_A)])
            late = house.version(b"late", key_of(_A), size=len(_A))
            house.clock.advance(1)
            withdraw(vault, [versions[0].version_id], house.clock.now_ns(), "asked")
            assert run(house, vault).deleted == 1
            if verified:
                assert vault.verify().ok
            # And it was killed before it looked again.
            name = writer._publish([late])
        assert stand_in(vault, [name]) == 1
        vault.refresh()
        house.clock.advance(1)
        assert vault.verify().ok


@pytest.mark.parametrize("hurt", ["locked", "damaged"])
def test_while_a_manifest_cannot_be_read_the_others_are_asked_once(tmp_path, asked, hurt):
    if hurt == "locked":
        house: VaultHouse = Locked(tmp_path / "house")
        with house.open() as vault:
            pruned(house, vault, _A, _B, _C)
        with house.open(key=False, index_path=os.fspath(tmp_path / "o.db"), writer="other") as it:
            house.store(it, {b"z": noise(30)})
        vault = house.open(key=False)
    else:
        house = VaultHouse(tmp_path)
        vault = house.open()
        pruned(house, vault, _A, _B, _C)
        flip(house.path / manifest_path(vault.manifests()[1]), 60)
    with vault:
        vault.verify()
        asked.clear()
        vault.verify()
        assert len(asked) <= 1


@pytest.mark.parametrize("verified", [True, False])
def test_a_prune_remembers_where_lay_what_is_needed_and_may_come_back(house, verified):
    with house.open() as vault:
        house.store(vault, {b"a": _A})
        _, versions = house.store(vault, {b"b": _B})
        _name, path = condemn(house, vault, _A)
        data = path.read_bytes()
        path.unlink()
        if verified:
            assert not vault.verify().ok
        withdraw(vault, [it.version_id for it in versions], house.clock.now_ns(), "asked")
        reports = [run(house, vault) for _ in range(2)]
        assert reports[0].deleted == 1
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        assert read(vault, key_of(_A)) == _A
    with house.open(index_path="") as vault:
        assert vault.verify(contents=True).ok
        assert read(vault, key_of(_A)) == _A
