"""Each guard taken out of the code in turn, in a copy of the tree: a named test must fail then.

`make guard-proof` runs them all; `--only NAME` one. A proof is text that stands in the code, what
takes its place, and the test that sees the difference. The tests are run on the whole tree first:
one that fails there proves nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scripts.guard import Proof
from scripts.guards import PROOFS

TREE = Path(__file__).resolve().parent.parent


def check(proof: Proof) -> str:
    """What is wrong with a proof by its text alone; empty when it can be tried."""
    path = TREE / proof.file
    found = path.read_text().count(proof.old) if path.is_file() else 0
    if found != 1:
        return f"{proof.file} has its text {found} times, not once"
    if not (TREE / proof.test.split("::")[0]).is_file():
        return f"there is no {proof.test}"
    return ""


def prove(proof: Proof) -> str:
    """Take the guard out of a copy and run the test there; what is wrong, empty when it failed as
    it should."""
    with tempfile.TemporaryDirectory(prefix="lifecycle-guard-") as folder:
        copy = Path(folder)
        for name in ("src", "tests", "scripts", "examples", "docs"):
            shutil.copytree(TREE / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(TREE / "pyproject.toml", copy)
        target = copy / proof.file
        target.write_text(target.read_text().replace(proof.old, proof.new))
        done = _run(copy, proof.test)
    lines = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    if done.returncode == 1 and lines:
        print(f"  {proof.name}: {lines[0].split(' - ')[0]}", flush=True)
        return ""
    return f"{proof.name}: {proof.test} does not fail without it (exit code {done.returncode})"


def _run(tree: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    return subprocess.run(
        command,
        check=False,
        cwd=tree,
        # Before the package that is installed.
        env={**os.environ, "PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="proofs whose name begins so")
    parser.add_argument("--jobs", type=int, default=2)
    chosen = parser.parse_args()
    proofs = [it for it in PROOFS if not chosen.only or it.name.startswith(chosen.only)]
    begun = time.monotonic()
    faults = [f"{it.name}: {fault}" for it in proofs if (fault := check(it))]
    if not faults:
        whole = _run(TREE, *dict.fromkeys(it.test for it in proofs))
        if whole.returncode:
            faults.append("the tests fail with all guards in place:\n" + whole.stdout[-2_000:])
    if not faults:
        print(f"{len(proofs)} guards; without each of them fails:")
        with ThreadPoolExecutor(chosen.jobs) as pool:
            faults = [fault for fault in pool.map(prove, proofs) if fault]
    for fault in faults:
        print(f"NOT PROVEN {fault}")
    print(f"{time.monotonic() - begun:.0f} s")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
