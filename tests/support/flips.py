"""A small vault with every kind of file in it, and what one flipped bit of it must not do.

Whatever the bit: verify names damage (or the vault cannot be opened, and says why), no content is
ever given out as something else, and what does not lie on the flipped byte is restored as before.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from lifecycle_sync.errors import LifecycleError, VaultError
from lifecycle_sync.model.event import VersionEvent
from lifecycle_sync.vault import objects
from lifecycle_sync.vault.format import (
    FORMAT_NAME,
    MANIFESTS,
    RESTORE_NAME,
    SUMS_NAME,
    object_name,
    pack_name,
)
from lifecycle_sync.vault.index import PackPlace
from lifecycle_sync.vault.vault import Vault
from tests.support import golden
from tests.support.vaults import REPOSITORY, VaultHouse, key_of, read

# Which vault: one that is made here, or the golden one that is encrypted.
VAULTS = ("made", "encrypted")
# How the index is found after a flip: gone, knowing of all manifests, and also of each version.
INDEXES = ("none", "known", "asked")
_PART = 1_000
_GOLDEN = Path(__file__).parent.parent / "golden/vault-2"
_FRONT = {FORMAT_NAME, RESTORE_NAME, SUMS_NAME}


class Flip(NamedTuple):
    """One bit of one byte of a file of the vault."""

    file: str
    at: int
    bit: int

    def __str__(self) -> str:
        return f"{self.file}:{self.at}:{self.bit}"

    @classmethod
    def parse(cls, text: str) -> Flip:
        file, at, bit = text.rsplit(":", 2)
        return cls(file, int(at), int(bit))


class MissedError(AssertionError):
    """A flip after which something does not hold."""


class FlippedVault:
    """Makes the vault (one of `VAULTS`) in an empty folder; `index` is one of `INDEXES`."""

    def __init__(self, folder: Path, index: str = "none", kind: str = "made") -> None:
        self.house = VaultHouse(folder)
        self.contents: dict[bytes, bytes] = {}
        self._key: dict[str, object] = {}
        if kind == "encrypted":
            self._key = {"identity_path": f"{_GOLDEN}.key"}
            self._copy(asked=index == "asked")
        else:
            self._fill(asked=index == "asked")
        self._index = None if index == "none" else self.house.index_path.read_bytes()
        # Which bytes of which file each version needs, and which manifests tell of it.
        self._needs: dict[bytes, dict[str, range]] = {}
        with self.house.open(read_only=True, index_path="", **self._key) as vault:
            self.versions = list(vault.all_versions(REPOSITORY))
            for event in self.versions:
                needs = dict(_bytes_of(vault, event)) if event.content else {}
                self._needs[event.version_id] = needs
        self._tellers = self._told_by()

    def _fill(self, *, asked: bool) -> None:
        house, chosen = self.house, random.Random(7)
        with house.open() as vault:
            small = {b"a": b"first " * 30, b"b": chosen.randbytes(300), b"empty": b""}
            self._store(vault, small)
            # A checkpoint of the first, which then is told of twice.
            vault.checkpoint()
            with patch.object(objects, "PART_SIZE_MAX", _PART), vault.writer() as writer:
                data = chosen.randbytes(2 * _PART + 500)
                with patch.object(objects, "_BLOCK_SIZE", 500):
                    upload = writer.open_object("sha256")
                    upload.write(data)
                    upload.finish()
                writer.commit([house.version(b"parts", key_of(data), size=len(data))])
                self.contents[b"parts"] = data
            self._store(vault, {b"c": chosen.randbytes(200), b"d": b"fourth " * 20})
            if asked:
                assert len(list(vault.all_versions(REPOSITORY))) == len(self.contents)

    def _copy(self, *, asked: bool) -> None:
        shutil.copytree(_GOLDEN, self.house.path)
        for event in golden.events_of():
            if isinstance(event, VersionEvent) and event.content is not None:
                data = golden.CONTENTS.get(event.content, golden.LARGE)
                self.contents[event.path] = data
        with self.house.open(read_only=True, **self._key) as vault:
            if asked:
                assert list(vault.all_versions(REPOSITORY))

    def _store(self, vault: Vault, contents: dict[bytes, bytes]) -> None:
        self.house.store(vault, contents)
        self.contents |= contents

    def _open(self) -> Vault:
        if self._index is None:
            return self.house.open(read_only=True, index_path="", **self._key)
        self.house.lose_index()
        self.house.index_path.write_bytes(self._index)
        return self.house.open(read_only=True, **self._key)

    def _told_by(self) -> dict[bytes, set[str]]:
        """By version, the manifests that tell of it; each of them suffices."""
        tellers: dict[bytes, set[str]] = {event.version_id: set() for event in self.versions}
        with self.house.open(read_only=True, index_path="", **self._key) as vault:
            suffix = ".age" if vault.format.encryption else ""
            for name in vault.storage.names(MANIFESTS):
                for event in vault.catalogue._events_of(name):
                    if isinstance(event, VersionEvent):
                        tellers[event.version_id].add(f"{MANIFESTS}/{name}{suffix}")
        return tellers

    # -- which there are -------------------------------------------------------------------

    def all(self) -> Iterator[Flip]:
        """Every byte of every file, with one bit of it."""
        for path in self.house.files():
            name = str(path.relative_to(self.house.path))
            for at in range(path.stat().st_size):
                yield Flip(name, at, (at * 5 + 3) % 8)

    def sample(self, number: int, seed: int) -> list[Flip]:
        """So many of each kind of file."""
        kinds: dict[str, list[Flip]] = {}
        for flip in self.all():
            folder, _, leaf = flip.file.rpartition("/")
            kinds.setdefault(folder.partition("/")[0] or leaf, []).append(flip)
        chosen = random.Random(seed)
        return [it for kind in kinds.values() for it in chosen.sample(kind, number)]

    # -- one of them -----------------------------------------------------------------------

    def check(self, flip: Flip) -> bool:
        """Whether something could not be restored because of it. Raises `MissedError`."""
        path = self.house.path / flip.file
        whole = path.read_bytes()
        data = bytearray(whole)
        data[flip.at] ^= 1 << flip.bit
        path.write_bytes(data)
        try:
            return self._look(flip)
        finally:
            path.write_bytes(whole)

    def _look(self, flip: Flip) -> bool:
        try:
            vault = self._open()
        except VaultError as error:
            # Loud, and nothing is restored before that file is mended: only FORMAT is such.
            if flip.file != FORMAT_NAME or not error.remedy:
                raise MissedError(f"{flip}: cannot be opened: {error}") from error
            return True
        with vault:
            lost = self._restore(vault, flip)
            report = vault.verify(contents=True)
            if report.ok:
                raise MissedError(f"{flip}: verify finds nothing")
            subjects = {it.subject for it in report.findings}
            # Of FORMAT and RESTORE.md on one side and their sums on the other nobody knows which.
            name = flip.file.removesuffix(".age")
            if name not in subjects and not (flip.file in _FRONT and subjects <= _FRONT):
                raise MissedError(f"{flip}: verify names {subjects}")
        if self._key:
            with self._without_key() as vault:
                if vault.verify(contents=True).ok:
                    raise MissedError(f"{flip}: verify finds nothing without a key")
        return lost

    @contextmanager
    def _without_key(self) -> Iterator[Vault]:
        with self.house.open(read_only=True, index_path="") as vault:
            yield vault

    def _restore(self, vault: Vault, flip: Flip) -> bool:
        told = {event.version_id: event for event in vault.all_versions(REPOSITORY)}
        lost = False
        for event in self.versions:
            found = told.get(event.version_id)
            if found is None:
                lost = True
                others = self._tellers[event.version_id] - {flip.file}
                if others and flip.file != FORMAT_NAME:
                    raise MissedError(
                        f"{flip}: nobody tells of {event.path!r} any more, but {others}"
                    )
                if not vault.damaged_manifests:
                    raise MissedError(f"{flip}: {event.path!r} is gone and nobody says why")
                continue
            if found != event:
                raise MissedError(f"{flip}: {event} became {found}")
            lost |= self._read(vault, event, flip)
        strange = told.keys() - self._needs.keys()
        if strange:
            raise MissedError(f"{flip}: there are {len(strange)} versions that nobody made")
        return lost

    def _read(self, vault: Vault, event: VersionEvent, flip: Flip) -> bool:
        if event.content is None:
            return False
        on_it = flip.at in self._needs[event.version_id].get(flip.file, ())
        try:
            data = read(vault, event.content)
        except LifecycleError as error:
            if not on_it:
                raise MissedError(f"{flip}: {event.path!r} does not lie there: {error}") from error
            return True
        if data != self.contents[event.path]:
            raise MissedError(f"{flip}: {event.path!r} came back as something else")
        return False


def _bytes_of(vault: Vault, event: VersionEvent) -> Iterator[tuple[str, range]]:
    """Of files that are encrypted every byte counts."""
    assert event.content is not None
    place = vault.index.place(event.content)
    assert place is not None
    whole = range(1 << 30)
    suffix = ".age" if vault.format.encryption else ""
    if isinstance(place, PackPlace):
        member = range(place.offset, place.offset + place.stored)
        yield f"{pack_name(place.sha256)}{suffix}", whole if suffix else member
    else:
        for part in place.parts:
            yield f"{object_name(part.sha256)}{suffix}", whole
