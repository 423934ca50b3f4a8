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
from operator import attrgetter
from typing import NamedTuple, Protocol

from lifecycle_sync.decide.choice import Rules
from lifecycle_sync.model.file import FileFlag, FileType, Tracking
from lifecycle_sync.model.plan import Beyond, KeptVersion, MarkedFile, Subject, VersionMark
from lifecycle_sync.model.policy import KeepRules, LifecyclePolicy

# As a number: this is asked of each file.
_SUSPECT = FileFlag.SUSPECT.value
_TRACKED = Tracking.TRACKED.value
_NO_RULES = KeepRules()
_age = attrgetter("kept_ns", "version_id")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_Period = tuple[int, ...]


class Versioned(Protocol):
    """A version as far as keeping needs it: see `Timed`."""

    @property
    def version_id(self) -> bytes: ...

    @property
    def kept_ns(self) -> int: ...


class Timed(NamedTuple):
    """A version as far as keeping needs it: its id, and when it was kept, in nanoseconds since 1970
    UTC."""

    version_id: bytes
    kept_ns: int


class VersionVerdict(NamedTuple):
    """Whether a version is kept. `reasons` are all that speak for it; without one it may go."""

    version: Versioned
    reasons: tuple[str, ...]

    @property
    def kept(self) -> bool:
        return bool(self.reasons)


def retained(
    versions: Sequence[Versioned],
    policies: Sequence[LifecyclePolicy],
    *,
    pinned: Collection[bytes] = (),
    pinned_reason: str = "held",
) -> list[VersionVerdict]:
    """The verdict on each version of one file, the newest first.

    Of several policies each keeps what it keeps. `pinned` are ids that stay whatever the rules say.
    Where two versions were kept in the same nanosecond the greater id is the newer one.
    """
    newest_first = sorted(versions, key=_age, reverse=True)
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
    pinned = _pinned(file)
    return retained(
        versions,
        [rules.choose(file, at_ns), *_joining(file, rules, at_ns)],
        pinned=[version.version_id for version in versions] if pinned else (),
        pinned_reason=pinned,
    )


def unkept(
    file: Subject, versions: Sequence[KeptVersion], rules: Rules, at_ns: int
) -> tuple[LifecyclePolicy, list[tuple[int, KeptVersion]]]:
    """The policy that governs a file, and of its versions those that no rule keeps, the newest
    first, each with how many are newer: what `of_file` comes to, without its reasons."""
    policy = rules.choose(file, at_ns)
    if _pinned(file):
        return policy, []
    joining = _joining(file, rules, at_ns)
    newest_first = sorted(versions, key=_age, reverse=True)
    if joining or (policy.versioning_enabled and policy.keep != _NO_RULES):
        kept = [it.kept for it in retained(versions, [policy, *joining])]
        return policy, [it for it in enumerate(newest_first) if not kept[it[0]]]
    # Nearly every file: so many are kept, and the others are not.
    number = _newest(policy)
    return policy, list(enumerate(newest_first[number:], number))


def newest_alone(
    rules: Rules, file_type: FileType, explicit: str | None
) -> tuple[LifecyclePolicy, int] | None:
    """The policy that governs every such file (see `Rules.regardless`) and how many versions it
    keeps, where those are the newest and no others."""
    policy = rules.regardless(file_type, explicit)
    if policy is None or (policy.versioning_enabled and policy.keep != _NO_RULES):
        return None
    return policy, _newest(policy)


def all_alike(
    rules: Rules,
) -> Iterator[tuple[FileType, str | None, LifecyclePolicy, int]]:
    """Every kind of file of which `newest_alone` knows what is kept: its type, the policy that was
    chosen for it, and what `newest_alone` says."""
    for file_type in FileType:
        for explicit in (None, *(policy.name for policy in rules.policies)):
            found = newest_alone(rules, file_type, explicit)
            if found is not None:
                yield file_type, explicit, *found


def as_marked(file: MarkedFile, number: int) -> bool:
    """Whether the versions that are not marked are the newest so many: then those that are marked
    are what such a rule does not keep. Where two are of one time the ids would have to tell."""
    return file.kept == number and (
        file.kept_since_ns is None or file.kept_since_ns > file.newest_ns
    )


def _pinned(file: Subject) -> str:
    """Why all versions of a file stay, whatever the rules say; empty where they do not."""
    if file.tracking != _TRACKED:
        return "the file is not followed any more"
    return "the file may have rotted" if file.flags & _SUSPECT else ""


def _joining(file: Subject, rules: Rules, at_ns: int) -> list[LifecyclePolicy]:
    """The policies whose keep rules join those of the one that governs a file."""
    return [replace(other, max_versions=0) for other in rules.joining(file, at_ns)]


def marks_of(
    file: Subject, versions: Sequence[KeptVersion], rules: Rules, now_ns: int
) -> Iterator[VersionMark]:
    """What is to be written back about the versions of a file: nothing where it is so already."""
    _policy, found = unkept(file, versions, rules, now_ns)
    going = {version.version_id for _newer, version in found}
    for version in versions:
        if version.version_id not in going:
            if version.beyond_ns is not None:
                yield VersionMark(file.file_id, version.version_id, None)
        elif version.beyond_ns is None:
            yield VersionMark(file.file_id, version.version_id, now_ns)


def beyond(
    file: Subject, versions: Sequence[KeptVersion], rules: Rules, at_ns: int, held: str | None
) -> Iterator[Beyond]:
    """The versions of a file that no rule keeps; `held` is the reason of a hold on the file."""
    policy, found = unkept(file, versions, rules, at_ns)
    for newer, version in found:
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
    rules = ", and no keep rule asks for it" if policy.keep != _NO_RULES else ""
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
    newest_first: Sequence[Versioned],
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
