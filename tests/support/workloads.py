"""Orders on an estate, each with what comes before it: the workloads of the fault tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

from lifecycle_sync.act.occupied import Conflict
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.service import acts
from lifecycle_sync.testing.steps import PlainFileOps
from lifecycle_sync.vault.copying_out import put_again
from lifecycle_sync.vault.index import key_blob
from lifecycle_sync.vault.vault import VaultKind
from tests.support import vault_orders
from tests.support.estate import COPY, GOING, KEY, ODD, REWRITTEN, SECOND, Estate, Order


@dataclass(frozen=True)
class Workload:
    """`prepare` comes before the act and always succeeds; `order` is the act, and may be given
    again. `converges`: given again after it was cut off, it comes to the same end. `adds`: a file
    that the act makes may be a new one to the registry. `plain`: on a system without `renameat2`
    and `syncfs`. `keys`: both vaults are encrypted, and the secret key is at hand ("there") or
    nowhere on the machine ("away"); it lies there and the vaults are plain ("later"). What any of
    them ends on purpose lies in a vault, so nothing may be lost."""

    name: str
    prepare: Order
    order: Order
    converges: bool = True
    adds: bool = False
    plain: bool = False
    keys: str = ""
    # What mends a vault that was damaged before the act, which may have been cut off.
    settle: Order | None = None
    # The folder beside the vault that stands for it, once the act has come to its end.
    beside: str = ""
    # What else holds by then.
    holds: Order | None = None
    # The one whose killed process this one recovers from, and where it was killed: a point as a
    # part of all points.
    killed: Workload | None = None
    killed_at: float = 0.0

    def fs(self) -> FileOps:
        return PlainFileOps() if self.plain else FileOps()


def _two_versions(estate: Estate) -> None:
    estate.back_up()
    estate.change("a.txt", b"alpha, changed")
    estate.change("d/sparse", b"dense now")
    estate.sync()
    estate.back_up()


def kept_and_changed(estate: Estate) -> None:
    estate.back_up()
    estate.change("a.txt", b"new")
    estate.change("d/large", b"x" * 1_100_000)
    estate.sync()


def _deleted(estate: Estate) -> None:
    estate.back_up()
    estate.delete(*GOING)


def _archived(estate: Estate) -> None:
    estate.archive(*GOING)


def _deleted_and_purged(estate: Estate) -> None:
    _deleted(estate)
    estate.purge()


def _deleted_after_a_replacement(estate: Estate) -> None:
    """The trash has a file twice: once replaced by an old version, once deleted."""
    _two_versions(estate)
    estate.restore(Conflict.REPLACE, 1, b"a.txt", b"d/sparse")
    estate.delete(b"a.txt", b"d/sparse")


def _changed_since(estate: Estate) -> None:
    _two_versions(estate)
    estate.change("a.txt", b"alpha, never kept")
    estate.sync()


def _mixed(estate: Estate) -> None:
    """Some there, some deleted, some archived, some changed."""
    _two_versions(estate)
    estate.delete(b"a.txt", b"d/link")
    estate.archive(b"d/large")


def _everything(estate: Estate) -> None:
    estate.back_up()
    estate.archive(b"d/large", b"a.txt")
    estate.delete(b"d/sparse", ODD)


def beyond(estate: Estate) -> None:
    """Versions that no rule keeps, in packs and objects with others and alone."""
    _two_versions(estate)
    estate.change("d/large", b"y" * 1_100_000)
    estate.sync()
    estate.back_up()
    estate.keep_one_version()


def pruned_and_beyond(estate: Estate) -> None:
    """Manifests are taken away by the second prune."""
    beyond(estate)
    estate.prune()
    estate.change("d/large", b"z" * 1_100_000)
    estate.change("a.txt", b"alpha, changed once more")
    estate.sync()
    estate.back_up()
    estate.keep_one_version()


def _condemned(estate: Estate) -> None:
    """What no version needs waits for its grace to end."""
    beyond(estate)
    estate.prune(grace_days=1)


def _condemned_and_written(estate: Estate) -> None:
    """Since then something was stored that the rest of a condemned pack is needed beside."""
    _condemned(estate)
    estate.change("a.txt", b"alpha")
    estate.change("d/large", b"x" * 1_100_000)
    estate.sync()
    estate.back_up()
    estate.keep_one_version()


def _twice_and_damaged(estate: Estate) -> None:
    """Of what lies in packs each content lies in a second place, which counts, and is damaged."""
    beyond(estate)
    vault = estate.engine.vaults.get(VaultKind.BACKUP, create=False)
    before = set((estate.base / "vault/packs").rglob("*.z*"))
    blobs = [
        key_blob(it.key) for pack in vault.index.packs() for it in vault.index.members(pack[0])
    ]
    with vault.writer() as writer:
        assert not put_again(vault, writer, blobs)
        writer.commit([])
    for path in set((estate.base / "vault/packs").rglob("*.z*")) - before:
        spoil_file(path)


def _condemned_and_damaged(estate: Estate) -> None:
    """What was copied out of what is condemned is damaged, and that is not deleted yet."""
    beyond(estate)
    before = set((estate.base / "vault/packs").rglob("*.z*"))
    estate.prune(grace_days=1)
    copies = set((estate.base / "vault/packs").rglob("*.z*")) - before
    assert copies
    for path in copies:
        spoil_file(path)


def _copied_and_changed(estate: Estate) -> None:
    estate.back_up()
    estate.copy_vault()
    estate.change("a.txt", b"alpha, changed")
    estate.change("d/large", b"x" * 1_100_000)
    estate.sync()
    estate.back_up()


def _healed(estate: Estate) -> None:
    """What was damaged was set aside."""
    estate.back_up()
    spoil(estate, "packs", "objects")
    estate.heal()


def _copied_and_pruned(estate: Estate) -> None:
    """The copy has what the vault has no more, and is told of it."""
    beyond(estate)
    estate.copy_vault()
    estate.prune()
    estate.copy_vault()


def _copied_and_missing(estate: Estate) -> None:
    """Of the vault some files are damaged and others are gone."""
    estate.back_up()
    estate.copy_vault()
    spoil(estate, "packs")
    for folder in ("objects", "manifests"):
        for path in (estate.base / "vault" / folder).rglob("*.z*"):
            path.unlink()


def _backed_up_in_parts(estate: Estate) -> object:
    """Several of them are under way at once, so the order of their steps is not always the same."""
    with patch.object(acts, "_PART_FILES", 2):
        return estate.back_up()


def _purged(estate: Estate) -> object:
    return estate.purge()


def spoil(estate: Estate, *folders: str) -> None:
    """Flip a bit in each file of these folders of the vault, as a disk does."""
    spoil_files(estate.base, *folders)


def spoil_files(base: Path, *folders: str) -> None:
    """`spoil` by where the estate lies."""
    for folder in folders:
        for path in (base / "vault" / folder).rglob("*.z*"):
            spoil_file(path)


def spoil_file(path: Path) -> None:
    """Flip a bit in a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(bytes(data))


def damaged(estate: Estate) -> None:
    estate.back_up()
    spoil(estate, "packs", "objects")


def _damaged_beside_an_archive(estate: Estate) -> None:
    """What the archive has, no file has any more."""
    estate.back_up()
    estate.archive(*GOING)
    spoil(estate, "packs", "objects")


def _damaged_beside_a_copy(estate: Estate) -> None:
    estate.back_up()
    estate.copy_vault()
    spoil(estate, "packs", "objects", "manifests")


def _gone_and_damaged_beside_a_copy(estate: Estate) -> None:
    """What files had, nobody has whole but the copy."""
    _deleted_and_purged(estate)
    estate.copy_vault()
    spoil(estate, "packs", "objects")


# Of a vault that is encrypted, or is to be.
_ENCRYPTED = [
    Workload("backup-first-encrypted", lambda it: None, Estate.back_up, keys="away"),
    Workload("verify-encrypted", Estate.back_up, Estate.heal, keys="away"),
    Workload("heal-encrypted", damaged, Estate.heal, settle=Estate.heal, keys="there"),
    Workload(
        "heal-copy-encrypted",
        _damaged_beside_a_copy,
        Estate.heal,
        settle=Estate.heal,
        keys="away",
        beside=COPY,
    ),
    Workload("copy-encrypted", _copied_and_changed, Estate.copy_vault, keys="away", beside=COPY),
    Workload(
        "mend-encrypted",
        _copied_and_missing,
        Estate.mend,
        settle=Estate.mend,
        keys="away",
        beside=COPY,
    ),
    Workload(
        "restore-from-copy-encrypted",
        _gone_and_damaged_beside_a_copy,
        lambda it: it.restore(Conflict.SKIP),
        settle=Estate.heal,
        keys="there",
        beside=COPY,
    ),
    Workload("drill-encrypted", Estate.back_up, Estate.drill, keys="there"),
    Workload("prune-encrypted", beyond, Estate.prune, keys="there"),
    Workload("prune-again-encrypted", pruned_and_beyond, Estate.prune, keys="there"),
    # After a key was removed, in the same order.
    Workload(
        "rewrite",
        vault_orders.two_keys,
        vault_orders.remove_first_and_rewrite,
        keys="there",
        settle=vault_orders.remove_first_and_rewrite,
        beside=REWRITTEN,
        holds=vault_orders.new_vault_is_for_the_second,
    ),
    Workload("rewrite-encrypt", _two_versions, Estate.rewrite, keys="later", beside=REWRITTEN),
    Workload(
        "rewrite-decrypt",
        _two_versions,
        lambda it: it.rewrite(plain=True),
        keys="there",
        beside=REWRITTEN,
    ),
]
_OF_VAULTS = [
    Workload(
        name,
        prepare,
        vault_orders.give_up,
        settle=vault_orders.give_up_and_heal,
        keys=keys,
        holds=vault_orders.waits_for_nothing,
    )
    for name, prepare, keys in (
        ("give-up", vault_orders.lost, ""),
        ("give-up-damaged-encrypted", vault_orders.half_legible, "there"),
    )
] + [
    Workload(
        "recipients-add",
        vault_orders.one_key,
        vault_orders.add_second,
        settle=vault_orders.add_second,
        keys="there",
        holds=vault_orders.is_written_to(KEY, SECOND),
    ),
    Workload(
        "recipients-remove",
        vault_orders.two_keys,
        vault_orders.remove_first,
        settle=vault_orders.remove_first,
        keys="there",
        holds=vault_orders.is_written_to(SECOND),
    ),
    Workload(
        "recipients-changed",
        vault_orders.another_key,
        Estate.back_up,
        keys="there",
        holds=vault_orders.new_is_for_the_second,
    ),
]
_ALL = [
    Workload("backup-first", lambda it: None, Estate.back_up),
    Workload("backup-parts", lambda it: None, _backed_up_in_parts),
    Workload(
        "backup-changed",
        kept_and_changed,
        Estate.back_up,
    ),
    Workload("archive", lambda it: None, lambda it: it.archive(*GOING)),
    Workload("archive-kept", Estate.back_up, lambda it: it.archive(*GOING)),
    Workload("delete", lambda it: None, lambda it: it.delete(*GOING)),
    Workload("delete-kept", Estate.back_up, lambda it: it.delete(*GOING)),
    Workload("recall", _archived, Estate.recall),
    Workload("undelete", _deleted, Estate.undelete),
    Workload("undelete-of-two", _deleted_after_a_replacement, Estate.undelete),
    Workload("restore-skip", _mixed, lambda it: it.restore(Conflict.SKIP)),
    Workload("restore-purged", _deleted_and_purged, lambda it: it.restore(Conflict.SKIP)),
    Workload(
        "restore-replace",
        _changed_since,
        lambda it: it.restore(Conflict.REPLACE, 1, b"a.txt", b"d/sparse"),
    ),
    Workload(
        "restore-after-replacement",
        _deleted_after_a_replacement,
        lambda it: it.restore(Conflict.REPLACE, 2, b"a.txt", b"d/sparse"),
    ),
    Workload(
        "restore-keep-both",
        _changed_since,
        lambda it: it.restore(Conflict.KEEP_BOTH, 1, b"a.txt", b"d/large"),
        converges=False,
        adds=True,
    ),
    Workload(
        "restore-from-copy",
        _gone_and_damaged_beside_a_copy,
        lambda it: it.restore(Conflict.SKIP),
        settle=Estate.heal,
        beside=COPY,
    ),
    Workload("purge", _everything, _purged),
    Workload("heal", damaged, Estate.heal, settle=Estate.heal),
    Workload("heal-archive", _damaged_beside_an_archive, Estate.heal, settle=Estate.heal),
    Workload("heal-copy", _damaged_beside_a_copy, Estate.heal, settle=Estate.heal),
    Workload("copy", Estate.back_up, Estate.copy_vault, beside=COPY),
    Workload("copy-again", _copied_and_changed, Estate.copy_vault, beside=COPY),
    Workload("copy-healed", _healed, Estate.copy_vault, beside=COPY),
    Workload("mend", _copied_and_missing, Estate.mend, settle=Estate.mend, beside=COPY),
    Workload("drill", Estate.back_up, Estate.drill),
    Workload("purge-early", _everything, Estate.purge_early),
    Workload("backup-encrypted", kept_and_changed, Estate.back_up, keys="away"),
    Workload("archive-encrypted", lambda it: None, lambda it: it.archive(*GOING), keys="away"),
    Workload("purge-encrypted", _everything, _purged, keys="away"),
    Workload(
        "restore-encrypted",
        _deleted_and_purged,
        lambda it: it.restore(Conflict.SKIP),
        keys="there",
    ),
    Workload("prune", beyond, Estate.prune),
    Workload("prune-again", pruned_and_beyond, Estate.prune),
    Workload("prune-condemn", beyond, lambda it: it.prune(grace_days=1)),
    Workload("prune-condemned", _condemned, Estate.prune),
    Workload("prune-needed-again", _condemned_and_written, Estate.prune),
    Workload("prune-beside-damage", _twice_and_damaged, Estate.prune, settle=Estate.heal),
    Workload("heal-condemned", _condemned_and_damaged, Estate.heal, settle=Estate.heal),
    Workload("prune-copy", _copied_and_pruned, Estate.prune_copy, beside=COPY),
    *_ENCRYPTED,
    *_OF_VAULTS,
    Workload("delete-plain", Estate.back_up, lambda it: it.delete(*GOING), plain=True),
    Workload("undelete-plain", _deleted, Estate.undelete, plain=True),
    Workload(
        "archive-plain", lambda it: None, lambda it: it.archive(b"a.txt", b"d/link"), plain=True
    ),
    Workload(
        "restore-plain", _deleted_and_purged, lambda it: it.restore(Conflict.SKIP), plain=True
    ),
]
WORKLOADS = {it.name: it for it in _ALL}


_PARTS = (0.45, 0.6, 0.75, 0.9)
_KILLED = {
    **dict.fromkeys(
        ("archive", "delete", "recall", "undelete", "restore-replace", "purge"), _PARTS
    ),
    "archive-encrypted": (0.6, 0.9),
}


def _recoveries() -> list[Workload]:
    """What a dead process leaves of each act, early, in its middle and late, recovered; recovery
    is itself an order that may be cut off."""
    return [
        Workload(
            f"recovery-of-{name}-{part}",
            WORKLOADS[name].prepare,
            lambda estate: (estate.recover(), estate.purge(days=0)),
            killed=WORKLOADS[name],
            killed_at=part,
            keys=WORKLOADS[name].keys,
        )
        for name, parts in _KILLED.items()
        for part in parts
    ]


_GIVEN_AGAIN = {
    "prune": _PARTS,
    "prune-again": _PARTS,
    "prune-encrypted": (0.75,),
    "heal": (0.75,),
    "heal-copy": (0.75,),
    "mend": (0.75,),
    "copy-again": (0.75,),
    "rewrite": (0.75,),
    "give-up": (0.75,),
}


def _given_again() -> list[Workload]:
    """What a dead process leaves of an order that has no rows: it is given again, and may be cut
    off again."""
    return [
        replace(
            WORKLOADS[name], name=f"{name}-{part}-again", killed=WORKLOADS[name], killed_at=part
        )
        for name, parts in _GIVEN_AGAIN.items()
        for it in [WORKLOADS[name]]
        for part in parts
    ]


def _scanned(prepare: Order) -> Workload:
    def changed(estate: Estate) -> None:
        prepare(estate)
        # So that no folder is as it was.
        for folder in ("", "d", "d/e"):
            estate.house.write(f"{folder}/unseen".lstrip("/"), b"not seen yet")

    return Workload("scan", changed, lambda it: it.house.pass_over(), adds=True)


# A scan beside which another process acts, by what that does.
SCANS = {
    "delete": _scanned(Estate.back_up),
    "archive": _scanned(Estate.back_up),
    "undelete": _scanned(_deleted),
    "recall": _scanned(_archived),
}
RECOVERIES = {it.name: it for it in [*_recoveries(), *_given_again()]}
