"""A content that lies in several places of a vault, one of which is damaged or gone: it is read,
relied on and kept where it is whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from lifecycle_sync.errors import LifecycleError, StorageError, VaultCorruptError
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.model.event import CondemnedEvent, VersionEvent
from lifecycle_sync.storage.local import LocalStorage
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault.format import SMALL_SIZE_MAX
from lifecycle_sync.vault.hashing import digest_named
from lifecycle_sync.vault.healing import Source, heal
from lifecycle_sync.vault.index import ObjectPlace, PackPlace, Place
from lifecycle_sync.vault.prune import PruneReport, prune, withdraw
from lifecycle_sync.vault.quarantine import set_aside
from lifecycle_sync.vault.vault import Vault
from lifecycle_sync.vault.verify import Problem
from lifecycle_sync.vault.whole_places import Probe
from lifecycle_sync.vault.writer import VaultWriter
from tests.support.vaults import EncryptedHouse, VaultHouse, flip, key_of, noise, read

_DAY = 24 * 3600 * 10**9
_SIZES = [40_000, SMALL_SIZE_MAX + 500]


class Having:
    """A file that still has a content."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, key: ContentKey) -> Iterator[bytes] | None:
        return iter([self.data]) if key == key_of(self.data) else None


class House(EncryptedHouse):
    """An encrypted vault, so that what is stored twice has two names, and its key."""

    def open(self, **options: Any) -> Vault:
        return super().open(key=True, **options)

    def kept(self) -> set[str]:
        names = {os.fspath(path.relative_to(self.path)) for path in self.files()}
        return {it for it in names if it.startswith(("packs", "objects"))}

    def twice(self, data: bytes, beside: bytes = b"") -> tuple[str, str, list[VersionEvent]]:
        """Two store the same content at the same time, the first together with another one. The
        file that holds it first, the one that counts, and the versions: of it twice, of the other.
        """
        late_index = os.fspath(self.folder / "late.db")
        with self.open() as vault, self.open(index_path=late_index) as late:
            with late.writer() as session:
                put(session, data)
                with vault.writer() as writer:
                    put(writer, data)
                    versions = [self.version(b"a", key_of(data), size=len(data))]
                    if beside:
                        put(writer, beside)
                        versions.append(self.version(b"c", key_of(beside), size=len(beside)))
                    writer.commit(versions)
                versions.insert(1, self.version(b"b", key_of(data), size=len(data)))
                session.commit(versions[1:2])
            vault.refresh()
            counts = file_of(vault, data)
            (first,) = self.kept() - {f"{counts}.age"}
        return first, f"{counts}.age", versions


def put(writer: VaultWriter, data: bytes) -> None:
    if len(data) <= SMALL_SIZE_MAX:
        writer.add(key_of(data), data, again=True)
    else:
        upload = writer.open_object("sha256")
        upload.write(data)
        upload.finish()


def file_of(vault: Vault, data: bytes) -> str:
    """Where a content lies that has one file."""
    place = vault.index.place(key_of(data))
    if isinstance(place, PackPlace):
        return f"packs/{place.sha256.hex()[:2]}/{place.sha256.hex()}.zip"
    assert isinstance(place, ObjectPlace)
    ((sha256, *_),) = place.parts
    return f"objects/{sha256.hex()[:2]}/{sha256.hex()}.zst"


def run(house: VaultHouse, vault: Vault, grace: int = 0) -> PruneReport:
    return prune(vault, now_ns=house.clock.now_ns(), grace_ns=grace)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "house")


@pytest.mark.parametrize("size", _SIZES)
def test_a_content_is_read_where_it_is_whole(house, size):
    data = noise(1, size)
    first, counts, _ = house.twice(data)
    flip(house.path / counts, 1000)
    for lose in (False, True):
        if lose:
            house.lose_machine()
        with house.open() as vault:
            assert read(vault, key_of(data)) == data
            with pytest.raises(VaultCorruptError):
                # It is asked whether the place is whole that others rely on.
                vault.check(key_of(data))
    flip(house.path / first, 1000)
    with house.open() as vault, pytest.raises(VaultCorruptError):
        read(vault, key_of(data))


@pytest.mark.parametrize("size", _SIZES)
def test_what_verify_finds_damaged_counts_where_it_is_whole(house, size):
    """Nobody will tell of that place anew."""
    data = noise(1, size)
    first, counts, _ = house.twice(data)
    flip(house.path / counts, 1000)
    with house.open() as vault:
        report = vault.verify(share=1.0)
        (found,) = report.findings
        assert (found.problem, found.lost) == (Problem.DAMAGED, (key_of(data),))
        assert report.elsewhere == {key_of(data)}
        assert file_of(vault, data) == first.removesuffix(".age")
        vault.check(key_of(data))
        assert vault.contains([key_of(data)])
        flip(house.path / first, 1000)
        house.clock.advance(1)
        assert {it.lost for it in vault.verify(share=1.0).findings} == {(), (key_of(data),)}
        assert not vault.contains([key_of(data)])


@pytest.mark.parametrize("size", _SIZES)
def test_what_is_damaged_in_all_its_places_is_stored_anew(house, size):
    data = noise(1, size)
    for name in house.twice(data)[:2]:
        flip(house.path / name, 1000)
    with house.open() as vault:
        assert len(vault.verify(share=1.0).findings) == 2
        assert not vault.contains([key_of(data)])
        house.store(vault, {b"again": data})
        assert read(vault, key_of(data)) == data


@pytest.mark.parametrize("size", _SIZES)
def test_what_is_missing_in_one_place_and_there_in_another_is_no_damage(house, size):
    data = noise(1, size)
    _, counts, _ = house.twice(data)
    (house.path / counts).unlink()
    for lose in (False, True):
        if lose:
            house.lose_machine()
        with house.open() as vault:
            assert vault.verify(contents=True).ok
            assert vault.contains([key_of(data)])


def test_what_is_missing_in_one_place_and_damaged_in_another_is_lost(house):
    data = noise(1)
    first, counts, _ = house.twice(data)
    (house.path / counts).unlink()
    flip(house.path / first, 1000)
    with house.open() as vault:
        report = vault.verify(contents=True)
        assert {it.problem: it.lost for it in report.findings} == {
            Problem.DAMAGED: (),
            Problem.MISSING: (key_of(data),),
        }
        assert not vault.contains([key_of(data)])


# -- pruning -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", _SIZES)
@pytest.mark.parametrize("hurt", [True, False])
def test_a_prune_reads_what_counts_before_another_place_of_it_goes(house, size, hurt):
    data = noise(1, size)
    first, counts, _ = house.twice(data)
    if hurt:
        flip(house.path / counts, 1000)
    with house.open() as vault:
        report = run(house, vault)
        assert (report.deleted, report.saved, report.unsaved) == (1, int(hurt), [])
        assert first not in house.kept()
    house.lose_machine()
    with house.open() as vault:
        assert read(vault, key_of(data)) == data


def test_a_prune_copies_what_is_whole_out_of_a_pack_that_holds_little_else(house):
    data, beside = noise(1), b"more" * 100
    _, counts, _ = house.twice(data, beside)
    flip(house.path / counts, 1000)
    with house.open() as vault:
        assert run(house, vault).saved == 1
    house.lose_machine()
    with house.open() as vault:
        assert read(vault, key_of(data)) == data
        assert read(vault, key_of(beside)) == beside


def emptied(house: House, vault: Vault) -> tuple[list[bytes], str, str]:
    """A pack that is condemned, as most in it is of no use; what is needed of it, and where that
    was copied to."""
    contents = [noise(number) for number in range(8)]
    _, versions = house.store(vault, {b"%d" % n: data for n, data in enumerate(contents)})
    withdraw(vault, [it.version_id for it in versions[3:]], house.clock.now_ns(), "asked")
    (old,) = house.kept()
    assert run(house, vault, grace=7 * _DAY).emptied == 1
    (new,) = house.kept() - {old}
    return contents[:3], old, new


@pytest.mark.parametrize("before", ["verify", "prune", "dry run", "lost index", "nothing"])
def test_what_is_condemned_is_not_deleted_while_it_alone_is_whole(house, before):
    """What was copied out of it is damaged, whether somebody knows that or not."""
    with house.open() as vault:
        needed, old, new = emptied(house, vault)
        # And something that lies nowhere else.
        there = house.kept()
        house.store(vault, {b"alone": noise(90)})
        (alone,) = house.kept() - there
        for name in (new, alone):
            flip(house.path / name, 1000)
        if before != "nothing":
            lost = {key for it in vault.verify(share=1.0).findings for key in it.lost}
            assert {key_of(noise(90)), *map(key_of, needed)} == lost
        if before in {"prune", "dry run"}:
            now_ns = house.clock.now_ns()
            prune(vault, now_ns=now_ns, grace_ns=7 * _DAY, dry_run=before == "dry run")
    if before == "lost index":
        house.lose_machine()
    house.clock.advance(8 * 86_400)
    with house.open() as vault:
        report = run(house, vault, grace=7 * _DAY)
        assert report.saved == 3
        assert old not in house.kept()
        for data in needed:
            assert read(vault, key_of(data)) == data


def test_what_is_copied_is_not_read_again_by_the_prune_that_copied_it(house, monkeypatch):
    asked: list[ContentKey] = []
    is_whole = Probe.is_whole

    def noted(probe: Probe, key: ContentKey, place: Place | None) -> bool:
        asked.append(key)
        return is_whole(probe, key, place)

    monkeypatch.setattr(Probe, "is_whole", noted)
    contents = [noise(number) for number in range(8)]
    with house.open() as vault:
        _, versions = house.store(vault, {b"%d" % n: data for n, data in enumerate(contents)})
        withdraw(vault, [it.version_id for it in versions[3:]], house.clock.now_ns(), "asked")
        report = run(house, vault)
        assert (report.emptied, report.deleted, asked) == (1, 1, [])
        withdraw(vault, [it.version_id for it in versions[1:3]], house.clock.now_ns(), "asked")
        run(house, vault, grace=_DAY)
        assert asked == []
        house.clock.advance(2 * 86_400)
        run(house, vault, grace=_DAY)
        assert asked == [key_of(contents[0])]


def test_without_a_key_nothing_goes_that_may_be_whole_in_part(house):
    """Nobody can tell then which contents in a damaged file are."""
    data, more = noise(5), noise(6, 300_000)
    first, counts, _ = house.twice(data, more)
    with house.open() as vault, vault.writer() as writer:
        put(writer, more)
        writer.commit([])
    flip(house.path / first, 250_000)
    flip(house.path / counts, 10_000)
    with EncryptedHouse.open(house) as vault:
        report = run(house, vault)
        assert report.unsaved == [first.removesuffix(".age")]
        assert {first, counts} <= house.kept()


# -- healing -------------------------------------------------------------------------------


def test_what_was_copied_is_healed_from_what_is_not_deleted_yet(house):
    contents = [noise(number) for number in range(8)]
    with house.open() as vault:
        _, versions = house.store(vault, {b"%d" % n: data for n, data in enumerate(contents)})
        withdraw(vault, [it.version_id for it in versions[3:]], house.clock.now_ns(), "asked")
        (emptied,) = house.kept()
        assert run(house, vault, grace=7 * _DAY).emptied == 1
        (copied,) = house.kept() - {emptied}
        flip(house.path / copied, 1000)
        healed = heal(vault, vault.verify(share=1.0).findings)
        assert healed.lost == []
        ((_, source, count),) = healed.healed
        assert (source, count) == ("another place in the vault", 3)
        house.clock.advance(8 * 86_400)
        assert run(house, vault, grace=7 * _DAY).deleted == 1
        assert vault.verify(contents=True).ok
        for data in contents[:3]:
            assert read(vault, key_of(data)) == data


def member(path: Path, data: bytes) -> int:
    """Where a content stands in a pack that is not encrypted."""
    return path.read_bytes().index(data[:200]) + 100


def packs(house: VaultHouse, vault: Vault, *groups: list[bytes]) -> list[Path]:
    """A pack for each of them, though some of it is stored already; the last one counts."""
    found = []
    for group in groups:
        before = house.files("packs")
        with vault.writer() as writer:
            for data in group:
                put(writer, data)
            writer.commit([house.version(house.id(), key_of(data)) for data in group])
        (new,) = set(house.files("packs")) - set(before)
        found.append(new)
    return found


@pytest.mark.parametrize("how", ["flip", "unlink"])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_whole_in_a_damaged_pack_is_not_set_aside_with_it(tmp_path, seed, how):
    """Whichever of the two damaged packs has its turn first."""
    house = VaultHouse(tmp_path)
    data, more = noise(seed), noise(seed + 100)
    with house.open() as vault:
        first, counts = packs(house, vault, [data, more], [data])
        flip(first, member(first, more))
        if how == "flip":
            flip(counts, member(counts, data))
        else:
            counts.unlink()
        found = vault.verify(share=1.0).findings
        assert read(vault, key_of(data)) == data
        healed = heal(vault, found)
        assert healed.lost == [key_of(more)]
        assert read(vault, key_of(data)) == data
        assert vault.contains([key_of(data), key_of(more)]) == {key_of(data)}


@pytest.mark.parametrize("encrypted", [False, True])
def test_what_is_looked_for_elsewhere_is_not_set_aside_while_it_is_not_whole_there(
    tmp_path, encrypted
):
    """What counts was damaged since, or was not read."""
    house = House(tmp_path / "house") if encrypted else VaultHouse(tmp_path)
    data, more = noise(5), noise(6, 300_000)
    with house.open() as vault:
        first, counts = packs(house, vault, [data, more], [data])
        flip(first, 250_000)
        found = vault.verify(share=1.0).findings
        assert [it.lost for it in found] == [(key_of(more),)]
        flip(counts, 1000)
        vault.storage.drop_cache(file_of(vault, data))
        heal(vault, found)
        assert read(vault, key_of(data)) == data


def test_what_can_be_read_of_a_damaged_object_is_not_set_aside_with_it(tmp_path):
    """The bytes that changed are of no content: they say which part it is."""
    house = VaultHouse(tmp_path)
    data = noise(1, SMALL_SIZE_MAX + 500)
    with house.open() as vault:
        house.store(vault, {b"a": data})
        (path,) = house.files("objects")
        flip(path, path.stat().st_size - 3)
        healed = heal(vault, vault.verify(share=1.0).findings)
        assert healed.lost == []
        assert vault.verify(contents=True).ok
        assert read(vault, key_of(data)) == data


def test_a_frame_with_a_fault_is_not_copied(tmp_path):
    """The content is right, and the checksum of its frame alone is not."""
    house = VaultHouse(tmp_path)
    contents = [noise(number) for number in range(8)]
    with house.open() as vault:
        _, versions = house.store(vault, {b"%d" % n: data for n, data in enumerate(contents)})
        withdraw(vault, [it.version_id for it in versions[3:]], house.clock.now_ns(), "asked")
        (pack,) = house.files("packs")
        flip(pack, member(pack, contents[0]) - 100 + len(contents[0]) + 1)
        assert len(run(house, vault).unsaved) == 1
        found = vault.verify(share=1.0).findings
        healed = heal(vault, found, sources=[Source("a file", Having(contents[0]))])
        assert healed.lost == []
        assert run(house, vault).unsaved == []
        assert vault.verify(contents=True).ok
        for data in contents[:3]:
            assert read(vault, key_of(data)) == data


@pytest.mark.parametrize("manifest", [True, False])
def test_what_is_whole_nowhere_is_relied_on_by_nobody_after_a_healing(house, manifest):
    data = noise(5)
    with house.open() as vault:
        for path in packs(house, vault, [data], [data], [data]):
            flip(path, 1000)
        found = vault.verify(share=1.0).findings
        if manifest:
            name, _ = house.store(vault, {b"more": noise(6)})
            (path,) = (it for it in house.files("manifests") if it.name.startswith(name))
            flip(path, 30)
            found = vault.verify(share=1.0).findings
        # A copy is not there, that might have it.
        healed = heal(vault, found, away=["/mnt/copy"])
        assert key_of(data) in healed.lost
        assert not vault.contains([key_of(data)])
        house.store(vault, {b"again": data})
        assert read(vault, key_of(data)) == data


class Unreadable:
    """A storage whose disk does not let one file be read."""

    def __init__(self, below: Storage, name: str) -> None:
        self._below = below
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below, name)

    def _refuse(self, name: str) -> None:
        if name == self._name:
            raise StorageError("Input/output error", operation="read", subject=name)

    def read(self, name: str, *arguments: Any) -> bytes:
        self._refuse(name)
        return self._below.read(name, *arguments)

    def pieces(self, name: str, *arguments: Any, **options: Any) -> Iterator[bytes]:
        self._refuse(name)
        return self._below.pieces(name, *arguments, **options)


@contextmanager
def unreadable(house: VaultHouse, vault: Vault, path: Path) -> Iterator[None]:
    there = vault.storage
    below = Unreadable(there, os.fspath(path.relative_to(house.path)))
    with patch.object(vault, "storage", below), patch.object(vault._contents, "_storage", below):
        yield


def test_what_the_disk_does_not_give_is_read_in_another_place(tmp_path):
    house = VaultHouse(tmp_path)
    data = noise(5)
    with house.open() as vault:
        _, counts = packs(house, vault, [data, b"more"], [data])
        with unreadable(house, vault, counts):
            assert [it.problem for it in vault.verify(share=1.0).findings] == [Problem.UNREADABLE]
            assert read(vault, key_of(data)) == data


@pytest.mark.parametrize("known", [True, False])
def test_what_stands_before_the_end_of_a_file_that_was_cut_is_read(tmp_path, known):
    house = VaultHouse(tmp_path)
    data = noise(5)
    with house.open() as vault:
        first, counts = packs(house, vault, [data, noise(6)], [data])
        at = member(first, data) - 100
        first.write_bytes(first.read_bytes()[: at + 50_000])
        flip(counts, member(counts, data))
        if known:
            assert vault.verify(share=1.0).findings
        assert read(vault, key_of(data)) == data
        healed = heal(vault, vault.verify(share=1.0).findings)
        assert key_of(data) not in healed.lost
        assert read(vault, key_of(data)) == data


def test_what_cannot_be_read_stays_while_its_other_places_are_damaged(tmp_path):
    house = VaultHouse(tmp_path)
    data = noise(5)
    with house.open() as vault:
        first, counts = packs(house, vault, [data, b"more"], [data])
        flip(first, member(first, data))
        with unreadable(house, vault, counts):
            heal(vault, vault.verify(share=1.0).findings)
        assert counts.exists()
        vault.index.clear()
        vault.refresh()
        assert read(vault, key_of(data)) == data


@pytest.mark.parametrize("at", [1_000, 1_500_000, 4_999_000])
def test_of_a_large_content_nothing_is_given_before_its_place_is_known_to_be_whole(tmp_path, at):
    house = VaultHouse(tmp_path)
    data = noise(1, 5_000_000)
    with house.open() as vault:
        house.store(vault, {b"a": data})
        # From now on what is stored has another name each time.
        _, versions = house.store(vault, {b"x": noise(3)})
        withdraw(vault, [versions[0].version_id], house.clock.now_ns(), "asked")
        run(house, vault)
        with vault.writer() as writer:
            put(writer, data)
            writer.commit([])
        assert len(house.files("objects")) == 2
        flip(house.path / file_of(vault, data), at)
        assert read(vault, key_of(data)) == data


@pytest.mark.parametrize("how", [{"contents": True}, {"share": 1.0}])
def test_what_is_condemned_and_needed_by_nobody_may_be_damaged(house, how):
    with house.open() as vault:
        _, versions = house.store(vault, {b"a": noise(1)})
        (name,) = house.kept()
        house.store(vault, {b"b": noise(2)})
        withdraw(vault, [versions[0].version_id], house.clock.now_ns(), "asked")
        assert run(house, vault, grace=7 * _DAY).condemned == 1
        flip(house.path / name, 1000)
        assert vault.verify(**how).ok


@pytest.mark.parametrize("size", _SIZES)
@pytest.mark.parametrize("how", [{"contents": True}, {"share": 1.0}])
def test_what_waits_to_be_deleted_and_is_needed_is_verified_and_healed(house, size, how):
    """A version that relies on it was told after it was condemned, or at the same time."""
    data = noise(1, size)
    with house.open() as vault:
        house.store(vault, {b"a": data})
        (name,) = house.kept()
        sha256 = digest_named(name.removesuffix(".age"))
        assert sha256 is not None
        packs, objects = ((sha256,), ()) if name.startswith("packs") else ((), (sha256,))
        with vault.writer() as writer:
            writer.commit([CondemnedEvent(packs, objects, house.clock.now_ns())])
        assert vault.verify(**how).ok
        flip(house.path / name, 1000)
        # What was read and whole a moment ago is not read again by a sample.
        house.lose_machine()
    with house.open() as vault:
        (found,) = vault.verify(**how).findings
        assert (found.problem, found.lost) == (Problem.DAMAGED, (key_of(data),))
        assert run(house, vault).unsaved == [name.removesuffix(".age")]
        healed = heal(vault, [found], sources=[Source("a file", Having(data))])
        assert healed.lost == []
        run(house, vault)
        assert vault.verify(contents=True).ok
        assert read(vault, key_of(data)) == data


@pytest.mark.parametrize("told", [True, False])
def test_what_a_prune_deletes_while_it_is_to_be_read_is_no_damage(house, told, monkeypatch):
    data = noise(1)
    with house.open() as vault, house.open(index_path="") as other:
        _, versions = house.store(vault, {b"a": data})
        (name,) = house.kept()
        forget_unmet = vault.index.forget_unmet

        def pruned_before(*arguments: Any) -> None:
            if told:
                other.refresh()
                ids = [it.version_id for it in versions]
                withdraw(other, ids, house.clock.now_ns(), "asked")
                run(house, other)
            else:
                (house.path / name).unlink()
            forget_unmet(*arguments)

        monkeypatch.setattr(vault.index, "forget_unmet", pruned_before)
        report = vault.verify(share=1.0)
        assert house.kept() == set()
        assert [it.problem for it in report.findings] == ([] if told else [Problem.MISSING])
        if not told:
            assert report.findings[0].lost == (key_of(data),)
            with pytest.raises(VaultCorruptError, match="is missing"):
                read(vault, key_of(data))


def test_what_a_prune_takes_away_right_then_need_not_be_set_aside(tmp_path):
    house = VaultHouse(tmp_path)
    with house.open() as vault:
        house.store(vault, {b"a": noise(1)})
        (file,) = house.files("packs")

        class Late(LocalStorage):
            def size(self, name: str) -> int | None:
                found = super().size(name)
                file.unlink(missing_ok=True)
                return found

        with Late(os.fspath(house.path), house.fs) as late:
            assert set_aside(late, os.fspath(file.relative_to(house.path))) == ""
        assert house.files("quarantine") == []


# -- checkpoints ---------------------------------------------------------------------------


def test_a_checkpoint_of_one_who_did_not_know_what_is_newer_counts_as_older(house):
    data = noise(1)
    index_path = os.fspath(house.folder / "late.db")
    with house.open() as vault, house.open(index_path=index_path) as late:
        house.store(vault, {b"a": data})
        late.refresh()
        (old,) = house.kept()
        with vault.writer() as writer:
            put(writer, data)
            writer.commit([])
        late.checkpoint()
        late.checkpoint()
    house.lose_machine()
    with house.open() as vault:
        assert file_of(vault, data) != old.removesuffix(".age")
    with house.open(index_path="") as vault, pytest.raises(LifecycleError):
        read(vault, key_of(b"never stored"))
