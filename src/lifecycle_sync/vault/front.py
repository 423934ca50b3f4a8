"""The front of a vault written anew where it is damaged or missing: FORMAT, RESTORE.md, SHA256SUMS.

The three say little, and two of them vouch for each other, so most damage can be undone from the
vault alone: FORMAT has one of four texts, once it is known which store this is. A text counts when
SHA256SUMS has its hash, or a copy of the vault has it; else, where SHA256SUMS is damaged as well,
the one that shuts out most, provided that manifests show which store this is. What is replaced is
kept in quarantine/.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from lifecycle_sync.errors import LifecycleError, StorageError, StorageMissingError
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault.findings import Problem
from lifecycle_sync.vault.format import (
    FORMAT_NAME,
    MANIFESTS,
    OBJECTS,
    PACKS,
    PRUNING_WRITER,
    RECIPIENTS_NAME,
    RESTORE_NAME,
    SUMS_NAME,
    NewerFormatError,
    VaultFormat,
    VaultKind,
    decode_format,
    encode_format,
    new_format,
    restore_text,
    sums_text,
)
from lifecycle_sync.vault.manifest import ManifestReader
from lifecycle_sync.vault.opening import before_pruning, put_front
from lifecycle_sync.vault.quarantine import keep_aside
from lifecycle_sync.vault.sealing import SUFFIX

_SIZE_MAX = 1 << 16
_LINE = re.compile(rb"([0-9a-f]{64})  (FORMAT|RESTORE\.md)\n")
# So many manifests are asked which store they belong to.
_ASKED = 16


class MendedFront(NamedTuple):
    """One of the files: what was wrong with it, and who had what stands there now. An empty
    `source` says that nobody had it, so that nothing was done."""

    problem: Problem
    name: str
    detail: str
    source: str


class Witness(NamedTuple):
    """A copy of the vault, and what it is called."""

    name: str
    storage: Storage


def mend_front(
    storage: Storage,
    kind: VaultKind,
    *,
    store_id: bytes | None,
    manifests: frozenset[str] = frozenset(),
    copies: Sequence[Witness] = (),
) -> list[MendedFront]:
    """Write anew what is damaged of the front of the vault in `storage` (as it lies there, also of
    an encrypted one); what was found, nothing where all is well.

    `store_id` and `manifests` are what is known of the vault that belongs here. An empty folder,
    and the vault of another store, stay as they are. Raises `StorageError`.
    """
    if not any(storage.names(folder) for folder in (MANIFESTS, PACKS, OBJECTS)):
        return []
    return _Front(storage, kind, store_id, manifests, copies).mend()


class _Front:
    def __init__(
        self,
        storage: Storage,
        kind: VaultKind,
        store_id: bytes | None,
        manifests: frozenset[str],
        copies: Sequence[Witness],
    ) -> None:
        self._storage = storage
        self._kind = kind
        self._store_id = store_id
        self._manifests = manifests
        self._copies = copies
        names = storage.names(MANIFESTS)
        self._encrypted = any(name.endswith(SUFFIX) for name in names) or (
            storage.size(RECIPIENTS_NAME) is not None
        )
        self._leaves = [name.removesuffix(SUFFIX) for name in names]
        self._found: list[MendedFront] = []
        sums, _ = self._read(SUMS_NAME)
        # What SHA256SUMS says, as far as it can be believed: a damaged line vouches for nothing.
        self._sums = {name.decode(): digest.decode() for digest, name in _LINE.findall(sums or b"")}

    def mend(self) -> list[MendedFront]:
        right = self._mend_format()
        if right is None:
            return self._found
        restore = self._mend_restore()
        sums, problem = self._read(SUMS_NAME)
        said = {FORMAT_NAME: right, RESTORE_NAME: restore}
        before = before_pruning(right)
        # The sums follow a FORMAT that the first prune has changed.
        also = said | {FORMAT_NAME: before} if before else said
        if sums not in (sums_text(said), sums_text(also)):
            detail = _words(problem) or "is cut or has other lines"
            self._put(SUMS_NAME, sums_text(said), problem, detail, "what it vouches for")
        return self._found

    def _read(self, name: str) -> tuple[bytes | None, Problem]:
        try:
            return self._storage.read(name, 0, _SIZE_MAX), Problem.DAMAGED
        except StorageMissingError:
            return None, Problem.MISSING
        except StorageError:
            return None, Problem.UNREADABLE

    def _put(self, name: str, data: bytes, problem: Problem, detail: str, source: str) -> None:
        keep_aside(self._storage, name)
        put_front(self._storage, name, data)
        self._found.append(MendedFront(problem, name, detail, source))

    def _vouched(self, name: str, data: bytes) -> bool:
        return self._sums.get(name) == hashlib.sha256(data).hexdigest()

    # -- FORMAT ----------------------------------------------------------------------------

    def _mend_format(self) -> bytes | None:
        """What FORMAT has in the end; None where nobody knows."""
        data, problem = self._read(FORMAT_NAME)
        it = None if data is None else self._decoded(data)
        ours = it is not None and self._store_id in (None, it.store_id)
        if data is not None and self._is_vouched_format(data):
            # Where it is of another store, another disk is mounted here: whoever opens it says so.
            return data if ours else None
        right, source = self._other_format(ours=ours)
        if right is None:
            if ours:
                # It says what is right, and nothing says otherwise: the sums are what is wrong.
                return data
            self._found.append(MendedFront(problem, FORMAT_NAME, _words(problem), ""))
            return None
        if right != data:
            self._put(FORMAT_NAME, right, problem, _words(problem), source)
        return right

    def _is_vouched_format(self, data: bytes) -> bool:
        before = before_pruning(data)
        return self._vouched(FORMAT_NAME, data) or bool(
            before and self._vouched(FORMAT_NAME, before)
        )

    def _decoded(self, data: bytes) -> VaultFormat | None:
        """What it says, when that can be so."""
        try:
            it = decode_format(data)
        except (ValueError, NewerFormatError):
            return None
        fits = it.kind is self._kind and bool(it.encryption) == self._encrypted
        return it if fits else None

    def _other_format(self, *, ours: bool) -> tuple[bytes | None, str]:
        """What FORMAT should be, and who says so."""
        texts = list(self._texts())
        for text in texts:
            if self._vouched(FORMAT_NAME, text):
                return text, SUMS_NAME
        if ours:
            return None, ""
        for copy in self._copies:
            try:
                text = copy.storage.read(FORMAT_NAME, 0, _SIZE_MAX)
            except LifecycleError:
                continue
            if text in texts and self._is_ours(decode_format(text).store_id):
                return text, copy.name
        if FORMAT_NAME in self._sums:
            # Of a newer program, which alone knows what has to be known of it.
            return None, ""
        for text in texts:
            if self._is_ours(decode_format(text).store_id):
                return text, "its manifests"
        return None, ""

    def _texts(self) -> Iterator[bytes]:
        """All that FORMAT may say, what shuts out most first."""
        stores = [self._store_id] if self._store_id is not None else list(self._stores())
        for store_id in stores:
            it = new_format(self._kind, store_id, encrypted=self._encrypted)
            if it.min_writer < PRUNING_WRITER:
                yield encode_format(replace(it, min_writer=PRUNING_WRITER))
            yield encode_format(it)

    def _is_ours(self, store_id: bytes) -> bool:
        """Whether manifests show that this is that store."""
        if store_id == self._store_id and not self._manifests.isdisjoint(self._leaves):
            return True
        return store_id in set(self._stores())

    def _stores(self) -> Iterator[bytes]:
        """Which stores the manifests say they belong to, as far as that can be read."""
        if self._encrypted:
            return
        for leaf in sorted(self._leaves)[-_ASKED:]:
            try:
                yield ManifestReader(self._storage, leaf).header.store_id
            except LifecycleError:
                continue

    # -- RESTORE.md ------------------------------------------------------------------------

    def _mend_restore(self) -> bytes:
        data, problem = self._read(RESTORE_NAME)
        text = restore_text(encrypted=self._encrypted)
        if data is not None and (data == text or self._vouched(RESTORE_NAME, data)):
            return data
        source = "this program"
        for copy in self._copies:
            try:
                had = copy.storage.read(RESTORE_NAME, 0, _SIZE_MAX)
            except LifecycleError:
                continue
            if self._vouched(RESTORE_NAME, had):
                text, source = had, copy.name
                break
        self._put(RESTORE_NAME, text, problem, _words(problem), source)
        return text


def _words(problem: Problem) -> str:
    return {
        Problem.MISSING: "is missing",
        Problem.UNREADABLE: "cannot be read",
    }.get(problem, f"is not what {SUMS_NAME} says")
