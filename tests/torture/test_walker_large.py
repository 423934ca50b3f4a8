"""One folder with very many files: walked to the end, in memory that grows with the folder alone.

`WALKER_ENTRIES=5000000 make torture TORTURE_ARGS='-k large'` is the real thing; it takes as long as
the disk takes to make and remove so many files.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

import pytest

from lifecycle_sync.testing.walker_contract_base import IN_MEMORY
from tests.support.native import needs_native

pytestmark = [pytest.mark.torture, pytest.mark.slow]

_ENTRIES = int(os.environ.get("WALKER_ENTRIES", "300000"))
# What a walk may take: names of some 16 bytes, nine numbers, and what sorts them.
_BYTES_AN_ENTRY = 160
_BASE_BYTES = 48 << 20

_CHILD = """
import json, os, sys
from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import FixedClock
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.observe.ignore import IgnoreRules
from lifecycle_sync.observe.native_walker import walk_native

(listing,) = walk_native(
    os.fsencode(sys.argv[1]), IgnoreRules(), fs=FileOps(), clock=FixedClock(1 << 62),
    cancel=CancelToken(),
)
status = open("/proc/self/status").read().split()
walked = int(status[status.index("VmHWM:") + 1]) << 10
columns = listing.columns
seen = [len(column) for column in (columns.names, columns.kinds, columns.sizes, columns.atimes_ns)]
print(json.dumps({"files": listing.file_count, "signed": listing.signature is not None,
                  "seen": seen, "first": columns.names[0].decode(), "walked": walked}))
"""


@needs_native
@pytest.mark.usefixtures("at_length")
def test_a_large_folder_takes_memory_that_grows_with_it_alone(tmp_path):
    # In memory where that has room: it comes and goes at once.
    in_memory = os.access(IN_MEMORY, os.W_OK) and os.statvfs(IN_MEMORY).f_favail > 2 * _ENTRIES
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if in_memory else tmp_path) as place:
        found = walked(place)
    assert found["files"] == _ENTRIES
    assert found["signed"]
    assert found["seen"] == [_ENTRIES] * 4
    assert found["first"] == "file_0000000"
    assert found["walked"] <= _BASE_BYTES + _BYTES_AN_ENTRY * _ENTRIES


def walked(place: str) -> dict[str, Any]:
    """What another process says of the folder filled with files, which are gone afterwards."""
    folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    for number in range(_ENTRIES):
        os.close(os.open(b"file_%07d" % number, os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, place], check=True, capture_output=True
        )
    finally:
        for number in range(_ENTRIES):
            os.unlink(b"file_%07d" % number, dir_fd=folder)
        os.close(folder)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
