"""What every storage must do: a suite to inherit from, with `make_storage` of one's own."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle_sync.errors import StorageError, StorageMissingError
from lifecycle_sync.storage.protocol import Storage


def put(storage: Storage, name: str, data: bytes, *, replace: bool = True) -> bool:
    """Store some bytes under a name, as one does."""
    upload = storage.upload(name.partition("/")[0] if "/" in name else "")
    try:
        upload.write(data)
        return upload.publish(name, hashlib.sha256(data).digest(), replace=replace)
    finally:
        upload.discard()


class StorageContract:
    """Inherit, and say in `make_storage` how an empty one is made in a folder, or opened again."""

    def make_storage(self, folder: Path) -> Storage:
        raise NotImplementedError

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[Storage]:
        with self.make_storage(tmp_path) as storage:
            yield storage

    def test_what_was_published_is_read(self, storage: Storage) -> None:
        assert put(storage, "packs/ab/one.zip", b"some bytes")
        assert storage.read("packs/ab/one.zip") == b"some bytes"
        assert storage.size("packs/ab/one.zip") == 10

    def test_what_was_moved_is_there_and_nowhere_else(self, storage: Storage) -> None:
        put(storage, "packs/ab/one.zip", b"some bytes")
        assert storage.move("packs/ab/one.zip", "quarantine/one.zip")
        assert storage.size("packs/ab/one.zip") is None
        assert storage.read("quarantine/one.zip") == b"some bytes"

    def test_a_move_replaces_nothing(self, storage: Storage) -> None:
        put(storage, "packs/ab/one.zip", b"one")
        put(storage, "quarantine/one.zip", b"another")
        assert not storage.move("packs/ab/one.zip", "quarantine/one.zip")
        assert storage.read("packs/ab/one.zip") == b"one"
        assert storage.read("quarantine/one.zip") == b"another"

    def test_what_is_not_there_cannot_be_moved(self, storage: Storage) -> None:
        with pytest.raises(StorageMissingError):
            storage.move("packs/ab/one.zip", "quarantine/one.zip")

    def test_any_range_is_read(self, storage: Storage) -> None:
        put(storage, "one", b"0123456789")
        assert storage.read("one", 3) == b"3456789"
        assert storage.read("one", 3, 4) == b"3456"
        assert storage.read("one", 8, 100) == b"89"
        assert storage.read("one", 10) == b""
        assert storage.read("one", 2, 0) == b""

    def test_pieces_are_the_whole(self, storage: Storage) -> None:
        data = random.Random(1).randbytes(100_000)
        put(storage, "one", data)
        pieces = list(storage.pieces("one", 7, 90_000, 4096))
        assert b"".join(pieces) == data[7:90_007]
        assert max(map(len, pieces)) <= 4096

    def test_an_upload_may_come_in_pieces(self, storage: Storage) -> None:
        upload = storage.upload("packs")
        for piece in (b"one", memoryview(b" and "), b"", b"two"):
            upload.write(piece)
        upload.publish("packs/ab/x.zip", hashlib.sha256(b"one and two").digest())
        assert storage.read("packs/ab/x.zip") == b"one and two"

    def test_nothing_is_seen_before_it_is_published(self, storage: Storage) -> None:
        upload = storage.upload("packs")
        upload.write(b"half")
        assert storage.names("packs") == []
        assert len(storage.litter(("packs",))) == 1
        upload.discard()
        assert storage.litter(("packs",)) == []

    def test_discarding_twice_or_after_publishing_does_nothing(self, storage: Storage) -> None:
        upload = storage.upload("")
        upload.write(b"data")
        upload.publish("one", hashlib.sha256(b"data").digest())
        upload.discard()
        upload.discard()
        assert storage.read("one") == b"data"

    def test_other_bytes_than_announced_are_not_published(self, storage: Storage) -> None:
        upload = storage.upload("packs")
        upload.write(b"data")
        with pytest.raises(StorageError):
            upload.publish("packs/ab/one.zip", hashlib.sha256(b"other").digest())
        assert storage.size("packs/ab/one.zip") is None
        assert storage.litter(("packs",)) == []

    def test_a_taken_name_stays_unless_it_may_be_replaced(self, storage: Storage) -> None:
        put(storage, "one", b"first")
        assert not put(storage, "one", b"second", replace=False)
        assert storage.read("one") == b"first"
        assert put(storage, "one", b"third")
        assert storage.read("one") == b"third"

    def test_what_is_missing_is_said_to_be(self, storage: Storage) -> None:
        assert storage.size("packs/ab/none.zip") is None
        assert storage.names("packs/ab") == []
        with pytest.raises(StorageMissingError):
            storage.read("packs/ab/none.zip")
        with pytest.raises(StorageMissingError):
            list(storage.pieces("none"))

    def test_names_are_those_of_one_folder(self, storage: Storage) -> None:
        for name in ("one", "packs/ab/x.zip", "packs/cd/y.zip", "packs/cd/z.zip"):
            put(storage, name, name.encode())
        assert sorted(storage.names("packs")) == ["ab", "cd"]
        assert sorted(storage.names("packs/cd")) == ["y.zip", "z.zip"]
        assert sorted(storage.names("")) == ["one", "packs"]

    def test_removing_is_idempotent(self, storage: Storage) -> None:
        put(storage, "packs/ab/x.zip", b"x")
        storage.remove("packs/ab/x.zip")
        storage.remove("packs/ab/x.zip")
        assert storage.size("packs/ab/x.zip") is None

    def test_a_sweep_leaves_what_lives(self, storage: Storage) -> None:
        upload = storage.upload("packs")
        upload.write(b"living")
        assert storage.sweep(("packs",)) == []
        upload.publish("packs/ab/x.zip", hashlib.sha256(b"living").digest())
        assert storage.read("packs/ab/x.zip") == b"living"

    def test_many_threads_may_use_it_at_once(self, storage: Storage) -> None:
        errors: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for turn in range(10):
                    data = f"{number} {turn}".encode()
                    put(storage, f"packs/{number % 3:02d}/{number}-{turn}.zip", data)
                    assert storage.read(f"packs/{number % 3:02d}/{number}-{turn}.zip") == data
                    put(storage, "same", b"the same")
            except (StorageError, AssertionError) as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert storage.read("same") == b"the same"
