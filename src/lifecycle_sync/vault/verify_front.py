"""The front of a vault looked at: FORMAT, RESTORE.md, SHA256SUMS, and who can read it."""

from __future__ import annotations

from lifecycle_sync.errors import StorageError, StorageMissingError
from lifecycle_sync.vault import format as vault_format
from lifecycle_sync.vault.examination import Examination
from lifecycle_sync.vault.findings import Problem
from lifecycle_sync.vault.format import MANIFESTS, OBJECTS, PACKS
from lifecycle_sync.vault.heads import read_head
from lifecycle_sync.vault.opening import before_pruning
from lifecycle_sync.vault.recipients import read_recipients


def check_front(look: Examination) -> None:
    """FORMAT, RESTORE.md and what SHA256SUMS says of them."""
    ours = {vault_format.FORMAT_NAME, vault_format.RESTORE_NAME, vault_format.SUMS_NAME}
    known = {PACKS, OBJECTS, MANIFESTS, vault_format.QUARANTINE} | ours
    known.add(vault_format.RESERVE_NAME)
    if look.vault.format.encryption:
        known |= {vault_format.RECIPIENTS_NAME, vault_format.WRITERS}
        _check_told(look)
    look.report.foreign += sorted(set(look.storage.names("")) - known)
    data: dict[str, bytes] = {}
    for name in sorted(ours):
        look.storage.drop_cache(name)
        try:
            data[name] = look.storage.read(name)
        except StorageMissingError:
            look.found(Problem.MISSING, name, "is missing")
        except StorageError as error:
            look.found(Problem.UNREADABLE, name, error.cause)
    look.step(len(data), sum(map(len, data.values())))
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
            look.found(Problem.DAMAGED, name, f"is not what {vault_format.SUMS_NAME} says")
    if len(lines) != len(ours) - 1 or not sums.endswith(b"\n"):
        look.found(Problem.DAMAGED, vault_format.SUMS_NAME, "is cut or has other lines")
    try:
        it = vault_format.decode_format(data.get(vault_format.FORMAT_NAME, b""))
        right = (it.kind, it.store_id) == (look.vault.kind, look.vault.store_id)
    except (ValueError, vault_format.NewerFormatError):
        right = False
    if not right:
        look.found(Problem.DAMAGED, vault_format.FORMAT_NAME, "is another than when opened")


def _check_told(look: Examination) -> None:
    """What an encrypted vault tells in the clear."""
    name = vault_format.RECIPIENTS_NAME
    look.storage.drop_cache(name)
    try:
        if not read_recipients(look.storage):
            look.found(Problem.MISSING, name, "is missing")
    except ValueError as error:
        look.found(Problem.DAMAGED, name, f"is damaged: {error}")
    except StorageError as error:
        look.found(Problem.UNREADABLE, name, error.cause)

    for writer in look.storage.names(vault_format.WRITERS):
        name = f"{vault_format.WRITERS}/{writer}"
        look.storage.drop_cache(name)
        try:
            read_head(look.storage, writer)
        except ValueError as error:
            look.found(Problem.DAMAGED, name, f"is damaged: {error}")
        except StorageError as error:
            look.found(Problem.UNREADABLE, name, error.cause)
