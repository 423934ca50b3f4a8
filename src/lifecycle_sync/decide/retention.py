"""Which versions of a file are kept, and why: the newest so many, the last of so many hours, days,
weeks, months and years, and what somebody holds.

A version is kept as soon as one rule asks for it. Periods are those of UTC, weeks begin on Monday
(ISO 8601), and only periods that have a version count: a file that was written twice in ten years
has two years, not ten. Nothing is ever a reason against a version, there are only reasons for one.

Keep rules of all policies whose match holds join those of the one that governs the file. Without
versioning the newest version is kept. What nobody follows any more, and what may have rotted, keeps
all that it has.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from lifecycle_sync.decide.choice import Rules
from lifecycle_sync.model.file import FileFlag, Tracking
from lifecycle_sync.model.plan import Beyond, KeptVersion, Subject, VersionMark
from lifecycle_sync.model.policy import KeepRules, LifecyclePolicy

# As a number: this is asked of each file.
_SUSPECT = FileFlag.SUSPECT.value
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_Period = tuple[int, ...]


class Timed(NamedTuple):
    """A version as far as keeping needs it: its id, and when it was kept, in nanoseconds since 1970
    UTC."""

    version_id: bytes
    kept_ns: int


class VersionVerdict(NamedTuple):
    """Whether a version is kept. `reasons` are all that speak for it; without one it may go."""

    version: Timed
    reasons: tuple[str, ...]

    @property
    def kept(self) -> bool:
        return bool(self.reasons)


def retained(
    versions: Sequence[Timed],
    policies: Sequence[LifecyclePolicy],
    *,
    pinned: Collection[bytes] = (),
    pinned_reason: str = "held",
) -> list[VersionVerdict]:
    """The verdict on each version of one file, the newest first.

    Of several policies each keeps what it keeps. `pinned` are ids that stay whatever the rules say.
    Where two versions were kept in the same nanosecond the greater id is the newer one.
    """
    newest_first = sorted(versions, key=lambda it: (it.kept_ns, it.version_id), reverse=True)
    reasons: list[list[str]] = [[] for _ in newest_first]
    for policy in policies:
        _first(reasons, _newest(policy), "version")
        if not policy.versioning_enabled:
            continue
        rules = policy.keep
        _first(reasons, rules.last, "last")
        for name, number, period_of in _periods(rules):
            _last_of_each(newest_first, reasons, name, number, period_of)
    for version, found in zip(newest_first, reasons, strict=True):
        if version.version_id in pinned:
            found.append(pinned_reason)
    return [
        VersionVerdict(version, tuple(dict.fromkeys(found)))
        for version, found in zip(newest_first, reasons, strict=True)
    ]


def of_file(
    file: Subject, versions: Sequence[KeptVersion], rules: Rules, at_ns: int
) -> list[VersionVerdict]:
    """The verdict on each version of a file, the newest first, by the rules that hold for it."""
    policies = [rules.choose(file, at_ns)]
    policies += [replace(other, max_versions=0) for other in rules.joining(file, at_ns)]
    pinned = ""
    if file.tracking != Tracking.TRACKED.value:
        pinned = "the file is not followed any more"
    elif file.flags & _SUSPECT:
        pinned = "the file may have rotted"
    return retained(
        [Timed(version.version_id, version.kept_ns) for version in versions],
        policies,
        pinned=[version.version_id for version in versions] if pinned else (),
        pinned_reason=pinned,
    )


def marks_of(
    file: Subject, versions: Sequence[KeptVersion], rules: Rules, now_ns: int
) -> Iterator[VersionMark]:
    """What is to be written back about the versions of a file: nothing where it is so already."""
    kept = {it.version.version_id: it.kept for it in of_file(file, versions, rules, now_ns)}
    for version in versions:
        if kept[version.version_id]:
            if version.beyond_ns is not None:
                yield VersionMark(file.file_id, version.version_id, None)
        elif version.beyond_ns is None:
            yield VersionMark(file.file_id, version.version_id, now_ns)


def beyond(
    file: Subject, versions: Sequence[KeptVersion], rules: Rules, at_ns: int, held: str | None
) -> Iterator[Beyond]:
    """The versions of a file that no rule keeps; `held` is the reason of a hold on the file."""
    by_id = {version.version_id: version for version in versions}
    policy = rules.choose(file, at_ns)
    for newer, verdict in enumerate(of_file(file, versions, rules, at_ns)):
        if not verdict.kept:
            version = by_id[verdict.version.version_id]
            yield Beyond(
                file_id=file.file_id,
                repository_id=file.repository_id,
                path=file.path,
                version_id=version.version_id,
                number=version.number,
                kept_ns=version.kept_ns,
                size=version.size,
                policy_name=policy.name,
                reason=why_beyond(policy, newer),
                guard="" if held is None else "hold",
                waits="" if held is None else held or "no reason given",
            )


def why_beyond(policy: LifecyclePolicy, newer: int) -> str:
    """Why no rule keeps a version that has so many newer ones."""
    number = _newest(policy)
    kept = "1 version is kept" if number == 1 else f"{number:,} versions are kept"
    rules = ", and no keep rule asks for it" if policy.keep != KeepRules() else ""
    return f"{kept} and {newer:,} {'is' if newer == 1 else 'are'} newer{rules}"


def _newest(policy: LifecyclePolicy) -> int:
    """How many versions are kept whatever their age."""
    return policy.max_versions if policy.versioning_enabled else min(policy.max_versions, 1)


def prunable(verdicts: Sequence[VersionVerdict]) -> list[bytes]:
    """The ids of the versions that no rule keeps."""
    return [it.version.version_id for it in verdicts if not it.kept]


def _periods(rules: KeepRules) -> list[tuple[str, int, Callable[[datetime], _Period]]]:
    return [
        ("hourly", rules.hourly, lambda it: (it.year, it.month, it.day, it.hour)),
        ("daily", rules.daily, lambda it: (it.year, it.month, it.day)),
        ("weekly", rules.weekly, lambda it: it.isocalendar()[:2]),
        ("monthly", rules.monthly, lambda it: (it.year, it.month)),
        ("yearly", rules.yearly, lambda it: (it.year,)),
    ]


def _first(reasons: Sequence[list[str]], number: int, name: str) -> None:
    for place, found in enumerate(reasons[:number], 1):
        found.append(f"{name} {place} of {number}")


def _last_of_each(
    newest_first: Sequence[Timed],
    reasons: Sequence[list[str]],
    name: str,
    number: int,
    period_of: Callable[[datetime], _Period],
) -> None:
    count = 0
    before: _Period | None = None
    for version, found in zip(newest_first, reasons, strict=True):
        if count == number:
            return
        period = period_of(_moment(version.kept_ns))
        if period != before:
            count += 1
            before = period
            found.append(f"{name} {count} of {number}")


def _moment(at_ns: int) -> datetime:
    """A time as a date; what no calendar reaches is at its end."""
    try:
        return _EPOCH + timedelta(microseconds=at_ns // 1_000)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC) if at_ns > 0 else datetime.min.replace(tzinfo=UTC)
