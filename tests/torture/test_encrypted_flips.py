"""Every byte of the golden encrypted vault flipped in turn."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lifecycle_sync.clock import FixedClock
from lifecycle_sync.errors import LifecycleError, VaultError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.vault.vault import Vault, VaultKind
from tests.support.golden import CONTENTS, LARGE
from tests.support.vaults import START_NS, STORE, key_of, read

GOLDEN = Path(__file__).parents[1] / "golden/vault-2"


@pytest.mark.torture
@pytest.mark.parametrize("key", [False, True])
def test_every_flipped_byte_is_found_and_nothing_comes_back_as_something_else(
    tmp_path, at_length, key, record_property
):
    place = tmp_path / "vault"
    shutil.copytree(GOLDEN, place)
    contents = {**CONTENTS, key_of(LARGE): LARGE}
    flipped = 0
    for path in sorted(it for it in place.rglob("*") if it.is_file()):
        data = path.read_bytes()
        for at in range(len(data)):
            damaged = bytearray(data)
            damaged[at] ^= 1 << at % 8
            path.write_bytes(damaged)
            flipped += 1
            try:
                with Vault.open(
                    place,
                    VaultKind.BACKUP,
                    index_path="",
                    fs=FileOps(),
                    clock=FixedClock(START_NS),
                    read_only=True,
                    store_id=STORE,
                    identity_path=str(GOLDEN.with_suffix(".key")) if key else "",
                ) as vault:
                    for content, right in contents.items() if key else ():
                        try:
                            assert read(vault, content) == right, (path, at)
                        except LifecycleError:
                            continue
                    assert not vault.verify(contents=True).ok, (path, at)
            except VaultError:
                assert path.name == "FORMAT", (path, at)
        path.write_bytes(data)
    record_property("flipped", flipped)
    assert flipped > 10_000
