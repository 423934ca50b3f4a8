"""What stands at a path: a vault that can be used, one that cannot and why, or room for a new one.

FORMAT is written last, so a folder has it only when everything else of a new vault is durable.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import replace

from lifecycle_sync.errors import (
    LifecycleError,
    StorageMissingError,
    StorageReadOnlyError,
    VaultCorruptError,
    VaultForeignError,
    VaultKeyError,
    VaultMissingError,
    VaultNewerError,
    VaultReadOnlyError,
)
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.mounts import FSTAB, awaited_mount
from lifecycle_sync.storage.local import LocalStorage, close_quietly, storage_error
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault.age import Identities, Recipients, others_may_read
from lifecycle_sync.vault.format import (
    FORMAT_NAME,
    FORMAT_NUMBER,
    MANIFESTS,
    OBJECTS,
    PACKS,
    PRUNING_WRITER,
    QUARANTINE,
    RECIPIENTS_NAME,
    RESERVE_NAME,
    RESTORE_NAME,
    SUMS_NAME,
    WRITERS,
    NewerFormatError,
    VaultFormat,
    VaultKind,
    decode_format,
    encode_format,
    new_format,
    restore_text,
    sums_text,
)
from lifecycle_sync.vault.recipients import note_recipients
from lifecycle_sync.vault.sealing import SealedStorage

_log = logging.getLogger("lifecycle_sync.vault")
_OPERATION = "open vault"
_OURS = {FORMAT_NAME, RESTORE_NAME, SUMS_NAME, RECIPIENTS_NAME, RESERVE_NAME}
_OURS |= {PACKS, OBJECTS, MANIFESTS, QUARANTINE, WRITERS}


def open_storage(path: str, fs: FileOps, *, create: bool) -> LocalStorage:
    """The directory at `path`, made when it may be. Raises `VaultError` where there is none."""
    if os.path.lexists(path) and not os.path.isdir(path):
        raise VaultForeignError(
            "is no folder",
            operation=_OPERATION,
            subject=path,
            remedy="choose the folder of a vault, or a new place for one",
        )
    if not os.path.isdir(path):
        if not create:
            raise VaultMissingError(
                "does not exist",
                operation=_OPERATION,
                subject=path,
                remedy="check that its disk is mounted; the first backup makes a new vault",
            )
        _refuse_inside_another(path)
        _refuse_beneath_a_mount(path)
        try:
            fs.make_directories(path)
            _sync_parents(path, fs)
        except OSError as error:
            raise _at_opening(storage_error(error, "make vault", path)) from error
    try:
        return LocalStorage(path, fs)
    except LifecycleError as error:
        raise _at_opening(error) from error


def _refuse_beneath_a_mount(path: str) -> None:
    """A new vault is not made where a disk belongs that is not mounted: very likely it has one."""
    mount = awaited_mount(path)
    if mount is not None:
        raise VaultMissingError(
            f"a disk belongs on {mount}, by {FSTAB}, and is not mounted",
            operation=_OPERATION,
            subject=path,
            remedy=f"`mount {mount}`; or choose a place that is on no such disk",
        )


def _refuse_inside_another(path: str) -> None:
    above = os.path.dirname(os.path.realpath(path))
    while above != os.path.dirname(above):
        names = {FORMAT_NAME, MANIFESTS, PACKS}
        if all(os.path.lexists(os.path.join(above, name)) for name in names):
            raise VaultForeignError(
                f"lies inside the vault {above}",
                operation="make vault",
                subject=path,
                remedy="choose a folder outside it",
            )
        above = os.path.dirname(above)


def _sync_parents(path: str, fs: FileOps) -> None:
    """Make the entry of a new folder durable, and those of the parents made with it."""
    folder = os.path.realpath(path)
    while folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
        fd = fs.open_directory(folder)
        try:
            fs.fsync(fd)
        finally:
            close_quietly(fs, fd)
        if len(os.listdir(folder)) > 1:
            # It was there before, or will be found whatever happens.
            return


def _at_opening(error: LifecycleError) -> LifecycleError:
    if isinstance(error, StorageReadOnlyError):
        return VaultReadOnlyError(
            f"cannot be written to ({error.cause})",
            operation=_OPERATION,
            subject=error.subject,
            remedy=f"{error.remedy}; `restore --to DIR` and `verify` only read it",
        )
    return error


def read_format(
    storage: Storage, path: str, kind: VaultKind, store_id: bytes | None, *, write: bool
) -> VaultFormat | None:
    """What FORMAT says, when this program can use it so; None for an empty folder."""
    try:
        data = storage.read(FORMAT_NAME, 0, 1 << 16)
    except StorageMissingError:
        _refuse_remains(storage, path)
        return None
    try:
        found = decode_format(data)
    except NewerFormatError as error:
        raise _newer(path, error.needed) from error
    except ValueError as error:
        raise VaultCorruptError(
            f"its {FORMAT_NAME} file cannot be read ({error})",
            operation=_OPERATION,
            subject=path,
            remedy="`lifecycle verify --heal` writes it anew",
        ) from error
    if write and found.min_writer > FORMAT_NUMBER:
        raise _newer(path, found.min_writer)
    if found.kind is not kind:
        raise VaultForeignError(
            f"is a vault of kind {found.kind}, not {kind}",
            operation=_OPERATION,
            subject=path,
            remedy="look at the paths of backup and archive in the settings",
        )
    if store_id is not None and found.store_id != store_id:
        raise VaultForeignError(
            f"is another store ({found.store_id.hex()}) than expected ({store_id.hex()})",
            operation=_OPERATION,
            subject=path,
            remedy="mount the right disk, or choose the vault anew in the settings",
        )
    return found


def _newer(path: str, needed: int) -> VaultNewerError:
    return VaultNewerError(
        f"has format {needed}, and this program knows {FORMAT_NUMBER}",
        operation=_OPERATION,
        subject=path,
        remedy="use a newer version of this program",
    )


def _refuse_remains(storage: Storage, path: str) -> None:
    names = set(storage.names(""))
    if names & {OBJECTS, PACKS, MANIFESTS} and any(
        storage.names(folder) for folder in (OBJECTS, PACKS, MANIFESTS)
    ):
        raise VaultCorruptError(
            f"has no {FORMAT_NAME} file, but contents: it was copied in part, or damaged",
            operation=_OPERATION,
            subject=path,
            remedy="copy it whole; or `lifecycle verify --heal` writes that file anew",
        )
    foreign = names - _OURS
    if foreign:
        raise VaultForeignError(
            f"is no vault and not empty (there is {min(foreign)[:100]!r})",
            operation=_OPERATION,
            subject=path,
            remedy="choose an empty folder",
        )


def create(
    storage: Storage,
    path: str,
    kind: VaultKind,
    store_id: bytes,
    *,
    recipients: Sequence[str] = (),
) -> VaultFormat:
    """Make a vault in an empty folder, an encrypted one where there are recipients; the one that
    another process made meanwhile, if so."""
    _refuse_beneath_a_mount(path)
    encrypted = bool(recipients)
    data = encode_format(new_format(kind, store_id, encrypted=encrypted))
    try:
        for folder in (PACKS, OBJECTS, MANIFESTS):
            storage.upload(folder).discard()
        # The first to write FORMAT has made the vault; RESTORE.md is the same whoever writes it.
        _put(storage, RESTORE_NAME, restore_text(encrypted=encrypted))
        if encrypted:
            note_recipients(storage, recipients)
        _put(storage, FORMAT_NAME, data)
        complete(storage)
    except LifecycleError as error:
        raise _at_opening(error) from error
    found = read_format(storage, path, kind, None, write=True)
    assert found is not None
    return found


def complete(storage: Storage) -> None:
    """Write SHA256SUMS where whoever made the vault, or changed FORMAT, did not come so far."""
    names = (FORMAT_NAME, RESTORE_NAME)
    if storage.size(SUMS_NAME) is None:
        sums = sums_text({name: storage.read(name) for name in names if storage.size(name)})
        _put(storage, SUMS_NAME, sums)
    elif storage.size(FORMAT_NAME) is not None:
        data = {name: storage.read(name) for name in names if storage.size(name) is not None}
        before = before_pruning(data[FORMAT_NAME])
        # Only what was cut off between the two: anything else is damage, and stays to be found.
        if before and storage.read(SUMS_NAME) == sums_text(data | {FORMAT_NAME: before}):
            put_front(storage, SUMS_NAME, sums_text(data))


def seal_storage(
    storage: Storage,
    path: str,
    it: VaultFormat,
    fs: FileOps,
    *,
    write: bool,
    recipients: Recipients | None = None,
    identity_path: str = "",
    index_path: str = "",
) -> Storage:
    """The storage of a vault by what its FORMAT says: of an encrypted one its files are opened by
    the keys in the file `identity_path`, if there is one, and what is written goes to `recipients`.

    Raises `VaultKeyError` where it is to
    be written to and recipients are missing, or are set for a vault that is not encrypted;
    `KeyFileError`. The file of the index, `index_path`, has names and times in the clear, so it is
    made for its owner alone; manifests in the clear lie beside it.
    """
    if not it.encryption:
        if recipients is not None and write:
            raise VaultKeyError(
                "is not encrypted, and recipients are set for it",
                operation=_OPERATION,
                subject=path,
                remedy="`lifecycle vault rewrite DIR` makes an encrypted one of it in another"
                " folder; or take the recipients out of the settings",
            )
        return storage
    if write and recipients is None:
        raise VaultKeyError(
            "is encrypted, and no recipients are set to encrypt to",
            operation=_OPERATION,
            subject=path,
            remedy=f"set {it.kind}_recipients to the public keys (age1...); the file"
            f" {RECIPIENTS_NAME} in the vault lists those it was written to",
        )
    identities = Identities(identity_path) if identity_path else None
    if identity_path and others_may_read(identity_path):
        _log.warning("others than its owner may read the key file %s: chmod 600 it", identity_path)
    kept: Storage | None = None
    if index_path:
        kept_path = f"{index_path}.manifests"
        try:
            fs.make_directories(kept_path)
            close_quietly(fs, fs.create(index_path))
        except FileExistsError:
            pass
        except OSError as error:
            raise _at_opening(storage_error(error, "make index of vault", index_path)) from error
        try:
            kept = LocalStorage(kept_path, fs)
        except LifecycleError as error:
            if write:
                # Whoever wrote without them would not know what it has told.
                raise
            _log.warning("manifests cannot be kept in the clear in %s: %s", kept_path, error)
    return SealedStorage(storage, recipients, identities, kept)


def refuse_older_writers(storage: Storage, path: str, kind: VaultKind) -> None:
    """Have FORMAT say that whoever writes here must know what is condemned. Durable when it
    returns; where it says so already nothing is done."""
    found = read_format(storage, path, kind, None, write=True)
    assert found is not None
    if found.min_writer >= PRUNING_WRITER:
        return
    data = encode_format(replace(found, min_writer=PRUNING_WRITER))
    put_front(storage, FORMAT_NAME, data)
    complete(storage)


def before_pruning(data: bytes) -> bytes | None:
    """What FORMAT was before `refuse_older_writers`; None where it is not what that made of it."""
    try:
        found = decode_format(data)
    except (ValueError, NewerFormatError):
        return None
    if found.min_writer != PRUNING_WRITER or encode_format(found) != data:
        return None
    before = encode_format(replace(found, min_writer=found.min_reader))
    # An encrypted vault demands as much from the start.
    return None if before == data else before


def put_front(storage: Storage, name: str, data: bytes) -> None:
    """Write a file of the front, in the place of one that is there. Durable when it returns."""
    _put(storage, name, data, replace=True)


def _put(storage: Storage, name: str, data: bytes, *, replace: bool = False) -> None:
    upload = storage.upload("")
    try:
        upload.write(data)
        upload.publish(name, hashlib.sha256(data).digest(), replace=replace)
    finally:
        upload.discard()


def sweep(storage: Storage, path: str, folders: tuple[str, ...]) -> None:
    """Remove what writers that died have left. Raises `VaultError` where nothing can be removed."""
    try:
        storage.sweep(folders)
        # Somebody who only may read finds out now, not at the end of a backup.
        storage.upload("").discard()
        complete(storage)
    except LifecycleError as error:
        raise _at_opening(error) from error
