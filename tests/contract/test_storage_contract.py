"""Every storage keeps the contract, and behaves like a dictionary whatever is done with it."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lifecycle_sync.errors import StorageError, StorageReadOnlyError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.storage.local import LocalStorage
from lifecycle_sync.testing.fileops import RecordingFileOps
from lifecycle_sync.testing.memory_storage import MemoryStorage
from lifecycle_sync.testing.storage_contract import StorageContract, put


class TestMemoryStorage(StorageContract):
    def make_storage(self, folder: Path) -> MemoryStorage:
        return MemoryStorage()


class TestLocalStorage(StorageContract):
    def make_storage(self, folder: Path) -> LocalStorage:
        return LocalStorage(os.fspath(folder), FileOps())

    def test_litter_of_the_dead_is_swept(self, tmp_path):
        (tmp_path / "packs").mkdir()
        (tmp_path / "packs" / ".tmp-0123").write_bytes(b"half")
        with self.make_storage(tmp_path) as storage:
            assert storage.sweep(("packs",)) == ["packs/.tmp-0123"]
        assert os.listdir(tmp_path / "packs") == []

    def test_a_file_is_durable_before_it_has_its_name_and_its_name_after(self, tmp_path):
        fs = RecordingFileOps(FileOps())
        with LocalStorage(os.fspath(tmp_path), fs) as storage:
            put(storage, "packs/ab/x.zip", b"data")
            fs.calls.clear()
            put(storage, "packs/ab/y.zip", b"data")
        steps = [it.method for it in fs.calls if it.method in {"write", "fsync", "pread", "rename"}]
        # The second pread finds the end of the file.
        assert steps == ["write", "fsync", "pread", "pread", "rename", "fsync"]
        last = [it for it in fs.calls if it.method == "fsync"][-1]
        assert last.arguments["fd"] == f"{tmp_path}/packs/ab"

    def test_a_new_folder_is_durable_before_anything_is_in_it(self, tmp_path):
        fs = RecordingFileOps(FileOps())
        with LocalStorage(os.fspath(tmp_path), fs) as storage:
            put(storage, "packs/ab/x.zip", b"data")
        calls = [str(it) for it in fs.calls]
        made = next(at for at, it in enumerate(calls) if it.startswith("mkdir(name=ab"))
        assert calls[made + 1] == f"fsync(fd={tmp_path}/packs)"
        assert "rename" not in "".join(calls[: made + 2])

    def test_no_symlink_is_followed_to_another_place(self, tmp_path):
        inside, outside = tmp_path / "in", tmp_path / "out"
        inside.mkdir()
        outside.mkdir()
        (outside / "secret").write_bytes(b"secret")
        (inside / "packs").symlink_to(outside)
        (inside / "one").symlink_to(outside / "secret")
        with self.make_storage(inside) as storage:
            for act in (
                lambda: storage.read("packs/secret"),
                lambda: storage.read("one"),
                lambda: storage.names("packs"),
                lambda: put(storage, "packs/new", b"x"),
            ):
                with pytest.raises(StorageError):
                    act()
        assert os.listdir(outside) == ["secret"]

    @pytest.mark.parametrize("name", ["../x", "packs/../../x", "/etc/x", "packs//x", "packs/.", ""])
    def test_a_name_that_leads_elsewhere_is_refused(self, tmp_path, name):
        inside = tmp_path / "in"
        inside.mkdir()
        with self.make_storage(inside) as storage:
            upload = storage.upload("")
            upload.write(b"x")
            with pytest.raises(StorageError):
                upload.publish(name, hashlib.sha256(b"x").digest())
            upload.discard()
        assert os.listdir(tmp_path) == ["in"]
        assert not [it for it in inside.rglob("*") if it.is_file()]

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_read_only_folder_says_so(self, tmp_path):
        with self.make_storage(tmp_path) as storage:
            tmp_path.chmod(0o500)
            with pytest.raises(StorageReadOnlyError):
                put(storage, "one", b"x")
            tmp_path.chmod(0o700)


NAMES = st.sampled_from(["one", "packs/ab/x.zip", "packs/ab/y.zip", "packs/cd/x.zip", "m/one"])


class StorageMachine(RuleBasedStateMachine):
    """Any sequence of changes leaves what a dictionary would have."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.storage = LocalStorage(self.folder, FileOps())
        self.model: dict[str, bytes] = {}

    @rule(name=NAMES, data=st.binary(max_size=100), replace=st.booleans())
    def put(self, name, data, replace):
        assert put(self.storage, name, data, replace=replace) == (replace or name not in self.model)
        if replace or name not in self.model:
            self.model[name] = data

    @rule(name=NAMES)
    def remove(self, name):
        self.storage.remove(name)
        self.model.pop(name, None)

    @rule(name=NAMES, data=st.binary(max_size=10))
    def give_up(self, name, data):
        upload = self.storage.upload("")
        upload.write(data)
        upload.discard()

    @rule()
    def reopen(self):
        self.storage.close()
        self.storage = LocalStorage(self.folder, FileOps())
        assert self.storage.sweep(("", "packs", "m")) == []

    @invariant()
    def is_the_same(self):
        for name in ("one", "packs/ab/x.zip", "packs/ab/y.zip", "packs/cd/x.zip", "m/one"):
            assert self.storage.size(name) == (
                len(self.model[name]) if name in self.model else None
            )
            if name in self.model:
                assert self.storage.read(name) == self.model[name]
        assert self.storage.litter(("", "packs", "m")) == []

    def teardown(self):
        self.storage.close()
        shutil.rmtree(self.folder)


TestStorageMachine = StorageMachine.TestCase
TestStorageMachine.settings = settings(max_examples=20, stateful_step_count=15, deadline=None)
