"""Deaths and errors at single system calls of the real command, put there from outside by strace.

A point is a call and its number; strace counts in each thread by itself, and so does `points`. Of
the calls that only read none is disturbed: there the orders of the fault tests do more.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.outside import ALONE, DEEDS, Deed, Outside

_WRITES = "write pwrite64 writev ftruncate fallocate".split()
_SYNCS = "fsync fdatasync syncfs".split()
_NAMES = "rename renameat renameat2 link linkat unlink unlinkat mkdir mkdirat symlinkat".split()
# What strace is told to do, and at which calls.
FAULTS = {
    "kill": ("signal=KILL", [*_WRITES, *_SYNCS, *_NAMES]),
    "eio": ("error=EIO", [*_WRITES, *_SYNCS, *_NAMES]),
    "enospc": ("error=ENOSPC", [*_WRITES, *_NAMES]),
    # It says that it is done, and is not.
    "lie": ("retval=0", _SYNCS),
}
_DISTURBED = [*_WRITES, *_SYNCS, *_NAMES]
_CALL = re.compile(rb"(?:\[pid +)?(\d+)\]? +(?:<\.\.\. )?(\w+)\(")
# What the command may end with: done, failed, partly done, used wrongly, refused, busy, killed.
_CODES = {0, 1, 2, 3, 4, 5, -9, 137}


class Point(NamedTuple):
    """`lasting`: every later call of this kind fails, too, as on a disk that stays full."""

    deed: str
    fault: str
    call: str
    number: int
    lasting: bool = False

    def __str__(self) -> str:
        plus = "+" if self.lasting else ""
        return f"{self.deed}/{self.fault}/{self.call}/{self.number}{plus}"

    @classmethod
    def parse(cls, text: str) -> Point:
        deed, fault, call, number = text.split("/")
        return cls(deed, fault, call, int(number.rstrip("+")), number.endswith("+"))


def reason_against() -> str:
    """Why nothing can be disturbed here; empty where it can."""
    if shutil.which("strace") is None:
        return "there is no strace"
    probe = subprocess.run(
        ["strace", "-qq", "-o", "/dev/null", "-e", "inject=fsync:error=EIO", "true"],
        check=False,
        capture_output=True,
        text=True,
    )
    return "" if probe.returncode == 0 else f"strace is refused: {probe.stderr.strip()}"


class Disturbed:
    """Orders given by themselves, each time on a new estate below `place`."""

    def __init__(self, place: Path | None, *, control: str = "") -> None:
        self._place = place
        self._control = control
        self._counts: dict[str, Counter[str]] = {}

    def points(self, deed: Deed, fault: str) -> Iterator[Point]:
        """All points of an order that is left alone."""
        if deed.name not in self._counts:
            self._counts[deed.name] = self._count(deed)
        counts = self._counts[deed.name]
        for call in FAULTS[fault][1]:
            for number in range(1, counts[call] + 1):
                yield Point(deed.name, fault, call, number)
                if fault == "enospc":
                    yield Point(deed.name, fault, call, number, lasting=True)

    def _count(self, deed: Deed) -> Counter[str]:
        """The most that one thread makes of each call."""
        with self._outside(deed) as outside:
            log = outside.home / "log"
            calls = f"trace={','.join(_DISTURBED)}"
            process = outside.start(deed.words, "strace", "-f", "-qq", "-o", str(log), "-e", calls)
            _out, err = process.communicate(timeout=120)
            assert process.returncode == 0, err.decode()
            by_thread: Counter[tuple[str, str]] = Counter()
            for line in log.read_bytes().splitlines():
                found = _CALL.match(line)
                if found and b"resumed" not in line:
                    by_thread[found[1].decode(), found[2].decode()] += 1
        most: Counter[str] = Counter()
        for (_, call), count in by_thread.items():
            most[call] = max(most[call], count)
        return most

    def try_point(self, point: Point) -> int:
        """The exit code. Raises `AssertionError` with what does not hold."""
        (deed,) = (it for it in [*DEEDS, *ALONE] if it.name == point.deed)
        with self._outside(deed) as outside:
            when = f"{point.number}{'+' if point.lasting else ''}"
            # Stopping at these calls alone takes half the time, but no signal is given then.
            quick = [] if point.fault == "kill" else ["--seccomp-bpf"]
            process = outside.start(
                deed.words,
                *("strace", "-f", *quick, "-qq", "-o", "/dev/null", "-e", f"trace={point.call}"),
                *("-e", f"inject={point.call}:{FAULTS[point.fault][0]}:when={when}"),
            )
            _out, err = process.communicate(timeout=120)
            code: int = process.returncode
            assert code in _CODES, f"it ended with {code}: {err.decode(errors='replace')}"
            assert b"Traceback" not in err, err.decode(errors="replace")
            assert code == 0 or point.fault != "lie", err.decode(errors="replace")
            outside.check([deed.name] if code == 0 else [], deed.name)
        return code

    def _outside(self, deed: Deed) -> _Place:
        return _Place(self._place, deed, self._control)


class _Place:
    """An estate for one order, removed afterwards."""

    def __init__(self, place: Path | None, deed: Deed, control: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="lifecycle-syscalls-", dir=place)
        self._deed, self._control = deed, control

    def __enter__(self) -> Outside:
        folder = Path(self._folder.__enter__())
        (folder / "base").mkdir()
        outside = Outside(folder / "base", folder / "home", control=self._control)
        outside.fill(self._deed.prepare, keys=self._deed.keys)
        self._deed.befalls(outside.base)
        return outside

    def __exit__(self, *exc: object) -> None:
        self._folder.cleanup()
