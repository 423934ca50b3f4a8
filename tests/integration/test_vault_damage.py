"""Damage to a vault: every byte of it is found by verify, and what is whole is still read."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from pathlib import Path

import msgspec
import pytest

from lifecycle_sync.errors import NotFoundError, VaultCorruptError, VaultError
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.model.event import VersionEvent
from lifecycle_sync.vault.content_lines import ObjectLine, PackLine, decode_content_line
from lifecycle_sync.vault.frames import FrameCompressor
from lifecycle_sync.vault.verify import Problem
from tests.support.vaults import REPOSITORY, VaultHouse, flip, key_of, read

Stored = tuple[str, list[VersionEvent]]
BIG = random.Random(5).randbytes((1 << 20) + 1)


@pytest.fixture
def house(tmp_path):
    return VaultHouse(tmp_path)


def only(key: ContentKey | None) -> ContentKey:
    assert key is not None
    return key


def small_vault(house: VaultHouse) -> tuple[Stored, Stored]:
    with house.open() as vault:
        first = house.store(vault, {b"a": b"first" * 9, b"b": b"second"})
        second = house.store(vault, {b"c": b"third", b"big": BIG[: 1 << 20] + b"x"})
    return first, second


def finds_damage(house: VaultHouse) -> bool:
    """Whether opening the vault fails, or verify names something."""
    try:
        with house.open(read_only=True) as vault:
            return not vault.verify(contents=True).ok
    except VaultError:
        return True


def every_byte(house: VaultHouse, places: list[tuple[Path, int]]) -> list[tuple[str, int]]:
    missed = []
    for path, at in places:
        flip(path, at, at % 8)
        if not finds_damage(house):
            missed.append((path.name, at))
        flip(path, at, at % 8)
        house.lose_index()
    return missed


def test_a_flipped_bit_anywhere_is_found(house):
    small_vault(house)
    chooser = random.Random(20260102)
    places = [
        (path, at)
        for path in house.files()
        for at in chooser.sample(range(path.stat().st_size), min(12, path.stat().st_size))
    ]
    assert len(places) > 80
    assert every_byte(house, places) == []
    assert not finds_damage(house)


def test_a_cut_file_is_found(house):
    small_vault(house)
    for path in house.files():
        data = path.read_bytes()
        path.write_bytes(data[:-1])
        assert finds_damage(house), path
        path.write_bytes(data)
        house.lose_index()


def test_without_reading_contents_what_is_missing_or_short_is_found(house):
    (_, events), _ = small_vault(house)
    pack = house.files("packs")[0]
    for path, problem in ((pack, Problem.MISSING), (house.files("objects")[0], Problem.DAMAGED)):
        data = path.read_bytes()
        if problem is Problem.MISSING:
            path.unlink()
        else:
            path.write_bytes(data[:-1])
        with house.open() as vault:
            (finding,) = vault.verify(contents=False).findings
            assert finding.problem is problem
            assert finding.subject == os.fspath(path.relative_to(house.path))
            assert finding.lost
            assert vault.contains(list(finding.lost)) == set()
        path.write_bytes(data)
        house.lose_index()
    with house.open() as vault:
        assert vault.verify(contents=True).ok
        assert vault.read_small(events[0].content) == b"first" * 9


def test_one_damaged_member_loses_one_content(house):
    with house.open() as vault:
        contents = {b"%d" % number: b"content %d" % number * 9 for number in range(10)}
        house.store(vault, contents)
        (pack,) = house.files("packs")
        place = vault.index.place(key_of(contents[b"4"]))
        flip(pack, place.offset + 8)
        (finding,) = vault.verify(contents=True).findings
        assert finding.problem is Problem.DAMAGED
        assert finding.lost == (key_of(contents[b"4"]),)
        for path, data in contents.items():
            if path != b"4":
                assert vault.read_small(key_of(data)) == data
        # A backup that still has it stores it anew, and that heals it.
        assert vault.contains([key_of(contents[b"4"])]) == set()
        house.store(vault, {b"4": contents[b"4"]})
        assert vault.read_small(key_of(contents[b"4"])) == contents[b"4"]
    house.lose_index()
    with house.open() as vault:
        assert vault.read_small(key_of(contents[b"4"])) == contents[b"4"]
        (finding,) = vault.verify(contents=True).findings
        assert finding.lost == ()


def test_a_damaged_content_is_never_given_as_whole(house):
    _, (_, events) = small_vault(house)
    flip(house.files("packs")[1], 70)
    flip(house.files("objects")[0], 1000)
    with house.open() as vault:
        for event in events:
            with pytest.raises(VaultCorruptError):
                read(vault, only(event.content))
            with pytest.raises(VaultCorruptError):
                vault.read_small(event.content)


def test_a_damaged_object_is_healed_by_storing_it_again(house):
    data = BIG[: 1 << 20] + b"x"
    small_vault(house)
    flip(house.files("objects")[0], 1000)
    with house.open() as vault:
        assert vault.verify(contents=True).findings[0].lost == (key_of(data),)
        house.store(vault, {b"big": data})
        assert read(vault, key_of(data)) == data
        assert vault.verify(contents=True).ok


def test_a_missing_pack_is_no_reason_to_skip_a_content(house):
    small_vault(house)
    with house.open() as vault:
        assert vault.contains([key_of(b"third")])
    for pack in house.files("packs"):
        pack.unlink()
    with house.open() as vault:
        assert vault.contains([key_of(b"third")]) == set()
        with pytest.raises(VaultCorruptError, match="missing"):
            vault.read_small(key_of(b"third"))
        with vault.writer() as writer:
            assert writer.add(key_of(b"third"), b"third")
            writer.commit([])
        assert vault.read_small(key_of(b"third")) == b"third"


@pytest.mark.parametrize("lose_index", [False, True])
@pytest.mark.parametrize("how", ["flip", "cut", "empty", "unlink"])
def test_the_state_before_a_damaged_manifest_is_still_read(house, how, lose_index):
    (first, events), (second, _) = small_vault(house)
    path = house.path / "manifests" / second
    if how == "flip":
        flip(path, 50)
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:100])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
    if lose_index:
        house.lose_index()
    with house.open() as vault:
        if how == "unlink" or lose_index:
            assert vault.manifests() == [first]
            assert list(vault.events(vault.manifests())) == events
            assert list(vault.all_versions(REPOSITORY)) == events
            # Nothing is said to be there on the word of a manifest that is not.
            assert vault.contains([key_of(b"third")]) == set()
            with pytest.raises(NotFoundError):
                vault.read(key_of(b"third"))
        assert vault.read_small(key_of(b"second")) == b"second"
        report = vault.verify(contents=True)
        if how != "unlink" or not lose_index:
            assert f"manifests/{second}" in [it.subject for it in report.findings]
        else:
            # Nobody knows its name any more; but what it told of is left over.
            assert len(report.unreferenced) == 2
        # A backup goes on.
        third, _ = house.store(vault, {b"d": b"fourth"})
        assert vault.read_small(key_of(b"fourth")) == b"fourth"
        assert third in vault.manifests()


def test_a_missing_manifest_is_named_by_one_that_followed(house):
    (first, _), _ = small_vault(house)
    (house.path / "manifests" / first).unlink()
    house.lose_index()
    with house.open() as vault:
        report = vault.verify(contents=False)
        assert [(it.problem, it.subject) for it in report.findings] == [
            (Problem.MISSING, f"manifests/{first}")
        ]


def test_contents_of_lost_manifests_are_found_again(house):
    _, (_, events) = small_vault(house)
    for path in house.files("manifests"):
        path.unlink()
    house.lose_index()
    with house.open(read_only=True) as vault, pytest.raises(VaultError, match="only read"):
        vault.find_lost()
    with house.open(read_only=True, index_path="") as vault:
        assert vault.contains([key_of(b"third")]) == set()
        assert vault.find_lost() == 4
        for event in events:
            assert vault.contains([event.content])
            read(vault, only(event.content))
        assert house.files("manifests") == []
    with house.open() as vault:
        assert vault.find_lost() == 4
        assert vault.find_lost() == 0
    house.lose_index()
    with house.open() as vault:
        assert vault.read_small(key_of(b"third")) == b"third"
        assert len(read(vault, key_of(BIG[: 1 << 20] + b"x"))) == (1 << 20) + 1
        assert vault.verify(contents=True).ok


def test_a_large_content_is_found_again_part_by_part(house, monkeypatch):
    monkeypatch.setattr("lifecycle_sync.vault.objects.PART_SIZE_MAX", 1 << 20)
    data = random.Random(1).randbytes((3 << 20) + 5)
    with house.open() as vault:
        house.store(vault, {b"big": data})
    for path in house.files("manifests"):
        path.unlink()
    house.lose_index()
    with house.open() as vault:
        assert vault.find_lost() == 1
        assert read(vault, key_of(data)) == data
        assert vault.verify(contents=True).ok
    # Where a part is missing the content is lost, and nothing is claimed.
    for path in house.files("manifests"):
        path.unlink()
    house.files("objects")[0].unlink()
    house.lose_index()
    with house.open() as vault:
        assert vault.find_lost() == 0


def test_a_damaged_pack_is_not_taken_for_found(house):
    small_vault(house)
    for path in house.files("manifests"):
        path.unlink()
    flip(house.files("packs")[0], 80)
    house.lose_index()
    with house.open() as vault:
        found = vault.find_lost()
        assert found in {2, 3}
        assert [it.problem for it in vault.verify(contents=True).findings] == [Problem.DAMAGED]


def test_a_half_copied_vault_says_what_is_missing(house, tmp_path):
    small_vault(house)
    copy = VaultHouse(tmp_path / "copy")
    shutil.copytree(house.path, copy.path)
    shutil.rmtree(copy.path / "packs")
    with copy.open() as vault:
        report = vault.verify(contents=False)
        assert [it.problem for it in report.findings] == [Problem.MISSING] * 2


def test_foreign_files_are_told_and_left_alone(house):
    small_vault(house)
    foreign = ["packs/notes.txt", "packs/ab/x.zip", "manifests/old.bak", "thumbs.db"]
    for name in foreign:
        (house.path / name).parent.mkdir(exist_ok=True)
        (house.path / name).write_bytes(b"x")
    with house.open() as vault:
        report = vault.verify(contents=True)
        assert report.ok
        assert set(report.foreign) >= set(foreign)
    assert all((house.path / name).exists() for name in foreign)


# -- a manifest that somebody made to do harm ------------------------------------------------------


def pack_line(**changes: object) -> bytes:
    line: dict[str, object] = {
        "pack": "ab" * 32,
        "length": 10_000,
        "offset": 0,
        "algorithm": "sha256",
    }
    line |= {"digests": "cd" * 32, "sizes": [100], "stored": [50]}
    return msgspec.json.encode(line | changes)


def object_line(**changes: object) -> bytes:
    line: dict[str, object] = {"object": ["ab" * 32], "content": "sha256:" + "cd" * 32, "size": 100}
    line |= {"sizes": [100], "stored": [50]}
    return msgspec.json.encode(line | changes)


def test_the_lines_that_the_hostile_ones_are_made_of_are_right():
    assert isinstance(decode_content_line(pack_line()), PackLine)
    assert isinstance(decode_content_line(object_line()), ObjectLine)


@pytest.mark.parametrize(
    "line",
    [
        pack_line(pack="../../../../etc/passwd"),
        pack_line(pack="/" + "a" * 63),
        pack_line(pack="AB" * 32),
        pack_line(pack="ab" * 31),
        pack_line(pack="ab" * 32 + "\n"),
        pack_line(algorithm="md5"),
        pack_line(digests="cd" * 31),
        pack_line(digests=" " + "cd" * 32),
        pack_line(sizes=[]),
        pack_line(sizes=[-1]),
        pack_line(sizes=[1 << 40]),
        pack_line(sizes=[1, 2]),
        pack_line(stored=[0]),
        pack_line(stored=[-5]),
        pack_line(stored=[1 << 40]),
        pack_line(offset=-66),
        pack_line(offset=9_999),
        pack_line(length="x"),
        object_line(object=["../../../etc/passwd"]),
        object_line(object=[]),
        object_line(content="sha256:../../x"),
        object_line(sizes=[1 << 50], size=1 << 50),
        object_line(size=5),
        object_line(stored=[0]),
        b'{"pack":5}',
        b'{"pack":',
        b'{"object":null}',
    ],
)
def test_a_line_that_cannot_be_right_makes_its_manifest_unbelieved(house, line):
    (first, events), _ = small_vault(house)
    with pytest.raises(ValueError):  # noqa: PT011
        decode_content_line(line)
    put_manifest(house, [header(), line, b'{"end":2}'])
    house.lose_index()
    with house.open() as vault:
        assert len(vault.damaged_manifests) == 1
        assert len(vault.manifests()) == 2
        assert first in vault.manifests()
        assert vault.read_small(events[0].content)
        assert not vault.verify(contents=False).ok


def header(**changes: object) -> bytes:
    line: dict[str, object] = {
        "manifest": 1,
        "store_id": "0f" * 16,
        "sequence": 9,
        "writer": "evil",
    }
    line |= {"at": "2026-01-01", "checkpoint": False, "previous": []}
    return msgspec.json.encode(line | changes)


def put_manifest(house: VaultHouse, lines: list[bytes], sequence: int = 9) -> str:
    data = FrameCompressor().frame(b"".join(line + b"\n" for line in lines))
    name = f"{sequence:010d}-{hashlib.sha256(data).hexdigest()}.jsonl.zst"
    (house.path / "manifests" / name).write_bytes(data)
    return name


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b""],
        [b"no JSON"],
        [header()],
        [header(), b'{"end":5}'],
        [header(), b'{"event":"x"}'],
        [header(manifest=2), b'{"end":1}'],
        [header(sequence=8), b'{"end":1}'],
        [header(store_id="00" * 16), b'{"end":1}'],
        [header(store_id="xx"), b'{"end":1}'],
        [header(previous=["../../x"]), b'{"end":1}'],
        [header(checkpoint=True, covers=["x"]), b'{"end":1}'],
    ],
)
def test_a_manifest_that_is_none_is_not_believed(house, lines):
    small_vault(house)
    name = put_manifest(house, lines)
    for lose in (False, True):
        if lose:
            house.lose_index()
        with house.open() as vault:
            assert list(vault.damaged_manifests) == [name]
            assert len(vault.manifests()) == 2
            assert [it.subject for it in vault.verify(contents=True).findings] == [
                f"manifests/{name}"
            ]


def test_a_bomb_of_a_manifest_is_not_unpacked(house):
    small_vault(house)
    name = put_manifest(house, [header(), bytes(80 << 20)])
    with house.open() as vault:
        assert list(vault.damaged_manifests) == [name]


def test_a_manifest_that_gives_a_content_a_wrong_place_cannot_give_other_bytes(house):
    (_, events), _ = small_vault(house)
    with house.open() as vault:
        place = vault.index.place(events[0].content)
        evil = ContentKey("sha256", bytes(32))
    line = pack_line(
        pack=place.sha256.hex(),
        length=place.length,
        offset=place.offset - 66,
        digests=evil.digest.hex(),
        sizes=[place.size],
        stored=[place.stored],
    )
    put_manifest(house, [header(), line, b'{"end":2}'])
    with house.open() as vault:
        with pytest.raises(VaultCorruptError, match="other bytes"):
            vault.read_small(evil)
        assert not vault.verify(contents=True).ok


def test_an_object_that_is_said_to_be_another_content_is_not_given_as_it(house):
    _, (_, events) = small_vault(house)
    evil = ContentKey("sha256", bytes(32))
    with house.open() as vault:
        place = vault.index.place(events[1].content)
    (part,) = place.parts
    line = object_line(
        object=[part.sha256.hex()],
        content=str(evil),
        size=part.size,
        sizes=[part.size],
        stored=[part.stored],
    )
    put_manifest(house, [header(), line, b'{"end":2}'])
    with house.open() as vault:
        with pytest.raises(VaultCorruptError, match="other bytes"):
            read(vault, evil)
        assert [it.lost for it in vault.verify(contents=True).findings] == [(evil,)]


def test_a_manifest_whose_bytes_are_not_those_of_its_name_is_not_believed(house):
    (first, _), (second, _) = small_vault(house)
    lying = first.replace(first[11:19], "00000000")
    (house.path / "manifests" / first).rename(house.path / "manifests" / lying)
    house.lose_index()
    with house.open() as vault:
        assert list(vault.damaged_manifests) == [lying]
        assert vault.manifests() == [second]
