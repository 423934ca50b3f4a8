"""The manifests of a vault looked at: each against its name, its lines, and those it follows."""

from __future__ import annotations

from lifecycle_sync.errors import StorageError, VaultCorruptError, VaultKeyError
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.model.event import UnknownEvent, VersionEvent
from lifecycle_sync.vault import format as vault_format
from lifecycle_sync.vault.content_lines import decode_content_line
from lifecycle_sync.vault.events import decode_event, look_at
from lifecycle_sync.vault.examination import BATCH, HERE, Examination
from lifecycle_sync.vault.findings import Problem
from lifecycle_sync.vault.format import MANIFESTS, object_name, pack_name
from lifecycle_sync.vault.index import key_blob
from lifecycle_sync.vault.manifest import ManifestReader


def check_manifests(look: Examination) -> None:
    """What manifests say, each read once, and which are missing. Raises `CancelledError`."""
    names = set(look.storage.names(MANIFESTS))
    for name in sorted(names):
        if vault_format.split_manifest_name(name) is None:
            look.report.foreign.append(f"{MANIFESTS}/{name}")
            names.discard(name)
    followed: dict[str, str] = {}
    repeated: set[str] = set()
    index = look.vault.index
    look.gone = _gone(look)
    asks = look.contents or bool(look.gone)
    # How many versions that are kept each tells of.
    kept: dict[str, int] = {}
    for name in sorted(names):
        path = f"{MANIFESTS}/{name}"
        size = look.storage.size(path) or 0
        index.meet(HERE, [(path, size)], look.round_ns)
        look.storage.drop_cache(path)
        try:
            reader = ManifestReader(look.storage, name)
            if reader.header.store_id != look.vault.store_id:
                raise VaultCorruptError("belongs to another store")
            # The same bytes say the same, so that their lines are looked at once.
            claims = index.claims()
            versions = index.checked_detail(HERE, path)
            if versions is None or asks:
                kept[name], versions = _check_lines(look, reader)
            else:
                kept[name] = versions
            if path not in look.bad:
                index.note_checked(
                    HERE, [path], look.vault.now_ns(), detail=versions, claims=claims
                )
        except VaultKeyError:
            # Its bytes are right; what they say takes a key, or is remembered.
            look.unsure = True
            kept[name] = index.checked_detail(HERE, path) or 0
            look.report.manifests += 1
            index.note_checked(HERE, [path], look.vault.now_ns())
        except VaultCorruptError as error:
            look.unsure = True
            look.found(Problem.DAMAGED, f"{MANIFESTS}/{name}", error.cause)
        except StorageError as error:
            look.unsure = True
            look.found(Problem.UNREADABLE, f"{MANIFESTS}/{name}", error.cause)
        else:
            look.report.manifests += 1
            followed.update(dict.fromkeys(reader.header.previous, name))
            repeated |= reader.header.repeated
        look.step(1, size)
    # What a checkpoint repeats counts once.
    sources = look.vault.catalogue.sources(unusable=names - kept.keys())
    look.report.versions = sum(kept.get(name, 0) for name in sources)
    # Nobody waits for them any more.
    repeated |= index.given_up().keys()
    for name in sorted(followed.keys() - names - repeated):
        if look.is_quarantined(name):
            continue
        look.unsure = True
        detail = f"is missing: {followed[name]} was written after it"
        look.found(Problem.MISSING, f"{MANIFESTS}/{name}", detail)
    for name in look.vault.index.vanished():
        known = name in names or name in repeated or name in followed
        if not known and not look.is_quarantined(name):
            look.unsure = True
            look.found(Problem.MISSING, f"{MANIFESTS}/{name}", "was there and is gone")


def _gone(look: Examination) -> set[bytes]:
    """Condemned files that are not there, and of which that was not known."""
    index, found = look.vault.index, set()
    for place in index.unasked_places():
        name_of = pack_name if place > 0 else object_name
        for sha256, length in index.files_of(place):
            if look.storage.size(name_of(sha256)) != length:
                found.add(sha256)
    return found


def _check_lines(look: Examination, reader: ManifestReader) -> tuple[int, int | None]:
    """How many versions that are kept it tells of; and the same as it is to be remembered, which is
    None where there is more to be said of it."""
    wanted: list[tuple[ContentKey, bytes]] = []
    versions: list[bytes] = []
    kept = unknown = 0
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
            versions.append(line.raw)
            if content is not None:
                wanted.append((content, line.raw))
        if len(versions) >= BATCH:
            kept += _count_kept(look, versions)
            _check_known(look, reader.name, wanted)
            versions, wanted = [], []
    kept += _count_kept(look, versions)
    _check_known(look, reader.name, wanted)
    look.report.unknown += unknown
    return kept, None if unknown else kept


def _count_kept(look: Examination, versions: list[bytes]) -> int:
    index = look.vault.index
    if not index.has_pruned():
        return len(versions)
    return sum(1 for _ in index.unpruned(map(decode_event, versions)))


def _check_known(look: Examination, name: str, wanted: list[tuple[ContentKey, bytes]]) -> None:
    blobs = [key_blob(key) for key, _ in wanted]
    index = look.vault.index
    places = index.places(blobs)
    # What is condemned may go, and then it has to be told elsewhere where it lies.
    lost = {
        place
        for place in set(places.values())
        if index.is_condemned(place) and not _is_there(look, place)
    }
    known = {blob for blob, place in places.items() if place not in lost}
    # Whatever lacks its content may be pruned, and then it lacks nothing.
    lacking = [raw for (_, raw), blob in zip(wanted, blobs, strict=True) if blob not in known]
    left = index.unpruned(decode_event(raw) for raw in lacking)
    unknown = tuple(it.content for it in left if isinstance(it, VersionEvent) and it.content)
    if unknown:
        look.unsure = look.lacks = True
        detail = f"speaks of {len(unknown)} contents that no manifest places"
        look.found(Problem.CONTRADICTORY, f"{MANIFESTS}/{name}", detail, unknown)


def _is_there(look: Examination, place: int) -> bool:
    """Whether all files of a place are there, and were when this began: what comes and goes is not
    relied on."""
    names = (name for name, _ in look.vault.index.files_of(place))
    return look.gone.isdisjoint(names) and look.vault.is_there(place)
