"""What an order that changes files came to: sums, and some of the files by name."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from lifecycle_sync.act.site import COMPLETED, FAILED, SKIPPED, Done

# How the registry begins what it says of a file that is held.
HELD = "held:"
# Why a file is left as it is when that is what was wanted.
THERE, THE_SAME, ARCHIVED_ALREADY, GONE_ALREADY, NOT_ARCHIVED, DONE_ALREADY = (
    "something is there already",
    "the same is there already",
    "is archived already",
    "is gone already",
    "is not archived",
    "is done already",
)
SPARED = {
    THERE: "there already",
    THE_SAME: "the same already",
    ARCHIVED_ALREADY: "archived already",
    GONE_ALREADY: "gone already",
    NOT_ARCHIVED: "not archived",
    DONE_ALREADY: "done already",
}
# How many files a report names.
SAMPLE = 1000


@dataclass
class Report:
    """What an order came to. `done` has what was not completed, `sample` what was; each at most
    `SAMPLE` files, the journal has all. Of the skipped, `held` were by a hold, and `spared` need
    nothing to be done. `seconds` it took."""

    verb: str
    completed: int = 0
    unchanged: int = 0
    skipped: int = 0
    failed: int = 0
    held: int = 0
    spared: int = 0
    size: int = 0
    done: list[Done] = field(default_factory=list)
    sample: list[Done] = field(default_factory=list)
    recovered: int = 0
    seconds: float = 0.0
    # Of a report that joins others: how many files were completed by which act.
    by_verb: dict[str, int] = field(default_factory=dict)
    # Of how many files the content was read from which copy of the vault.
    from_copies: Counter[str] = field(default_factory=Counter)

    def add(self, done: Iterable[Done]) -> None:
        for item in done:
            if item.status == COMPLETED:
                self.completed += 1
                if item.reason and item.reason.startswith("unchanged"):
                    self.unchanged += 1
                else:
                    self.size += item.size
                if len(self.sample) < SAMPLE:
                    self.sample.append(item)
                continue
            self.failed += item.status == FAILED
            self.skipped += item.status == SKIPPED
            self.held += item.reason.startswith(HELD)
            self.spared += item.reason in SPARED
            if len(self.done) < SAMPLE:
                self.done.append(item)

    def note_copy(self, copy: str) -> None:
        """Count a file of which a copy gave the content; empty, where the vault gave it."""
        if copy:
            self.from_copies[copy] += 1

    def join(self, other: Report) -> None:
        """Add what another order came to."""
        self.from_copies.update(other.from_copies)
        count = other.completed - other.unchanged
        for verb, of_it in (other.by_verb or ({other.verb: count} if count else {})).items():
            self.by_verb[verb] = self.by_verb.get(verb, 0) + of_it
        for name in ("completed", "unchanged", "skipped", "failed", "held", "spared", "size"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.done = (self.done + other.done)[:SAMPLE]
        self.sample = (self.sample + other.sample)[:SAMPLE]
        self.recovered += other.recovered
        self.seconds += other.seconds

    def counts(self) -> str:
        return json.dumps(
            {
                "completed": self.completed,
                "unchanged": self.unchanged,
                "skipped": self.skipped,
                "failed": self.failed,
                "bytes": self.size,
            }
        )
