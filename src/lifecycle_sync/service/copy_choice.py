"""Which copies of a vault the versions of a file go to, by the policy that governs it.

A policy may name some of the copies that the settings name. The vault itself always has everything,
and what lies in a copy already stays there, so no version is out of reach by a change of policy.
Files that are held go to every copy, and so does what this registry does not know.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lifecycle_sync.decide.choice import Rules
from lifecycle_sync.decide.copies import goes_to
from lifecycle_sync.model.act import VersionRow
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.vault.copy_choice import CopyChoice
from lifecycle_sync.vault.index import key_blob
from lifecycle_sync.vault.vault import Vault

_PAGE = 1_000


@contextmanager
def choice_for(engine: Engine, vault: Vault, place: str) -> Iterator[CopyChoice | None]:
    """What the copy of a vault in `place` is spared; None where no policy spares it anything. A
    place that the settings do not name gets everything."""
    policies = engine.registry.policies()
    named = place in engine.vaults.copies(vault.kind)
    if not named or all(goes_to(policy, place) for policy in policies):
        yield None
        return
    choice = CopyChoice(vault.index)
    try:
        _fill(engine, vault, place, Rules(policies), choice)
        yield choice
    finally:
        choice.close()


def _fill(engine: Engine, vault: Vault, place: str, rules: Rules, choice: CopyChoice) -> None:
    after: tuple[bytes, int, bytes] | None = None
    while page := engine.registry.versions_in(vault.store_id, after, _PAGE):
        file_id, row = page[-1]
        after = file_id, row.number, row.version_id
        spared = _spared(engine, place, rules, page)
        keys: dict[bool, list[bytes]] = {True: [], False: []}
        for file_id, row in page:
            if row.checksum is not None:
                key = key_blob(ContentKey(row.algorithm, row.checksum))
                keys[file_id in spared].append(key)
        choice.add(keys[True], keys[False])
    choice.settle()


def _spared(
    engine: Engine, place: str, rules: Rules, page: Sequence[tuple[bytes, VersionRow]]
) -> set[bytes]:
    """The files among these whose policy does not name the place."""
    ids = list(dict.fromkeys(file_id for file_id, _ in page))
    now_ns = engine.now_ns()
    held = engine.registry.held(ids, now_ns)
    return {
        file_id
        for file_id, subject in engine.registry.subjects(ids).items()
        if file_id not in held and not goes_to(rules.choose(subject, now_ns), place)
    }
