"""Make the golden vaults, which every later version must read: tests/golden/vault-1, and vault-2,
which is encrypted, with its key beside it.

Run once when a format is new; a golden vault that exists is never made again. Ids, times and
contents are fixed, so that the same program makes the same bytes (but for what is encrypted, which
is never the same twice).
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
from tests.support.vaults import EncryptedHouse, VaultHouse, key_of  # noqa: E402


def make(house: VaultHouse) -> None:
    """Make the vault of a house."""
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
    wanted = {"vault-1": VaultHouse, "vault-2": EncryptedHouse}
    missing = [name for name in wanted if not (HERE / "tests" / "golden" / name).exists()]
    if not missing:
        sys.exit("all of them exist, and are to be read as they are")
    for name in missing:
        target = HERE / "tests" / "golden" / name
        with tempfile.TemporaryDirectory() as made:
            house = wanted[name](Path(made))
            make(house)
            shutil.copytree(house.path, target)
            if isinstance(house, EncryptedHouse):
                shutil.copy(house.key_path, target.with_suffix(".key"))
