"""The Python of the pages on temporary files and uploads runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
BLOCKS = [
    (page, number, code)
    for page in ("temporary-files-of-a-pipeline", "temporary-files-of-jobs", "clean-up-uploads")
    for number, code in enumerate(
        re.findall(r"```python\n(.*?)```", (PAGES / f"{page}.md").read_text("utf-8"), re.DOTALL)
    )
]


@pytest.mark.parametrize(
    "code", [code for _, _, code in BLOCKS], ids=[f"{page}-{number}" for page, number, _ in BLOCKS]
)
def test_the_python_of_a_page_runs(code, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "TEMP_STORAGE_CLEANUP_MIN_FREE_SPACE_GB": "0"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_there_are_such_pages():
    assert len(BLOCKS) >= 7
