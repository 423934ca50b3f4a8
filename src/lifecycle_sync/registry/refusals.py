"""What every registry refuses of holds, jobs and policies, and in which words."""

from __future__ import annotations

from lifecycle_sync.errors import NotFoundError, UsageError
from lifecycle_sync.model.hold import Hold
from lifecycle_sync.model.ids import to_text
from lifecycle_sync.model.policy import SHIPPED, LifecyclePolicy, faults_of
from lifecycle_sync.model.temp import JobState

SHIPPED_NAMES = frozenset(policy.name for policy in SHIPPED)
# Reasons of `ActStore.begin_operations` and `finish_operations`.
NO_SUCH_FILE = "no such file"
PENDING = "another act is pending"
IN_ITS_PLACE = "another file is at its place now"
CHANGED = "its record has changed meanwhile"


def check_hold(hold: Hold) -> None:
    """Raises `UsageError` for a hold on nothing, or on two things."""
    if (hold.file_id is None) is (not hold.query):
        raise UsageError(
            "names neither a file nor a query" if not hold.query else "names a file and a query",
            operation="hold",
            subject=hold.reason,
            remedy="give the path of a file or folder, or a pattern such as '*/contracts/*'",
        )


def check_job(job_id: str, state: JobState) -> None:
    """Raises `UsageError` for an id that is none, and a state that nobody can give a job."""
    if not job_id or not job_id.isprintable():
        raise UsageError("a job needs an id that can be written down", operation="keep job")
    if state not in (JobState.LIVE, JobState.FAILED, JobState.FINISHED):
        raise UsageError(
            f"{state.value} is no state of a job",
            operation="keep job",
            subject=job_id,
            remedy="it is live, failed or finished",
        )


def no_such_job(job_id: str) -> NotFoundError:
    """Of one that was never started."""
    return NotFoundError(
        "is not known",
        operation="declare files",
        subject=job_id,
        remedy="a job is started before it has files",
    )


def check_policy(policy: LifecyclePolicy) -> None:
    """Raises `UsageError` with every fault of a policy, but for one that keeps no version: that is
    for whoever asks for it to confirm."""
    faults = faults_of(policy, allow_empty=True)
    if faults:
        raise UsageError(
            "; ".join(faults),
            operation="put policy",
            subject=policy.name,
            remedy="see docs/reference/policies.md",
        )


def check_removal(name: str) -> None:
    """Raises `UsageError` for a shipped policy: by it files go for which none was chosen."""
    if name in SHIPPED_NAMES:
        raise UsageError(
            "is a shipped policy, which files go by",
            operation="remove policy",
            subject=name,
            remedy="change its rules instead",
        )


def no_such_policy(name: str) -> NotFoundError:
    """The error for the name of a policy that is not there."""
    return NotFoundError(
        "no such policy",
        operation="remove policy",
        subject=name,
        remedy="`lifecycle sql 'SELECT name FROM lifecycle_policies'` lists them",
    )


def no_such_hold(hold_id: bytes) -> NotFoundError:
    """The error for the id of a hold that is not there."""
    return NotFoundError("no such hold", operation="release hold", subject=to_text(hold_id))


def no_such_file(file_id: bytes) -> NotFoundError:
    """The error for the id of a file that is not there."""
    return NotFoundError(
        "no such file",
        operation="hold",
        subject=to_text(file_id),
        remedy="`lifecycle find` shows ids with --json",
    )


def id_taken(hold_id: bytes) -> UsageError:
    """The error for a hold whose id another one has."""
    return UsageError("the id is taken", operation="hold", subject=to_text(hold_id))
