"""kill -9 while policies back up, archive and delete: after a restart all bytes are where the rules
say."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.model.policy import AgeFrom, LifecyclePolicy, Match
from lifecycle_sync.vault.vault import VaultKind
from tests.support.command import lifecycle_process, wait_for_line
from tests.support.house import House

_DAYS = 40
_STATES = {
    "keep": LifecycleState.BACKUP_COMPLETE,
    "archive": LifecycleState.ARCHIVED,
    "delete": LifecycleState.DELETED,
}


class _Victim:
    """A root in which half of the files are due to be backed up, and a quarter each to be archived
    and deleted; made anew for every kill."""

    def __init__(self, base: Path, files: int, seed: int) -> None:
        self.base = base
        self.random = random.Random(seed)
        self.files = files
        self.contents: dict[str, bytes] = {}
        self.make()
        begun = time.monotonic()
        self.run()
        # How long one takes, from the interpreter's start.
        self.seconds = time.monotonic() - begun
        self.check()

    def make(self) -> None:
        shutil.rmtree(self.base, ignore_errors=True)
        self.base.mkdir()
        self.house = house = House(self.base)
        self.contents = {}
        long_ago = time.time() - _DAYS * 86_400
        for number in range(self.files):
            folder = ("keep", "archive", "keep", "delete")[number % 4]
            path = f"{folder}/{number % 7}/{number}.txt"
            content = b"%d of %d" % (number, self.random.randrange(10**12))
            where = house.write(path, content * self.random.choice([1, 1, 1, 5_000]))
            self.contents[path] = Path(os.fsdecode(where)).read_bytes()
            os.utime(where, (long_ago, long_ago))
        repository = house.engine.add_root(house.root, enforce=True).repository
        old = {"age_from": AgeFrom.MODIFIED, "backup_frequency_hours": 24}
        statements = house.engine.statements
        statements.put_policy(
            LifecyclePolicy(
                "archiving", match=Match(["*/archive/*"]), auto_archive=True,
                archive_after_days=30, **old,  # type: ignore[arg-type]
            )
        )  # fmt: skip
        statements.put_policy(
            LifecyclePolicy(
                "deleting", match=Match(["*/delete/*"]), auto_delete=True,
                delete_after_days=30, **old,  # type: ignore[arg-type]
            )
        )  # fmt: skip
        statements.confirm(repository.repository_id, "mass", '{"deletions": 1000000}')
        house.sync()
        house.engine.close()

    def start(self) -> subprocess.Popen[bytes]:
        settings = self.house.settings
        environment = {
            name: text for name, text in os.environ.items() if not name.startswith("LIFECYCLE_")
        }
        return subprocess.Popen(
            [sys.executable, "-m", "lifecycle_sync", "run", str(self.house.root), "--once",
             "--enforce", "--database", str(settings.database_path)],
            cwd=self.base,
            env=environment | {
                "HOME": str(self.base),
                "LIFECYCLE_BACKUP_PATH": str(settings.backup_path),
                "LIFECYCLE_ARCHIVE_PATH": str(settings.archive_path),
                "LIFECYCLE_MIN_AGE_SECONDS": "0",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self) -> None:
        process = self.start()
        _out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err.decode()

    def kill(self, number: int = signal.SIGKILL) -> None:
        process = self.start()
        time.sleep(self.random.uniform(0.2, self.seconds))
        process.send_signal(number)
        _out, err = process.communicate(timeout=60)
        assert b"Traceback" not in err, err.decode()
        self.check_nothing_is_lost()

    def _lying_about(self) -> set[bytes]:
        """The contents of all files in the root, and in its trash."""
        return {path.read_bytes() for path in self.house.root.rglob("*") if path.is_file()}

    def check_nothing_is_lost(self) -> None:
        """Whatever was killed: each file lies at its place or in the trash, whole."""
        there = self._lying_about()
        lost = [path for path, content in self.contents.items() if content not in there]
        assert not lost, lost[:10]

    def check(self) -> None:
        """Everything is done, and every byte is where the rules say."""
        self.check_nothing_is_lost()
        self.house.reopen()
        engine = self.house.engine
        root = self.house.repository
        assert engine.registry.pending_operations(root.repository_id) == []
        trash = {
            path.read_bytes()
            for path in (self.house.root / ".lifecycle" / "trash").rglob("*")
            if path.is_file() and path.name != "batch.jsonl"
        }
        versions = {kind: engine.vaults.get(kind, create=False) for kind in VaultKind}
        for path, content in self.contents.items():
            folder = path.split("/")[0]
            where = self.house.root / path
            record = engine.registry.file_at(root.repository_id, path.encode())
            if folder == "delete":
                # What is gone is found by no path.
                assert not where.exists() and content in trash, path
                assert record is None or record.state is _STATES[folder], path
                continue
            assert record is not None and record.state is _STATES[folder], (path, record)
            assert where.exists() == (folder == "keep"), path
            vault = versions[VaultKind.ARCHIVE if folder == "archive" else VaultKind.BACKUP]
            version = next(vault.versions_of(record.file_id), None)
            assert version is not None and version.content is not None, path
            assert b"".join(vault.read(version.content)) == content, path
        engine.close()


def _torture(base: Path, *, files: int, kills: int, seed: int) -> None:
    victim = _Victim(base / "house", files, seed)
    for _ in range(kills):
        victim.make()
        for _ in range(victim.random.choice([1, 1, 2])):
            victim.kill()
        victim.run()
        victim.check()


def test_a_few_kills_while_policies_act(tmp_path):
    _torture(tmp_path, files=120, kills=2, seed=1)


def test_a_signal_in_the_middle_ends_at_a_safe_point(tmp_path):
    victim = _Victim(tmp_path / "house", 120, seed=3)
    victim.make()
    victim.kill(signal.SIGTERM)
    victim.house.reopen()
    root = victim.house.repository
    assert victim.house.engine.registry.pending_operations(root.repository_id) == []
    victim.house.engine.close()
    victim.run()
    victim.check()


def test_a_run_that_goes_on_ends_cleanly_and_reads_its_settings_again(tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a.txt").write_text("a")
    settings = tmp_path / "lifecycle.toml"
    places = 'database_path = "r.db"\narchive_path = "a"\nbackup_path = "b"\n'
    settings.write_text(places + f'roots = ["{tree}"]\n')
    process = lifecycle_process("run", "--config", settings, "--interval", "1")
    try:
        wait_for_line(process.stderr, "Following 1 root")
        settings.write_text("no toml")
        process.send_signal(signal.SIGHUP)
        wait_for_line(process.stderr, "the settings stay as they were")
        settings.write_text(places + f'roots = ["{tree}"]\nignore = ["*.log"]\n')
        process.send_signal(signal.SIGHUP)
        wait_for_line(process.stderr, "Settings read again")
        wait_for_line(process.stderr, "Following 1 root")
        process.send_signal(signal.SIGTERM)
        _out, err = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "Ended by a signal" in err
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(20))
def test_two_hundred_kills_while_policies_act(tmp_path, request, seed: int):
    if "torture" not in (request.config.getoption("markexpr") or ""):
        pytest.skip("takes minutes: pytest -m torture")
    _torture(tmp_path, files=2_000, kills=10, seed=100 + seed)
