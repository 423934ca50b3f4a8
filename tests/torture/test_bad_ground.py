"""What a machine does to a root: nothing to be had from the kernel, mounts that come and go, rights
that are lost, clocks that step. Never a crash, never a mass deletion, always an alarm by its name.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lifecycle_sync import mounts
from lifecycle_sync.model.repository import RepositoryStatus
from tests.support import oracle
from tests.support.alone import run_alone
from tests.support.estate import AheadClock
from tests.support.watched import Watched, until

pytestmark = pytest.mark.torture
FILES = 40


def fill(watched: Watched) -> None:
    for number in range(FILES):
        watched.write(f"d{number % 4}/{number}", str(number))


def alarms(watched: Watched) -> set[str]:
    return {alarm.name for alarm in watched.health.alarms}


def mode(watched: Watched) -> str:
    return watched.health.mode.value


def becomes_equal(watched: Watched) -> None:
    watching = watched.watching
    assert watching is not None

    def equal() -> bool:
        watched.follower.look_soon()
        watching.wait_settled(1.0)
        try:
            oracle.assert_equal_to_disk(watched.engine, watched.repository)
        except (AssertionError, OSError):
            return False
        return True

    until(equal)


# -- the kernel gives nothing ------------------------------------------------------------------


def no_watches(base: Path) -> None:
    Path("/proc/sys/user/max_inotify_watches").write_text("0")
    watched = Watched(base)
    fill(watched)
    with watched.following():
        assert alarms(watched) == {"watch-limit"}
        assert mode(watched) == "partly polled"
        watched.write("d1/more", "more")
        watched.remove("d0/0")
        becomes_equal(watched)
        Path("/proc/sys/user/max_inotify_watches").write_text("10000")
        until(lambda: mode(watched) == "watching")
        assert alarms(watched) == set()


def test_the_limit_of_watches_is_0(tmp_path):
    run_alone(no_watches, tmp_path, "unshare", "--user", "--map-root-user")


def no_queues(base: Path) -> None:
    Path("/proc/sys/user/max_inotify_instances").write_text("0")
    watched = Watched(base)
    fill(watched)
    with watched.following():
        assert alarms(watched) == {"no-queue"}
        assert mode(watched) == "polling"
        watched.write("d1/more", "more")
        becomes_equal(watched)


def test_the_limit_of_queues_is_0(tmp_path):
    run_alone(no_queues, tmp_path, "unshare", "--user", "--map-root-user")


@contextmanager
def no_descriptors() -> Iterator[Callable[[], None]]:
    """All that this process may have are taken; what is given takes those, too, that another thread
    had and has given back."""
    taken: list[int] = []

    def take() -> None:
        while True:
            try:
                taken.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                return

    try:
        take()
        yield take
    finally:
        for fd in taken:
            os.close(fd)


def descriptors(base: Path) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
    watched = Watched(base)
    fill(watched)
    with watched.following():
        # Directories that are there, but cannot be opened.
        os.rename(watched.path("d0"), watched.path("renamed"))
        with no_descriptors() as take:
            os.truncate(watched.path("d1/1"), 0)
            os.unlink(watched.path("d2/2"))

            def fails() -> bool:
                take()
                watched.follower.look_soon()
                return bool(alarms(watched) & {"failing", "root"})

            until(fails)
            time.sleep(1)
            watched.follower.look_soon()
            time.sleep(0.5)
            assert watched.follower._thread is not None and watched.follower._thread.is_alive()
        becomes_equal(watched)
        assert len(oracle.records(watched.engine)) == FILES - 1

        def calm() -> bool:
            # A folder that could not be watched is tried again by the next poll, in good time.
            watched.follower.look_soon()
            return alarms(watched) == set()

        until(calm)
        assert watched.repository.status is RepositoryStatus.ACTIVE


def test_there_are_no_descriptors_left(tmp_path):
    run_alone(descriptors, tmp_path, "env")


# -- mounts ------------------------------------------------------------------------------------

_PRIVATE = ("unshare", "--mount", "--propagation", "private")


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True)


def unmounted(base: Path) -> None:
    root = base / "root"
    root.mkdir()
    mount("-t", "tmpfs", "disk", root)
    watched = Watched(base)
    fill(watched)
    before = oracle.disk(watched.root)
    with watched.following():
        copy = base / "copy"
        shutil.copytree(root, copy, symlinks=True)
        subprocess.run(["umount", "--lazy", str(root)], check=True)
        until(lambda: alarms(watched) == {"root"})
        assert mode(watched) == "offline"
        # Another disk, empty, and with what somebody writes onto it.
        mount("-t", "tmpfs", "other", root)
        (root / "unrelated").write_text("nothing of ours")
        watched.follower.look_soon()
        time.sleep(0.5)
        assert alarms(watched) == {"root"}
        assert set(oracle.records(watched.engine)) == set(before)
        subprocess.run(["umount", "--lazy", str(root)], check=True)
        # A filesystem of another type, with the same files and the same marker.
        mount("-t", "ramfs", "another", root)
        shutil.copytree(copy, root, symlinks=True, dirs_exist_ok=True)
        watched.follower.look_soon()
        until(lambda: watched.repository.status is RepositoryStatus.HELD)
        assert "filesystem type" in watched.repository.held_reason
        assert alarms(watched) == {"root"}
        assert set(oracle.records(watched.engine)) == set(before)
        # A person says that it is the right one.
        watched.engine.accept(watched.root)
        until(lambda: mode(watched) == "watching")
        watched.write("d1/more", "more")
        becomes_equal(watched)
        assert set(oracle.records(watched.engine)) == {*before, b"d1/more"}


def test_a_disk_is_unmounted_and_others_come_in_its_place(tmp_path):
    run_alone(unmounted, tmp_path, *_PRIVATE)


def mounted_in_itself(base: Path) -> None:
    watched = Watched(base)
    fill(watched)
    os.mkdir(watched.path("loop"))
    os.mkdir(watched.path("d0/again"))
    mount("--bind", os.fsdecode(watched.root), os.fsdecode(watched.path("loop")))
    mount("--rbind", os.fsdecode(watched.root), os.fsdecode(watched.path("d0/again")))
    with watched.following():
        until(lambda: "seen-twice" in alarms(watched))
        watched.write("d1/more", "more")
        watched.write("loop/d2/through the loop", "through")
        becomes_equal(watched)
        assert b"loop/d1/more" in oracle.records(watched.engine)
        # And it goes again: what was below it is recorded as gone, the rest stays.
        for path in ("d0/again", "loop"):
            mount_point = os.fsdecode(watched.path(path))
            subprocess.run(["umount", "--recursive", "--lazy", mount_point], check=True)
        watched.follower.look_at_all()
        held = watched.repository.status is RepositoryStatus.HELD
        if held:
            watched.engine.accept(watched.root)
        becomes_equal(watched)
        assert set(oracle.records(watched.engine)) >= {b"d1/more", b"d2/through the loop"}


def test_a_root_is_mounted_inside_itself(tmp_path):
    run_alone(mounted_in_itself, tmp_path, *_PRIVATE)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_network_and_fuse_filesystems_are_polled(tmp_path, monkeypatch, kind):
    watched = Watched(tmp_path)
    fill(watched)
    monkeypatch.setattr(mounts, "_type_of", lambda path, device: kind)
    with watched.following():
        assert alarms(watched) == {"not-told"}
        assert mode(watched) == "polling"
        assert watched.repository.identity.network
        watched.write("d1/more", "more")
        watched.remove("d2/2")
        until(lambda: b"d1/more" in oracle.records(watched.engine))
        until(lambda: b"d2/2" not in oracle.records(watched.engine))
        assert len(oracle.records(watched.engine)) == FILES


# -- rights ------------------------------------------------------------------------------------


def rights_are_lost(base: Path) -> None:
    watched = Watched(base)
    fill(watched)
    with watched.following():
        before = oracle.records(watched.engine)
        for path in ("d0", "d1"):
            os.chmod(watched.path(path), 0)
        watched.write("d2/more", "more")
        watched.follower.look_soon()
        until(lambda: b"d2/more" in oracle.records(watched.engine))
        watched.follower.look_at_all()
        assert set(oracle.records(watched.engine)) == {*before, b"d2/more"}
        until(lambda: "unreadable" in alarms(watched))
        # Of the root itself: it cannot be told from one that is not there.
        os.chmod(watched.root, 0)
        watched.follower.look_soon()
        until(lambda: "root" in alarms(watched))
        os.chmod(watched.root, 0o755)
        for path in ("d0", "d1"):
            os.chmod(watched.path(path), 0o755)
        becomes_equal(watched)
        assert set(oracle.records(watched.engine)) == {*before, b"d2/more"}
        until(lambda: alarms(watched) == set())


def test_rights_are_lost_and_given_back(tmp_path):
    run_alone(
        rights_are_lost,
        tmp_path,
        "setpriv",
        "--bounding-set=-dac_override,-dac_read_search",
        "--inh-caps=-all",
    )


# -- the clock ---------------------------------------------------------------------------------

_YEAR_NS = 366 * 86_400 * 10**9


def test_the_clock_steps_a_year_ahead_and_back(tmp_path):
    clock = AheadClock(0)
    watched = Watched(tmp_path, clock=clock)
    fill(watched)
    with watched.following():
        watched.assert_equal()
        assert watched.engine.clock_doubt.reason() == ""
        for step, ahead_ns in enumerate((_YEAR_NS, 0, -_YEAR_NS, 0)):
            clock.ahead_ns = ahead_ns
            gone = f"d2/{4 * step + 2}"
            watched.write(f"d1/new {step}", "written after a step")
            watched.remove(gone)
            watched.save("d3/3", f"saved after step {step}")
            until(lambda it=step: b"d1/new %d" % it in oracle.records(watched.engine))
            until(lambda it=gone: it.encode() not in oracle.records(watched.engine))
            if ahead_ns >= 0:
                # What is dated ahead of the clock is looked at again until that has come there.
                becomes_equal(watched)
            watched.follower.look_at_all()
            assert len(oracle.records(watched.engine)) == FILES
            # Until a person says that the time is right, nothing is archived, deleted or purged.
            assert "the last run" in watched.engine.clock_doubt.reason()
