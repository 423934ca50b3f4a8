"""The guards: named checks that stop what could lose files. Each verdict carries its evidence.

| guard     | holds                                  | because                                  |
|-----------|----------------------------------------|------------------------------------------|
| *root*    | everything in a root                   | it is not the folder that was registered |
| *listing* | the removal of records below a folder  | its listing failed                       |
| *shrink*  | vanished records, all acts of policies | too many vanished at once                |
| *young*   | what policies do to a file             | it may still be written                  |
| *mass*    | deletions by policy in a root          | they are too many for one day            |
| *clock*   | what policies take away, purging       | the clock was set                        |
| *hold*    | what takes a file away                 | a person said so                         |
| *suspect* | what policies do to a file             | its bytes rotted                         |
| *pause*   | what takes files away, orders too      | a person said so                         |
| *advice*  | what policies take away                | nobody let the root be enforced          |
| *breaker* | the rest of a run                      | too much of it failed                    |
| *empty    | files of jobs and applications, as     | who could say whose they are is down, or |
| source*   | orphans                                | has not a single row                     |

*listing* needs no numbers: a failed listing is recorded as such and what lies below it counts as
seen (`ScanStore.unseen_directories`). `GUARDED` says which guard stands against which verb.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from lifecycle_sync.model.repository import Marker, Repository, RootIdentity

# Both units of each line must be exceeded. Fractions are of the files known before.
SHRINK_LIMITS: tuple[tuple[float, int], ...] = ((0.20, 100), (0.50, 20))
SHRINK_ALL = 20
# Fewer are never too many.
SHRINK_LEAST = 20
# Deletions by policy in one day, as shares of the files of a root; as above.
MASS_LIMITS: tuple[tuple[float, int], ...] = ((0.10, 100), (0.50, 20))
# What is younger may still be written.
MIN_AGE_NS = 120 * 1_000_000_000
# A clock that stands further than this after the last heartbeat was set, or the machine was off.
CLOCK_AHEAD_NS = 7 * 86_400 * 1_000_000_000
_CLOCK_BACK_NS = 1_000_000_000
# Failures on one storage after which a run stops.
MAX_ERRORS = 10

_ALL = frozenset({"backup", "archive", "expire", "delete"})
_AWAY = _ALL - {"backup"}
GUARDED: dict[str, frozenset[str]] = {
    "root": _ALL,
    "shrink": _ALL,
    "young": _ALL,
    "claimed": _ALL,
    "unstable": _ALL,
    "suspect": _ALL,
    "hold": _AWAY,
    "pause": _AWAY,
    "clock": _AWAY,
    "advice": _AWAY,
    "atime": _AWAY,
    "mass": frozenset({"delete"}),
}


class Outcome(StrEnum):
    PASS = "pass"  # noqa: S105 - a verdict
    OFFLINE = "offline"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a guard says, and why."""

    guard: str
    outcome: Outcome
    reason: str = ""
    remedy: str = ""

    @property
    def passed(self) -> bool:
        return self.outcome is Outcome.PASS


def shrink(lost: int, known: int, accepted: int = 0) -> Verdict:
    """Judge the loss of `lost` of `known` files since the last scan.

    Held: over 20 % and over 100 files, or over half and over 20 files, or all of 20 and more,
    unless a person has accepted that many.
    """
    too_many = any(lost > share * known and lost > count for share, count in SHRINK_LIMITS)
    too_many = too_many or (lost == known and known >= SHRINK_ALL)
    if not too_many or lost <= accepted:
        return Verdict("shrink", Outcome.PASS)
    share = 100 * lost / known if known else 100.0
    return Verdict(
        "shrink",
        Outcome.HELD,
        f"{lost:,} of {known:,} files ({share:.0f} %) are gone since the last scan",
        "look at the folder; if they are meant to be gone, `lifecycle accept FOLDER`",
    )


def mass(planned: int, recent: int, known: int, confirmed: int = 0) -> Verdict:
    """Judge `planned` deletions by policy in a root of `known` files, in which `recent` ones were
    deleted in the last 24 hours.

    Held: together over 10 % and over 100 files, or over half and over 20 files, unless a person has
    confirmed that many. Files that went in that day count as known.
    """
    total = planned + recent
    before = known + recent
    too_many = any(total > share * before and total > count for share, count in MASS_LIMITS)
    if not planned or not too_many or total <= confirmed:
        return Verdict("mass", Outcome.PASS)
    share = 100 * total / before if before else 100.0
    already = f", {recent:,} of them in the last 24 hours" if recent else ""
    return Verdict(
        "mass",
        Outcome.HELD,
        f"{total:,} of {before:,} files ({share:.0f} %) would be deleted{already}",
        "look at `lifecycle plan`; if it is what you want, `lifecycle confirm`",
    )


def young(mtime_ns: int, ctime_ns: int, now_ns: int, min_age_ns: int = MIN_AGE_NS) -> str:
    """Why a file is too young for a policy to act on it; empty when it is old enough."""
    newest = max(mtime_ns, ctime_ns)
    if newest > now_ns:
        return "its time lies in the future"
    if now_ns - newest < min_age_ns:
        return f"it changed less than {min_age_ns // 1_000_000_000:,} s ago"
    return ""


def clock(now_ns: int, heartbeat_ns: int | None) -> Verdict:
    """Judge whether the clock is where the last heartbeat lets expect it: a retention must not end
    because somebody set the date."""
    if heartbeat_ns is None:
        return Verdict("clock", Outcome.PASS)
    away_ns = now_ns - heartbeat_ns
    if -_CLOCK_BACK_NS <= away_ns <= CLOCK_AHEAD_NS:
        return Verdict("clock", Outcome.PASS)
    days = abs(away_ns) / 86_400 / 1_000_000_000
    direction = "after" if away_ns > 0 else "before"
    return Verdict(
        "clock",
        Outcome.HELD,
        f"now is {days:,.1f} days {direction} the last run",
        "check the date; if it is right, `lifecycle confirm --guard clock`",
    )


def root(
    repository: Repository,
    *,
    present: bool,
    marker: Marker | None,
    identity: RootIdentity,
    registry_id: bytes,
) -> Verdict:
    """Judge whether the folder at a root's path is the one that was registered.

    `present` says that a directory is there at all; the rest is what was found in it.
    """
    if not present:
        return Verdict(
            "root",
            Outcome.OFFLINE,
            "the folder is not there",
            "mount it or put it back; `lifecycle remove` forgets it",
        )
    if repository.marker_in_root:
        verdict = _marker_verdict(repository, marker, registry_id)
        if not verdict.passed:
            return verdict
    changed = _changed(repository.identity, identity)
    if changed:
        return Verdict(
            "root",
            Outcome.HELD,
            f"its {' and '.join(changed)} changed since it was registered",
            "if this is the right folder (restored, moved to another disk), `lifecycle accept`",
        )
    return Verdict("root", Outcome.PASS)


def _marker_verdict(repository: Repository, marker: Marker | None, registry_id: bytes) -> Verdict:
    if marker is None:
        return Verdict(
            "root",
            Outcome.OFFLINE,
            "its marker (.lifecycle/root.json) is not there: unmounted, emptied or replaced",
            "mount it or put it back; if this folder is right as it is, `lifecycle accept`",
        )
    if marker.root_id != repository.repository_id:
        return Verdict(
            "root",
            Outcome.HELD,
            "it carries the marker of another root: swapped or copied over",
            "put the right folder back, or `lifecycle remove` this root and `add` the folder",
        )
    if marker.registry_id != registry_id:
        return Verdict(
            "root",
            Outcome.HELD,
            "its marker names another registry",
            "use that registry, or take it over with `lifecycle add --adopt`",
        )
    return Verdict("root", Outcome.PASS)


def _changed(known: RootIdentity, found: RootIdentity) -> list[str]:
    """What differs, in words; what is not known on both sides is not compared."""
    changed = []
    if known.filesystem_type and found.filesystem_type != known.filesystem_type:
        changed.append(f"filesystem type ({known.filesystem_type}, now {found.filesystem_type})")
    if known.filesystem_id and found.filesystem_id:
        # A UUID and an fsid are two names of one thing; across them nothing can be said.
        same_kind = known.filesystem_id.split(":")[0] == found.filesystem_id.split(":")[0]
        if same_kind and found.filesystem_id != known.filesystem_id:
            changed.append("filesystem")
    if known.stable_inodes and known.inode and found.inode != known.inode:
        changed.append("inode")
    return changed
