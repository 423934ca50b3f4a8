"""The real command, killed and failed at single system calls; `make syscalls` tries all of them."""

from __future__ import annotations

import pytest

from tests.support.outside import CARELESS
from tests.support.syscalls import Disturbed, Point, reason_against

_REASON = reason_against()
pytestmark = pytest.mark.skipif(bool(_REASON), reason=f"strace may not be used here: {_REASON}")


@pytest.mark.parametrize(
    "point",
    [
        "archive/kill/renameat2/3",
        "archive/eio/syncfs/1",
        "archive/enospc/write/4+",
        "heal/kill/renameat/1",
        "prune-encrypted/kill/unlinkat/9",
    ],
)
def test_a_system_call_that_kills_or_fails_loses_nothing(tmp_path, point):
    assert Disturbed(tmp_path).try_point(Point.parse(point)) != 0


def test_a_command_that_does_not_mind_errors_is_found(tmp_path):
    """What was to be renamed into the vault is not there, and it says that it is."""
    disturbed = Disturbed(tmp_path, control=CARELESS)
    with pytest.raises(Exception, match=r"missing|FORMAT|no vault"):
        disturbed.try_point(Point("backup", "eio", "renameat", 1, lasting=True))
