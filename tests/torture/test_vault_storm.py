"""All of what the fast suite takes samples of: every byte flipped, every operation failing."""

from __future__ import annotations

import errno

import pytest

from lifecycle_sync.testing.fileops import Fault, fail
from tests.integration.test_vault_damage import every_byte
from tests.integration.test_vault_faults import BEFORE, count, run_with_fault
from tests.support.vaults import VaultHouse


@pytest.fixture(autouse=True)
def only_when_asked_for(request):
    """For what takes minutes: runs only with `-m torture`."""
    if "torture" not in (request.config.getoption("markexpr") or ""):
        pytest.skip("takes minutes: pytest -m torture")


@pytest.mark.torture
def test_every_flipped_byte_is_found(tmp_path):
    house = VaultHouse(tmp_path)
    with house.open() as vault:
        house.store(vault, {b"a": b"first" * 9, b"b": b"second"})
        vault.checkpoint()
    places = [(path, at) for path in house.files() for at in range(path.stat().st_size)]
    assert every_byte(house, places) == []


@pytest.mark.torture
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_any_operation_that_fails_loses_nothing(tmp_path, code, lasting, after):
    house = VaultHouse(tmp_path / "count")
    with house.open() as vault:
        house.store(vault, BEFORE)
    for nth in range(1, count(house) + 1):
        fault = Fault(fail(code), nth=nth, lasting=lasting, after=after)
        run_with_fault(VaultHouse(tmp_path / f"{nth}"), fault)
