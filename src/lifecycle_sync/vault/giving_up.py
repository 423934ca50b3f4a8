"""Manifests that are lost for good: what is known of them, and that nobody waits for them any more.

While a manifest cannot be read nothing is pruned, because nobody knows what it needs. Where no copy
has it either, a person may say that it is lost. That is told by a manifest of its own, for all who
use the vault; a manifest that turns up again is read all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lifecycle_sync.errors import (
    LifecycleError,
    StorageError,
    UsageError,
    VaultCorruptError,
    VaultError,
    VaultKeyError,
)
from lifecycle_sync.model.event import GivenUpEvent
from lifecycle_sync.vault.format import MANIFESTS, manifest_path, split_manifest_name
from lifecycle_sync.vault.hashing import hash_file
from lifecycle_sync.vault.healing import Copy
from lifecycle_sync.vault.manifest import Header, ManifestReader
from lifecycle_sync.vault.quarantine import set_aside
from lifecycle_sync.vault.salvage import find_lost, salvage_manifest
from lifecycle_sync.vault.sealing import SUFFIX

if TYPE_CHECKING:
    from lifecycle_sync.vault.vault import Vault

_OPERATION = "give up manifest"
_REMEDY = "`lifecycle vault prune` names the one that it waits for"


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A manifest beside one that is lost: its name, who wrote it, when (ns since 1970 UTC)."""

    name: str
    writer: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class LostManifest:
    """What the others say of one that cannot be read: why that is, the last one before it and the
    first one after it, and how many were written by who knew it (`followers`)."""

    name: str
    cause: str
    before: Neighbour | None
    after: Neighbour | None
    followers: int


def lost_manifests(vault: Vault) -> dict[str, str]:
    """All that keep a vault from being pruned, by their names, and why each cannot be read."""
    catalogue = vault.catalogue
    found = dict(catalogue.lost())
    followed = {name for it in _headers(vault).values() for name in it.previous}
    found |= dict.fromkeys(catalogue.missing(followed), "is missing")
    return found


def evidence(vault: Vault, names: Sequence[str], copies: Sequence[Copy]) -> list[LostManifest]:
    """What is known of these manifests. Raises `UsageError` for one that is not lost, or that a
    copy still has, and `VaultKeyError` where others cannot be read for want of a key."""
    vault.refresh()
    if vault.catalogue.locked:
        raise VaultKeyError(
            f"{len(vault.catalogue.locked)} manifests are encrypted, so nobody knows what they say",
            operation=_OPERATION,
            subject=vault.path,
            remedy="name the file with the key: identity_path in the settings",
        )
    leaves = [_leaf(name) for name in names]
    for leaf in leaves:
        # It may have been whole when it was taken up.
        seen = hash_file(vault.storage, manifest_path(leaf))
        if seen.fault and not seen.missing:
            vault.catalogue.set_down(leaf, VaultCorruptError(seen.fault))
    lost, headers = lost_manifests(vault), _headers(vault)
    return [_evidence(vault, leaf, lost, headers, copies) for leaf in leaves]


def _evidence(
    vault: Vault,
    name: str,
    lost: dict[str, str],
    headers: dict[str, Header],
    copies: Sequence[Copy],
) -> LostManifest:
    if name not in lost:
        if name in vault.index.given_up():
            cause = "was given up before"
        elif name in vault.catalogue.known():
            cause = "is there and can be read"
        else:
            cause = "is no manifest that this vault waits for"
        raise UsageError(cause, operation=_OPERATION, subject=name, remedy=_REMEDY)
    for copy in copies:
        seen = hash_file(copy.storage, manifest_path(name))
        if seen.error or not seen.fault:
            raise UsageError(
                f"{'cannot be read' if seen.error else 'is whole'} in the copy {copy.name}",
                operation=_OPERATION,
                subject=name,
                remedy="`lifecycle verify --heal` brings it back",
            )
    before = max((it for it in headers if it < name), default=None)
    after = min((it for it in headers if it > name), default=None)
    return LostManifest(
        name,
        lost[name],
        _neighbour(headers, before),
        _neighbour(headers, after),
        sum(name in it.previous for it in headers.values()),
    )


def take_up_remains(vault: Vault, names: Sequence[str]) -> tuple[int, set[str]]:
    """Tell anew what can still be read of these manifests, and which contents packs and objects
    have that no other manifest places; how many contents these were, and which files could not be
    read, or are damaged. Raises `VaultError` for a manifest that could not be read at first."""
    for name in names:
        path = manifest_path(name)
        if vault.storage.size(path) is not None:
            try:
                salvage_manifest(vault, name)
            except VaultCorruptError as error:
                if isinstance(error.__cause__, StorageError):
                    _refuse_if_readable(vault, path, error)
                # Nothing of it.
                continue
    # What they told counts no more, though it was read before.
    vault.index.clear()
    vault.refresh()
    unread: set[str] = set()
    found = find_lost(vault, partly=True, unread=unread)
    # Its index may not have taken up what was just told.
    vault.refresh()
    return found, unread


def _refuse_if_readable(vault: Vault, path: str, error: VaultError) -> None:
    if not hash_file(vault.storage, path).error:
        raise VaultError(
            f"{error.cause}, and then it could",
            operation=_OPERATION,
            subject=path,
            remedy="nothing was given up: check the disk of the vault, and try again",
        ) from error


def give_up(vault: Vault, names: Sequence[str], reason: str) -> list[str]:
    """Tell that nobody waits for these any more, and set aside what is there of them; the names
    these have in quarantine/. What they told, and somebody knows, is told again before."""
    with vault.writer() as writer:
        writer.commit([GivenUpEvent(tuple(names), vault.now_ns(), reason)])
    aside = [set_aside(vault.storage, manifest_path(name)) for name in names]
    vault.refresh()
    return [name for name in aside if name]


def _headers(vault: Vault) -> dict[str, Header]:
    found = {}
    for name in vault.catalogue.known():
        try:
            found[name] = ManifestReader(vault.storage, name).header
        except LifecycleError:
            # It is lost itself, or somebody compacts.
            continue
    return found


def _leaf(name: str) -> str:
    leaf = name.removeprefix(f"{MANIFESTS}/").removesuffix(SUFFIX)
    if split_manifest_name(leaf) is None:
        raise UsageError(
            "is no name of a manifest", operation=_OPERATION, subject=name, remedy=_REMEDY
        )
    return leaf


def _neighbour(headers: dict[str, Header], name: str | None) -> Neighbour | None:
    if name is None:
        return None
    return Neighbour(name, headers[name].writer, headers[name].at_ns)
