"""What the registry knows and no manifest tells any more, told to the vault again.

Where a manifest is damaged or lost, the registry that took it up still has the versions: of which
file, which content, when. Times, owners and permissions are the record's as it is now; what only
the manifest had (extended attributes, where links point, folders) is gone with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.model.act import VersionRow
from lifecycle_sync.model.content import ContentKey, Metadata
from lifecycle_sync.model.event import RepositoryEvent, VersionEvent
from lifecycle_sync.model.file import FileRecord, Kind, LifecycleState
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.vault.copying_out import put_again
from lifecycle_sync.vault.healing import Source, restore_from
from lifecycle_sync.vault.index import key_blob, key_of_blob
from lifecycle_sync.vault.vault import Vault, VaultKind

_PAGE = 1_000
# Of what is not known any more.
_NO_ID = bytes(16)


@dataclass
class Retold:
    """Versions that the registry alone knew: `versions` of them were told again (or would be), the
    content of `lost` is in the vault no more, or they are of symlinks."""

    versions: int = 0
    lost: int = 0


def retell(
    engine: Engine,
    vault: Vault,
    *,
    sources: Sequence[Source] = (),
    dry_run: bool = False,
    cancel: CancelToken | None = None,
) -> Retold:
    """Write a manifest with the versions that only the registry knows, and with all that people
    have said. A content that the vault has lost is stored again from `sources`. Raises
    `VaultError`, `CancelledError`; what was told by then stands."""
    told = Retold()
    for page in _pages(engine, vault):
        if cancel is not None:
            cancel.check()
        _retell(engine, vault, page, told, sources, dry_run=dry_run)
    if not dry_run:
        with vault.writer() as writer:
            name = writer.commit([*engine.registry.statements(), *_roots(engine)])
        engine.registry.add_applied(vault.store_id, [name], engine.now_ns())
    return told


def _pages(engine: Engine, vault: Vault) -> Iterator[list[tuple[bytes, VersionRow]]]:
    after: tuple[bytes, int, bytes] | None = None
    while page := engine.registry.versions_in(vault.store_id, after, _PAGE):
        file_id, row = page[-1]
        after = file_id, row.number, row.version_id
        untold = vault.untold([row.version_id for _, row in page])
        if untold:
            yield [it for it in page if it[1].version_id in untold]


def _retell(
    engine: Engine,
    vault: Vault,
    page: list[tuple[bytes, VersionRow]],
    told: Retold,
    sources: Sequence[Source],
    *,
    dry_run: bool,
) -> None:
    keyed = [(it, _content(it[1])) for it in page]
    keys = list(dict.fromkeys(key for _, key in keyed if key is not None))
    there = vault.contains(keys)
    # Of what is condemned the content is still there, and is stored again.
    places = vault.index.places([key_blob(key) for key in keys if key not in there])
    if dry_run:
        there |= {key_of_blob(blob) for blob, place in places.items() if vault.is_there(place)}
        told.versions += sum(key in there for _, key in keyed)
        told.lost += sum(key not in there for _, key in keyed)
        return
    with vault.writer() as writer:
        there |= {key_of_blob(blob) for blob in places} - set(put_again(vault, writer, places))
        there |= {key for key in keys if key not in there and restore_from(sources, writer, key)}
        events = [
            _event(vault, file_id, row, key, engine.registry.file(file_id))
            for (file_id, row), key in keyed
            if key is not None and key in there
        ]
        name = writer.commit(events)
    if name:
        engine.registry.add_applied(vault.store_id, [name], engine.now_ns())
    told.versions += len(events)
    told.lost += len(page) - len(events)


def _content(row: VersionRow) -> ContentKey | None:
    return None if row.checksum is None else ContentKey(row.algorithm, row.checksum)


def _event(
    vault: Vault, file_id: bytes, row: VersionRow, content: ContentKey, record: FileRecord | None
) -> VersionEvent:
    archived = vault.kind is VaultKind.ARCHIVE
    return VersionEvent(
        file_id=file_id,
        repository_id=_NO_ID if record is None else record.repository_id,
        # The record may be gone for long; by its id it is still found.
        path=file_id.hex().encode() if record is None else record.path,
        number=row.number,
        version_id=row.version_id,
        content=content,
        metadata=Metadata(
            Kind.REGULAR,
            row.size,
            0o600 if record is None else record.mode & 0o7777,
            0 if record is None else record.uid,
            0 if record is None else record.gid,
            mtime_ns=row.mtime_ns,
            atime_ns=row.mtime_ns,
            ctime_ns=row.mtime_ns,
        ),
        policy_name="default" if record is None else record.policy_name,
        policy_explicit=record is not None and record.policy_explicit,
        state=LifecycleState.ARCHIVED if archived else LifecycleState.BACKUP_COMPLETE,
        at_ns=row.created_ns,
        operation_id=_NO_ID,
    )


def _roots(engine: Engine) -> Iterator[RepositoryEvent]:
    for it in engine.roots.all():
        yield RepositoryEvent(
            it.repository_id,
            it.path,
            it.kind,
            it.enforce,
            engine.registry.registry_id,
            engine.now_ns(),
        )
