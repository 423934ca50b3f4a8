"""Orders about the keys of vaults: a new key, who can read what, a vault written anew."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import UsageError, VaultCorruptError, VaultForeignError, VaultKeyError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.progress import Progress
from lifecycle_sync.service.settings_file import set_list
from lifecycle_sync.service.vault_copies import checked_place, kind_of, reported
from lifecycle_sync.service.vaults import identity_of, recipients_of
from lifecycle_sync.storage.local import storage_error
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault import opening
from lifecycle_sync.vault.age import Recipients, generate
from lifecycle_sync.vault.format import (
    MANIFESTS,
    OBJECTS,
    PACKS,
    RECIPIENTS_NAME,
    UPLOAD_FOLDERS,
)
from lifecycle_sync.vault.recipients import note_recipients, read_recipients
from lifecycle_sync.vault.rewriting import RewriteReport, rewrite_vault
from lifecycle_sync.vault.salvage import stored_files
from lifecycle_sync.vault.vault import Vault, VaultKind

__all__ = [
    "ChangedKeys",
    "Recipient",
    "RewriteReport",
    "VaultKeys",
    "add_recipients",
    "keys_of",
    "make_key",
    "remove_recipients",
    "rewrite",
]

# A key may be named by so many of its first characters.
_PREFIX_MIN = 10


@dataclass(frozen=True, slots=True)
class Recipient:
    """A public key of a vault. `written` to it is what comes from now on; `told` is it by the
    vault, of which some files were encrypted to it."""

    key: str
    written: bool
    told: bool


@dataclass(frozen=True, slots=True)
class VaultKeys:
    """Who can read a vault. `encrypted` is None where there is no vault yet."""

    path: str
    encrypted: bool | None
    recipients: tuple[Recipient, ...]


def make_key(path: str, fs: FileOps | None = None) -> str:
    """Write a new secret key into a new file, for its owner alone; its public half.

    Raises `UsageError` where something has that name already: a key is never overwritten.
    """
    fs = fs or FileOps()
    public, text = generate()
    folder, name = os.path.split(os.path.abspath(path))
    try:
        parent = fs.open_directory(folder)
        try:
            fd = fs.create(name, parent)
            try:
                fs.write(fd, text.encode())
                fs.fsync(fd)
            finally:
                fs.close(fd)
            fs.fsync(parent)
        finally:
            fs.close(parent)
    except FileExistsError as error:
        raise UsageError(
            "is there already, and might be the only key to a vault",
            operation="make key",
            subject=path,
            remedy="name a new file",
        ) from error
    except OSError as error:
        raise storage_error(error, "make key", path) from error
    return public


def keys_of(engine: Engine, *, archive: bool) -> VaultKeys:
    """Who can read a vault, by the settings and by what the vault tells. Raises `VaultError`."""
    kind = kind_of(archive=archive)
    written = _normal(recipients_of(engine.settings, kind))
    path = engine.vaults.path(kind)
    if not engine.vaults.is_there(kind):
        return VaultKeys(path, None, tuple(Recipient(key, True, False) for key in written))
    with opening.open_storage(path, engine.fs, create=False) as storage:
        found = opening.read_format(storage, path, kind, None, write=False)
        try:
            told = read_recipients(storage)
        except ValueError as error:
            raise VaultCorruptError(
                f"its {RECIPIENTS_NAME} file is damaged ({error})",
                operation="list recipients",
                subject=path,
                remedy="the next backup writes it anew",
            ) from error
    keys = dict.fromkeys([*written, *told])
    return VaultKeys(
        path,
        None if found is None else bool(found.encryption),
        tuple(Recipient(key, key in written, key in told) for key in keys),
    )


@dataclass(frozen=True, slots=True)
class ChangedKeys:
    """What became of the recipients of a vault in the settings file `settings` (empty: nothing was
    changed): `keys` are written to from now on. `before` counts files of the vault that were
    written already, for whoever was named then."""

    settings: str
    keys: tuple[str, ...]
    before: int


def add_recipients(
    engine: Engine, texts: Sequence[str], *, archive: bool, dry_run: bool
) -> ChangedKeys:
    """Have what is written from now on be sealed to these keys as well. Raises `KeyFileError` for
    what is no public key, `VaultKeyError` for a vault that is not encrypted, and as `set_list`
    does."""
    kind = kind_of(archive=archive)
    now = keys_of(engine, archive=archive)
    added = Recipients(texts).texts
    if now.encrypted is False:
        raise VaultKeyError(
            "is not encrypted, and no key makes it so",
            operation="add recipient",
            subject=now.path,
            remedy="`lifecycle vault rewrite DIR --recipient KEY` writes an encrypted one into"
            " another folder",
        )
    written = tuple(it.key for it in now.recipients if it.written)
    return _changed(engine, kind, written, tuple(dict.fromkeys((*written, *added))), dry_run)


def remove_recipients(
    engine: Engine, texts: Sequence[str], *, archive: bool, dry_run: bool
) -> ChangedKeys:
    """Have what is written from now on be sealed to these keys no more; each may be named by its
    beginning. What was written before they still read. One that was removed before stays so. Raises
    `UsageError` for one that was never set or when none would be left, and as `set_list` does."""
    kind = kind_of(archive=archive)
    now = keys_of(engine, archive=archive)
    written = tuple(it.key for it in now.recipients if it.written)
    # Of one that was cut off after this the rest can be asked for again.
    known = [it.key for it in now.recipients]
    gone = {_named(text, written, known, kind) for text in texts}
    left = tuple(key for key in written if key not in gone)
    if written and not left:
        raise UsageError(
            "is the only key, and without one nothing could be written any more",
            operation="remove recipient",
            subject=min(gone),
            remedy="add another one first; or `lifecycle vault rewrite DIR --plain` gives"
            " encryption up",
        )
    return _changed(engine, kind, written, left, dry_run)


def _named(text: str, written: Sequence[str], known: Sequence[str], kind: VaultKind) -> str:
    (wanted,) = _normal([text])
    found = [key for key in known if key == wanted] or [
        key for key in written if len(wanted) >= _PREFIX_MIN and key.startswith(wanted)
    ]
    if len(found) != 1:
        raise UsageError(
            f"{'begins several keys' if found else 'is none'} of {kind}_recipients",
            operation="remove recipient",
            subject=text[:100],
            remedy="`lifecycle vault recipients` shows them",
        )
    return found[0]


def _changed(
    engine: Engine, kind: VaultKind, before: Sequence[str], keys: tuple[str, ...], dry_run: bool
) -> ChangedKeys:
    path = ""
    if set(before) != set(keys) and not dry_run:
        path = os.fspath(set_list(engine.settings, f"{kind}_recipients", keys, engine.fs))
    return ChangedKeys(path, keys, _files_there(engine, kind))


def _files_there(engine: Engine, kind: VaultKind) -> int:
    if not engine.vaults.is_there(kind):
        return 0
    with opening.open_storage(engine.vaults.path(kind), engine.fs, create=False) as storage:
        stored = sum(1 for top in (PACKS, OBJECTS) for _ in stored_files(storage, top))
        return stored + len(storage.names(MANIFESTS))


def rewrite(
    engine: Engine,
    place: str,
    recipients: Sequence[str],
    *,
    plain: bool,
    archive: bool,
    dry_run: bool,
    progress: Progress,
    cancel: CancelToken,
) -> RewriteReport:
    """Write a vault anew into another folder, encrypted to these keys (none: to those of the
    settings), or `plain`. Goes on where it was cut off. Raises `VaultKeyError`, `VaultError`."""
    kind = kind_of(archive=archive)
    path = checked_place(engine, place, kind, "rewrite vault")
    keys = () if plain else _normal(recipients) or recipients_of(engine.settings, kind)
    if not keys and not plain:
        raise UsageError(
            "no recipients are named, nor set in the settings",
            operation="rewrite vault",
            subject=path,
            remedy="name public keys by --recipient, or say --plain for a vault without encryption",
        )
    with ExitStack() as held:
        vault = held.enter_context(engine.vaults.look_into(kind))
        target: Storage | None = None
        if not dry_run:
            target = held.enter_context(opening.open_storage(path, engine.fs, create=True))
            target = _new_place(engine, target, path, vault, keys)
            held.enter_context(target)
        held.enter_context(reported(progress, "rewrite", path))
        return rewrite_vault(
            vault, target, now_ns=engine.now_ns(), progress=progress.advance, cancel=cancel
        )


def _new_place(
    engine: Engine, storage: Storage, path: str, vault: Vault, keys: Sequence[str]
) -> Storage:
    if os.path.realpath(path) == os.path.realpath(vault.path):
        raise UsageError(
            "is the vault itself",
            operation="rewrite vault",
            subject=path,
            remedy="choose a new folder, best on another disk",
        )
    recipients = Recipients(keys) if keys else None
    found = opening.read_format(storage, path, vault.kind, vault.store_id, write=True)
    if found is None:
        texts = () if recipients is None else recipients.texts
        found = opening.create(storage, path, vault.kind, vault.store_id, recipients=texts)
    elif bool(found.encryption) != bool(keys):
        raise VaultForeignError(
            f"holds a vault that {'is' if found.encryption else 'is not'} encrypted",
            operation="rewrite vault",
            subject=path,
            remedy="choose an empty folder",
        )
    elif recipients is not None:
        _refuse_others(storage, path, recipients)
    # Whoever was killed here left what had no name yet.
    opening.sweep(storage, path, UPLOAD_FOLDERS)
    if recipients is not None:
        note_recipients(storage, recipients.texts)
    if vault.format.min_writer > vault.format.min_reader:
        # It was pruned, and so is what is written here.
        opening.refuse_older_writers(storage, path, vault.kind)
    return opening.seal_storage(
        storage,
        path,
        found,
        engine.fs,
        write=True,
        recipients=recipients,
        identity_path=identity_of(engine.settings),
        # This machine will know what it tells.
        index_path=vault.index.path,
    )


def _refuse_others(storage: Storage, path: str, recipients: Recipients) -> None:
    """A rewriting that is gone on with must be to the same keys."""
    try:
        told = set(read_recipients(storage))
    except ValueError:
        told = set()
    if told - set(recipients.texts):
        raise VaultKeyError(
            "was begun for other keys as well, which can read what is there",
            operation="rewrite vault",
            subject=path,
            remedy="name the same keys to go on, or choose an empty folder",
        )


def _normal(keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(" ".join(key.split()) for key in keys))
