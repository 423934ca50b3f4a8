"""The summary of a root as a sheet, and a pass in one line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from lifecycle_sync.cli.output import on_terminal
from lifecycle_sync.cli.sheet import Block, Heading, Notes, Styled, Table, Text
from lifecycle_sync.cli.words import (
    count_text,
    duration_text,
    size_text,
    time_text,
    unprotected_lines,
)
from lifecycle_sync.service.api import (
    NS_PER_SECOND,
    FileRecord,
    LifecycleState,
    RepositoryStatus,
    Verdict,
    utf8_text,
)

if TYPE_CHECKING:
    from lifecycle_sync.service.api import Sample, Summary
    from lifecycle_sync.service.outcome import PassOutcome

_BAR_WIDTH = 20
_EXAMPLES_SHOWN = 10
_SIGNS = {"added": "+", "updated": "~", "moved": "→", "removed": "-"}


def summary_sheet(
    outcome: PassOutcome, summary: Summary, why: Callable[[FileRecord], str]
) -> list[Block]:
    """All there is to say after a pass; `why` tells why a file cannot be read."""
    blocks: list[Block] = [Heading(utf8_text(summary.repository.path), _standing(outcome))]
    blocks.append(Notes("", list(_overview(outcome, summary))))
    blocks += _guard(outcome)
    if not outcome.report.scanned:
        # What the registry has of the root is older than this moment, and `status` shows it.
        return blocks
    if summary.counts:
        blocks.append(_types(summary, bars=on_terminal()))
    if summary.largest:
        blocks.append(_largest(summary))
    blocks += _changes(summary)
    blocks += _worries(outcome, summary, why)
    blocks += _duplicates(summary)
    return blocks


def _standing(outcome: PassOutcome) -> Text:
    report = outcome.report
    if report.verdict is not None:
        return Styled(report.verdict.outcome.value, "bad")
    if not report.scanned:
        return Styled("not synchronised", "bad")
    return "first index" if outcome.first else ("changed" if outcome.changed else "unchanged")


def _overview(outcome: PassOutcome, summary: Summary) -> Iterator[Text]:
    totals, report = summary.totals, outcome.report
    when = "" if report.scanned else " when it was last looked at"
    yield Styled(
        f"{count_text(totals.files, 'file')} in {count_text(totals.directories, 'folder')},"
        f" {size_text(totals.bytes)}{when}",
        "strong",
    )
    run = report.run
    if run is not None and run.ended_ns is not None and report.scanned:
        seconds = (run.ended_ns - run.started_ns) / NS_PER_SECOND
        known = report.counts.unchanged_directories
        again = f", {count_text(known, 'folder')} unchanged" if known else ""
        verb = "indexed" if outcome.first else "looked at"
        rate = _rate(run.files_scanned, seconds)
        yield Styled(f"{verb} in {duration_text(seconds)}{rate}{again}", "dim")
    if report.hashes.hashed:
        seconds = report.hash_seconds
        rate = f" ({size_text(int(report.hash_bytes / seconds))}/s)" if seconds > 0.05 else ""
        yield Styled(
            f"hashed {count_text(report.hashes.hashed, 'file')}, {size_text(report.hash_bytes)}"
            f" in {duration_text(seconds)}{rate}",
            "dim",
        )
    if summary.due_files:
        yield Styled(
            f"{count_text(summary.due_files, 'file')} ({size_text(summary.due_bytes)})"
            " still to be hashed",
            "warn",
        )


def _rate(files: int, seconds: float) -> str:
    return f" ({files / seconds:,.0f} files/s)" if seconds > 0.05 else ""


def _guard(outcome: PassOutcome) -> Iterator[Block]:
    verdict, error = outcome.report.verdict, outcome.report.error
    if verdict is not None:
        lines: list[Text] = [verdict.reason]
        if outcome.report.scanned:
            lines.append("their records are kept")
        lines.append(f"Remedy: {verdict.remedy}")
        yield Notes(Styled(_verdict_words(verdict).capitalize(), "bad"), lines)
    if error is not None:
        lines = [": ".join(part for part in (error.operation, error.subject, error.cause) if part)]
        if error.remedy:
            lines.append(f"Remedy: {error.remedy}")
        yield Notes(Styled("Failed", "bad"), lines)


def _verdict_words(verdict: Verdict) -> str:
    offline = verdict.outcome.value == RepositoryStatus.OFFLINE.value
    return "offline" if offline else f"held by the guard {verdict.guard}"


def _types(summary: Summary, *, bars: bool) -> Table:
    counts = sorted(
        summary.counts,
        key=lambda count: (count.state is LifecycleState.DELETED, count.state, -count.bytes),
    )
    live = sum(count.bytes for count in counts if count.state is not LifecycleState.DELETED)
    rows: list[list[Text]] = []
    for count in counts:
        gone = count.state is LifecycleState.DELETED
        share = count.bytes / live if live and not gone else 0.0
        rows.append(
            [
                count.state.value,
                count.file_type.value,
                f"{count.files:,}",
                size_text(count.bytes),
                "" if gone else _percent(share),
            ]
        )
        if bars:
            rows[-1].append(Styled(_bar(share), "bar"))
    headers = ("state", "type", "files", "size", "", "")[: 6 if bars else 5]
    return Table("By state and type", rows, headers, frozenset({2, 3, 4}))


def _percent(share: float) -> str:
    return "<1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def _bar(share: float) -> str:
    eighths = round(share * _BAR_WIDTH * 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _largest(summary: Summary) -> Table:
    rows = [
        [size_text(record.size), time_text(record.mtime_ns), utf8_text(record.path)]
        for record in summary.largest
    ]
    return Table("Largest", rows, right=frozenset({0}))


def _changes(summary: Summary) -> Iterator[Block]:
    changes = summary.changes
    if changes is None:
        return
    if not changes and not summary.missing:
        yield Notes("Changed since last time", [Styled("nothing", "good")])
        return
    parts = [f"{count:,} {verb.value}" for verb, count in changes.counts.items() if count]
    if summary.missing:
        parts.append(f"{summary.missing:,} not found, and kept")
    said = ", ".join(parts)
    rows: list[list[Text]] = []
    # A few of each kind rather than ten of the first.
    share = max(_EXAMPLES_SHOWN // max(sum(1 for n in changes.counts.values() if n), 1), 1)
    shown: dict[str, int] = {}
    for change in changes.examples:
        verb = change.verb.value
        shown[verb] = shown.get(verb, 0) + 1
        if shown[verb] <= share:
            path = utf8_text(change.record.path)
            rows.append([_SIGNS[verb], f"{change.before} → {path}" if change.before else path])
    left = sum(changes.counts.values()) - len(rows)
    if left > 0 and rows:
        rows.append(["", Styled(f"and {left:,} more", "dim")])
    yield Table(f"Changed since last time: {said}", rows)


def _worries(
    outcome: PassOutcome, summary: Summary, why: Callable[[FileRecord], str]
) -> Iterator[Block]:
    """What is not, or may not be, protected."""
    totals = summary.totals
    if outcome.failed_folders:
        yield _paths(
            f"Unreadable: {count_text(len(outcome.failed_folders), 'folder')}",
            [(path or b".", reason.lower()) for path, reason in outcome.failed_folders],
            len(outcome.failed_folders),
        )
    for sample, title in (
        (summary.unreadable, "Unreadable"),
        (summary.suspect, "Suspect, their content changed by itself"),
        (summary.unstable, "Changed while they were read"),
    ):
        if sample.count:
            reason = why if sample is summary.unreadable else _no_reason
            yield _sample(title, sample, reason)
    mounts = [path for path, _reason in outcome.mount_points]
    lines: list[Text] = [*unprotected_lines(totals.ignored, totals.special, mounts)]
    if lines:
        yield Notes("Not in the registry, and so unprotected", lines)


def _no_reason(_record: FileRecord) -> str:
    return ""


def _sample(title: str, sample: Sample, why: Callable[[FileRecord], str]) -> Table:
    found = [(record.path, why(record)) for record in sample.records[:_EXAMPLES_SHOWN]]
    return _paths(f"{title}: {count_text(sample.count, 'file')}", found, sample.count)


def _paths(title: str, found: Sequence[tuple[bytes, str]], count: int) -> Table:
    shown = found[:_EXAMPLES_SHOWN]
    rows: list[list[Text]] = [
        [utf8_text(path) + (f"  ({reason})" if reason else "")] for path, reason in shown
    ]
    if count > len(shown):
        rows.append([Styled(f"and {count - len(shown):,} more", "dim")])
    return Table(Styled(title, "warn"), rows)


def _duplicates(summary: Summary) -> Iterator[Block]:
    sums = summary.duplicates
    if not sums.groups:
        return
    least = "" if sums.complete else "at least "
    rows: list[list[Text]] = []
    for group in sums.top:
        names = ", ".join(utf8_text(record.path) for record in group.records[:2])
        more = len(group.records) - 2
        rest = f" and {more:,} more" if more > 0 else ""
        rows.append([f"{len(group.records)} ×", size_text(group.size), names + rest])
    yield Table(
        f"Duplicates: {least}{count_text(sums.groups, 'group')},"
        f" {size_text(sums.wasted)} could be spared",
        rows,
        right=frozenset({0, 1}),
    )


# -- one line ------------------------------------------------------------------------------


def pass_line(outcome: PassOutcome) -> str:
    """A pass over a root in one line, its guard or error included."""
    report = outcome.report
    parts = []
    run = report.run
    if run is not None and report.scanned:
        seen = report.counts if report.below else outcome.totals
        parts.append(f"{count_text(seen.files, 'file')}, {size_text(seen.bytes)}")
        found = [
            f"{count:,} {word}"
            for count, word in (
                (run.files_added, "added"),
                (run.files_updated - report.moved, "updated"),
                (report.moved, "moved"),
                (run.files_removed, "removed"),
            )
            if count > 0
        ]
        parts.append(", ".join(found) or "unchanged")
    if report.hashes.hashed:
        parts.append(f"{report.hashes.hashed:,} hashed")
    if trouble := trouble_of(outcome):
        parts.append(trouble)
    path = os.path.join(report.repository.path, report.below).removesuffix(b"/")
    return f"{utf8_text(path)}: {'; '.join(parts)}"


def trouble_of(outcome: PassOutcome) -> str:
    """What of a pass wants a person's attention, in words; empty when nothing does."""
    report = outcome.report
    parts = [
        f"{count_text(count, noun)} {word}"
        for count, noun, word in (
            (len(outcome.failed_folders), "folder", "unreadable"),
            (report.hashes.failed, "file", "unreadable"),
            (report.hashes.suspect, "file", "suspect (see `lifecycle find --suspect`)"),
        )
        if count
    ]
    if report.verdict is not None:
        verdict = report.verdict
        parts.append(
            f"{_verdict_words(verdict).upper()}: {verdict.reason} (remedy: {verdict.remedy})"
        )
    if report.error is not None:
        remedy = f" (remedy: {report.error.remedy})" if report.error.remedy else ""
        parts.append(f"FAILED: {report.error.cause}{remedy}")
    return "; ".join(parts)
