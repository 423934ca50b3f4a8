"""A vault written anew in another place: encrypted, encrypted to other keys, or not any more.

What it keeps stays the same, byte for byte, and so do its store and the order of its manifests; the
names of its files, which are those of stored bytes, become others. Manifest by manifest: first what
it tells of is stored, then the manifest, which says in its first line which one it stands for. So
whoever is cut off goes on, and the old vault is read and never changed. What was damaged then and
is whole by now is brought by a manifest of its own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import StorageError, VaultCorruptError
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault.content_lines import (
    ObjectLine,
    ObjectPart,
    PackLine,
    decode_content_line,
    object_line,
    pack_line,
)
from lifecycle_sync.vault.format import (
    MANIFESTS,
    OBJECTS,
    PACKS,
    TAIL_SIZE_MAX,
    object_name,
    pack_name,
    part_tail,
    read_part_tail,
    split_manifest_name,
)
from lifecycle_sync.vault.frames import FrameError
from lifecycle_sync.vault.heads import copy_heads
from lifecycle_sync.vault.manifest import ManifestReader, ManifestWriter
from lifecycle_sync.vault.sealing import NamedUpload, SealedStorage, opened
from lifecycle_sync.vault.vault import Vault

_FIRST = bytes(32)
# Names files by their old names, and is of no use in a vault where nothing was taken away yet.
_CONDEMNED = b'{"event":"condemned"'
_NAME = re.compile(rb"[0-9a-f]{64}")


@dataclass
class RewriteReport:
    """What came of it: manifests, files and bytes (as they were stored) written anew, manifests
    that were `there` already; `damaged` could not be: the name of each, and why."""

    manifests: int = 0
    files: int = 0
    bytes: int = 0
    there: int = 0
    damaged: list[tuple[str, str]] = field(default_factory=list)


def rewrite_vault(
    source: Vault,
    target: Storage | None,
    *,
    now_ns: int,
    progress: Callable[[int, int], None] | None = None,
    cancel: CancelToken | None = None,
) -> RewriteReport:
    """Write all that `source` keeps into `target`, a vault of the same store; with None only count.

    Raises `VaultKeyError` where the key is missing, what concerns the target as a whole (full,
    read-only), and `CancelledError`; what was written by then stays, and is gone on with.
    """
    source.require_key("rewrite vault")
    return _Rewriting(source, target, now_ns, progress, cancel).run()


class _Rewriting:
    def __init__(
        self,
        source: Vault,
        target: Storage | None,
        now_ns: int,
        progress: Callable[[int, int], None] | None,
        cancel: CancelToken | None,
    ) -> None:
        self._source = source
        self._target = target
        self._now_ns = now_ns
        self._progress = progress
        self._cancel = cancel
        self._report = RewriteReport()
        # By old names the new ones: of manifests, and of files with their lengths.
        self._manifests: dict[str, str] = {}
        self._files: dict[bytes, tuple[bytes, int]] = {}
        self._damaged: set[bytes] = set()
        self._condemned: set[bytes] = set()
        # Of manifests that stand in the target, what they did not bring along.
        self._left_out: dict[str, list[PackLine | ObjectLine]] = {}

    def run(self) -> RewriteReport:
        if self._target is not None:
            self._manifests = dict(_done(self._target))
        self._report.damaged += sorted(self._source.damaged_manifests.items())
        for name in self._source.manifests():
            if name in self._manifests:
                self._report.there += 1
                self._look_again(name)
            else:
                self._manifest(name)
        self._bring_left_out()
        if self._target is not None and isinstance(self._target, SealedStorage):
            copy_heads(self._source.storage, self._target, self._manifests)
        return self._report

    def _manifest(self, name: str) -> None:
        try:
            reader = ManifestReader(self._source.storage, name)
            lines = self._lines(reader)
            if self._target is None:
                for _ in lines:
                    pass
            else:
                self._manifests[name] = self._write(reader, lines)
        except VaultCorruptError as error:
            self._report.damaged.append((f"{MANIFESTS}/{name}", error.cause))
            return
        self._report.manifests += 1

    # -- what was damaged when it was written, and may be whole by now -------------------------

    def _look_again(self, name: str) -> None:
        assert self._target is not None
        try:
            there = ManifestReader(self._target, self._manifests[name])
            placed = {key for line in _contents(there) for key in _keys(line)}
            reader = ManifestReader(self._source.storage, name)
            for raw in self._condemning(reader):
                line = decode_content_line(raw)
                if line is not None and not placed.issuperset(_keys(line)):
                    self._left_out.setdefault(name, []).append(line)
        except (VaultCorruptError, ValueError) as error:
            cause = error.cause if isinstance(error, VaultCorruptError) else str(error)
            self._report.damaged.append((f"{MANIFESTS}/{name}", cause))

    def _bring_left_out(self) -> None:
        """In manifests that follow those that lack it."""
        if self._target is None or not self._left_out:
            return
        lacking = {key for lines in self._left_out.values() for it in lines for key in _keys(it)}
        for name in self._target.names(MANIFESTS):
            if split_manifest_name(name) is not None:
                lacking.difference_update(
                    key
                    for line in _contents(ManifestReader(self._target, name))
                    for key in _keys(line)
                )
        for name, lines in self._left_out.items():
            wanted = [it for it in lines if not lacking.isdisjoint(_keys(it))]
            found = [raw for raw in map(self._brought, wanted) if raw is not None]
            if found:
                self._follow(name, found)
                lacking.difference_update(key for it in wanted for key in _keys(it))

    def _follow(self, name: str, lines: list[bytes]) -> None:
        assert self._target is not None
        first = self._manifests[name]
        told = ManifestReader(self._target, first).header
        header = replace(
            told,
            sequence=told.sequence + 1,
            at_ns=self._now_ns,
            previous=(first,),
            rewritten="",
        )
        writer = ManifestWriter(self._target, header)
        try:
            for raw in lines:
                writer.line(raw)
            writer.publish()
        finally:
            writer.discard()
        self._report.manifests += 1

    def _write(self, reader: ManifestReader, lines: Iterator[bytes]) -> str:
        assert self._target is not None
        told = reader.header
        header = replace(
            told,
            at_ns=self._now_ns,
            # One that repeats others of which some are gone speaks for itself now.
            checkpoint=False,
            covers=(),
            replaces=(),
            previous=tuple(self._manifests[it] for it in told.previous if it in self._manifests),
            rewritten=reader.name,
        )
        writer = ManifestWriter(self._target, header)
        try:
            for raw in lines:
                writer.line(raw)
            return writer.publish()
        finally:
            writer.discard()

    def _lines(self, reader: ManifestReader) -> Iterator[bytes]:
        for told in self._condemning(reader):
            raw: bytes | None = told
            try:
                content = decode_content_line(told)
            except ValueError as error:
                cause = f"has a line that cannot be right ({error})"
                raise VaultCorruptError(cause, subject=reader.name) from error
            if content is not None:
                raw = self._brought(content)
            if raw is not None:
                yield raw

    def _condemning(self, reader: ManifestReader) -> Iterator[bytes]:
        """Its lines, but for what they condemn, which is noted."""
        for line in reader.lines():
            if line.raw.startswith(_CONDEMNED):
                self._condemned.update(bytes.fromhex(it.decode()) for it in _NAME.findall(line.raw))
            else:
                yield line.raw

    # -- contents --------------------------------------------------------------------------

    def _brought(self, line: PackLine | ObjectLine) -> bytes | None:
        return self._pack(line) if isinstance(line, PackLine) else self._object(line)

    def _pack(self, line: PackLine) -> bytes | None:
        found = self._moved(pack_name(line.sha256), line.sha256, self._copy_pack)
        if found is None:
            return None
        return pack_line(line._replace(sha256=found[0], length=found[1]))

    def _copy_pack(self, name: str) -> tuple[bytes, int]:
        upload = self._upload(PACKS)
        try:
            upload.write(opened(self._source.storage).read(name))
            stored = upload.end()
            upload.publish(pack_name(stored.sha256))
        finally:
            upload.discard()
        return stored

    def _object(self, line: ObjectLine) -> bytes | None:
        parts: list[ObjectPart] = []
        for part in line.parts:
            previous = parts[-1].sha256 if parts else _FIRST

            def copy(name: str, previous: bytes = previous) -> tuple[bytes, int]:
                return self._copy_part(name, previous)

            found = self._moved(object_name(part.sha256), part.sha256, copy)
            if found is None:
                return None
            parts.append(ObjectPart(*found, part.size))
        return object_line(line._replace(parts=tuple(parts)))

    def _copy_part(self, name: str, previous: bytes) -> tuple[bytes, int]:
        upload = self._upload(OBJECTS)
        try:
            end = b""
            for piece in opened(self._source.storage).pieces(name):
                end += piece
                upload.write(end[:-TAIL_SIZE_MAX])
                end = end[-TAIL_SIZE_MAX:]
            tail = read_part_tail(end)
            if tail is None:
                raise FrameError("does not say which part it is")
            upload.write(end[: -len(part_tail(tail))])
            # It names the part before it, which has another name now.
            upload.write(part_tail(tail._replace(previous=previous)))
            stored = upload.end()
            upload.publish(object_name(stored.sha256))
        finally:
            upload.discard()
        return stored

    def _upload(self, folder: str) -> NamedUpload:
        assert self._target is not None
        return NamedUpload(self._target, folder)

    def _moved(
        self, name: str, sha256: bytes, copy: Callable[[str], tuple[bytes, int]]
    ) -> tuple[bytes, int] | None:
        """The new name and length of a file; None where it is damaged, or has gone."""
        if sha256 in self._files or sha256 in self._damaged:
            return self._files.get(sha256)
        if self._cancel is not None:
            self._cancel.check()
        size = self._source.storage.size(name)
        why = self._fault(name, sha256, size)
        if not why:
            try:
                self._files[sha256] = (sha256, 0) if self._target is None else copy(name)
            except FrameError as error:
                why = str(error)
        if why:
            self._damaged.add(sha256)
            if sha256 not in self._condemned or size is not None:
                self._report.damaged.append((name, why))
            return None
        self._report.files += 1
        self._report.bytes += size or 0
        if self._progress is not None:
            self._progress(1, size or 0)
        return self._files[sha256]

    def _fault(self, name: str, sha256: bytes, size: int | None) -> str:
        if size is None:
            return "is missing"
        if self._target is None:
            return ""
        digest = hashlib.sha256()
        try:
            for piece in self._source.storage.pieces(name):
                digest.update(piece)
        except StorageError as error:
            return error.cause
        return "" if digest.digest() == sha256 else "is not what its name says"


def _contents(reader: ManifestReader) -> Iterator[PackLine | ObjectLine]:
    for line in reader.lines():
        content = decode_content_line(line.raw)
        if content is not None:
            yield content


def _keys(line: PackLine | ObjectLine) -> list[ContentKey]:
    """The contents that a line places."""
    if isinstance(line, ObjectLine):
        return [line.key]
    return [ContentKey(line.algorithm, digest) for digest in line.digests]


def _done(target: Storage) -> Iterator[tuple[str, str]]:
    """The manifests that stand in the target already, by those they stand for."""
    for name in target.names(MANIFESTS):
        if split_manifest_name(name) is None:
            continue
        try:
            header = ManifestReader(target, name).header
        except VaultCorruptError:
            # It is written once more.
            continue
        if header.rewritten:
            yield header.rewritten, name
