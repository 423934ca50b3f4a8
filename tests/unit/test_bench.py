"""The benchmarks run, check what they measure, leave only their trees, and go on when told to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import keepers, trees
from bench.lab import Lab, Options
from bench.measure import PROJECT, FailedError, Sample, percentile
from bench.report import table
from bench.row import Row
from bench.rows import BENCHMARKS
from bench.sameness import check_copy

FILES = 120
SMALL = ["--files", str(FILES), "--repeat", "1", "--large-mebibytes", "1"]


def bench(scratch: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", "--scratch", str(scratch), *SMALL, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=PROJECT,
        timeout=300,
        # What is measured here means nothing, so the disk need not be at rest.
        env=os.environ | {"BENCH_REST_SECONDS": "0"},
    )


def names_below(folder: Path) -> list[str]:
    return sorted(os.path.relpath(path, folder) for path in folder.rglob("*"))


@pytest.mark.slow
def test_every_benchmark_measures_a_tiny_tree_and_leaves_only_the_trees(tmp_path):
    report = tmp_path / "report.json"

    done = bench(tmp_path / "scratch", "--json", str(report))

    assert done.returncode == 0, done.stderr
    document = json.loads(report.read_text())
    (run,) = document["runs"]
    assert list(run["benchmarks"]) == list(BENCHMARKS)
    assert all(rows for rows in run["benchmarks"].values())
    values = {row["title"]: row["value"] for row in run["benchmarks"]["check"]}
    assert values["  rows of the table of files read or written"] == 0
    assert {"cores", "kernel", "filesystem", "python", "sqlite"} <= set(document["machine"])
    left = sorted(path.name for path in (tmp_path / "scratch").iterdir())
    # Of as many versions there are half as many files.
    trees = ["large-8x1", "small-120", "small-60"]
    assert left == sorted(f"{tree}{end}" for tree in trees for end in ("", ".json"))
    assert not (tmp_path / "scratch/small-120/.lifecycle").exists()

    again = bench(tmp_path / "scratch", "--json", str(report), "--resume")

    assert again.returncode == 0, again.stderr
    assert "[1/" not in again.stderr, "a benchmark that was finished ran again"
    assert _measured(again.stdout) == _measured(done.stdout)


def _measured(shown: str) -> list[str]:
    """Without what the machine is like just now."""
    return [line for line in shown.splitlines()[3:] if not line.startswith("Load ")]


def test_a_profile_names_the_functions_of_both_threads(tmp_path):
    done = bench(tmp_path / "scratch", "--profile", "index")

    assert done.returncode == 0, done.stderr
    assert "== thread main, by tottime" in done.stdout
    assert any(it in done.stdout for it in ("listing.py", "walker.py", "scan.py"))


def test_a_tree_that_lost_a_file_is_not_measured(tmp_path):
    trees.small_files(tmp_path, FILES)
    next((tmp_path / "small-120").rglob("file_*")).unlink()

    done = bench(tmp_path, "--only", "walk")

    assert done.returncode == 1
    assert "119 files" in done.stderr


def test_a_tree_whose_making_was_cut_off_ends_the_same(tmp_path, monkeypatch):
    whole = trees.small_files(tmp_path / "whole", FILES)
    fill = trees._fill

    def cut_off(tree, number, *rest):
        if number == 1:
            raise KeyboardInterrupt
        return fill(tree, number, *rest)

    monkeypatch.setattr(trees, "_fill", cut_off)
    with pytest.raises(KeyboardInterrupt):
        trees.small_files(tmp_path / "cut", FILES)
    monkeypatch.undo()
    made = trees.small_files(tmp_path / "cut", FILES)

    assert (made.files, made.bytes) == (whole.files, whole.bytes)
    assert names_below(made.path) == names_below(whole.path)
    for path in whole.path.rglob("file_*"):
        twin = made.path / path.relative_to(whole.path)
        assert twin.read_bytes() == path.read_bytes()
        assert twin.stat().st_mtime_ns == path.stat().st_mtime_ns
    assert sum(path.stat().st_size for path in whole.path.rglob("file_*")) == whole.bytes


def test_large_files_have_no_part_in_common(tmp_path):
    made = trees.large_files(tmp_path, 2, 2)

    parts = [
        path.read_bytes()[start : start + 4096]
        for path in sorted(made.path.iterdir())
        for start in range(0, 2 << 20, 4096)
    ]
    assert len(set(parts)) == len(parts) == 1024


@pytest.mark.parametrize("fault", ["missing", "another size", "another time", "other bytes"])
def test_a_copy_that_is_none_is_no_result(tmp_path, fault):
    made = trees.small_files(tmp_path, FILES)
    copy = tmp_path / "copy"
    shutil.copytree(made.path, copy)
    check_copy(made.path, copy, FILES)
    victim = next(copy.rglob("file_*"))
    before = victim.stat()
    if fault == "missing":
        victim.unlink()
    else:
        content = victim.read_bytes()
        victim.write_bytes(content[:-1] if fault == "another size" else content[::-1])
        later = before.st_mtime_ns + (fault == "another time")
        os.utime(victim, ns=(later, later))

    with pytest.raises(FailedError):
        check_copy(made.path, copy, FILES)


def test_a_vault_that_lacks_a_file_is_not_measured(tmp_path):
    with Lab(Options(tmp_path, FILES)) as lab:
        ours = keepers.of(lab.files(), keepers.Ours)
        ours.fresh()
        victim = next(lab.files().tree.path.rglob("file_*"))
        content = victim.read_bytes()
        victim.unlink()

        with pytest.raises(FailedError, match="backup ended with 1"):
            ours.back_up()

        victim.write_bytes(content)


def test_a_restore_with_other_bytes_is_not_measured(tmp_path):
    class Liar(keepers.Ours):
        def _restore(self, target: Path) -> tuple[Sample, Path]:
            sample, copy = super()._restore(target)
            for path in copy.rglob("file_*"):
                times = path.stat()
                path.write_bytes(path.read_bytes()[::-1])
                os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            return sample, copy

    with Lab(Options(tmp_path, FILES)) as lab:
        liar = Liar(lab.files())

        with pytest.raises(FailedError, match="other bytes"):
            liar.restore()

        assert liar.restores == []


def test_a_percentile_is_the_nearest_rank():
    values = [float(value) for value in range(1, 101)]

    assert (percentile(values, 0.5), percentile(values, 0.95)) == (50, 95)
    assert percentile([3.0], 0.95) == 3


def test_a_row_is_judged_by_its_budget():
    assert Row("x", "x", 4.0, "×", 4.0).verdict == "ok"
    assert Row("x", "x", 4.1, "×", 4.0).verdict == "MISSED"
    assert Row("x", "x", 0.9, "×", 0.95, at_most=False).verdict == "MISSED"
    assert Row("x", "x", None, "×", 4.0).verdict == "not measured"
    assert Row("x", "x", 4.1, "×").verdict == ""
    assert "≤ 4" in table([Row("x", "a title", 4.1, "×", 4.0)])
