"""Looking for damage: every file against the SHA-256 that names it, every claim against the files.

What is found is set down, never mended. Contents found damaged are forgotten by the index, so that
a backup which still has them stores them anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import StorageError, StorageMissingError, VaultCorruptError
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.model.event import UnknownEvent, VersionEvent
from lifecycle_sync.vault import format as vault_format
from lifecycle_sync.vault.events import look_at
from lifecycle_sync.vault.format import MANIFESTS, OBJECTS, PACKS, object_name, pack_name
from lifecycle_sync.vault.frames import (
    FrameError,
    key_of,
    new_hasher,
    raw_content,
    unpack_frame,
    unpack_stream,
)
from lifecycle_sync.vault.index import key_blob
from lifecycle_sync.vault.manifest import ManifestReader, ObjectPart, decode_content_line
from lifecycle_sync.vault.pack import Member
from lifecycle_sync.vault.salvage import stored_files

if TYPE_CHECKING:
    from lifecycle_sync.vault.vault import Vault

_BATCH = 500


class Problem(StrEnum):
    DAMAGED = "damaged"  # other bytes than there should be
    MISSING = "missing"
    UNREADABLE = "unreadable"  # the storage gave an error
    CONTRADICTORY = "contradictory"  # what it says cannot be right


class Finding(NamedTuple):
    """One piece of damage: which file of the vault (or content, or manifest), and what is wrong.

    `lost` are the contents that cannot be read because of it.
    """

    problem: Problem
    subject: str
    detail: str
    lost: tuple[ContentKey, ...] = ()


@dataclass(slots=True)
class VerifyReport:
    """What `verify` saw. `unreferenced` are files that no manifest tells of (of sessions that were
    never committed, or of manifests that are lost), `foreign` what is not the vault's, `litter`
    temporary files; none of these is damage. `unknown` counts events of a newer program."""

    findings: list[Finding] = field(default_factory=list)
    unreferenced: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    litter: list[str] = field(default_factory=list)
    manifests: int = 0
    versions: int = 0
    unknown: int = 0
    files: int = 0
    bytes: int = 0
    contents_read: int = 0

    @property
    def ok(self) -> bool:
        return not self.findings


def verify(
    vault: Vault,
    *,
    contents: bool,
    progress: Callable[[int, int], None] | None = None,
    cancel: CancelToken | None = None,
) -> VerifyReport:
    """See `Vault.verify`."""
    return _Verification(vault, contents, progress, cancel).run()


class _Verification:
    def __init__(
        self,
        vault: Vault,
        contents: bool,
        progress: Callable[[int, int], None] | None,
        cancel: CancelToken | None,
    ) -> None:
        self._vault = vault
        self._storage = vault.storage
        self._contents = contents
        self._progress = progress
        self._cancel = cancel
        self._report = VerifyReport()

    def run(self) -> VerifyReport:
        report, vault = self._report, self._vault
        # What was damaged when the vault was opened may have been mended since.
        vault.catalogue.damaged.clear()
        vault.refresh()
        self._check_front()
        self._check_manifests()
        self._check_packs()
        self._check_objects()
        report.litter = self._storage.litter(vault_format.UPLOAD_FOLDERS)
        vault.index.forget(key for finding in report.findings for key in finding.lost)
        return report

    def _found(
        self, problem: Problem, subject: str, detail: str, lost: tuple[ContentKey, ...] = ()
    ) -> None:
        self._report.findings.append(Finding(problem, subject, detail, lost))

    def _step(self, files: int, size: int) -> None:
        self._report.files += files
        self._report.bytes += size
        if self._cancel is not None:
            self._cancel.check()
        if self._progress is not None:
            self._progress(self._report.files, self._report.bytes)

    # -- the front -------------------------------------------------------------------------

    def _check_front(self) -> None:
        """FORMAT, RESTORE.md and what SHA256SUMS says of them."""
        ours = {vault_format.FORMAT_NAME, vault_format.RESTORE_NAME, vault_format.SUMS_NAME}
        folders = {PACKS, OBJECTS, MANIFESTS, vault_format.QUARANTINE}
        self._report.foreign += sorted(set(self._storage.names("")) - ours - folders)
        data: dict[str, bytes] = {}
        for name in sorted(ours):
            try:
                data[name] = self._storage.read(name)
            except StorageMissingError:
                self._found(Problem.MISSING, name, "is missing")
            except StorageError as error:
                self._found(Problem.UNREADABLE, name, error.cause)
        self._step(len(data), sum(map(len, data.values())))
        sums = data.pop(vault_format.SUMS_NAME, None)
        if sums is None:
            return
        lines = sums.splitlines(keepends=True)
        for name, content in data.items():
            if vault_format.sums_text({name: content}) not in lines:
                self._found(Problem.DAMAGED, name, f"is not what {vault_format.SUMS_NAME} says")
        if len(lines) != len(ours) - 1 or not sums.endswith(b"\n"):
            self._found(Problem.DAMAGED, vault_format.SUMS_NAME, "is cut or has other lines")
        try:
            it = vault_format.decode_format(data.get(vault_format.FORMAT_NAME, b""))
            right = (it.kind, it.store_id) == (self._vault.kind, self._vault.store_id)
        except (ValueError, vault_format.NewerFormatError):
            right = False
        if not right:
            self._found(Problem.DAMAGED, vault_format.FORMAT_NAME, "is another than when opened")

    # -- manifests -------------------------------------------------------------------------

    def _check_manifests(self) -> None:
        names = set(self._storage.names(MANIFESTS))
        for name in sorted(names):
            if vault_format.split_manifest_name(name) is None:
                self._report.foreign.append(f"{MANIFESTS}/{name}")
                names.discard(name)
        followed: dict[str, str] = {}
        repeated: set[str] = set()
        for name in sorted(names):
            try:
                reader = ManifestReader(self._storage, name)
                if reader.header.store_id != self._vault.store_id:
                    raise VaultCorruptError("belongs to another store")
                self._check_lines(reader)
            except VaultCorruptError as error:
                self._found(Problem.DAMAGED, f"{MANIFESTS}/{name}", error.cause)
            except StorageError as error:
                self._found(Problem.UNREADABLE, f"{MANIFESTS}/{name}", error.cause)
            else:
                self._report.manifests += 1
                followed.update(dict.fromkeys(reader.header.previous, name))
                repeated |= reader.header.repeated
            self._step(1, self._storage.size(f"{MANIFESTS}/{name}") or 0)
        for name in sorted(followed.keys() - names - repeated):
            detail = f"is missing: {followed[name]} was written after it"
            self._found(Problem.MISSING, f"{MANIFESTS}/{name}", detail)
        for name in self._vault.index.vanished():
            if name not in names and name not in repeated and name not in followed:
                self._found(Problem.MISSING, f"{MANIFESTS}/{name}", "was there and is gone")

    def _check_lines(self, reader: ManifestReader) -> None:
        wanted: list[ContentKey] = []
        for line in reader.lines():
            if not line.is_event:
                try:
                    decode_content_line(line.raw)
                except ValueError as error:
                    raise VaultCorruptError(f"has a line that cannot be right: {error}") from error
                continue
            what, content = look_at(line.raw)
            if what is UnknownEvent:
                self._report.unknown += 1
            elif what is VersionEvent:
                self._report.versions += not reader.header.checkpoint
                if content is not None:
                    wanted.append(content)
            if len(wanted) >= _BATCH:
                self._check_known(reader.name, wanted)
                wanted = []
        self._check_known(reader.name, wanted)

    def _check_known(self, name: str, keys: list[ContentKey]) -> None:
        blobs = [key_blob(key) for key in keys]
        known = self._vault.index.places(blobs)
        unknown = tuple(key for key, blob in zip(keys, blobs, strict=True) if blob not in known)
        if unknown:
            detail = f"speaks of {len(unknown)} contents that no manifest places"
            self._found(Problem.CONTRADICTORY, f"{MANIFESTS}/{name}", detail, unknown)

    # -- packs -----------------------------------------------------------------------------

    def _check_packs(self) -> None:
        present = self._present(PACKS)
        for place, sha256, length in self._vault.index.packs():
            name = pack_name(sha256)
            present.discard(name)
            size = self._storage.size(name)
            if size is None:
                lost = tuple(member.key for member in self._vault.index.members(place))
                self._found(Problem.MISSING, name, "is missing", lost)
            elif not self._contents:
                if size != length:
                    self._check_pack(place, name, sha256)
            else:
                self._check_pack(place, name, sha256)
            self._step(1, size or 0)
        self._report.unreferenced += sorted(present)
        if self._contents:
            self._check_unreferenced(present)

    def _present(self, folder: str) -> set[str]:
        present = set()
        for name, sha256 in stored_files(self._storage, folder):
            if sha256 is None:
                self._report.foreign.append(name)
            else:
                present.add(name)
        return present

    def _check_pack(self, place: int, name: str, sha256: bytes) -> None:
        try:
            data = self._storage.read(name)
        except StorageError as error:
            self._found(Problem.UNREADABLE, name, error.cause)
            return
        members = self._vault.index.members(place)
        self._report.contents_read += len(members)
        whole = hashlib.sha256(data).digest() == sha256
        # Of a pack that is whole the checksums of frames have nothing to add.
        is_right = _is_kept if whole else _is_right
        view = memoryview(data)
        lost = tuple(member.key for member in members if not is_right(view, member))
        if lost or not whole:
            detail = f"is damaged: {len(lost)} of {len(members)} contents in it are lost"
            self._found(Problem.DAMAGED, name, detail, lost)

    def _check_unreferenced(self, names: set[str]) -> None:
        """Not damage to anything that was promised, but whoever looks for lost contents wants to
        know."""
        for name in sorted(names):
            digest = hashlib.sha256()
            try:
                for piece in self._storage.pieces(name):
                    digest.update(piece)
            except StorageError as error:
                self._found(Problem.UNREADABLE, name, error.cause)
                continue
            if digest.hexdigest() not in name:
                self._found(Problem.DAMAGED, name, "is damaged (no manifest tells of it)")
            self._step(1, 0)

    # -- objects ---------------------------------------------------------------------------

    def _check_objects(self) -> None:
        present = self._present(OBJECTS)
        for place, parts in self._vault.index.objects():
            names = [object_name(part.sha256) for part in parts]
            present.difference_update(names)
            found = self._vault.index.key_at(-place)
            lost = () if found is None else (found[0],)
            for name, part in zip(names, parts, strict=True):
                size = self._storage.size(name)
                if size is None:
                    self._found(Problem.MISSING, name, "is missing", lost)
                elif size != part.stored:
                    detail = f"has {size} bytes, not {part.stored}"
                    self._found(Problem.DAMAGED, name, detail, lost)
            if self._contents:
                self._check_object(parts, found, lost)
            self._step(len(parts), sum(part.stored for part in parts))
        self._report.unreferenced += sorted(present)
        if self._contents:
            self._check_unreferenced(present)

    def _check_object(
        self,
        parts: tuple[ObjectPart, ...],
        found: tuple[ContentKey, int] | None,
        lost: tuple[ContentKey, ...],
    ) -> None:
        """Each part against its name, and all together against the key of the content."""
        before = len(self._report.findings)
        hasher = None if found is None else new_hasher(found[0].algorithm)
        self._report.contents_read += found is not None
        for part in parts:
            name = object_name(part.sha256)
            digest = hashlib.sha256()
            try:
                for piece in unpack_stream(_through(self._storage.pieces(name), digest.update)):
                    if hasher is not None:
                        hasher.update(piece)
            except StorageMissingError:
                continue
            except StorageError as error:
                self._found(Problem.UNREADABLE, name, error.cause)
                continue
            except FrameError as error:
                self._found(Problem.DAMAGED, name, f"is damaged: {error}", lost)
                continue
            if digest.digest() != part.sha256:
                self._found(Problem.DAMAGED, name, "is damaged", lost)
        whole = before == len(self._report.findings)
        if whole and found and hasher and hasher.digest() != found[0].digest:
            name = object_name(parts[0].sha256)
            self._found(Problem.CONTRADICTORY, name, "holds another content than was said", lost)


def _is_kept(data: memoryview, member: Member) -> bool:
    """Whether a member has the content that its key names."""
    key, offset, stored, size = member
    content = raw_content(data[offset : offset + stored], size)
    if content is None:
        return _is_right(data, member)
    return key_of(key.algorithm, content).digest == key.digest


def _is_right(data: memoryview, member: Member) -> bool:
    """The same, and whether its frame is without a fault."""
    key, offset, stored, size = member
    try:
        content = unpack_frame(bytes(data[offset : offset + stored]), size)
    except FrameError:
        return False
    return key_of(key.algorithm, content).digest == key.digest


def _through(pieces: Iterator[bytes], see: Callable[[bytes], object]) -> Iterator[bytes]:
    for piece in pieces:
        see(piece)
        yield piece
