"""Contents in several places of a vault, whatever two do with it who have an index each, and
whatever a disk does: what is whole somewhere, and a version holds it, is read and stays.

Nothing but a disk may take the last place away in which a content is whole.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.vault import objects, writer
from lifecycle_sync.vault.format import salt_frame
from lifecycle_sync.vault.healing import heal
from lifecycle_sync.vault.index import key_blob
from lifecycle_sync.vault.prune import prune, withdraw
from lifecycle_sync.vault.vault import Vault
from lifecycle_sync.vault.whole_places import Probe
from lifecycle_sync.vault.writer import VaultWriter
from tests.support.vaults import EncryptedHouse, VaultHouse, flip, key_of, read

_DAY = 24 * 3600 * 10**9
_PART = 600
# Small ones, one of several parts, and two that share a part.
_SMALL, _CONTENTS = 3, 6
# As far as a disk fails at a time.
_SECTOR = 512
_SOME = st.lists(st.integers(0, _CONTENTS - 1), min_size=1, max_size=3, unique=True)
_SECOND = st.booleans()
_SELDOM = st.sampled_from([False, False, True])


def _salted(random_bytes: bytes) -> bytes:
    """What `salt_frame` makes of these."""
    return salt_frame()[:-16] + random_bytes


class PlacesMachine(RuleBasedStateMachine):
    """A vault that is not encrypted."""

    def __init__(self) -> None:
        super().__init__()
        self._over = ExitStack()
        # Objects of several parts.
        self._over.enter_context(patch.object(objects, "PART_SIZE_MAX", _PART))
        self._over.enter_context(patch.object(objects, "_BLOCK_SIZE", _PART // 2))
        # Nothing here depends on a disk.
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
        folder = Path(tempfile.mkdtemp(prefix="lifecycle-places-", dir=memory))
        self._over.callback(shutil.rmtree, folder)
        self._indexes = [os.fspath(folder / f"{name}.db") for name in ("first", "second", "late")]
        self._house = self.house(folder)
        chosen = random.Random(7)
        # Names are made of it: so the same steps, given again, meet the same files.
        salt = patch.object(writer, "salt_frame", lambda: _salted(chosen.randbytes(16)))
        self._over.enter_context(salt)
        shared = chosen.randbytes(_PART)
        self._contents = [chosen.randbytes(400 * (it + 1)) for it in range(_SMALL)]
        self._contents.append(chosen.randbytes(3 * _PART))
        self._contents += [shared + chosen.randbytes(_PART) for _ in range(2)]
        self._of = {key_of(it): it for it in self._contents}
        self._held: dict[bytes, ContentKey] = {}
        self._late = self.open(self._indexes[2])

    def house(self, folder: Path) -> VaultHouse:
        return VaultHouse(folder)

    def open(self, index_path: str) -> Vault:
        return self._house.open(index_path=index_path)

    def teardown(self) -> None:
        self._late.close()
        self._over.close()

    # -- what holds ------------------------------------------------------------------------

    def _whole(self) -> set[ContentKey]:
        """What is whole in any place of which the manifests tell."""
        found = set()
        with self.open("") as vault:
            probe = Probe(vault, None)
            for key in self._of:
                blob, index = key_blob(key), vault.index
                places = [index.place(key)]
                places += [index.place_beside(key, it) for it in index.other_places(blob)]
                if any(probe.is_whole(key, it) for it in places):
                    found.add(key)
        return found

    @contextmanager
    def _by(self, second: bool) -> Iterator[Vault]:
        before = self._whole()
        with self.open(self._indexes[second]) as vault:
            yield vault
            after = self._whole()
            held = set(self._held.values())
            assert held & before <= after, "what was whole has gone"
            for key in held & after:
                assert read(vault, key) == self._of[key]

    # -- what is done ----------------------------------------------------------------------

    def _put(self, session: VaultWriter, data: bytes) -> None:
        if self._contents.index(data) < _SMALL:
            session.add(key_of(data), data, again=True)
        else:
            upload = session.open_object("sha256")
            upload.write(data)
            upload.finish()

    def _commit(self, session: VaultWriter, some: list[int]) -> None:
        held = {b"%d" % it: key_of(self._contents[it]) for it in some}
        versions = [self._house.version(path, key) for path, key in held.items()]
        session.commit(versions)
        self._held |= {it.version_id: held[it.path] for it in versions}

    @rule(some=_SOME, again=st.booleans(), second=_SECOND)
    def store(self, some: list[int], again: bool, second: bool) -> None:
        with self._by(second) as vault, vault.writer() as session:
            for data in (self._contents[it] for it in some):
                if again or not vault.contains([key_of(data)]):
                    self._put(session, data)
            self._commit(session, some)

    @rule(some=_SOME, second=_SECOND, turned=st.booleans())
    def store_at_the_same_time(self, some: list[int], second: bool, turned: bool) -> None:
        with (
            self._by(second) as one,
            self.open(self._indexes[not second]) as two,
            one.writer() as first,
            two.writer() as other,
        ):
            for number, session in enumerate((first, other)):
                own = b"%d of %d" % (number, len(self._held))
                session.add(key_of(own), own)
                for data in (self._contents[it] for it in some):
                    self._put(session, data)
            for session in (other, first) if turned else (first, other):
                self._commit(session, some)

    @rule(which=st.integers(0, _CONTENTS - 1), second=_SECOND)
    def take_back(self, which: int, second: bool) -> None:
        key = key_of(self._contents[which])
        ids = [version_id for version_id, held in self._held.items() if held == key]
        for version_id in ids:
            del self._held[version_id]
        if ids:
            with self._by(second) as vault:
                withdraw(vault, ids, self._house.clock.now_ns(), "asked")
        self._house.clock.advance(1)

    @rule(days=st.sampled_from([0, 0, 7]), dry=_SELDOM, second=_SECOND)
    def prune(self, days: int, dry: bool, second: bool) -> None:
        with self._by(second) as vault:
            now_ns = self._house.clock.now_ns()
            prune(vault, now_ns=now_ns, grace_ns=days * _DAY, repack_below=0.8, dry_run=dry)

    @rule(how=st.sampled_from([{}, {"share": 1.0}, {"contents": True}]), second=_SECOND)
    def verify(self, how: dict[str, object], second: bool) -> None:
        self._house.clock.advance(1)
        with self._by(second) as vault:
            vault.verify(**how)  # type: ignore[arg-type]

    @rule(second=_SECOND)
    def heal(self, second: bool) -> None:
        """With nobody else who has anything."""
        self._house.clock.advance(1)
        with self._by(second) as vault:
            heal(vault, vault.verify(share=1.0).findings)

    @rule(days=st.sampled_from([1, 8]))
    def days_pass(self, days: int) -> None:
        self._house.clock.advance(days * 86_400)

    @rule(second=_SECOND)
    def an_index_is_lost(self, second: bool) -> None:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self._indexes[second]}{suffix}").unlink(missing_ok=True)

    @rule()
    def a_checkpoint_comes_late(self) -> None:
        """Of one who knows nothing of what was told since."""
        with self._by(False):
            self._late.checkpoint()
        self._late.close()
        self._late = self.open(self._indexes[2])

    @rule(which=st.integers(0, 99), at=st.integers(0, 3), gone=_SELDOM)
    def the_disk_fails(self, which: int, at: int, gone: bool) -> None:
        files = [*self._house.files("packs"), *self._house.files("objects")]
        if files:
            path = files[which % len(files)]
            data = bytearray(path.read_bytes())
            start = at * _SECTOR % len(data)
            data[start : start + _SECTOR] = bytes(len(data[start : start + _SECTOR]))
            path.unlink()
            if not gone:
                path.write_bytes(data)

    @rule(which=st.integers(0, 99), at=st.integers(0, 9_999))
    def a_bit_flips(self, which: int, at: int) -> None:
        files = [*self._house.files("packs"), *self._house.files("objects")]
        if files:
            path = files[which % len(files)]
            flip(path, at % path.stat().st_size, which % 8)


class EncryptedPlacesMachine(PlacesMachine):
    def house(self, folder: Path) -> VaultHouse:
        return EncryptedHouse(folder)

    def open(self, index_path: str) -> Vault:
        return self._house.open(index_path=index_path, key=True)


@pytest.mark.parametrize("machine", [PlacesMachine, EncryptedPlacesMachine])
def test_what_is_whole_somewhere_stays_and_is_read(machine):
    chosen = settings(max_examples=15, stateful_step_count=25, deadline=None)
    run_state_machine_as_test(machine, settings=chosen)
