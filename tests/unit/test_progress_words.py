"""Whatever the service calls a phase of its work, the command has words for it."""

from __future__ import annotations

import re
from pathlib import Path

from lifecycle_sync.cli import acting, progress
from lifecycle_sync.model.plan import Verb

SERVICE = Path(progress.__file__).parents[1] / "service"
# Reports that join those of several acts; no work of their own is begun under these names.
JOINED = {"apply", "conflict"}


def named(pattern: str) -> set[str]:
    return {
        name
        for path in SERVICE.rglob("*.py")
        for name in re.findall(pattern, path.read_text(encoding="utf-8"))
    }


def test_every_phase_has_its_words():
    begun = named(r'\.begin\(\s*"([a-z ]+)"') | named(r'reported\(progress, "([a-z ]+)"')
    verbs = named(r'Report\(\s*"([a-z ]+)"') | {verb.value for verb in Verb}
    assert {"index", "hash", "restore", "copy", "mend"} <= begun
    assert {"backup", "purge", "recall"} <= verbs
    for name in begun | verbs - JOINED:
        assert name in vars(progress)["_DOING"], name
        assert name in vars(progress)["_DONE"], name


def test_every_report_has_its_words():
    for name in (named(r'Report\(\s*"([a-z ]+)"') | {verb.value for verb in Verb}) - {"recover"}:
        assert name in vars(acting)["_DONE"], name
