"""What the parts of a verification share: the vault looked at, and what was found so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.vault.findings import Finding, Problem, VerifyReport
from lifecycle_sync.vault.format import QUARANTINE
from lifecycle_sync.vault.whole_places import Probe

if TYPE_CHECKING:
    from lifecycle_sync.vault.vault import Vault

# The place of the vault itself, beside those of its copies.
HERE = ""
BATCH = 500


class Examination:
    """One look at a vault. `round_ns` is when it began, `contents` whether every content is read;
    `bad` are files of which it was said already what is wrong."""

    def __init__(
        self,
        vault: Vault,
        *,
        contents: bool,
        round_ns: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        cancel: CancelToken | None = None,
    ) -> None:
        self.vault = vault
        self.storage = vault.storage
        self.contents = contents
        self.progress = progress
        self.cancel = cancel
        self.report = VerifyReport()
        self.round_ns = vault.now_ns() if round_ns is None else round_ns
        self.bad: set[str] = set()
        self.probe = Probe(vault, cancel)
        # The contents that versions hold and that count in what is condemned, once somebody asks.
        self.in_condemned: set[ContentKey] | None = None
        # Whether a version may name a content that was forgotten, so that nobody knows which file
        # had it: some manifest says so, or could not be asked.
        self.unsure = False
        # Condemned files, by their SHA-256, that had gone when this began, and of which nobody has
        # asked yet whether a version needs what was in there; whether one does.
        self.gone: set[bytes] = set()
        self.lacks = False
        self.set_aside = sorted(vault.storage.names(QUARANTINE))

    def found(
        self, problem: Problem, subject: str, detail: str, lost: tuple[ContentKey, ...] = ()
    ) -> None:
        """Set down one piece of damage."""
        self.report.findings.append(Finding(problem, subject, detail, lost))
        self.bad.add(subject)
        self.vault.index.note_checked(HERE, [subject], 0)

    def sound(self, name: str, size: int) -> None:
        """A file was read whole; it counts unless something was found."""
        if name not in self.bad:
            self.report.hashed += 1
            self.report.hashed_bytes += size
            self.vault.index.note_checked(HERE, [name], self.vault.now_ns())

    def is_quarantined(self, name: str) -> bool:
        """Whether a file that is missing was found damaged once, and dealt with."""
        return name.rpartition("/")[2] in self.set_aside

    def is_missed(self, name: str, lost: tuple[ContentKey, ...]) -> bool:
        """Whether it is damage that a pack or object is not there in which these contents are
        looked for. Where there are none, others have what it had, and it was set aside, or never
        came to this copy."""
        return bool(lost) or (self.unsure and not self.is_quarantined(name))

    def step(self, files: int, size: int) -> None:
        """So many files and bytes more were looked at. Raises `CancelledError`."""
        self.report.files += files
        self.report.bytes += size
        if self.cancel is not None:
            self.cancel.check()
        if self.progress is not None:
            self.progress(self.report.files, self.report.bytes)
