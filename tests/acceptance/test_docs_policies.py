"""The page on what will happen shows what happens."""

from __future__ import annotations

import os
import re
import shlex
import time
from pathlib import Path

from tests.support.command import lifecycle

PAGE = Path(__file__).parents[2] / "docs" / "what-will-happen.md"
DAY = 86_400


def made(uploads: Path, page: str) -> None:
    """The files of the table, as old as it says."""
    rows = re.findall(r"(?m)^\| `(\S+)` \| (\d+) days ago \|$", page)
    assert len(rows) == 6
    # As large as on the page.
    sizes = {"scan-03.pdf": 20_000, "2024.pdf": 12_000, "draft.txt": 10_000, "beach.jpg": 8_000}
    for name, days in rows:
        file = uploads / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * sizes.get(file.name, 16_000))
        at = time.time() - int(days) * DAY
        os.utime(file, (at, at))


def steady(text: str) -> str:
    """Without what differs from day to day and from machine to machine."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "WHEN", text)
    text = re.sub(r"in \d+\.\d+ s", "in TIME", text)
    return "\n".join(" ".join(line.split()) for line in text.strip().splitlines())


def orders(page: str) -> list[tuple[str, str | None]]:
    """Every command of the page in its order, and what it shows."""
    found = re.findall(r"(?ms)^```console\n\$ ([^\n]*)\n(.*?)^```$|^    (lifecycle [^\n]*)$", page)
    return [(shown or plain, None if plain else out) for shown, out, plain in found]


def test_the_page_on_what_will_happen_shows_what_happens(work: Path):
    page = PAGE.read_text(encoding="utf-8")
    made(work / "srv/uploads", page)
    Path("lifecycle.toml").write_text(
        f'backup_path = "{work}/vault"\narchive_path = "{work}/archive"\nmin_age_seconds = 0\n'
    )
    todo = orders(page)
    assert len(todo) > 15
    for line, shown in todo:
        words = shlex.split(line.replace("/srv/", f"{work}/srv/"))
        done = lifecycle(*words[1:])
        assert done.code == 0, (line, done)
        if shown is not None:
            # A terminal shows messages between results.
            said = steady((done.out + done.err).replace(str(work), ""))
            assert sorted(said.splitlines()) == sorted(steady(shown).splitlines()), line
    assert (work / "srv/uploads/incoming/scan-02.pdf").exists()
    assert (work / "srv/uploads/reports/2024.pdf").exists()
