"""Damage healed: set aside, stored anew from whoever has it, and told where nobody has."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import CancelledError, StorageError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.storage.local import LocalStorage
from lifecycle_sync.vault.copying import check_copy, copy_files
from lifecycle_sync.vault.frames import whole_frames
from lifecycle_sync.vault.healing import Copy, Source, heal
from lifecycle_sync.vault.index import Index, PackPlace
from lifecycle_sync.vault.pack import LOCAL_SIZE
from lifecycle_sync.vault.vault import Vault
from lifecycle_sync.vault.verify import Problem
from tests.support.vaults import (
    REPOSITORY,
    EncryptedHouse,
    VaultHouse,
    contents_of,
    flip,
    key_of,
    read,
)

BIG = random.Random(6).randbytes((1 << 20) + 77)
SMALL = {b"%d" % number: b"content %d" % number * 40 for number in range(12)}


class Having:
    """Somebody who has some contents, and counts what is asked of them."""

    def __init__(self, *contents: bytes) -> None:
        self.contents = {key_of(data): data for data in contents}
        self.asked: list[object] = []

    def read(self, key: ContentKey) -> Iterator[bytes] | None:
        self.asked.append(key)
        data = self.contents.get(key)
        return None if data is None else iter([data[:7], data[7:]])


class Lying:
    def read(self, key: ContentKey) -> Iterator[bytes] | None:
        return iter([b"something else", bytes(2 << 20)])


class Failing:
    def read(self, key: ContentKey) -> Iterator[bytes] | None:
        raise OSError(5, "Input/output error")


@pytest.fixture
def house(tmp_path):
    house = VaultHouse(tmp_path)
    with house.open() as vault:
        house.store(vault, SMALL)
        house.store(vault, {b"big": BIG})
    return house


def member_at(vault: Vault, data: bytes) -> int:
    place = vault.index.place(key_of(data))
    assert isinstance(place, PackPlace)
    return place.offset


def quarantined(house: VaultHouse) -> list[str]:
    return [path.name for path in house.files("quarantine")]


def test_a_damaged_member_is_had_from_elsewhere_and_the_rest_of_its_pack_stays(house):
    (pack,) = house.files("packs")
    with house.open() as vault:
        flip(pack, member_at(vault, SMALL[b"4"]) + 9)
        damaged = pack.read_bytes()
        report = vault.verify(share=1.0)
        assert [it.lost for it in report.findings] == [(key_of(SMALL[b"4"]),)]
        having = Having(SMALL[b"4"])
        healed = heal(vault, report.findings, sources=[Source("bad", Lying()), Source("x", having)])
        assert healed.lost == []
        assert having.asked == [key_of(SMALL[b"4"])]
        # Nothing was deleted: what was damaged lies in quarantine.
        (aside,) = house.files("quarantine")
        assert aside.read_bytes() == damaged
        assert healed.quarantined == [f"quarantine/{pack.name}"]
    for lose in (False, True):
        if lose:
            house.lose_index()
        with house.open() as vault:
            assert vault.verify(contents=True).ok
            for data in SMALL.values():
                assert vault.read_small(key_of(data)) == data


@pytest.mark.parametrize("how", ["flip", "cut", "unlink"])
def test_a_large_content_is_had_from_elsewhere(house, how):
    (part,) = house.files("objects")
    if how == "flip":
        flip(part, 1000)
    elif how == "cut":
        part.write_bytes(part.read_bytes()[:-5])
    else:
        part.unlink()
    with house.open() as vault:
        report = vault.verify(share=1.0)
        assert [it.lost for it in report.findings] == [(key_of(BIG),)]
        healed = heal(vault, report.findings, sources=[Source("x", Having(BIG))])
        assert healed.lost == []
        assert vault.verify(share=1.0).ok
        assert read(vault, key_of(BIG)) == BIG
    house.lose_index()
    with house.open() as vault:
        assert vault.verify(contents=True).ok


def test_what_nobody_has_is_named_and_stays_named(house):
    (pack,) = house.files("packs")
    with house.open() as vault:
        flip(pack, member_at(vault, SMALL[b"4"]) + 9)
        flip(pack, member_at(vault, SMALL[b"5"]) + 9)
        report = vault.verify(share=1.0)
        healed = heal(
            vault,
            report.findings,
            sources=[Source("f", Failing()), Source("x", Having(SMALL[b"5"]))],
        )
        assert healed.lost == [key_of(SMALL[b"4"])]
        for _ in range(2):
            again = vault.verify(share=1.0)
            assert {key for it in again.findings for key in it.lost} == {key_of(SMALL[b"4"])}
            house.lose_index()
        # A backup of a file that still has it stores it.
        house.store(vault, {b"4": SMALL[b"4"]})
    house.lose_index()
    with house.open() as vault:
        assert vault.verify(contents=True).ok


@pytest.mark.parametrize("name", ["packs", "objects"])
def test_a_verify_does_not_forget_what_somebody_else_heals_meanwhile(house, name, monkeypatch):
    (file,) = house.files(name)
    data = SMALL[b"4"] if name == "packs" else BIG
    with house.open() as vault, house.open() as other:
        flip(file, member_at(vault, data) + 9 if name == "packs" else 1000)
        forget_unmet = vault.index.forget_unmet

        def healed_before(*arguments):
            monkeypatch.setattr(vault.index, "forget_unmet", forget_unmet)
            report = other.verify(share=1.0)
            heal(other, report.findings, sources=[Source("x", Having(data))])
            forget_unmet(*arguments)

        # Whoever verifies has looked at all, and has not yet said what is lost.
        monkeypatch.setattr(vault.index, "forget_unmet", healed_before)
        assert [it.lost for it in vault.verify(contents=True).findings] == [(key_of(data),)]
        assert read(vault, key_of(data)) == data
        assert vault.verify(contents=True).ok


class LyingShort:
    def read(self, key: ContentKey) -> Iterator[bytes] | None:
        return iter([b"something else"])


@pytest.mark.parametrize("liar", [Lying(), LyingShort()])
def test_a_source_that_lies_heals_nothing(house, liar):
    (part,) = house.files("objects")
    flip(part, 1000)
    with house.open() as vault:
        report = vault.verify(share=1.0)
        healed = heal(vault, report.findings, sources=[Source("bad", liar)])
        assert healed.lost == [key_of(BIG)]
        assert vault.contains([key_of(BIG)]) == set()


@pytest.mark.parametrize("folder", ["packs", "objects", "manifests"])
def test_a_copy_gives_the_very_file_back(house, tmp_path, folder):
    before = {path.name: path.read_bytes() for path in house.files()}
    (tmp_path / "copy").mkdir()
    with house.open() as vault, LocalStorage(str(tmp_path / "copy"), house.fs) as copy:
        copy_files(vault.storage, copy, check=False)
        flip(house.files(folder)[0], 40)
        report = vault.verify(share=1.0)
        assert len(report.findings) >= 1
        healed = heal(vault, report.findings, copies=[Copy("copy", copy)])
        assert healed.lost == []
        assert [it.source for it in healed.healed] == ["copy"]
        assert vault.verify(contents=True).ok
    after = {
        path.name: path.read_bytes() for path in house.files() if "quarantine" not in path.parts
    }
    assert after == before
    assert len(quarantined(house)) == 1


class UnreadableCopy(LocalStorage):
    def pieces(self, name, *arguments):
        yield from ()
        raise StorageError("Input/output error", operation="read", subject=name)


def test_a_manifest_waits_for_a_copy_that_cannot_be_read(house, tmp_path):
    """What could be read of it would be told, and all else that the copy has forgotten."""
    (tmp_path / "copy").mkdir()
    (manifest, *_) = house.files("manifests")
    before = manifest.read_bytes()
    with (
        house.open() as vault,
        LocalStorage(str(tmp_path / "copy"), house.fs) as copy,
        UnreadableCopy(str(tmp_path / "copy"), house.fs) as unreadable,
    ):
        copy_files(vault.storage, copy, check=False)
        flip(manifest, 40)
        for _ in range(2):
            report = vault.verify(share=1.0)
            healed = heal(vault, report.findings, copies=[Copy("far", unreadable)])
            ((name, why),) = healed.failed
            assert name.endswith(manifest.name)
            assert "the copy in far cannot be read: Input/output error" in why
            assert not quarantined(house)
        heal(vault, vault.verify(share=1.0).findings, copies=[Copy("copy", copy)])
        assert manifest.read_bytes() == before
        assert vault.verify(contents=True).ok


def test_what_a_copy_may_have_that_is_away_stays_where_it_is(house):
    """A manifest that was set aside would be missed by nobody, nor would a pack that only it told
    of: the copy has them, and nobody would ask it."""
    (pack,), (manifest, *_) = house.files("packs"), house.files("manifests")
    with house.open() as vault:
        flip(pack, member_at(vault, SMALL[b"4"]) + 9)
        flip(manifest, 40)
    house.lose_index()
    with house.open() as vault:
        report = vault.verify(share=1.0)
        healed = heal(vault, report.findings, away=["/mnt/far"])
        assert healed.failed[0][0].endswith(manifest.name)
        assert {why for _, why in healed.failed} == {
            "may be whole in the copy /mnt/far, which cannot be used now"
        }
        assert not quarantined(house)
        assert pack.exists() and manifest.exists()


def test_a_copy_that_is_damaged_itself_gives_nothing(house, tmp_path):
    (tmp_path / "copy").mkdir()
    (pack,) = house.files("packs")
    with house.open() as vault, LocalStorage(str(tmp_path / "copy"), house.fs) as copy:
        copy_files(vault.storage, copy, check=False)
        flip(pack, member_at(vault, SMALL[b"4"]) + 9)
        flip(tmp_path / "copy" / pack.relative_to(house.path), 300)
        report = vault.verify(share=1.0)
        healed = heal(vault, report.findings, copies=[Copy("copy", copy)])
        assert healed.lost == [key_of(SMALL[b"4"])]


def test_a_damaged_manifest_is_told_anew_as_far_as_it_can_be_read(house):
    first = house.files("manifests")[0]
    with house.open() as vault:
        before = list(vault.all_versions(REPOSITORY))
        # Its last frame is the trailing line's, most likely; the first has all lines of this one.
        first.write_bytes(first.read_bytes()[:-3])
    house.lose_index()
    with house.open() as vault:
        report = vault.verify(share=1.0)
        assert [it.problem for it in report.findings] == [Problem.DAMAGED]
        heal(vault, report.findings)
        assert quarantined(house) == [first.name]
        # The contents are there in any case; of what was told, nothing is claimed that is not.
        assert vault.contains(contents_of(before)) == set(contents_of(before))
        assert vault.verify(contents=True).ok


def test_of_a_manifest_with_a_damaged_part_the_rest_is_told_anew(house):
    """What nobody tells any more is counted, and every content is found by what packs say."""
    paths = {b"folder/%d" % number: b"%d" % number for number in range(4_000)}
    with house.open() as vault:
        name, events = house.store(vault, paths)
    path = house.path / "manifests" / name
    frames = sum(1 for _ in whole_frames(path.read_bytes(), 64 << 20))
    assert frames > 1
    flip(path, path.stat().st_size // 4)
    house.lose_index()
    with house.open() as vault:
        report = vault.verify(share=1.0)
        healed = heal(vault, report.findings)
        told = {event.version_id for event in vault.all_versions(REPOSITORY)}
        missing = [event for event in events if event.version_id not in told]
        assert 0 < len(missing) < len(events)
        assert healed.untold[name] >= len(missing)
        assert vault.contains(contents_of(events)) == set(contents_of(events))
        assert quarantined(house) == [name]
        assert vault.verify(contents=True).ok


@pytest.mark.parametrize("hit", ["a member", "its header", "the directory", "the end"])
def test_what_is_whole_in_a_damaged_pack_is_found_though_its_manifest_is_damaged_too(house, hit):
    (pack,) = house.files("packs")
    manifest = house.files("manifests")[0]
    with house.open() as vault:
        # Its size, of both; elsewhere in a header a flip may harm nothing that is needed.
        at = {"a member": 9, "its header": -LOCAL_SIZE + 18}.get(hit, 0)
        at += member_at(vault, SMALL[b"4"])
        directory = pack.read_bytes().index(b"PK\1\2")
        flip(pack, {"the directory": directory + 20, "the end": -8}.get(hit, at))
        flip(manifest, manifest.stat().st_size // 2)
        healed = heal(vault, vault.verify(share=1.0).findings)
        # With all of its members it is the very same pack again.
        assert (pack.name in quarantined(house)) is (hit == "a member")
        assert manifest.name in quarantined(house)
        assert "what was whole in it" in {it.source for it in healed.healed if "pack" in it.subject}
    house.lose_index()
    with house.open() as vault:
        lost = {path for path, data in SMALL.items() if not vault.contains([key_of(data)])}
        assert lost == ({b"4"} if hit == "a member" else set())
        for path in SMALL.keys() - lost:
            assert vault.read_small(key_of(SMALL[path])) == SMALL[path]


@pytest.mark.parametrize("blind", [False, True], ids=["told", "manifest damaged, too"])
def test_what_lies_before_the_damage_in_an_encrypted_pack_is_stored_anew(tmp_path, blind):
    house = EncryptedHouse(tmp_path)
    contents = {b"%d" % it: random.Random(it).randbytes(30_000) for it in range(12)}
    with house.open(key=True) as vault:
        house.store(vault, contents)
    house.lose_machine()
    (pack,) = house.files("packs")
    flip(pack, pack.stat().st_size * 2 // 3)
    if blind:
        house.files("manifests")[0].unlink()
    with house.open(key=True) as vault:
        lost = set(heal(vault, vault.verify(contents=True).findings).lost)
        assert quarantined(house) == [pack.name]
    with house.open(key=True) as vault:
        there = {path for path, data in contents.items() if vault.contains([key_of(data)])}
        assert len(there) >= 6
        assert blind or {key_of(contents[it]) for it in contents.keys() - there} == lost
        for path in there:
            assert vault.read_small(key_of(contents[path])) == contents[path]


def test_what_was_read_wrong_once_is_read_again_before_anything_is_moved(house):
    (pack,) = house.files("packs")
    data = pack.read_bytes()
    with house.open() as vault:
        flip(pack, member_at(vault, SMALL[b"4"]) + 9)
        report = vault.verify(share=1.0)
        assert report.findings
        # The cable was put right.
        pack.write_bytes(data)
        healed = heal(vault, report.findings)
        assert healed.lost == []
        assert quarantined(house) == []
        assert vault.read_small(key_of(SMALL[b"4"])) == SMALL[b"4"]


class Unreadable(FileOps):
    """A disk that gives an error for one file."""

    def __init__(self, path: Path) -> None:
        # By both: another file may get its number once it is gone, or come to its place.
        self.name, self.inode = os.fspath(path), path.stat().st_ino

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        name = os.readlink(f"/proc/self/fd/{fd}")
        if (name, os.fstat(fd).st_ino) == (self.name, self.inode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().pread(fd, count, offset)


@pytest.mark.parametrize("folder", ["packs", "objects"])
def test_what_cannot_be_read_stays_where_it_is_while_anything_is_only_there(house, folder):
    (path,) = house.files(folder)
    contents = [*SMALL.values()] if folder == "packs" else [BIG]
    house.fs = Unreadable(path)
    with house.open() as vault:
        for having, aside in ((Having(*contents[1:]), 0), (Having(*contents), 1)):
            report = vault.verify(share=1.0)
            assert Problem.UNREADABLE in {it.problem for it in report.findings}
            healed = heal(vault, report.findings, sources=[Source("x", having)])
            # A large content comes back as the very file that it was.
            moved = aside if folder == "packs" else 0
            assert len(quarantined(house)) == len(healed.quarantined) == moved
            assert bool(healed.failed) is not bool(aside)
    house.fs = FileOps()
    with house.open() as vault:
        assert vault.verify(contents=True).ok
        for data in contents:
            assert read(vault, key_of(data)) == data


# -- resumed, in shares, at a rate -----------------------------------------------------------------


def test_samples_go_round_and_all_is_read_before_anything_is_read_twice(tmp_path):
    house = VaultHouse(tmp_path)
    with house.open() as vault:
        for number in range(10):
            house.store(vault, {b"%d" % number: random.Random(number).randbytes(4000)})
        seen = []
        for _ in range(10):
            house.clock.advance(1)
            report = vault.verify(share=0.1)
            seen.append(report.hashed)
            assert 1 <= report.hashed <= 2
        totals = vault.index.check_totals("")
        assert totals.oldest_ns > 0
    # With the index goes what is known: nothing counts as read then.
    house.lose_index()
    with house.open() as vault:
        vault.verify()
        assert vault.index.check_totals("").oldest_ns == 0


def test_one_that_was_cut_off_goes_on(tmp_path):
    house = VaultHouse(tmp_path)
    cancel = CancelToken()
    with house.open() as vault:
        for number in range(10):
            house.store(vault, {b"%d" % number: random.Random(number).randbytes(4000)})
        read_bytes = []

        def pace(count: int) -> None:
            read_bytes.append(count)
            if len(read_bytes) == 5:
                cancel.cancel()

        with pytest.raises(CancelledError):
            vault.verify(share=1.0, pace=pace, cancel=cancel)
        begun_ns = house.clock.now_ns() + 1
        first = vault.verify(share=1.0, before_ns=1)
        assert 1 <= first.hashed < 10
        house.clock.advance(2)
        assert vault.verify(share=1.0, before_ns=begun_ns).hashed == 10


def test_what_one_forgot_who_was_cut_off_right_then_is_healed_all_the_same(house, monkeypatch):
    """A content whose place is forgotten is missed by whoever comes next, or its damaged file would
    be set aside as one that nobody needs."""
    flip(house.files("objects")[0], 200)
    with house.open() as vault:
        # What its manifests say is known to be right.
        vault.verify()
        with monkeypatch.context() as once:
            once.setattr(Index, "forget_claims", _fails)
            with pytest.raises(StorageError):
                vault.verify(share=1.0)
    with house.open() as vault:
        heal(vault, vault.verify(share=1.0).findings, sources=[Source("files", Having(BIG))])
        assert read(vault, key_of(BIG)) == BIG


def _fails(*_: object) -> None:
    raise StorageError("disk I/O error")


def test_a_damaged_copy_is_found_and_written_anew_from_the_vault(house, tmp_path):
    (tmp_path / "copy").mkdir()
    with house.open() as vault, LocalStorage(str(tmp_path / "copy"), house.fs) as copy:
        copy_files(vault.storage, copy, check=False)
        vault.verify()
        (pack,) = house.files("packs")
        there = tmp_path / "copy" / pack.relative_to(house.path)
        flip(there, 77)
        name = str(pack.relative_to(house.path))
        assert [it[0] for it in check_copy(vault, copy, "c", share=1.0).damaged] == [name]
        assert name not in vault.index.checked_ns("c", [name])
        house.clock.advance(5)
        assert check_copy(vault, copy, "c", share=1.0, mend=True).mended == 1
        assert there.read_bytes() == pack.read_bytes()
        house.clock.advance(5)
        assert check_copy(vault, copy, "c", share=1.0).damaged == []
        assert vault.index.checked_ns("c", [name])[name] == house.clock.now_ns()
        # What is not copied yet is no damage.
        house.store(vault, {b"new": b"new"})
        vault.verify()
        assert check_copy(vault, copy, "c", share=1.0).behind == 2
