"""What the documentation shows works as it is shown."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from lifecycle_sync.cli.app import lifecycle
from tests.support.command import lifecycle as command

HOUSE = Path(__file__).parents[2]
PAGES = [
    HOUSE / "README.md",
    HOUSE / "bench" / "README.md",
    *sorted((HOUSE / "docs").rglob("*.md")),
]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def shown_commands() -> list[tuple[str, str]]:
    """(page, command line) of every `lifecycle ...` that stands on a line of its own."""
    found = []
    for page in PAGES:
        if page.name == "command.md":
            continue
        for line in page.read_text(encoding="utf-8").splitlines():
            shown = re.match(r"(?:    |\$ )?(lifecycle .*)", line)
            if shown:
                found.append((page.name, shown.group(1)))
    return found


def test_the_reference_of_the_command_is_its_help():
    path = HOUSE / "scripts" / "command_reference.py"
    spec = importlib.util.spec_from_file_location("command_reference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.TARGET.read_text(encoding="utf-8") == module.page(), (
        "the help has changed: python scripts/command_reference.py"
    )


@pytest.mark.parametrize(("page", "line"), shown_commands())
def test_a_command_line_in_the_docs_can_be_parsed(page, line):
    words = shlex.split(line, comments=True)[1:]
    if "|" in words:
        words = words[: words.index("|")]
    assert isinstance(lifecycle, click.Group)
    context = click.Context(lifecycle, info_name="lifecycle")
    found = lifecycle.get_command(context, words[0])
    assert found is not None, f"{page}: no command {words[0]}"
    parser = found.make_parser(click.Context(found, parent=context))
    parser.parse_args(list(words[1:]))


def test_there_are_command_lines_in_the_docs():
    assert len(shown_commands()) > 10


@pytest.mark.parametrize("code", blocks(HOUSE / "README.md", "python"))
def test_the_python_of_the_readme_runs(code, tmp_path):
    (tmp_path / "config.json").write_text('{"registry_sync_interval": 300}')
    (tmp_path / "storage").mkdir()
    (tmp_path / "storage" / "photo.jpg").write_bytes(b"jpeg")
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "report.pdf").write_bytes(b"%PDF-1.4")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    state, statistics = done.stdout.splitlines()
    assert state.split()[0] == "uploaded"
    assert len(state.split()[1]) == 64
    assert "'total_files': 2" in statistics


def test_the_orders_of_the_page_on_backups_do_what_they_say(work):
    photos = work / "photos"
    for name in ("2025/a.jpg", "2019/b.jpg", "notes.txt", "old.zip"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_text(name)
    assert command("run", photos, "--once", "-q").code == 0
    page = HOUSE / "docs/how-to/back-up-and-restore.md"
    lines = re.findall(r"(?m)^    lifecycle (.*)$", page.read_text(encoding="utf-8"))
    assert len(lines) > 15
    for line in lines:
        # Of the days that the page names this tree has no backups.
        here = re.sub(r"--at \S+", "--at 0s", line)
        words = shlex.split(here.replace("/srv", str(work)).replace("/mnt", str(work / "mnt")))
        if line == "restore /srv/photos/2025":
            shutil.rmtree(photos / "2025")
        done = command(*words)
        assert done.code == 0, (line, done)
        assert done.out or line.startswith(("undelete --list", "diff")), line
    assert (photos / "2025/a.jpg").read_text() == "2025/a.jpg"
    assert (photos / "2019/b.jpg").exists()
    assert (photos / "old.zip").exists()
    assert (photos / "notes (restored 1).txt").read_text() == "notes.txt"
    assert (work / "mnt/rescue/photos/2025/a.jpg").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_architecture_page_names_every_module():
    # "Every module can be described in one sentence, and is": a new one has to be.
    page = (HOUSE / "docs" / "architecture.md").read_text(encoding="utf-8")
    source = HOUSE / "src" / "lifecycle_sync"
    for room in ("model", "observe", "registry", "service", "decide", "report", "vault", "storage"):
        for module in (source / room).glob("[a-z]*.py"):
            stem = re.sub(r"_[a-z]+$", "", module.stem)
            named = module.name in page or f"{stem}*.py" in page
            assert named, f"{room}/{module.name} is not in docs/architecture.md"


def test_every_guarantee_names_tests_that_there_are():
    page = (HOUSE / "docs" / "guarantees.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page)
    assert len(named) > 20
    for file, test in named:
        source = (HOUSE / file).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in source, f"{file}::{test}"
