"""Orders of the fault tests that change who reads a vault, or what it waits for; each with what
comes before it and what holds after it.

The keys stand in a settings file of the estate, which is no other to the order than a person's own.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from lifecycle_sync.service.act_orders import How
from lifecycle_sync.service.giving_up import GivingUp, give_up_manifests
from lifecycle_sync.service.vault_keys import ChangedKeys, add_recipients, remove_recipients
from lifecycle_sync.vault.age import Identities, NoMatchError, generate
from lifecycle_sync.vault.format import MANIFESTS
from lifecycle_sync.vault.giving_up import lost_manifests
from lifecycle_sync.vault.recipients import read_recipients
from lifecycle_sync.vault.vault import Vault, VaultKind
from tests.support.estate import KEY, REWRITTEN, SECOND, SETTINGS, Estate, Order

_NAME = "outside/name"
_AROUND = "# mine\n{}\n# and this\n[temp_files]\n"

# -- a manifest that is lost for good ------------------------------------------------------


def _backup_vault(estate: Estate) -> Vault:
    return estate.engine.vaults.get(VaultKind.BACKUP, create=False)


def _with_one_between(estate: Estate) -> str:
    """Three backups, and something that is not kept yet; the name of the manifest of the second.

    What it alone tells are regular files, of which the registry knows all that is compared."""
    estate.back_up()
    before = set(_backup_vault(estate).manifests())
    estate.change("d/large", b"x" * 1_100_000)
    estate.change("d/sparse", b"dense now")
    estate.sync()
    estate.back_up()
    (name,) = set(_backup_vault(estate).manifests()) - before
    (estate.base / "outside").mkdir(exist_ok=True)
    (estate.base / _NAME).write_text(name)
    estate.change("stay.txt", b"touched by nobody but one")
    estate.sync()
    estate.back_up()
    estate.change("a.txt", b"alpha, not kept yet")
    estate.sync()
    return name


def _path_of(estate: Estate, name: str) -> str:
    (leaf,) = (it for it in os.listdir(estate.base / "vault" / MANIFESTS) if it.startswith(name))
    return os.fspath(estate.base / "vault" / MANIFESTS / leaf)


def lost(estate: Estate) -> None:
    """One of several manifests is gone."""
    os.unlink(_path_of(estate, _with_one_between(estate)))


def half_legible(estate: Estate) -> None:
    """A bit of one of several manifests has flipped."""
    path = _path_of(estate, _with_one_between(estate))
    with open(path, "r+b") as file:
        file.seek(os.path.getsize(path) // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def lost_name(base: Path) -> str:
    """The manifest that was lost."""
    return (base / _NAME).read_text()


def give_up(estate: Estate) -> GivingUp | str:
    """Nothing where that was done before."""
    name = lost_name(estate.base)
    vault = _backup_vault(estate)
    vault.refresh()
    if name in vault.index.given_up():
        return "was given up before"
    return give_up_manifests(estate.engine, [name], How())


def give_up_and_heal(estate: Estate) -> None:
    """What was given up and not set aside is no more waited for; healing sets it aside."""
    give_up(estate)
    estate.heal()


def waits_for_nothing(estate: Estate) -> None:
    """It can be pruned, and loses nothing by that."""
    vault = _backup_vault(estate)
    vault.refresh()
    assert not lost_manifests(vault)
    assert lost_name(estate.base) in vault.index.given_up()
    estate.prune()


# -- who reads it --------------------------------------------------------------------------


def public_key(base: Path, name: str) -> str:
    """The public half of one of the keys of an estate."""
    return (base / f"{name}.public").read_text().split()[0]


def _public(estate: Estate, name: str) -> str:
    return public_key(estate.base, name)


def _written(estate: Estate, *names: str) -> None:
    keys = "".join(f'    "{_public(estate, it)}",\n' for it in names)
    text = _AROUND.format(f"backup_recipients = [\n{keys}]")
    (estate.base / SETTINGS).write_text(text)


def one_key(estate: Estate) -> None:
    """A vault of one key, and something that is not kept yet; a second key is at hand."""
    public, text = generate()
    (estate.base / SECOND).write_text(text)
    (estate.base / f"{SECOND}.public").write_text(public)
    with open(estate.base / KEY, "a", encoding="utf-8") as file:
        file.write(text)
    estate.back_up()
    estate.change("a.txt", b"alpha, not kept yet")
    estate.sync()
    _written(estate, KEY)


def two_keys(estate: Estate) -> None:
    """And two versions of a file."""
    one_key(estate)
    estate.back_up()
    _written(estate, KEY, SECOND)


def another_key(estate: Estate) -> None:
    """What is written from now on is for the second alone."""
    one_key(estate)
    _written(estate, SECOND)


def add_second(estate: Estate) -> ChangedKeys:
    return add_recipients(estate.engine, [_public(estate, SECOND)], archive=False, dry_run=False)


def remove_first(estate: Estate) -> ChangedKeys:
    return remove_recipients(estate.engine, [_public(estate, KEY)], archive=False, dry_run=False)


def remove_first_and_rewrite(estate: Estate) -> object:
    return estate.rewrite(keys=remove_first(estate).keys)


def is_written_to(*names: str) -> Order:
    """The settings file names these keys, and all else in it stays."""

    def holds(estate: Estate) -> None:
        text = (estate.base / SETTINGS).read_text()
        keys = [_public(estate, it) for it in names]
        told = tomllib.loads(text)
        assert (told["backup_recipients"], told["temp_files"]) == (keys, {})
        assert text.startswith("# mine\n")
        assert "# and this\n" in text

    return holds


def new_vault_is_for_the_second(estate: Estate) -> None:
    is_written_to(SECOND)(estate)
    first, second = _opened_by(estate, KEY, REWRITTEN), _opened_by(estate, SECOND, REWRITTEN)
    assert second, "nothing was written anew"
    assert not first, f"the key that was removed opens {first}"


def new_is_for_the_second(estate: Estate) -> None:
    """What came since then; and both are told."""
    first, second = _opened_by(estate, KEY, "vault"), _opened_by(estate, SECOND, "vault")
    assert first, "what was there before"
    assert second, "what came since"
    assert not first & second
    told = read_recipients(_backup_vault(estate).storage)
    assert told == [_public(estate, KEY), _public(estate, SECOND)]


def _opened_by(estate: Estate, name: str, place: str) -> set[str]:
    """The files of a vault that one key opens."""
    # The file of the first has both.
    lines = (estate.base / name).read_text().splitlines(keepends=True)
    secret = next(it for it in lines if it.startswith("AGE-SECRET-KEY"))
    alone = estate.base / "outside/alone"
    alone.parent.mkdir(exist_ok=True)
    alone.write_text(secret)
    identities = Identities(os.fspath(alone))
    found = set()
    for path in (estate.base / place).rglob("*.age"):
        try:
            identities.open(path.read_bytes())
        except NoMatchError:
            continue
        found.add(path.name)
    return found
