"""Looking for damage: every file against the SHA-256 that names it, every claim against the files.

What is found is set down, never mended. Contents found damaged are forgotten by the index, so that
a backup which still has them stores them anew. The index remembers when each file was last read and
whole: what was read the longest ago comes first, so that one who is cut off goes on from there.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import (
    StorageError,
    StorageMissingError,
    VaultCorruptError,
    VaultKeyError,
)
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.model.event import UnknownEvent, VersionEvent
from lifecycle_sync.vault import format as vault_format
from lifecycle_sync.vault.events import decode_event, look_at
from lifecycle_sync.vault.findings import Finding, Problem, VerifyReport
from lifecycle_sync.vault.format import MANIFESTS, OBJECTS, PACKS, object_name, pack_name
from lifecycle_sync.vault.frames import (
    FrameError,
    key_of,
    new_hasher,
    raw_content,
    unpack_frame,
    unpack_stream,
)
from lifecycle_sync.vault.hashing import digest_named, hash_files
from lifecycle_sync.vault.heads import read_head
from lifecycle_sync.vault.index import key_blob
from lifecycle_sync.vault.manifest import ManifestReader, ObjectPart, decode_content_line
from lifecycle_sync.vault.opening import before_pruning
from lifecycle_sync.vault.pack import Member
from lifecycle_sync.vault.recipients import read_recipients
from lifecycle_sync.vault.salvage import stored_files
from lifecycle_sync.vault.sealing import opened

if TYPE_CHECKING:
    from lifecycle_sync.vault.vault import Vault

__all__ = ["Finding", "Problem", "VerifyReport", "verify"]

_BATCH = 500
_LOOKS_MAX = 10
_FRONT = (vault_format.FORMAT_NAME, vault_format.RESTORE_NAME, vault_format.SUMS_NAME)
# The place of the vault itself, beside those of its copies.
_HERE = ""
# So many files are read between two notes of it.
_NOTED = 64


def verify(
    vault: Vault,
    *,
    contents: bool = False,
    share: float = 0.0,
    before_ns: int | None = None,
    pace: Callable[[int], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancel: CancelToken | None = None,
) -> VerifyReport:
    """See `Vault.verify`."""
    it = _Verification(vault, contents, progress, cancel)
    return it.run(share, before_ns, pace)


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
        self._round_ns = vault.now_ns()
        # Files of which it was said already what is wrong.
        self._bad: set[str] = set()
        self._set_aside = sorted(vault.storage.names(vault_format.QUARANTINE))

    def run(
        self, share: float, before_ns: int | None, pace: Callable[[int], None] | None
    ) -> VerifyReport:
        report, vault = self._report, self._vault
        # What was damaged when the vault was opened may have been mended since.
        vault.catalogue.damaged.clear()
        vault.refresh()
        try:
            self._check_front()
            self._check_manifests()
            self._check_packs()
            self._check_objects()
            self._look_again()
            vault.index.forget_unmet(_HERE, self._round_ns)
            report.quarantined = [f"{vault_format.QUARANTINE}/{it}" for it in self._set_aside]
            report.litter = self._storage.litter(vault_format.UPLOAD_FOLDERS)
            if share and not self._contents:
                self._hash_stored(share, before_ns, pace)
        finally:
            # What was found by one who is cut off is found.
            lost = [key for finding in report.findings for key in finding.lost]
            if lost:
                vault.index.forget(lost)
        return report

    def _look_again(self) -> None:
        """Leave out what only looked like damage, because a prune deleted it, and told so, while
        this went over the rest: what is missing or contradictory is so twice in turn."""
        report, vault = self._report, self._vault
        doubtful = {it for it in report.findings if self._may_have_gone(it)}
        for _ in range(_LOOKS_MAX):
            if not doubtful:
                return
            vault.catalogue.damaged.clear()
            vault.refresh()
            again = _Verification(vault, False, None, self._cancel)
            again._round_ns = self._round_ns
            again._check_front()
            again._check_manifests()
            again._check_packs()
            again._check_objects()
            certain = [it for it in report.findings if it not in doubtful]
            seen = {it.subject for it in certain}
            more = [it for it in again._report.findings if it.subject not in seen]
            report.findings = certain + more
            before, doubtful = doubtful, {it for it in more if self._may_have_gone(it)}
            if doubtful == before:
                return

    def _may_have_gone(self, it: Finding) -> bool:
        if it.problem is Problem.CONTRADICTORY:
            return it.subject.startswith(f"{MANIFESTS}/")
        if it.problem is Problem.MISSING or it.subject in _FRONT:
            return True
        # Read when it had just been deleted.
        return self._storage.size(it.subject) is None

    def _found(
        self, problem: Problem, subject: str, detail: str, lost: tuple[ContentKey, ...] = ()
    ) -> None:
        self._report.findings.append(Finding(problem, subject, detail, lost))
        self._bad.add(subject)
        self._vault.index.note_checked(_HERE, [subject], 0)

    def _is_quarantined(self, name: str) -> bool:
        """Whether a file that is missing was found damaged once, and dealt with."""
        return name.rpartition("/")[2] in self._set_aside

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
        known = {PACKS, OBJECTS, MANIFESTS, vault_format.QUARANTINE} | ours
        known.add(vault_format.RESERVE_NAME)
        if self._vault.format.encryption:
            known |= {vault_format.RECIPIENTS_NAME, vault_format.WRITERS}
            self._check_told()
        self._report.foreign += sorted(set(self._storage.names("")) - known)
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
            wanted = [content]
            if name == vault_format.FORMAT_NAME:
                # The sums follow a FORMAT that the first prune has changed.
                wanted.append(before_pruning(content) or content)
            if not any(vault_format.sums_text({name: it}) in lines for it in wanted):
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

    def _check_told(self) -> None:
        """What an encrypted vault tells in the clear."""
        name = vault_format.RECIPIENTS_NAME
        try:
            if not read_recipients(self._storage):
                self._found(Problem.MISSING, name, "is missing")
        except ValueError as error:
            self._found(Problem.DAMAGED, name, f"is damaged: {error}")
        except StorageError as error:
            self._found(Problem.UNREADABLE, name, error.cause)

        for writer in self._storage.names(vault_format.WRITERS):
            name = f"{vault_format.WRITERS}/{writer}"
            try:
                read_head(self._storage, writer)
            except ValueError as error:
                self._found(Problem.DAMAGED, name, f"is damaged: {error}")
            except StorageError as error:
                self._found(Problem.UNREADABLE, name, error.cause)

    # -- manifests -------------------------------------------------------------------------

    def _check_manifests(self) -> None:
        names = set(self._storage.names(MANIFESTS))
        for name in sorted(names):
            if vault_format.split_manifest_name(name) is None:
                self._report.foreign.append(f"{MANIFESTS}/{name}")
                names.discard(name)
        followed: dict[str, str] = {}
        repeated: set[str] = set()
        index = self._vault.index
        for name in sorted(names):
            path = f"{MANIFESTS}/{name}"
            size = self._storage.size(path) or 0
            index.meet(_HERE, [(path, size)], self._round_ns)
            try:
                reader = ManifestReader(self._storage, name)
                if reader.header.store_id != self._vault.store_id:
                    raise VaultCorruptError("belongs to another store")
                # The same bytes say the same, so that their lines are looked at once.
                versions = index.checked_detail(_HERE, path)
                if versions is None or self._contents:
                    versions = self._check_lines(reader)
                else:
                    self._report.versions += versions
                if path not in self._bad:
                    index.note_checked(_HERE, [path], self._vault.now_ns(), detail=versions)
            except VaultKeyError:
                # Its bytes are right; what they say takes a key.
                self._report.manifests += 1
                index.note_checked(_HERE, [path], self._vault.now_ns())
            except VaultCorruptError as error:
                self._found(Problem.DAMAGED, f"{MANIFESTS}/{name}", error.cause)
            except StorageError as error:
                self._found(Problem.UNREADABLE, f"{MANIFESTS}/{name}", error.cause)
            else:
                self._report.manifests += 1
                followed.update(dict.fromkeys(reader.header.previous, name))
                repeated |= reader.header.repeated
            self._step(1, size)
        for name in sorted(followed.keys() - names - repeated):
            if self._is_quarantined(name):
                continue
            detail = f"is missing: {followed[name]} was written after it"
            self._found(Problem.MISSING, f"{MANIFESTS}/{name}", detail)
        for name in self._vault.index.vanished():
            known = name in names or name in repeated or name in followed
            if not known and not self._is_quarantined(name):
                self._found(Problem.MISSING, f"{MANIFESTS}/{name}", "was there and is gone")

    def _check_lines(self, reader: ManifestReader) -> int | None:
        """How many versions it tells of; None where there is more to be said of it."""
        wanted: list[tuple[ContentKey, bytes]] = []
        versions = unknown = 0
        for line in reader.lines():
            if not line.is_event:
                try:
                    decode_content_line(line.raw)
                except ValueError as error:
                    raise VaultCorruptError(f"has a line that cannot be right: {error}") from error
                continue
            what, content = look_at(line.raw)
            if what is UnknownEvent:
                unknown += 1
            elif what is VersionEvent:
                versions += not reader.header.checkpoint
                if content is not None:
                    wanted.append((content, line.raw))
            if len(wanted) >= _BATCH:
                self._check_known(reader.name, wanted)
                wanted = []
        self._check_known(reader.name, wanted)
        self._report.versions += versions
        self._report.unknown += unknown
        return None if unknown else versions

    def _check_known(self, name: str, wanted: list[tuple[ContentKey, bytes]]) -> None:
        blobs = [key_blob(key) for key, _ in wanted]
        index = self._vault.index
        places = index.places(blobs)
        # What is condemned may go, and then it has to be told elsewhere where it lies.
        lost = {
            place
            for place in set(places.values())
            if index.is_condemned(place) and not self._vault.is_there(place)
        }
        known = {blob for blob, place in places.items() if place not in lost}
        # Whatever lacks its content may be pruned, and then it lacks nothing.
        lacking = [raw for (_, raw), blob in zip(wanted, blobs, strict=True) if blob not in known]
        left = index.unpruned(decode_event(raw) for raw in lacking)
        unknown = tuple(it.content for it in left if isinstance(it, VersionEvent) and it.content)
        if unknown:
            detail = f"speaks of {len(unknown)} contents that no manifest places"
            self._found(Problem.CONTRADICTORY, f"{MANIFESTS}/{name}", detail, unknown)

    # -- packs -----------------------------------------------------------------------------

    def _check_packs(self) -> None:
        index = self._vault.index
        for place, sha256, length in index.packs():
            name = pack_name(sha256)
            index.meet(_HERE, [(name, length)], self._round_ns)
            size = self._storage.size(name)
            if size is None:
                lost = tuple(member.key for member in index.members(place))
                if lost or not self._is_quarantined(name):
                    self._found(Problem.MISSING, name, "is missing", lost)
            elif not self._contents:
                if size != length:
                    self._check_pack(place, name, sha256)
            else:
                self._check_pack(place, name, sha256)
                self._sound(name, size)
            self._step(1, size or 0)
        self._check_others(PACKS)

    def _sound(self, name: str, size: int) -> None:
        """A file was read whole; it counts unless something was found."""
        if name not in self._bad:
            self._report.hashed += 1
            self._report.hashed_bytes += size
            self._vault.index.note_checked(_HERE, [name], self._vault.now_ns())

    def _check_others(self, folder: str) -> None:
        """What lies in packs/ or objects/ and no manifest tells of."""
        files = stored_files(self._storage, folder)
        while page := list(islice(files, _BATCH)):
            names = [name for name, sha256 in page if sha256 is not None]
            self._report.foreign += [name for name, sha256 in page if sha256 is None]
            met = self._vault.index.met(_HERE, names, self._round_ns)
            others = [name for name in names if name not in met]
            self._report.unreferenced += others
            if self._contents:
                self._check_unreferenced(others)

    def _check_pack(self, place: int, name: str, sha256: bytes) -> None:
        try:
            data = self._storage.read(name)
        except StorageError as error:
            self._found(Problem.UNREADABLE, name, error.cause)
            return
        members = self._vault.index.members(place)
        whole = hashlib.sha256(data).digest() == sha256
        if not self._vault.has_key:
            # Nobody can tell what is whole in it still.
            lost = () if whole else tuple(member.key for member in members)
        else:
            # Of a pack that is whole the checksums of frames have nothing to add.
            is_right = _is_kept if whole else _is_right
            view = memoryview(self._plain(name, data))
            lost = tuple(member.key for member in members if not is_right(view, member))
            self._report.contents_read += len(members)
        if lost or not whole:
            detail = f"is damaged: {len(lost)} of {len(members)} contents in it are lost"
            self._found(Problem.DAMAGED, name, detail, lost)

    def _plain(self, name: str, data: bytes) -> bytes:
        """What lies in a file of which `data` is stored; nothing where that cannot be decrypted."""
        if opened(self._storage) is self._storage:
            return data
        try:
            return opened(self._storage).read(name)
        except FrameError:
            return b""

    def _check_unreferenced(self, names: list[str]) -> None:
        """Not damage to anything that was promised, but whoever looks for lost contents wants to
        know."""
        for it in hash_files(self._storage, names, cancel=self._cancel):
            if it.error:
                self._found(Problem.UNREADABLE, it.name, it.fault)
            elif it.fault and not it.missing:
                self._found(Problem.DAMAGED, it.name, "is damaged (no manifest tells of it)")
            self._step(1, 0)

    # -- objects ---------------------------------------------------------------------------

    def _check_objects(self) -> None:
        index = self._vault.index
        for place, parts in index.objects():
            names = [object_name(part.sha256) for part in parts]
            stored = [part.stored for part in parts]
            index.meet(_HERE, zip(names, stored, strict=True), self._round_ns)
            found = index.key_at(-place)
            lost = () if found is None else (found[0],)
            for name, part in zip(names, parts, strict=True):
                size = self._storage.size(name)
                if size is None:
                    if lost or not self._is_quarantined(name):
                        self._found(Problem.MISSING, name, "is missing", lost)
                elif size != part.stored:
                    detail = f"has {size} bytes, not {part.stored}"
                    self._found(Problem.DAMAGED, name, detail, lost)
            if self._contents:
                self._check_object(parts, found, lost)
                if self._bad.isdisjoint(names):
                    for name, size in zip(names, stored, strict=True):
                        self._sound(name, size)
            self._step(len(parts), sum(stored))
        self._check_others(OBJECTS)

    def _check_object(
        self,
        parts: tuple[ObjectPart, ...],
        found: tuple[ContentKey, int] | None,
        lost: tuple[ContentKey, ...],
    ) -> None:
        """Each part against its name, and all together against the key of the content."""
        before = len(self._report.findings)
        missing = False
        has_key = self._vault.has_key
        hasher = None if found is None or not has_key else new_hasher(found[0].algorithm)
        self._report.contents_read += found is not None
        for part in parts:
            name = object_name(part.sha256)
            digest = hashlib.sha256()
            try:
                stored = _through(self._storage.pieces(name), digest.update)
                if not has_key or opened(self._storage) is not self._storage:
                    deque(stored, 0)
                    stored = opened(self._storage).pieces(name) if has_key else iter(())
                for piece in unpack_stream(stored) if has_key else ():
                    if hasher is not None:
                        hasher.update(piece)
            except StorageMissingError:
                missing = True
                if name not in self._bad:
                    # It was there when its size was looked at.
                    self._found(Problem.MISSING, name, "is missing", lost)
                continue
            except StorageError as error:
                self._found(Problem.UNREADABLE, name, error.cause)
                continue
            except FrameError as error:
                self._found(Problem.DAMAGED, name, f"is damaged: {error}", lost)
                continue
            if digest.digest() != part.sha256:
                self._found(Problem.DAMAGED, name, "is damaged", lost)
        whole = not missing and before == len(self._report.findings)
        if whole and found and hasher and hasher.digest() != found[0].digest:
            name = object_name(parts[0].sha256)
            self._found(Problem.CONTRADICTORY, name, "holds another content than was said", lost)

    # -- stored bytes ----------------------------------------------------------------------

    def _hash_stored(
        self, share: float, before_ns: int | None, pace: Callable[[int], None] | None
    ) -> None:
        """Read packs and objects whole, what was read the longest ago first, until that is the
        wanted share of their bytes."""
        index = self._vault.index
        before = self._round_ns if before_ns is None else min(before_ns, self._round_ns)
        left = share * index.check_totals(_HERE).bytes if share < 1 else float("inf")
        sizes: dict[str, int] = {}

        def wanted() -> Iterator[str]:
            nonlocal left
            for page in index.to_check(_HERE, before):
                for name, size in page:
                    if left <= 0:
                        return
                    if name in self._bad or name.startswith(MANIFESTS):
                        continue
                    if self._is_quarantined(name) and self._storage.size(name) is None:
                        # What it held was stored anew, or was said to be lost.
                        continue
                    left -= size
                    sizes[name] = size
                    yield name

        whole: list[str] = []
        read = 0
        try:
            for it in hash_files(self._storage, wanted(), pace=pace, cancel=self._cancel):
                size = sizes.pop(it.name)
                if it.fault:
                    self._explain(it.name, size, it.fault, unreadable=it.error)
                else:
                    self._report.hashed += 1
                    self._report.hashed_bytes += it.size
                    whole.append(it.name)
                if len(whole) >= _NOTED:
                    index.note_checked(_HERE, whole, self._vault.now_ns())
                    whole.clear()
                read += it.size
                if self._progress is not None:
                    self._progress(self._report.files, self._report.bytes + read)
        finally:
            index.note_checked(_HERE, whole, self._vault.now_ns())

    def _explain(self, name: str, size: int, fault: str, *, unreadable: bool) -> None:
        """What is lost by a file that is not what its name says."""
        sha256 = digest_named(name)
        assert sha256 is not None, "only such files are met"
        if unreadable:
            self._found(Problem.UNREADABLE, name, fault)
            return
        if name.startswith(PACKS):
            place = self._vault.index.pack_number(sha256)
            if place is not None:
                self._check_pack(place, name, sha256)
            return
        lost = self._vault.index.keys_of_part(sha256)
        self._found(Problem.DAMAGED, name, f"{fault} ({size} bytes)", tuple(lost))


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
