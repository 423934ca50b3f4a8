"""Make the golden vault of a format, which every later version must read: tests/golden/vault-1.

Run once when a format is new; a golden vault that exists is never made again. Ids, times and
contents are fixed, so that the same program makes the same bytes.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE))

from tests.support.golden import CONTENTS, LARGE, events_of  # noqa: E402
from tests.support.vaults import VaultHouse, key_of  # noqa: E402


def make(folder: Path) -> None:
    """Make the vault at `folder`/vault."""
    house = VaultHouse(folder)
    events = events_of()
    with (
        # Two parts without 64 MiB of them.
        patch("lifecycle_sync.vault.objects.PART_SIZE_MAX", 1 << 20),
        tempfile.TemporaryDirectory() as other,
        house.open(index_path=f"{other}/index") as vault,
        vault.writer() as writer,
    ):
        for key, data in CONTENTS.items():
            writer.add(key, data)
        upload = writer.open_object("sha256")
        upload.write(LARGE)
        assert upload.finish() == key_of(LARGE)
        writer.commit(events[:5])
        vault.checkpoint()
        writer.commit(events[5:])


if __name__ == "__main__":
    target = HERE / "tests" / "golden" / "vault-1"
    if target.exists():
        sys.exit(f"{target} exists, and is to be read as it is")
    with tempfile.TemporaryDirectory() as made:
        make(Path(made))
        shutil.copytree(Path(made) / "vault", target)
