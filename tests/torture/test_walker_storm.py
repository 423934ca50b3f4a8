"""A walk of a tree that others change all the while."""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from collections.abc import Callable

import pytest

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import SystemClock
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.observe import native_walker, walker
from lifecycle_sync.observe.ignore import IgnoreRules
from lifecycle_sync.observe.walker import SWAPPED
from lifecycle_sync.testing.walker_contract_base import (
    WalkerContractBase,
    open_descriptors,
    put,
)

pytestmark = pytest.mark.torture

_SECONDS = 2.0


@pytest.fixture(params=["python", "native"])
def walk(request, monkeypatch):
    """Each of the walkers, the native one with several readers from the first directory on."""
    if request.param == "python":
        return walker.walk
    if (cause := native_walker.unavailable()) is not None:
        pytest.skip(f"the native walker is {cause}")
    monkeypatch.setattr(native_walker, "READERS", 3)
    monkeypatch.setattr(native_walker, "ALONE_DIRECTORIES", 0)
    return native_walker.walk_native


class TestStorm(WalkerContractBase):
    def test_nothing_outside_is_seen_and_what_is_left_alone_is_always_seen(self, light_root, walk):
        outside = light_root + b".outside"
        for number in range(20):
            put(outside, b"secret-%d" % number)
            put(outside, b"sub/secret-%d" % number)
        for number in range(30):
            put(light_root, b"calm/%d/file" % number)
            put(light_root, b"storm/%d/sub/file" % number)
        stop = threading.Event()
        storms = [
            threading.Thread(target=_storm, args=(light_root, outside, seed, stop))
            for seed in range(2)
        ]
        before = open_descriptors()
        for storm in storms:
            storm.start()
        walks = 0
        seen_errors = set()
        try:
            deadline = time.monotonic() + _SECONDS
            while time.monotonic() < deadline:
                paths = []
                for listing in walk(
                    light_root,
                    IgnoreRules(),
                    fs=FileOps(),
                    clock=SystemClock(),
                    cancel=CancelToken(),
                ):
                    paths.append(listing.path)
                    seen_errors.add(listing.error)
                    assert not any(name.startswith(b"secret") for name in listing.columns.names)
                calm = [path for path in paths if path.startswith(b"calm/")]
                assert calm == sorted(b"calm/%d" % number for number in range(30))
                assert len(set(paths)) == len(paths)
                walks += 1
        finally:
            stop.set()
            for storm in storms:
                storm.join()
        assert walks > 1
        assert seen_errors <= {None, SWAPPED}
        assert open_descriptors() == before


def _storm(root: bytes, outside: bytes, seed: int, stop: threading.Event) -> None:
    """Swap directories for symlinks, files and each other, and let them come and go."""
    chance = random.Random(seed)
    places = [os.path.join(root, b"storm/%d" % number) for number in range(30)]

    def swap_for_a_symlink(place: bytes) -> None:
        os.rename(place, place + b".away%d" % seed)
        os.symlink(outside, place)

    def come_back(place: bytes) -> None:
        os.unlink(place)
        os.rename(place + b".away%d" % seed, place)

    def swap_for_another(place: bytes) -> None:
        other = chance.choice(places)
        os.rename(place, place + b".move%d" % seed)
        os.rename(other, place)
        os.rename(place + b".move%d" % seed, other)

    def remove(place: bytes) -> None:
        shutil.rmtree(place)

    def make(place: bytes) -> None:
        put(place, b"sub/file%d" % chance.randrange(5))

    def swap_for_a_file(place: bytes) -> None:
        remove(place)
        put(place, b"")

    acts: list[Callable[[bytes], None]] = [
        swap_for_a_symlink,
        come_back,
        come_back,
        swap_for_another,
        remove,
        make,
        make,
        swap_for_a_file,
    ]
    while not stop.is_set():
        try:
            chance.choice(acts)(chance.choice(places))
        except OSError:
            pass  # the other storm was there before
