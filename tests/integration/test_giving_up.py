"""A manifest that is lost for good: what is known is told again, and only then nobody waits."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import FixedClock
from lifecycle_sync.errors import UsageError, VaultCorruptError, VaultError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.event import GivenUpEvent
from lifecycle_sync.service import giving_up
from lifecycle_sync.service.act_orders import How
from lifecycle_sync.service.giving_up import GivingUp, give_up_manifests
from lifecycle_sync.service.progress import NoProgress
from lifecycle_sync.service.pruning import PruneOutcome, Pruning, prune_vault
from lifecycle_sync.service.rebuild import rebuild
from lifecycle_sync.service.retelling import Retold, retell
from lifecycle_sync.service.verifying import Manner, VaultOutcome, verify_vaults
from lifecycle_sync.vault.catalogue import Catalogue
from lifecycle_sync.vault.events import decode_event, encode_event
from lifecycle_sync.vault.healing import heal
from lifecycle_sync.vault.prune import prune as prune_files
from lifecycle_sync.vault.salvage import salvage_manifest
from lifecycle_sync.vault.vault import Vault, VaultKind
from tests.support.house import House, backed_up
from tests.support.vaults import VaultHouse, flip

DAY = 86_400


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(1_800_000_000_000_000_000)


@pytest.fixture
def house(tmp_path, clock):
    """Five backups of one new file each; no version of these is ever pruned by its policy."""
    with backed_up(tmp_path, clock, [{f"f{it}": content(it)} for it in range(5)]) as house:
        yield house


def content(number: int) -> bytes:
    return b"content %d" % number * 100


def vault_of(house: House) -> Vault:
    return house.engine.vaults.get(VaultKind.BACKUP)


def manifest_with(house: House, path: bytes) -> Path:
    """The one that tells of a file."""
    vault = vault_of(house)
    for name in vault.manifests():
        if any(getattr(it, "path", b"") == path for it in vault.events([name])):
            return house.base / "vault/manifests" / name
    raise AssertionError(path)


def lose(house: House, path: bytes = b"f2") -> str:
    where = manifest_with(house, path)
    where.unlink()
    return where.name


def prune(house: House) -> PruneOutcome:
    return prune_vault(house.engine, Pruning(grace_days=0), How())


def order(house: House, *names: str, dry_run: bool = False) -> GivingUp:
    return give_up_manifests(house.engine, names, How(dry_run=dry_run))


def contents_there(house: House) -> set[bytes]:
    """What can be read in the vault by somebody who has nothing but the vault."""
    with Vault.open(
        house.base / "vault",
        VaultKind.BACKUP,
        index_path="",
        fs=house.engine.fs,
        clock=house.engine.clock,
        read_only=True,
    ) as vault:
        found = set()
        for it in vault.all_versions(house.repository.repository_id):
            assert it.content is not None
            found.add(vault.read_small(it.content))
        return found


def stored(house: House) -> set[str]:
    packs = (house.base / "vault/packs").rglob("*.zip")
    return {it.name for it in packs}


ALL = {content(number) for number in range(5)}


def prunes_until_all_is_gone(house: House, clock: FixedClock) -> None:
    for _ in range(4):
        clock.advance(3 * DAY)
        house.sync()
        assert prune(house).exit_code == 0


def test_while_it_is_lost_nothing_is_pruned_and_given_up_it_is(house, clock):
    name = lose(house)
    with pytest.raises(VaultCorruptError, match="give-up"):
        prune(house)
    ahead = order(house, name, dry_run=True)
    with pytest.raises(VaultCorruptError):
        prune(house)
    outcome = order(house, f"manifests/{name}")
    assert (ahead.retold, ahead.contents) == (outcome.retold, outcome.contents)
    assert (outcome.retold, outcome.contents) == (Retold(versions=1), 1)
    (lost,) = outcome.manifests
    assert (lost.name, lost.cause, lost.followers) == (name, "is missing", 1)
    assert lost.before is not None
    assert lost.after is not None
    assert lost.before.name < name < lost.after.name
    assert lost.before.at_ns < lost.after.at_ns
    assert outcome.taken_up == {name}
    prunes_until_all_is_gone(house, clock)
    assert contents_there(house) == ALL
    (seen,) = [it for it in verify(house) if it.report is not None]
    assert seen.ok, seen.damage


def verify(house: House, **manner: object) -> list[VaultOutcome]:
    return verify_vaults(
        house.engine,
        Manner(share=1.0, **manner),  # type: ignore[arg-type]
        progress=NoProgress(),
        cancel=CancelToken(),
    )


def test_a_registry_made_again_from_the_vault_has_the_same_versions(house):
    name = lose(house)
    order(house, name)
    before = {
        file.path: [it[:6] for it in house.engine.registry.versions(file.file_id)]
        for file in house.engine.registry.files_under(
            house.repository.repository_id, b"", None, 100
        )
    }
    house.engine.close()
    rebuild(house.settings, force=True, clock=house.engine.clock)
    house.reopen()
    after = {
        file.path: [it[:6] for it in house.engine.registry.versions(file.file_id)]
        for file in house.engine.registry.files_under(
            house.repository.repository_id, b"", None, 100
        )
    }
    assert after == before


def test_what_people_have_said_is_told_again(house):
    policy = replace(house.engine.statements.policy("default"), name="mine", max_versions=77)
    house.engine.statements.put_policy(policy)
    vault = vault_of(house)
    name = max(vault.manifests())
    house.write("after", b"after")
    house.sync()
    house.engine.acts.back_up(house.repository)
    (house.base / "vault/manifests" / name).unlink()
    order(house, name)
    told = [it for it in vault.events(vault.manifests()) if getattr(it, "policy", None) == policy]
    assert told


# -- guards --------------------------------------------------------------------------------


def test_without_what_the_registry_knows_an_object_would_go(house, clock, monkeypatch):
    """Control: this is what telling it again is for."""
    name = lose(house)
    monkeypatch.setattr(giving_up, "retell", lambda *_, **__: Retold())
    order(house, name)
    prunes_until_all_is_gone(house, clock)
    assert contents_there(house) == ALL - {content(2)}
    assert len(stored(house)) == 4


def test_where_it_cannot_be_told_again_nothing_is_given_up(house, monkeypatch):
    name = lose(house)
    monkeypatch.setattr(
        giving_up, "retell", lambda *them, **how: retell(*them, **{**how, "dry_run": True})
    )
    with pytest.raises(VaultError, match="told by no manifest"):
        order(house, name)
    with pytest.raises(VaultCorruptError):
        prune(house)


class _BadSector(FileOps):
    """Some files cannot be read: `times` of these tries fail."""

    def __init__(self, names: set[str], times: int = 10**6) -> None:
        self._names, self.left = names, times

    def open_read_stat(
        self, name: str | bytes, dir_fd: int | None = None
    ) -> tuple[int, os.stat_result]:
        if os.fsdecode(name) in self._names and self.left:
            self.left -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().open_read_stat(name, dir_fd)


def test_while_a_pack_cannot_be_read_that_may_have_what_is_needed_nothing_is_given_up(house, clock):
    name = lose(house)
    house.reopen(fs=_BadSector(stored(house), 5))
    with pytest.raises(VaultError, match="cannot be read, and may have what 1 versions need"):
        order(house, name)
    with pytest.raises(VaultCorruptError):
        prune(house)
    # It was the cable.
    house.reopen()
    order(house, name)
    prunes_until_all_is_gone(house, clock)
    assert contents_there(house) == ALL


def test_while_a_damaged_pack_may_have_what_is_needed_nothing_is_given_up(house, clock):
    name = lose(house)
    for pack in (house.base / "vault/packs").rglob("*.zip"):
        flip(pack, 60)
    with pytest.raises(VaultError, match="is damaged or cannot be read, and may have"):
        order(house, name)
    with pytest.raises(VaultCorruptError):
        prune(house)
    assert len(stored(house)) == 5


def test_what_is_found_counts_though_the_index_did_not_take_it_up(house, clock, monkeypatch):
    name = lose(house)
    committed = Catalogue.committed
    failed: list[str] = []

    def fails_once(catalogue: Catalogue, manifest: str, *rest: object) -> None:
        if failed:
            committed(catalogue, manifest, *rest)  # type: ignore[arg-type]
        else:
            failed.append(manifest)
            catalogue._owed.add(manifest)

    with monkeypatch.context() as once:
        once.setattr(Catalogue, "committed", fails_once)
        assert order(house, name).retold == Retold(versions=1)
    assert failed
    prunes_until_all_is_gone(house, clock)
    assert contents_there(house) == ALL


def test_what_a_damaged_one_tells_is_not_passed_over_for_an_error_of_the_disk(
    house, clock, monkeypatch
):
    path = manifest_with(house, b"f2")
    with open(path, "ab") as file:
        file.write(b"\0")
    disk = _BadSector({path.name}, 0)
    house.reopen(fs=disk)

    def salvage(vault: Vault, name: str) -> object:
        disk.left = 1
        return salvage_manifest(vault, name)

    with monkeypatch.context() as once:
        once.setattr("lifecycle_sync.vault.giving_up.salvage_manifest", salvage)
        with pytest.raises(VaultError, match="and then it could"):
            order(house, path.name)
    with pytest.raises(VaultCorruptError):
        prune(house)
    order(house, path.name)
    prunes_until_all_is_gone(house, clock)
    assert contents_there(house) == ALL


def test_one_that_is_not_lost_is_refused(house):
    there = manifest_with(house, b"f1").name
    for name, words in (
        (there, "can be read"),
        (f"0000000099-{'0' * 64}.jsonl.zst", "waits for"),
        ("nonsense", "no name of a manifest"),
    ):
        with pytest.raises(UsageError, match=words):
            order(house, name)
    lost = lose(house)
    order(house, lost)
    with pytest.raises(UsageError, match="before"):
        order(house, lost)


def test_one_that_a_copy_has_is_not_given_up(house, tmp_path):
    shutil.copytree(house.base / "vault", tmp_path / "copy")
    name = lose(house)
    house.reopen(backup_copies=(tmp_path / "copy",))
    with pytest.raises(UsageError, match="verify --heal"):
        order(house, name)
    assert all(it.ok for it in verify(house, heal=True))
    assert prune(house).exit_code == 0


def test_one_that_a_copy_may_have_that_is_away_is_not_given_up(house, tmp_path):
    name = lose(house)
    house.reopen(backup_copies=(tmp_path / "away",))
    for dry_run in (True, False):
        with pytest.raises(UsageError, match="which is away"):
            order(house, name, dry_run=dry_run)
    house.reopen(backup_copies=())
    assert order(house, name).retold.versions == 1


def test_a_damaged_one_that_cannot_be_read_at_all_is_set_aside(house, clock):
    path = manifest_with(house, b"f2")
    path.write_bytes(b"nothing of it is left")
    outcome = order(house, path.name)
    assert outcome.quarantined == [f"quarantine/{path.name}"]
    assert (house.base / "vault" / outcome.quarantined[0]).read_bytes()[:7] == b"nothing"
    assert not path.exists()
    prunes_until_all_is_gone(house, clock)
    assert contents_there(house) == ALL


def test_one_that_turns_up_again_is_read(house, clock):
    path = manifest_with(house, b"f2")
    data = path.read_bytes()
    # A registry that knows nothing of it.
    house.engine.registry.drop_versions(
        [
            (file.file_id, row.version_id)
            for file in house.engine.registry.files_under(
                house.repository.repository_id, b"", None, 100
            )
            if file.path == b"f2"
            for row in house.engine.registry.versions(file.file_id)
        ],
        clock.now_ns(),
    )
    path.unlink()
    assert order(house, path.name).retold.versions == 0
    assert contents_there(house) == ALL - {content(2)}
    path.write_bytes(data)
    assert contents_there(house) == ALL
    assert not vault_of(house).index.given_up() or vault_of(house).news()
    assert not vault_of(house).index.given_up()


def test_a_checkpoint_repeats_that_it_was_given_up(house, clock):
    name = lose(house)
    order(house, name)
    for _ in range(4):
        vault_of(house).checkpoint()
        prunes_until_all_is_gone(house, clock)
    house.engine.close()
    shutil.rmtree(f"{house.settings.database_path}.index")
    house.reopen()
    assert prune(house).exit_code == 0


@pytest.mark.parametrize("step", ["take_up_remains", "retell", "give_up"])
def test_killed_after_any_step_it_is_given_again(house, clock, monkeypatch, step):
    path = manifest_with(house, b"f2")
    path.write_bytes(b"nothing of it is left")
    do = getattr(giving_up, step)

    def killed(*them: object, **how: object) -> None:
        do(*them, **how)
        raise KeyboardInterrupt

    with monkeypatch.context() as once:
        once.setattr(giving_up, step, killed)
        with pytest.raises(KeyboardInterrupt):
            order(house, path.name)
    if step == "give_up":
        with pytest.raises(UsageError, match="before"):
            order(house, path.name)
    else:
        with pytest.raises(VaultCorruptError, match="give-up"):
            prune(house)
        order(house, path.name)
    assert not path.exists()
    prunes_until_all_is_gone(house, clock)
    assert contents_there(house) == ALL


def test_killed_before_it_is_set_aside_a_damaged_one_stops_nothing(house, clock, monkeypatch):
    path = manifest_with(house, b"f2")
    path.write_bytes(b"nothing of it is left")
    with monkeypatch.context() as once:
        once.setattr("lifecycle_sync.vault.giving_up.set_aside", _killed)
        with pytest.raises(KeyboardInterrupt):
            order(house, path.name)
    prunes_until_all_is_gone(house, clock)
    (seen,) = [it for it in verify(house, heal=True) if it.report is not None]
    assert seen.ok
    assert not path.exists()
    assert (house.base / "vault/quarantine" / path.name).exists()
    assert contents_there(house) == ALL


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


# -- healing -------------------------------------------------------------------------------


def test_lines_of_a_damaged_manifest_that_the_registry_knows_are_told_again(house, clock):
    path = manifest_with(house, b"f2")
    flip(path, path.stat().st_size // 2)
    (seen,) = [it for it in verify(house, heal=True) if it.report is not None]
    assert seen.healing is not None
    assert "the registry" in {it.source for it in seen.healing.healed}
    assert contents_there(house) == ALL
    # What else it told nobody knows, so a person has to say that nobody waits for it.
    with pytest.raises(VaultCorruptError, match="give-up"):
        prune(house)
    order(house, path.name)
    prunes_until_all_is_gone(house, clock)
    assert contents_there(house) == ALL


def test_one_whose_lines_are_all_told_anew_is_waited_for_no_longer(tmp_path):
    """A bit after its last frame: nothing is lost."""
    house = VaultHouse(tmp_path)
    with house.open() as vault:
        names = [house.store(vault, {b"%d" % it: content(it)})[0] for it in range(3)]
    path = house.path / "manifests" / names[1]
    path.write_bytes(path.read_bytes() + b"\0")
    house.lose_index()
    with house.open() as vault:
        heal(vault, vault.verify(share=1.0).findings)
        assert path.name in vault.index.given_up()
        assert vault.verify(contents=True).ok
        prune_files(vault, now_ns=house.clock.now_ns(), grace_ns=0)


def test_the_line_is_as_the_format_says(house):
    event = GivenUpEvent(("0000000001-ab.jsonl.zst",), 5, "given up by me")
    raw = encode_event(event)
    assert json.loads(raw) == {
        "event": "given_up",
        "manifests": ["0000000001-ab.jsonl.zst"],
        "reason": "given up by me",
        "at": 5,
    }
    assert decode_event(raw) == event
