"""Power cuts on a real filesystem while the real command is at work.

Root, vaults, trash and registry lie on one ext4 (or XFS) that is shut down in the middle of an
order, or right after it was acknowledged (see tests/support/loop_disk.py); mounted again,
everything acknowledged has to be there. Each cut is a seed: `--first N --cuts 1` repeats one, as
far as its moment can be met again. With `--deaf` the command syncs no file, and with `--lying` the
kernel only says that it does: then cuts have to be found that lose something.

Ends with 0 when all is as it should be, 77 where power cannot be cut here.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import suppress
from pathlib import Path

from tests.support.loop_disk import LoopDisk, reason_against
from tests.support.outside import DEAF, DEEDS, Outside, beyond_and_changed

_IN_MEMORY = Path("/dev/shm")
_SKIPPED = 77
_LIE = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync,syncfs",
        "-e", "inject=fsync,fdatasync,syncfs:retval=0")  # fmt: skip


class PowerCuts:
    """A disk with an estate on it, to which every cut returns."""

    def __init__(self, folder: Path, kind: str, *, keys: str, deaf: bool, lying: bool) -> None:
        self._disk = LoopDisk(folder, folder / "disk", kind)
        self._outside = Outside(folder / "disk/base", folder / "home", control=DEAF if deaf else "")
        self._before = _LIE if lying else ()
        self._disk.mount()
        (folder / "disk/base").mkdir()
        self._outside.fill(beyond_and_changed, keys=keys)
        self._disk.unmount()
        self._disk.save()

    def _wait_for_work(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        """So long after it has begun to change anything, or until it ends."""
        before = self._outside.sizes()
        while process.poll() is None and self._outside.sizes() == before:
            time.sleep(0.001)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)

    def cut(self, seed: int) -> str:
        """In which order, and whether it had been acknowledged. Raises what does not hold."""
        chosen = random.Random(seed)
        at = chosen.randrange(len(DEEDS))
        deed, acknowledged = DEEDS[at], [it.name for it in DEEDS[:at]]
        # Some of them right after it said that it is done.
        seconds = 60.0 if chosen.random() < 0.3 else chosen.uniform(0, 0.05)
        self._disk.return_to_saved()
        self._disk.mount()
        try:
            for earlier in DEEDS[:at]:
                self._outside.give(earlier)
            deed.befalls(self._outside.base)
            process = self._outside.start(deed.words, *self._before)
            self._wait_for_work(process, seconds)
            self._disk.cut_power()
            try:
                # Whoever ends with 0 afterwards has promised it all the same.
                _out, _err = process.communicate(timeout=60)
            finally:
                process.kill()
                process.wait()
            if process.returncode == 0:
                acknowledged.append(deed.name)
            self._disk.unmount()
            self._disk.mount()
            self._outside.check(acknowledged, deed.name)
        finally:
            self._disk.unmount()
        return f"{deed.name} {'acknowledged' if process.returncode == 0 else 'cut off'}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--filesystem", choices=["ext4", "xfs"], default="ext4")
    parser.add_argument("--encrypted", action="store_true", help="the vaults are")
    parser.add_argument("--deaf", action="store_true", help="control: no file is synced")
    parser.add_argument("--lying", action="store_true", help="control: syncs that are not done")
    chosen = parser.parse_args()
    reason = reason_against(chosen.filesystem)
    if reason or (chosen.lying and not shutil.which("strace")):
        print(f"power cannot be cut here: {reason or 'there is no strace'}")
        return _SKIPPED
    if os.environ.get("LIFECYCLE_UNSHARED") != "1":
        # What is mounted goes with this process, whatever becomes of it.
        os.environ["LIFECYCLE_UNSHARED"] = "1"
        again = ["unshare", "--mount", sys.executable, "-m", "scripts.powercut", *sys.argv[1:]]
        os.execvp(again[0], again)
    control = chosen.deaf or chosen.lying
    begun = time.monotonic()
    counts: Counter[str] = Counter()
    failed = []
    place = _IN_MEMORY if _IN_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="lifecycle-powercut-", dir=place) as folder:
        cuts = PowerCuts(
            Path(folder),
            chosen.filesystem,
            keys="there" if chosen.encrypted else "",
            deaf=chosen.deaf,
            lying=chosen.lying,
        )
        for seed in range(chosen.first, chosen.first + chosen.cuts):
            try:
                counts[cuts.cut(seed)] += 1
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told
                failed.append(seed)
                if control:
                    print(f"seed {seed}: {str(error)[:300]}")
                    break
                print(
                    f"make powercut POWERCUT_ARGS='--filesystem {chosen.filesystem}"
                    f"{' --encrypted' if chosen.encrypted else ''}"
                    f" --first {seed} --cuts 1': {error}"
                )
                traceback.print_exc()
    done = counts.total() + len(failed)
    print(
        f"{done:,} power cuts on {chosen.filesystem}, {len(failed)} lost something that was"
        f" acknowledged ({time.monotonic() - begun:.0f} s): "
        + ", ".join(f"{count} {words}" for words, count in sorted(counts.items()))
    )
    if control:
        print("a control: " + ("found" if failed else "NOT found"))
        return 0 if failed else 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
