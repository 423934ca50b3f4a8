"""`python -m bench`: measure against the budgets and print a table."""

from __future__ import annotations

import argparse
import compileall
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lifecycle_sync
from bench.lab import Lab, Options
from bench.measure import FailedError
from bench.report import Document, headline, machine, table
from bench.row import Row
from bench.rows import BENCHMARKS, PROFILED
from bench.trees import NoRoomError


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, also where a budget is missed; 1 where something could not be measured, or, with
    `--strict`, where a budget is missed; 130 when interrupted."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    scratch = asked.scratch or Path(tempfile.gettempdir()) / f"lifecycle-bench-{os.getuid()}"
    # As an installation has it: what is compiled anew at each start takes time, and memory.
    compileall.compile_dir(os.path.dirname(lifecycle_sync.__file__), quiet=1)
    # A polite kill cleans up as well.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _profile(asked, scratch) if asked.profile else _measure(asked, scratch)
    except (FailedError, NoRoomError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted; --json FILE --resume goes on from here", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--files",
        type=int,
        nargs="+",
        default=[100_000],
        metavar="N",
        help="size of the tree, or of several one after the other (default: 100000)",
    )
    parser.add_argument("--repeat", type=int, default=5, help="turns of ours and the peer")
    parser.add_argument(
        "--only", nargs="+", choices=list(BENCHMARKS), metavar="NAME", help=", ".join(BENCHMARKS)
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there too")
    parser.add_argument(
        "--resume", action="store_true", help="skip what the report of --json already has"
    )
    parser.add_argument(
        "--scratch", type=Path, metavar="DIR", help="where trees are kept (default: in $TMPDIR)"
    )
    parser.add_argument(
        "--profile", choices=PROFILED, metavar="NAME", help="show where the time of one goes"
    )
    parser.add_argument("--strict", action="store_true", help="exit 1 when a budget is missed")
    parser.add_argument(
        "--hash-files", type=int, default=100_000, metavar="N", help="small files to hash at most"
    )
    parser.add_argument(
        "--act-files",
        type=int,
        default=100_000,
        metavar="N",
        help="small files to back up, restore and delete beside peers at most",
    )
    parser.add_argument(
        "--large-mebibytes", type=int, default=256, metavar="MIB", help="of each of 8 large files"
    )
    return parser


def _options(asked: argparse.Namespace, scratch: Path, files: int) -> Options:
    return Options(
        scratch=scratch.absolute(),
        files=files,
        repeat=asked.repeat,
        hash_files=asked.hash_files,
        act_files=asked.act_files,
        large_mebibytes=asked.large_mebibytes,
        profile=asked.profile is not None,
    )


def _measure(asked: argparse.Namespace, scratch: Path) -> int:
    scratch.mkdir(parents=True, exist_ok=True)
    facts = machine(scratch.absolute())
    document = Document(asked.json, facts, resume=asked.resume)
    print(headline(facts), flush=True)
    rows: list[Row] = []
    for files in asked.files:
        options = _options(asked, scratch, files)
        found = _run(options, asked.only or list(BENCHMARKS), document)
        print(f"\n{files:,} files, {options.repeat} turns\n{table(found)}", flush=True)
        rows += found
    if (load := os.getloadavg()[0]) > 1.5 * facts["cores"]:
        print(
            f"\nLoad {load:.1f} on {facts['cores']} cores: what works in parallel looks slower than"
            " it is; compare the CPU times."
        )
    missed = [row for row in rows if row.verdict == "MISSED"]
    return int(bool(missed) and asked.strict)


def _run(options: Options, names: Sequence[str], document: Document) -> list[Row]:
    shape: dict[str, Any] = {
        "files": options.files,
        "repeat": options.repeat,
        "hash_files": min(options.files, options.hash_files),
        "act_files": min(options.files, options.act_files),
        "large_mebibytes": options.large_mebibytes,
    }
    rows: list[Row] = []
    with Lab(options) as lab:
        for number, name in enumerate(names, 1):
            found = document.kept(shape, name)
            if found is None:
                print(f"[{number}/{len(names)}] {name}", file=sys.stderr, flush=True)
                found = list(BENCHMARKS[name](lab))
                document.add(shape, name, found)
            rows += found
    return rows


def _profile(asked: argparse.Namespace, scratch: Path) -> int:
    for files in asked.files:
        options = _options(asked, scratch, files)
        options.repeat = 1
        with Lab(options) as lab, contextlib.suppress(StopIteration):
            next(iter(BENCHMARKS[asked.profile](lab)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
