"""Contents that no manifest tells of, found again by what packs and objects say themselves.

That is what remains where manifests were lost: not names and times, but every byte, by its digest.
A pack is believed when its bytes are those its name says; of an object each part, back from the
last one, which names the content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from lifecycle_sync.errors import (
    StorageError,
    StorageMissingError,
    VaultCorruptError,
    VaultError,
)
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.model.event import GivenUpEvent
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault.content_lines import (
    ObjectLine,
    ObjectPart,
    PackLine,
    decode_content_line,
    object_line,
    pack_line,
    split_pack,
)
from lifecycle_sync.vault.events import encode_event
from lifecycle_sync.vault.format import (
    OBJECTS,
    PACKS,
    SMALL_SIZE_MAX,
    TAIL_SIZE_MAX,
    Part,
    manifest_path,
    object_name,
    read_member_tail,
    read_part_tail,
    stored_digest,
)
from lifecycle_sync.vault.frames import (
    FrameError,
    content_size_of,
    key_of,
    unpack_frame,
    whole_frames,
)
from lifecycle_sync.vault.index import key_blob
from lifecycle_sync.vault.manifest import ManifestWriter, decode_header
from lifecycle_sync.vault.pack import PackContents, members_near, read_directory
from lifecycle_sync.vault.sealing import SealedStorage, opened, read_end

if TYPE_CHECKING:
    from lifecycle_sync.vault.vault import Vault

_PARTS_MAX = 1 << 20
_FRAME_SIZE_MAX = 64 << 20


def find_lost(vault: Vault, *, partly: bool = False, unread: set[str] | None = None) -> int:
    """Make what is found known by a manifest of its own; how many contents that were. Files that
    cannot be read, and damaged packs, are put into `unread`: what they hold nobody knows.

    Where the vault is only read the index alone knows, which therefore must be a temporary one.
    With `partly` packs of which some contents are known are read, too: that is all of them.
    """
    if vault.read_only and vault.index.path:
        raise VaultError(
            "is only read, and its index would promise what no manifest does",
            operation="find lost contents",
            subject=vault.path,
            remedy="open it with a temporary index, or to be written to",
        )
    vault.refresh()
    unread = set() if unread is None else unread
    packs = list(_lost_packs(vault, partly, unread))
    objects = list(_lost_objects(vault, unread))
    contents: list[PackLine | ObjectLine] = [line for pack in packs for line in split_pack(pack)]
    contents += objects
    if not contents:
        return 0
    if vault.read_only:
        vault.index.add_contents(contents)
    else:
        header = vault.next_header()
        writer = ManifestWriter(vault.storage, header)
        try:
            for it in contents:
                writer.line(pack_line(it) if isinstance(it, PackLine) else object_line(it))
            name = writer.publish()
        finally:
            writer.discard()
        vault.committed(name, writer.length, header, contents)
    return sum(len(pack.digests) for pack in packs) + len(objects)


def salvage_manifest(vault: Vault, name: str) -> tuple[int, int]:
    """Tell anew, in a manifest of its own, what a damaged one still says: the lines of its whole
    frames. How many those are, and how many it had beside them (-1: nobody knows).

    Raises `VaultCorruptError` for one that cannot be read at all, or is another store's.
    """
    try:
        data = opened(vault.storage).read(manifest_path(name))
    except (StorageError, FrameError) as error:
        cause = error.cause if isinstance(error, StorageError) else str(error)
        raise VaultCorruptError(cause, operation="read manifest", subject=name) from error
    lines: list[bytes] = []
    contents: list[PackLine | ObjectLine | GivenUpEvent] = []
    total = 0
    for text in whole_frames(data, _FRAME_SIZE_MAX):
        for raw in text.splitlines():
            if raw.startswith(b'{"manifest":'):
                if decode_header(raw).store_id != vault.store_id:
                    raise VaultCorruptError(
                        "belongs to another store", operation="read manifest", subject=name
                    )
            elif raw.startswith(b'{"end":'):
                total = msgspec.json.decode(raw, type=dict[str, int])["end"]
            else:
                try:
                    msgspec.json.decode(raw)
                    found = decode_content_line(raw)
                except ValueError:
                    continue
                lines.append(raw)
                if found is not None:
                    contents.append(found)
    # The first line counts, too.
    untold = max(total - 1 - len(lines), 0) if total else -1
    if not untold:
        # Nothing of it is lost, so nobody has to wait for it.
        whole = GivenUpEvent((name,), vault.now_ns(), "damaged, and all its lines were told anew")
        lines.append(encode_event(whole))
        contents.append(whole)
    if lines:
        header = vault.next_header()
        writer = ManifestWriter(vault.storage, header)
        try:
            for raw in lines:
                writer.line(raw)
            told = writer.publish()
        finally:
            writer.discard()
        vault.committed(told, writer.length, header, contents)
    return len(lines) - (not untold), untold


def whole_members(storage: Storage, name: str) -> dict[ContentKey, bytes]:
    """The contents that are whole in a damaged pack, by what they say themselves. Raises
    `VaultKeyError`, and as the storage does."""
    found: dict[ContentKey, bytes] = {}
    for frame in members_near(_legible(storage, name)):
        key = read_member_tail(frame)
        if key is None or key in found:
            continue
        try:
            size = content_size_of(frame)
            content = unpack_frame(frame, size) if size <= SMALL_SIZE_MAX else b""
        except FrameError:
            continue
        if key_of(key.algorithm, content).digest == key.digest:
            found[key] = content
    return found


def _legible(storage: Storage, name: str) -> bytes:
    """The bytes of a file; of an encrypted one that was changed those before the change."""
    try:
        return opened(storage).read(name)
    except FrameError:
        assert isinstance(storage, SealedStorage) and storage.identities, "it was opened by a key"
    parts: list[bytes] = []
    with suppress(FrameError, StorageError):
        parts.extend(storage.identities.open_stream(storage.pieces(name)))
    return b"".join(parts)


def stored_files(storage: Storage, folder: str) -> Iterator[tuple[str, bytes | None]]:
    """What lies in packs/ or objects/: its name there and its SHA-256, None for a foreign file."""
    for fan in sorted(storage.names(folder)):
        names = storage.names(f"{folder}/{fan}") if len(fan) == 2 else []
        if not names and len(fan) != 2:
            yield f"{folder}/{fan}", None
        for name in sorted(names):
            yield f"{folder}/{fan}/{name}", stored_digest(folder, fan, name)


def _lost_packs(vault: Vault, partly: bool, unread: set[str]) -> Iterator[PackContents]:
    known = {sha256 for _, sha256, _ in vault.index.packs()}
    for name, sha256 in stored_files(vault.storage, PACKS):
        if sha256 is None or vault.index.are_condemned([sha256]):
            continue
        if sha256 in known and not partly:
            continue
        try:
            data = vault.storage.read(name)
            if hashlib.sha256(data).digest() != sha256:
                # Of its members some may be whole.
                unread.add(name)
                continue
            members = list(read_directory(opened(vault.storage).read(name), content_size_of))
        except (StorageMissingError, ValueError):
            # `verify` speaks of it.
            continue
        except StorageError:
            unread.add(name)
            continue
        blobs = [key_blob(member.key) for member in members]
        if sha256 in known and len(vault.index.places(blobs)) == len(set(blobs)):
            continue
        yield PackContents(
            sha256,
            len(data),
            members[0].key.algorithm,
            [member.key.digest for member in members],
            [member.size for member in members],
            [member.stored for member in members],
        )


def _lost_objects(vault: Vault, unread: set[str]) -> Iterator[ObjectLine]:
    for name, sha256 in stored_files(vault.storage, OBJECTS):
        if sha256 is None or vault.index.are_condemned([sha256]):
            continue
        try:
            yield from _lost_object(vault, sha256)
        except StorageError:
            unread.add(name)


def _lost_object(vault: Vault, sha256: bytes) -> Iterator[ObjectLine]:
    """The one whose last part this is. Raises `StorageError` where a part cannot be read."""
    storage = vault.storage
    tail = _tail_of(storage, sha256)
    if tail is None or tail.key is None or vault.has(key_blob(tail.key)):
        return
    parts: list[ObjectPart] = []
    end = tail.size
    current, part = sha256, tail
    while True:
        if not _is_whole(storage, current) or not 0 <= part.offset <= end:
            break
        stored = storage.size(object_name(current)) or 0
        parts.append(ObjectPart(current, stored, end - part.offset))
        if part.number == 0:
            yield ObjectLine(tail.key, tail.size, tuple(reversed(parts)))
            break
        end, current = part.offset, part.previous
        before = _tail_of(storage, current)
        if before is None or before.number != part.number - 1 or len(parts) > _PARTS_MAX:
            break
        part = before


def _tail_of(storage: Storage, sha256: bytes) -> Part | None:
    try:
        return read_part_tail(read_end(storage, object_name(sha256), TAIL_SIZE_MAX))
    except (StorageMissingError, FrameError):
        return None


def _is_whole(storage: Storage, sha256: bytes) -> bool:
    digest = hashlib.sha256()
    try:
        for piece in storage.pieces(object_name(sha256)):
            digest.update(piece)
    except StorageMissingError:
        return False
    return digest.digest() == sha256
