"""A vault from outside: what was committed is there, for everybody, whatever else happens."""

from __future__ import annotations

import os
import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle_sync.errors import NotFoundError, VaultError
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.model.event import DirectoryEvent, StateEvent, UnknownEvent
from lifecycle_sync.model.file import Kind, LifecycleState
from lifecycle_sync.vault import catalogue
from lifecycle_sync.vault.format import PART_SIZE_MAX, SMALL_SIZE_MAX
from lifecycle_sync.vault.frames import key_of as hashed
from tests.support.vaults import REPOSITORY, VaultHouse, key_of, metadata, read

BIG = random.Random(5).randbytes(3 << 20)


@pytest.fixture
def house(tmp_path):
    return VaultHouse(tmp_path)


def test_contents_and_events_come_back(house):
    contents = {b"a/empty": b"", b"a/text": b"text" * 1000, b"b/big": BIG, b"caf\xe9": b"odd"}
    with house.open() as vault:
        name, events = house.store(vault, contents)
        assert vault.manifests() == [name]
    for lose in (False, True):
        if lose:
            house.lose_index()
        with house.open(read_only=True) as vault:
            assert list(vault.events(vault.manifests())) == events
            for data in contents.values():
                assert read(vault, key_of(data)) == data
                assert vault.read_small(key_of(data)) == data
            assert vault.verify(contents=True).ok


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.lists(st.binary(max_size=2000) | st.just(b"again"), max_size=8), min_size=1, max_size=4
    )
)
def test_any_batches_come_back(tmp_path_factory, batches):
    house = VaultHouse(tmp_path_factory.mktemp("any"))
    events = []
    with house.open() as vault:
        for batch in batches:
            events += house.store(vault, {b"%d" % at: data for at, data in enumerate(batch)})[1]
    house.lose_index()
    with house.open(read_only=True) as vault:
        assert list(vault.events(vault.manifests())) == events
        for batch in batches:
            assert vault.contains([key_of(data) for data in batch]) == set(map(key_of, batch))
            for data in batch:
                assert read(vault, key_of(data)) == data
        report = vault.verify(contents=True)
        assert report.ok and not report.litter and not report.unreferenced


def test_a_content_is_stored_once(house):
    with house.open() as vault:
        with vault.writer() as writer:
            assert vault.contains([key_of(b"one")]) == set()
            assert writer.add(key_of(b"one"), b"one")
            assert not writer.add(key_of(b"one"), b"one")
            writer.commit([])
            assert not writer.add(key_of(b"one"), b"one")
            assert writer.commit([]) == ""
        files = house.files()
        house.store(vault, {b"a": b"one", b"b": b"one"})
        assert len(house.files()) == len(files) + 1, "a manifest, and no pack"


def test_nothing_is_promised_before_the_commit(house):
    with house.open() as vault:
        with vault.writer() as writer:
            writer.add(key_of(b"one"), b"one")
            assert vault.contains([key_of(b"one")]) == set()
        with pytest.raises(NotFoundError):
            vault.read(key_of(b"one"))
        assert vault.manifests() == []
        assert vault.verify(contents=True).ok
        assert vault.verify(contents=True).litter == []


def test_what_a_session_left_behind_is_no_damage_and_is_found_again(house):
    with house.open() as vault, vault.writer() as writer:
        for number in range(20):
            # Enough for a pack to be sealed before the commit that never comes.
            data = random.Random(number).randbytes(SMALL_SIZE_MAX)
            writer.add(key_of(data), data)
    with house.open() as vault:
        report = vault.verify(contents=True)
        assert report.ok
        assert len(report.unreferenced) == 1
        assert vault.find_lost() == 15
        assert vault.verify(contents=True).unreferenced == []


def test_a_version_of_what_is_not_stored_is_refused(house):
    with house.open() as vault:
        with vault.writer() as writer, pytest.raises(VaultError, match="not stored"):
            writer.commit([house.version(b"a", key_of(b"never added"))])
        assert vault.manifests() == []


def test_data_that_is_not_what_its_key_names_is_refused(house):
    with house.open() as vault, vault.writer() as writer:
        with pytest.raises(ValueError, match="not what"):
            writer.add(key_of(b"one"), b"two")
        assert writer.add(key_of(b"one"), b"one")
        assert writer.commit([])


def test_large_content_is_cut_into_parts_and_is_whole_again(house, monkeypatch):
    monkeypatch.setattr("lifecycle_sync.vault.objects.PART_SIZE_MAX", 1 << 20)
    data = BIG + b"text " * 100_000 + bytes(1 << 20)
    for size in (0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20, len(data)):
        with house.open() as vault:
            with vault.writer() as writer:
                upload = writer.open_object("blake3")
                for at in range(0, size, 77_777):
                    upload.write(bytearray(data[at : min(at + 77_777, size)]))
                key = upload.finish()
                writer.commit([house.version(b"big", key, size=size)])
            assert key == hashed("blake3", data[:size])
            assert read(vault, key) == data[:size]
            assert vault.verify(contents=True).ok


def test_parts_are_at_most_64_mebibytes():
    assert PART_SIZE_MAX == 64 << 20


def test_a_buffer_may_be_used_again_after_a_write(house):
    with house.open() as vault, vault.writer() as writer:
        upload = writer.open_object("sha256")
        buffer = bytearray(2 << 20)
        for fill in (b"a", b"b"):
            buffer[:] = fill * len(buffer)
            upload.write(memoryview(buffer))
        key = upload.finish()
        writer.commit([])
        assert read(vault, key) == b"a" * (2 << 20) + b"b" * (2 << 20)


def test_an_upload_that_is_given_up_leaves_nothing_temporary(house):
    with house.open() as vault:
        with vault.writer() as writer:
            upload = writer.open_object("sha256")
            upload.write(BIG)
            upload.abort()
            other = writer.open_object("sha256")
            other.write(BIG)
            # Left open: closing the writer ends it.
        assert vault.verify(contents=True).litter == []


def test_two_writers_at_once_both_count(house, tmp_path):
    with (
        house.open() as one,
        house.open(index_path=os.fspath(tmp_path / "other.db")) as two,
        one.writer() as first,
        two.writer() as second,
    ):
        for writer, data in ((first, b"first"), (second, b"second"), (first, b"x"), (second, b"x")):
            writer.add(key_of(data), data)
        # As far as the second knows while it writes there is none yet.
        header = two.next_header()
        two.next_header = lambda: header
        names = [first.commit([]), second.commit([])]
        assert [name[:10] for name in names] == ["0000000001"] * 2
        assert one.contains([key_of(b"second")]) == set()
        one.refresh()
        two.refresh()
        for vault in (one, two):
            assert vault.manifests() == sorted(names)
            for data in (b"first", b"second", b"x"):
                assert vault.read_small(key_of(data)) == data
        third = house.store(one, {b"c": b"third"})[0]
        assert third[:10] == "0000000002"
        assert one.verify(contents=True).ok


def test_many_writers_in_threads_of_one_vault(house):
    with house.open() as vault:
        errors = []

        def work(number):
            try:
                for turn in range(5):
                    house.store(vault, {b"%d" % number: b"%d %d" % (number, turn), b"same": b"s"})
                    assert vault.read_small(key_of(b"%d %d" % (number, turn)))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        vault.refresh()
        assert len(vault.manifests()) == 20
        assert vault.verify(contents=True).ok


def test_two_processes_share_an_index(house):
    with house.open() as one, house.open() as two:
        house.store(one, {b"a": b"one"})
        two.refresh()
        assert two.read_small(key_of(b"one")) == b"one"
        house.store(two, {b"b": b"two"})
        one.refresh()
        assert one.read_small(key_of(b"two")) == b"two"
        assert len(one.manifests()) == 2


def test_versions_are_found_by_file_and_by_path(house):
    with house.open() as vault:
        file_id, other_id = house.id(), house.id()
        with vault.writer() as writer:
            events = []
            for number in (1, 2, 3):
                data = b"state %d" % number
                writer.add(key_of(data), data)
                events.append(house.version(b"d/a", key_of(data), number=number, file_id=file_id))
            events.append(house.version(b"d/link", None, file_id=other_id))
            events.append(house.version(b"dd/x", None))
            directory = DirectoryEvent(REPOSITORY, b"d", metadata(kind=Kind.DIRECTORY, mode=5), 9)
            state = StateEvent(
                file_id, REPOSITORY, b"d/a", LifecycleState.DELETED, 9, house.id(), "gone"
            )
            writer.commit([*events, directory, state])
        assert [it.number for it in vault.versions_of(file_id)] == [3, 2, 1]
        assert [it.number for it in vault.versions_at(REPOSITORY, b"d/a")] == [3, 2, 1]
        assert list(vault.versions_of(house.id())) == []
        assert list(vault.versions_at(bytes(16), b"d/a")) == []
        assert list(vault.all_versions(REPOSITORY)) == events
        assert list(vault.all_versions(REPOSITORY, b"d")) == events[:4]
        assert list(vault.all_versions(REPOSITORY, b"d/link")) == events[3:4]
        assert list(vault.all_versions(bytes(16))) == []
        assert list(vault.directories(REPOSITORY)) == [directory]
        house.store(vault, {b"d/new": b"new"})
        assert len(list(vault.all_versions(REPOSITORY, b"d"))) == 5


def test_a_checkpoint_stands_for_what_it_covers(house):
    with house.open() as vault:
        names, events = [], []
        for number in range(5):
            name, some = house.store(vault, {b"%d" % number: b"data %d" % number})
            names.append(name)
            events += some
            if number in {1, 3}:
                vault.checkpoint()
        assert vault.manifests() == names
        assert list(vault.events(names)) == events
    house.lose_index()
    with house.open() as vault:
        assert vault.manifests() == names
        assert list(vault.events(names)) == events
        assert list(vault.events(names[2:])) == events[2:]
        assert [it.read for it in vault.index.manifests()].count(True) == 2
        assert list(vault.all_versions(REPOSITORY)) == events
        assert vault.verify(contents=True).ok
    # What a checkpoint covers may be pruned.
    for name in names[:4]:
        (house.path / "manifests" / name).unlink()
    for lose in (False, True):
        if lose:
            house.lose_index()
        with house.open() as vault:
            assert list(vault.events(vault.manifests())) == events
            assert list(vault.all_versions(REPOSITORY)) == events
            assert vault.read_small(key_of(b"data 0")) == b"data 0"
            assert vault.verify(contents=True).ok


def test_checkpoints_come_by_themselves_and_grow_rarer(house, monkeypatch):
    monkeypatch.setattr(catalogue, "CHECKPOINT_MANIFESTS", 4)
    with house.open() as vault:
        events = []
        for number in range(40):
            events += house.store(vault, {b"%d" % number: b"data %d" % number})[1]
        checkpoints = [it for it in vault.index.manifests() if it.covers is not None]
        assert 2 <= len(checkpoints) <= 5
        assert list(vault.events(vault.manifests())) == events
        assert list(vault.all_versions(REPOSITORY)) == events
    house.lose_index()
    with house.open() as vault:
        assert list(vault.events(vault.manifests())) == events
        assert len(vault.manifests()) == 40
        assert vault.verify(contents=True).ok


def test_a_damaged_checkpoint_is_made_up_for_by_what_it_covers(house):
    with house.open() as vault:
        events = house.store(vault, {b"a": b"one"})[1] + house.store(vault, {b"b": b"two"})[1]
        checkpoint = vault.checkpoint()
    path = house.path / "manifests" / checkpoint
    path.write_bytes(path.read_bytes()[:-9])
    house.lose_index()
    with house.open() as vault:
        assert list(vault.damaged_manifests) == [checkpoint]
        assert list(vault.events(vault.manifests())) == events
        assert vault.read_small(key_of(b"one")) == b"one"
        assert [it.subject for it in vault.verify(contents=True).findings] == [
            f"manifests/{checkpoint}"
        ]


def test_events_of_a_newer_writer_are_kept_in_checkpoints(house):
    raw = b'{"event":"novelty","packs":["x"]}'
    with house.open() as vault:
        with vault.writer() as writer:
            name = writer.commit([UnknownEvent(raw)])
        vault.checkpoint()
    (house.path / "manifests" / name).unlink()
    house.lose_index()
    with house.open() as vault:
        assert list(vault.events(vault.manifests())) == [UnknownEvent(raw)]
        assert vault.verify(contents=True).unknown == 1


def test_contents_of_both_algorithms_lie_beside_each_other(house):
    one, two = key_of(b"data"), hashed("blake3", b"data")
    with house.open() as vault, vault.writer() as writer:
        assert writer.add(one, b"data")
        assert writer.add(two, b"data")
        writer.commit([])
        assert vault.read_small(one) == vault.read_small(two) == b"data"
        with pytest.raises(ValueError, match="unknown algorithm"):
            writer.add(ContentKey("md5", bytes(16)), b"data")


def test_memory_does_not_grow_with_what_is_stored(house):
    import tracemalloc

    chunk = random.Random(1).randbytes(1 << 20)
    with house.open() as vault:
        tracemalloc.start()
        with vault.writer() as writer:
            for number in range(48):
                data = number.to_bytes(4, "big") + chunk[4:]
                writer.add(key_of(data), data)
            upload = writer.open_object("sha256")
            for _ in range(64):
                upload.write(chunk)
            upload.finish()
            writer.commit([])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 60 << 20
