"""A plan carried out: what it says, or less.

Each file is compared with the plan by its fingerprint, checked once more as *young* and for who has
it open, and given to the act that is due, which checks it again at the moment it is touched. What
does not fit is skipped with a reason. Done twice, the second time finds nothing left to do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from typing import NamedTuple

from lifecycle_sync.act.breaker import Breaker
from lifecycle_sync.act.site import SKIPPED, Done
from lifecycle_sync.clock import NS_PER_DAY
from lifecycle_sync.decide import guards
from lifecycle_sync.decide.planning import could_not_be_read
from lifecycle_sync.descent import Descent
from lifecycle_sync.errors import CancelledError, GuardError, LifecycleError, PlanError
from lifecycle_sync.fileops import NotRegularFileError
from lifecycle_sync.model.act import ActFile
from lifecycle_sync.model.file import FileFlag, Kind, LifecycleState
from lifecycle_sync.model.plan import DESTRUCTIVE, Action, Plan, Verb
from lifecycle_sync.model.policy import AgeFrom, LifecyclePolicy
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.service.act_orders import How, RootOutcome
from lifecycle_sync.service.act_report import DONE_ALREADY, Report
from lifecycle_sync.service.decisions import hash_of
from lifecycle_sync.service.engine import Engine

# Files of one batch: what the plan expects is compared a batch at a time.
_BATCH = 1_000
_WAITS = int(FileFlag.CLAIMED | FileFlag.UNSTABLE | FileFlag.SUSPECT)
CHANGED = "changed since the plan"
_ARCHIVED = LifecycleState.ARCHIVED
_BECOMES = {
    Verb.BACKUP: LifecycleState.BACKUP_COMPLETE,
    Verb.ARCHIVE: LifecycleState.ARCHIVED,
    Verb.EXPIRE: LifecycleState.EXPIRED,
    Verb.DELETE: LifecycleState.DELETED,
}


def check(engine: Engine, plan: Plan) -> dict[str, LifecyclePolicy]:
    """The rules that a plan follows from, by name. Raises `PlanError` for a plan that is not of
    this registry, or not of its rules now."""
    if plan.registry_id != engine.registry.registry_id:
        raise PlanError(
            "was made by another registry",
            operation="apply plan",
            remedy="make the plan anew with this one",
        )
    policies = engine.registry.policies()
    if plan.policies_hash != hash_of(policies):
        raise PlanError(
            "was made by other rules: a policy changed since",
            operation="apply plan",
            remedy="make the plan anew, and look at it",
        )
    if plan.at_ns > engine.now_ns():
        raise PlanError(
            "is of a time that is yet to come",
            operation="apply plan",
            remedy="make one without --at, or wait",
        )
    return {policy.name: policy for policy in policies}


def apply(engine: Engine, plan: Plan, how: How) -> list[RootOutcome]:
    """Do what a plan says, root by root, or less. Raises `PlanError`, `CancelledError`."""
    policies = check(engine, plan)
    engine.vaults.check_places()
    outcomes = []
    for repository_id, actions in groupby(plan.actions, key=lambda it: it.repository_id):
        repository = engine.registry.repository(repository_id)
        if repository is None:
            continue
        total = Report("apply")
        error: LifecycleError | None = None
        try:
            tasks = _tasks(actions, policies)
            _apply_in_root(engine, repository, tasks, how, total)
        except CancelledError:
            raise
        except LifecycleError as failure:
            error = failure
        outcomes.append(RootOutcome(repository, total, error))
    return outcomes


class _Task(NamedTuple):
    """Actions of one kind, for one reason; of backups, of those that can be read or not."""

    verb: Verb
    policy: LifecyclePolicy
    reason: str
    actions: list[Action]


def _tasks(actions: Iterable[Action], policies: Mapping[str, LifecyclePolicy]) -> list[_Task]:
    """What may be done, in its order: what is kept comes first, and what goes last. What could not
    be read before waits for all that can be, or a disk that begins to fail would keep it from being
    kept."""
    order = {Verb.BACKUP: 0, Verb.EXPIRE: 1, Verb.ARCHIVE: 2, Verb.DELETE: 3}
    allowed = [action for action in actions if not action.guard]

    def key(it: Action) -> tuple[int, bool, str, str]:
        # A backup is the same by whichever rule: all of them are one order.
        rule = ("", "") if it.verb is Verb.BACKUP else (it.policy_name, it.reason)
        return order[it.verb], could_not_be_read(it), *rule

    allowed.sort(key=key)
    tasks = [list(group) for _key, group in groupby(allowed, key=key)]
    return [_Task(it[0].verb, policies[it[0].policy_name], it[0].reason, it) for it in tasks]


def _apply_in_root(
    engine: Engine, repository: Repository, tasks: Sequence[_Task], how: How, total: Report
) -> None:
    barred = _barred(engine, repository, [it for task in tasks for it in task.actions])
    breaker = Breaker(engine.settings.max_errors)
    for task in tasks:
        how.cancel.check()
        if task.verb in barred:
            total.add([_skipped(it, barred[task.verb]) for it in task.actions])
        elif task.verb is Verb.BACKUP:
            _back_up(engine, repository, task, how, total, breaker=breaker)
            how.cancel.check()
            _check_breaker(breaker, repository, task.verb)
        else:
            for batch in _batches(task):
                how.cancel.check()
                unknown: set[bytes] = set()
                files = list(_still(engine, repository, batch, total, unknown))
                for task_of, part in _by_writers(batch, files, unknown):
                    total.join(_act(engine, repository, task_of, part, how, breaker=breaker))
                _check_breaker(breaker, repository, task.verb)


def _batches(task: _Task) -> Iterator[_Task]:
    for start in range(0, len(task.actions), _BATCH):
        yield task._replace(actions=task.actions[start : start + _BATCH])


def _check_breaker(breaker: Breaker, repository: Repository, verb: Verb) -> None:
    if breaker.tripped:
        raise GuardError(
            f"its disk failed at {breaker.errors:,} files: the rest is left for the next run",
            guard="breaker",
            operation=verb.value,
            subject=repository.path,
            remedy="see the journal for what is wrong (`lifecycle history FILE`)",
        )


def _back_up(
    engine: Engine,
    repository: Repository,
    task: _Task,
    how: How,
    total: Report,
    *,
    breaker: Breaker,
) -> None:
    """All files of a task in one order, compared with the plan while it is under way: many are
    under way at once, and what the act reads is compared again. `total` is told of what was done,
    also where the rest was not."""

    def still() -> Iterator[ActFile]:
        for batch in _batches(task):
            if how.cancel.cancelled:
                return
            yield from _still(engine, repository, batch, total, set())

    files = still()
    first = next(files, None)
    if first is None:
        return
    report = Report(task.verb.value)
    try:
        engine.acts.back_up(
            repository,
            chain([first], files),
            report=report,
            progress=how.progress,
            cancel=how.cancel,
            breaker=breaker,
        )
    finally:
        total.join(report)


def _by_writers(
    task: _Task, files: Sequence[ActFile], unknown: Collection[bytes]
) -> Iterator[tuple[_Task, list[ActFile]]]:
    """What nobody writes, and what nobody can say it of: the journal has that as a reason."""
    yield task, [file for file in files if file.file_id not in unknown]
    doubtful = [file for file in files if file.file_id in unknown]
    if doubtful:
        yield task._replace(reason=f"{task.reason}; writers unknown"), doubtful


def _skipped(action: Action, reason: str) -> Done:
    return Done(action.file_id, action.path, SKIPPED, reason, action.size)


def _barred(
    engine: Engine, repository: Repository, actions: Sequence[Action]
) -> Mapping[Verb, str]:
    """What guards stand against by now: several plans that are each small enough are not, together,
    and a root may only advise since, or the clock have been set."""
    if not any(action.verb in DESTRUCTIVE for action in actions):
        return {}
    deletions = 0
    planned = [action for action in actions if action.verb is Verb.DELETE]
    for start in range(0, len(planned), _BATCH):
        batch = planned[start : start + _BATCH]
        known = engine.registry.act_files([action.file_id for action in batch])
        # What is gone already, a plan that is applied again does not delete.
        deletions += sum(
            it.file_id in known and known[it.file_id].state is it.state for it in batch
        )
    return engine.decisions.barred(repository, deletions)


def _act(
    engine: Engine,
    repository: Repository,
    task: _Task,
    files: Sequence[ActFile],
    how: How,
    *,
    breaker: Breaker,
) -> Report:
    verb = task.verb
    if not files:
        return Report(verb.value)
    acts, why = engine.acts, f"policy {task.policy.name}: {task.reason}"
    progress, cancel = how.progress, how.cancel
    match verb:
        case Verb.BACKUP:
            raise AssertionError("all of its files are one order")
        case Verb.ARCHIVE:
            return acts.archive(
                repository, files, reason=why, progress=progress, cancel=cancel, breaker=breaker
            )
        case Verb.EXPIRE:
            return acts.expire(repository, files, reason=why, progress=progress, cancel=cancel)
        case Verb.DELETE:
            return acts.delete(
                repository,
                files,
                reason=why,
                grace_ns=task.policy.grace_days * NS_PER_DAY,
                progress=progress,
                cancel=cancel,
                breaker=breaker,
            )


def _still(
    engine: Engine,
    repository: Repository,
    task: _Task,
    total: Report,
    unknown: set[bytes],
) -> Iterator[ActFile]:
    """The files that still are what the plan expects; why the others are left goes to `total`, and
    the ids of those of which nobody can say who writes them to `unknown`."""
    known = engine.registry.act_files([action.file_id for action in task.actions])
    with Descent(engine.fs, repository.path) as descent:
        for action in task.actions:
            file = known.get(action.file_id)
            reason = _against(engine, descent, task, action, file)
            if not reason and file is not None and _is_looked_into(task.verb, file):
                reason, known_to = writers(engine, descent, file)
                if not known_to:
                    unknown.add(file.file_id)
            if reason or file is None:
                total.add([_skipped(action, reason)])
            else:
                yield file


def _is_looked_into(verb: Verb, file: ActFile) -> bool:
    """Whether it matters who has a file open for writing."""
    away = verb in DESTRUCTIVE and verb is not Verb.EXPIRE
    return away and file.kind is Kind.REGULAR and file.state is not _ARCHIVED


def _against(
    engine: Engine,
    descent: Descent,
    task: _Task,
    action: Action,
    file: ActFile | None,
) -> str:
    """Why a file is left as it is at the moment of use; empty where nothing speaks against it."""
    verb = task.verb
    if file is not None and file.state is _BECOMES[verb] and file.state is not action.state:
        # By an earlier run of the same plan, most likely.
        return DONE_ALREADY
    if file is None or file.path != action.path or file.state is not action.state:
        return CHANGED
    if file.fingerprint != action.fingerprint:
        return CHANGED
    if action.checksum is not None and file.checksum != action.checksum:
        return CHANGED
    if file.flags & _WAITS:
        return "claimed, unstable or suspect by now"
    if file.state is _ARCHIVED:
        return ""
    young = guards.young(file.mtime_ns, file.ctime_ns, engine.now_ns(), engine.min_age_ns)
    if young:
        return young
    if verb in DESTRUCTIVE:
        read_since = _read_since(engine, descent, task, action)
        if read_since:
            return read_since
    # Last, for it looks at every place.
    return engine.proof.against(file, task.policy) if verb is Verb.DELETE else ""


def _read_since(engine: Engine, descent: Descent, task: _Task, action: Action) -> str:
    """Where age counts from the last reading or download: whether there was one after the file was
    looked at. A reading changes nothing that a scan compares, so the record may be older than the
    last one; a download may have been noted after the plan was made."""
    policy = task.policy
    days = {
        Verb.ARCHIVE: policy.archive_after_days,
        Verb.EXPIRE: policy.retention_days,
        Verb.DELETE: max(policy.delete_after_days, policy.retention_days),
    }[task.verb]
    if policy.age_from is AgeFrom.DOWNLOADED:
        subject = engine.registry.subjects([action.file_id]).get(action.file_id)
        at_ns = None if subject is None else subject.downloaded_ns
        if at_ns is None or engine.now_ns() - at_ns < days * NS_PER_DAY:
            return "it was downloaded since, and is not old enough"
        return ""
    if policy.age_from is not AgeFrom.ACCESSED:
        return ""
    folder, _, name = action.path.rpartition(b"/")
    try:
        found = engine.fs.stat(name, dir_fd=descent.open(folder), follow_symlinks=False)
    except OSError:
        return CHANGED
    age_ns = engine.now_ns() - max(found.st_atime_ns, found.st_mtime_ns)
    return "it was read since, and is not old enough" if age_ns < days * NS_PER_DAY else ""


def writers(engine: Engine, descent: Descent, file: ActFile) -> tuple[str, bool]:
    """Why a file is not to be touched because of who has it open, empty where nobody has; and
    whether that can be known."""
    folder, _, name = file.path.rpartition(b"/")
    fs = engine.fs
    try:
        fd, _found = fs.open_read_stat(name, descent.open(folder))
    except (NotRegularFileError, FileNotFoundError, NotADirectoryError):
        return CHANGED, True
    except PermissionError:
        # Who may not read it may still move it; what that comes to, the act finds out.
        return "", False
    except OSError as error:
        return (error.strerror or str(error)).lower(), True
    try:
        found = fs.has_writers(fd)
    finally:
        fs.close(fd)
    # Where leases are refused the fingerprint has to do: it is compared again at the rename.
    return "somebody has it open for writing" if found else "", found is not None
