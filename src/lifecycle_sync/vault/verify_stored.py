"""Packs and objects looked at: whether each is there, and, where it is read, what it holds."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from lifecycle_sync.errors import StorageError, StorageMissingError, VaultError
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.model.event import VersionEvent
from lifecycle_sync.vault.content_lines import ObjectPart
from lifecycle_sync.vault.examination import BATCH, HERE, Examination
from lifecycle_sync.vault.findings import Problem
from lifecycle_sync.vault.format import OBJECTS, PACKS, object_name, pack_name
from lifecycle_sync.vault.frames import (
    FrameError,
    key_of,
    new_hasher,
    raw_content,
    unpack_frame,
    unpack_stream,
)
from lifecycle_sync.vault.hashing import Hashed, digest_named, hash_files
from lifecycle_sync.vault.index import key_blob
from lifecycle_sync.vault.pack import Member
from lifecycle_sync.vault.salvage import stored_files
from lifecycle_sync.vault.sealing import opened


def check_packs(look: Examination) -> None:
    """Packs by their lengths, or read whole. Raises `CancelledError`."""
    index = look.vault.index
    for place, sha256, length in index.packs():
        name = pack_name(sha256)
        size = look.storage.size(name)
        lost = () if size is not None else _missed(look, [it.key for it in index.members(place)])
        if size is None and not look.is_missed(name, lost):
            # It may have been, a moment ago.
            index.forget_met(HERE, [name])
            continue
        index.meet(HERE, [(name, length)], look.round_ns)
        if size is None:
            look.found(Problem.MISSING, name, "is missing", lost)
        elif not look.contents:
            if size != length:
                check_pack(look, place, name, sha256)
        else:
            check_pack(look, place, name, sha256)
            look.sound(name, size)
        look.step(1, size or 0)
    _check_others(look, PACKS)


def _missed(look: Examination, keys: Sequence[ContentKey]) -> tuple[ContentKey, ...]:
    """Those of the contents of a file that is missing which are whole in no other place."""
    return tuple(it for it in keys if not look.probe.turn(it))


def _check_others(look: Examination, folder: str) -> None:
    """What lies in packs/ or objects/ and no manifest tells of."""
    files = stored_files(look.storage, folder)
    while page := list(islice(files, BATCH)):
        names = [name for name, sha256 in page if sha256 is not None]
        look.report.foreign += [name for name, sha256 in page if sha256 is None]
        met = look.vault.index.met(HERE, names, look.round_ns)
        others = [name for name in names if name not in met]
        if look.vault.catalogue.locked:
            # Without the key that tells, any of them may be promised.
            sizes = [(name, look.storage.size(name)) for name in others]
            look.vault.index.meet(HERE, [(it, size or 0) for it, size in sizes], look.round_ns)
        condemned = _condemned(look, others)
        told = set(condemned.values())
        if told:
            # Whoever took them away may have brought them back.
            look.vault.index.note_gone(condemned, gone=False)
        look.report.condemned += sorted(told)
        others = [name for name in others if name not in told]
        look.report.unreferenced += others
        waiting = _waiting(look, condemned)
        if look.contents:
            _check_unreferenced(look, sorted([*others, *waiting]), waiting)


def _condemned(look: Examination, names: list[str]) -> dict[bytes, str]:
    """Those of the files that are condemned and not deleted yet, by their SHA-256."""
    of = {sha256: name for name in names if (sha256 := digest_named(name)) is not None}
    return {sha256: of[sha256] for sha256 in look.vault.index.are_condemned(list(of))}


def _waiting(look: Examination, condemned: dict[bytes, str]) -> dict[str, int]:
    """Those of these, with their sizes, in which contents are looked for: versions may need these
    until they are copied out."""
    index = look.vault.index
    sizes = {
        condemned[it]: look.storage.size(condemned[it]) for it in index.holding(list(condemned))
    }
    found = {name: size for name, size in sizes.items() if size is not None}
    index.meet(HERE, list(found.items()), look.round_ns)
    return found


def check_pack(look: Examination, place: int, name: str, sha256: bytes) -> None:
    """Read one pack, and say which contents in it are lost."""
    look.storage.drop_cache(name)
    try:
        data = look.storage.read(name)
        # Of an encrypted one what lies in it is read by itself; a prune may come between the two.
        plain = _plain(look, name, data) if look.vault.has_key else b""
    except StorageError as error:
        look.found(Problem.UNREADABLE, name, error.cause)
        return
    members = look.vault.index.members(place)
    whole = hashlib.sha256(data).digest() == sha256
    if not look.vault.has_key:
        # Nobody can tell what is whole in it still.
        lost = () if whole else tuple(member.key for member in members)
    else:
        # Of a pack that is whole the checksums of frames have nothing to add.
        is_right = _is_kept if whole else _is_right
        view = memoryview(plain)
        lost = tuple(member.key for member in members if not is_right(view, member))
        look.report.contents_read += len(members)
    if lost or not whole:
        detail = f"is damaged: {len(lost)} of {len(members)} contents in it are lost"
        look.found(Problem.DAMAGED, name, detail, lost)


def _plain(look: Examination, name: str, data: bytes) -> bytes:
    """What lies in a file of which `data` is stored; nothing where that cannot be decrypted."""
    if opened(look.storage) is look.storage:
        return data
    try:
        return opened(look.storage).read(name)
    except FrameError:
        return b""


def _check_unreferenced(look: Examination, names: list[str], waiting: dict[str, int]) -> None:
    """Not damage to anything that was promised, but whoever looks for lost contents wants to know;
    only what is `waiting` to be deleted may be needed."""
    for it in hash_files(look.storage, names, cancel=look.cancel):
        if it.fault and it.name in waiting and not it.missing:
            explain(look, it, waiting[it.name])
        elif it.error:
            look.found(Problem.UNREADABLE, it.name, it.fault)
        elif it.fault and not it.missing:
            look.found(Problem.DAMAGED, it.name, "is damaged (no manifest tells of it)")
        elif it.name in waiting:
            look.sound(it.name, it.size)
        look.step(1, 0)


def explain(look: Examination, it: Hashed, size: int) -> None:
    """Set down what is lost by a file that is not what its name says; `size` is what it should
    have."""
    sha256, index = digest_named(it.name), look.vault.index
    assert sha256 is not None, "only such files are read"
    place = index.pack_number(sha256) if it.name.startswith(PACKS) else None
    members = [] if place is None else index.members(place)
    keys = [member.key for member in members] or index.keys_of_part(sha256)
    if index.are_condemned([sha256]):
        keys = _needed(look, keys)
        if not keys:
            # It is about to go, and nobody misses it.
            return
    if it.missing:
        look.found(Problem.MISSING, it.name, it.fault, _missed(look, keys))
    elif it.error:
        look.found(Problem.UNREADABLE, it.name, it.fault)
    elif place is not None:
        check_pack(look, place, it.name, sha256)
    else:
        look.found(Problem.DAMAGED, it.name, f"{it.fault} ({size} bytes)", tuple(keys))


def _needed(look: Examination, keys: Sequence[ContentKey]) -> list[ContentKey]:
    """Those of the contents of something condemned that versions hold; all where nobody knows."""
    if look.in_condemned is None:
        try:
            look.in_condemned = set(_held_in_condemned(look))
        except VaultError:
            return list(keys)
    return [key for key in keys if key in look.in_condemned]


def _held_in_condemned(look: Examination) -> Iterator[ContentKey]:
    """Reads all versions. Raises `VaultError` where a manifest cannot be read, `CancelledError`."""
    vault = look.vault
    events = vault.events(vault.manifests())
    held = (it.content for it in events if isinstance(it, VersionEvent) and it.content)
    while batch := list(islice(held, BATCH)):
        look.step(0, 0)
        places = vault.index.places([key_blob(key) for key in batch])
        condemned = {it for it in set(places.values()) if vault.index.is_condemned(it)}
        yield from (key for key in batch if places.get(key_blob(key)) in condemned)


def check_objects(look: Examination) -> None:
    """The same of the parts of objects."""
    index = look.vault.index
    for place, parts in index.objects():
        names = [object_name(part.sha256) for part in parts]
        stored = [part.stored for part in parts]
        found = index.key_at(-place)
        lost: tuple[ContentKey, ...] = () if found is None else (found[0],)
        sizes = dict(zip(names, map(look.storage.size, names), strict=True))
        if None in sizes.values():
            lost = _missed(look, lost)
        left = [it for it, size in sizes.items() if size is None and not look.is_missed(it, lost)]
        met = [it for it in zip(names, stored, strict=True) if it[0] not in left]
        index.meet(HERE, met, look.round_ns)
        index.forget_met(HERE, left)
        for name, length in met:
            size = sizes[name]
            if size is None:
                look.found(Problem.MISSING, name, "is missing", lost)
            elif size != length:
                look.found(Problem.DAMAGED, name, f"has {size} bytes, not {length}", lost)
        if look.contents and not left:
            _check_object(look, parts, found, lost)
            if look.bad.isdisjoint(names):
                for name, size in zip(names, stored, strict=True):
                    look.sound(name, size)
        look.step(len(parts), sum(stored))
    _check_others(look, OBJECTS)


def _check_object(
    look: Examination,
    parts: tuple[ObjectPart, ...],
    found: tuple[ContentKey, int] | None,
    lost: tuple[ContentKey, ...],
) -> None:
    """Each part against its name, and all together against the key of the content."""
    before = len(look.report.findings)
    missing = False
    has_key = look.vault.has_key
    hasher = None if found is None or not has_key else new_hasher(found[0].algorithm)
    look.report.contents_read += found is not None
    for part in parts:
        name = object_name(part.sha256)
        digest = hashlib.sha256()
        look.storage.drop_cache(name)
        try:
            stored = _through(look.storage.pieces(name), digest.update)
            if not has_key or opened(look.storage) is not look.storage:
                deque(stored, 0)
                stored = opened(look.storage).pieces(name) if has_key else iter(())
            for piece in unpack_stream(stored) if has_key else ():
                if hasher is not None:
                    hasher.update(piece)
        except StorageMissingError:
            missing = True
            if name not in look.bad:
                # It was there when its size was looked at.
                look.found(Problem.MISSING, name, "is missing", lost)
            continue
        except StorageError as error:
            look.found(Problem.UNREADABLE, name, error.cause)
            continue
        except FrameError as error:
            look.found(Problem.DAMAGED, name, f"is damaged: {error}", lost)
            continue
        if digest.digest() != part.sha256:
            look.found(Problem.DAMAGED, name, "is damaged", lost)
    whole = not missing and before == len(look.report.findings)
    if whole and found and hasher and hasher.digest() != found[0].digest:
        name = object_name(parts[0].sha256)
        look.found(Problem.CONTRADICTORY, name, "holds another content than was said", lost)


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
