"""The machine under examination: Python, SQLite, limits of the system, the clock."""

from __future__ import annotations

import platform
import resource

from lifecycle_sync.clock import NS_PER_DAY, NS_PER_SECOND, to_iso
from lifecycle_sync.observe.native_walker import unavailable
from lifecycle_sync.registry.sqlite import SqliteRegistry, library_version
from lifecycle_sync.service.doctor_findings import Finding, age_text, fault, fine, warning

# Up to here two writers can corrupt a database in WAL mode (https://www.sqlite.org/wal.html).
SQLITE_BROKEN_MAX = (3, 51, 2)
# The walker keeps up to 128 directories open, the hasher and the registry some files.
OPEN_FILES_MIN = 256
# No clock of a running machine can be before this program was written: 2025-01-01.
_EARLIEST_NS = 1_735_689_600 * NS_PER_SECOND
_LONG_DAYS = 7
_WATCHES = "/proc/sys/fs/inotify/max_user_watches"


def examine_machine(
    registry: SqliteRegistry | None, now_ns: int, walker: str = "auto"
) -> list[Finding]:
    """All of it; `registry` is None where there is none that can be read, `walker` as the settings
    have it."""
    directories = registry.directory_totals(None).directories if registry is not None else 0
    runs = registry.runs(None, 1) if registry is not None else []
    last_ns = max((run.ended_ns or run.started_ns for run in runs), default=None)
    return [
        fine("machine.python", platform.python_implementation(), platform.python_version()),
        judge_sqlite(library_version()),
        judge_walker(walker, unavailable()),
        judge_watches(_watch_limit(), directories),
        judge_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        judge_clock(now_ns, last_ns),
    ]


def judge_sqlite(version: tuple[int, ...]) -> Finding:
    """Whether a version of SQLite may hold a registry."""
    text = ".".join(map(str, version))
    if version <= SQLITE_BROKEN_MAX:
        return fault(
            "machine.sqlite",
            "SQLite",
            f"{text} can corrupt a database that has two writers",
            "pip install --upgrade apsw, which brings a newer one",
        )
    return fine("machine.sqlite", "SQLite", text)


def judge_walker(walker: str, cause: str | None) -> Finding:
    """Which walker lists folders; `cause` is why the native one cannot be used."""
    check, subject = "machine.walker", "walker"
    if walker == "python":
        return fine(check, subject, "in Python, as it is set")
    if cause is None:
        return fine(check, subject, "native")
    if walker == "native":
        return fault(
            check,
            subject,
            f"the native walker is set and cannot be used: {cause}",
            "install again where there is a C compiler, or set walker to auto",
        )
    return fine(check, subject, f"in Python; the native one is {cause}")


def judge_watches(limit: int | None, directories: int) -> Finding:
    """`limit` is how many directories one user may watch, None where the system cannot say."""
    check, subject = "machine.inotify", "fs.inotify.max_user_watches"
    if limit is None:
        return fine(check, subject, "not on this system; folders are polled")
    message = f"{limit:,} watches for {directories:,} folders"
    if limit < directories:
        return warning(
            check,
            subject,
            f"{message}: the others are polled",
            f"sysctl {subject}={2 * directories} (and in /etc/sysctl.d to keep it)",
        )
    return fine(check, subject, message)


def _watch_limit() -> int | None:
    try:
        with open(_WATCHES, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def judge_open_files(limit: int) -> Finding:
    """`limit` is how many descriptors a process may have."""
    check, subject = "machine.open_files", "open files"
    if limit == resource.RLIM_INFINITY:
        return fine(check, subject, "unlimited")
    if limit < OPEN_FILES_MIN:
        return warning(
            check,
            subject,
            f"a process may have only {limit}",
            "ulimit -n 1024, or LimitNOFILE=1024 in the service's unit",
        )
    return fine(check, subject, f"{limit:,} a process")


def judge_clock(now_ns: int, last_ns: int | None) -> Finding:
    """`last_ns` is when the last run ended, None if there was none."""
    check, subject = "machine.clock", "clock"
    remedy = "set the clock, and let it be synchronised: timedatectl set-ntp true"
    if now_ns < _EARLIEST_NS:
        return fault(check, subject, f"says {to_iso(now_ns)}", remedy)
    if last_ns is None:
        return fine(check, subject, to_iso(now_ns))
    behind = last_ns - now_ns
    if behind > NS_PER_SECOND:
        away = age_text(behind / NS_PER_SECOND)
        return fault(check, subject, f"is {away} before the end of the last run", remedy)
    if -behind > _LONG_DAYS * NS_PER_DAY:
        return warning(
            check,
            subject,
            f"is {age_text(-behind / NS_PER_SECOND)} after the last run",
            "check the date; if it is right, `lifecycle sync`",
        )
    return fine(check, subject, to_iso(now_ns))
