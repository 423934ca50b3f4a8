"""Conflicts resolved: where the disk and the registry tell two stories about one file.

Scans note them. With the strategy "disk" the scan itself is the end of it (`judging`): nothing is
changed but the journal. The others change files, so they are carried out with the policies, under
the guards of these: what must wait (advice, a hold, a file that is too young or being written)
stays noted. Whatever a strategy takes from its place goes into the trash or to another name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lifecycle_sync.act.occupied import Conflict as Place
from lifecycle_sync.act.returning import Back
from lifecycle_sync.act.site import COMPLETED, SKIPPED, Done
from lifecycle_sync.decide import guards
from lifecycle_sync.decide.conflicts import Keep, resolve
from lifecycle_sync.descent import Descent
from lifecycle_sync.errors import CancelledError, LifecycleError
from lifecycle_sync.model.act import ActFile
from lifecycle_sync.model.conflict import Conflict, Resolved, Situation, Strategy
from lifecycle_sync.model.event import VersionEvent
from lifecycle_sync.model.file import FileFlag, LifecycleState
from lifecycle_sync.model.plan import Verb
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.model.trash import TrashReason
from lifecycle_sync.service.act_orders import How, RootOutcome
from lifecycle_sync.service.act_report import Report
from lifecycle_sync.service.applying import writers
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.judging import conflict_details
from lifecycle_sync.vault.vault import VaultKind

_PAGE = 500
_JOURNAL_ROWS = 100
_AWAY = {LifecycleState.ARCHIVED, LifecycleState.DELETED}
_WAITS = int(FileFlag.CLAIMED | FileFlag.UNSTABLE | FileFlag.SUSPECT)
_KEPT = {Keep.DISK: "disk", Keep.REGISTRY: "registry", Keep.BOTH: "both"}


@dataclass(frozen=True)
class _Story:
    """What the registry knew: when it was written or said (None: nothing is kept of it), and what
    brings it about, alone or beside the file on the disk."""

    registry_ns: int | None
    alone: Callable[[], Report]
    beside: Callable[[], Report] | None
    deletes: bool


def resolve_conflicts(
    engine: Engine, repositories: Sequence[Repository], how: How
) -> list[RootOutcome]:
    """Resolve what is noted in these roots; an outcome for each that has something. Raises
    `CancelledError`; what else concerns one root is in its outcome."""
    outcomes = []
    for repository in repositories:
        if not engine.registry.conflict_count(repository.repository_id):
            continue
        try:
            report = Report("apply")
            report.join(_Resolver(engine, repository, how).run())
            outcomes.append(RootOutcome(repository, report))
        except CancelledError:
            raise
        except LifecycleError as error:
            outcomes.append(RootOutcome(repository, Report("conflict"), error=error))
    return outcomes


class _Resolver:
    """The conflicts of one root."""

    def __init__(self, engine: Engine, repository: Repository, how: How) -> None:
        self._engine = engine
        self._registry = engine.registry
        self._repository = repository
        self._how = how
        self._strategy = Strategy(engine.settings.conflict_strategy)
        self._report = Report("conflict")

    def run(self) -> Report:
        after = 0
        while page := self._registry.conflicts(self._repository.repository_id, after, _PAGE):
            after = page[-1].row_id
            files = self._registry.act_files([it.file_id for it in page])
            for conflict in page:
                self._how.cancel.check()
                self._resolve(conflict, files.get(conflict.file_id))
        return self._report

    def _resolve(self, conflict: Conflict, file: ActFile | None) -> None:
        if file is None or file.state in _AWAY:
            self._close(conflict, "neither", "the file is gone again")
            return
        story = self._story(conflict, file)
        if story is None:
            self._wait(file, "the file that was renamed is looked for")
            return
        keep, why = resolve(self._strategy, disk_ns=file.mtime_ns, registry_ns=story.registry_ns)
        if keep is Keep.BOTH and story.beside is None:
            keep, why = Keep.DISK, "nothing else is kept that could lie beside it"
        if keep is not Keep.DISK:
            reason = self._against(file, story, keep)
            if reason:
                self._wait(file, reason)
                return
            act = story.alone if keep is Keep.REGISTRY else story.beside
            assert act is not None
            done = act()
            if not done.completed:
                self._report.add(done.done or [Done(file.file_id, file.path, SKIPPED, "see it")])
                return
        self._report.add([Done(file.file_id, file.path, COMPLETED, why, file.size)])
        self._close(conflict, _KEPT[keep], why)

    def _wait(self, file: ActFile, reason: str) -> None:
        self._report.add([Done(file.file_id, file.path, SKIPPED, reason, file.size)])

    def _close(self, conflict: Conflict, kept: str, why: str) -> None:
        details = conflict_details(conflict, self._strategy, kept, why)
        now_ns = self._engine.now_ns()
        self._registry.close_conflicts([Resolved(conflict.row_id, details)], now_ns)

    def _against(self, file: ActFile, story: _Story, keep: Keep) -> str:
        """Why nothing is changed now; empty where nothing speaks against it."""
        engine = self._engine
        deletions = 1 if keep is Keep.REGISTRY and story.deletes else 0
        barred = engine.decisions.barred(self._repository, deletions)
        verb = Verb.DELETE if deletions else Verb.ARCHIVE
        if verb in barred:
            return barred[verb]
        if keep is Keep.BOTH:
            return ""
        if file.flags & _WAITS:
            return "claimed, unstable or suspect"
        young = guards.young(file.mtime_ns, file.ctime_ns, engine.now_ns(), engine.min_age_ns)
        if young:
            return young
        with Descent(engine.fs, self._repository.path) as descent:
            return writers(engine, descent, file)[0]

    # -- the stories of the registry -----------------------------------------------------------

    def _story(self, conflict: Conflict, file: ActFile) -> _Story | None:
        """None where it cannot be told yet."""
        match conflict.situation:
            case Situation.CHANGED_WHILE_ARCHIVED:
                return self._archived(file)
            case Situation.RECREATED:
                return self._deleted(conflict, file)
            case Situation.RENAMED_ONTO:
                return self._renamed(conflict, file)

    def _archived(self, file: ActFile) -> _Story:
        acts, repository = self._engine.acts, self._repository
        version = self._version(VaultKind.ARCHIVE, file.file_id)
        same = (
            version is not None
            and version.content is not None
            and not file.hash_due
            and version.content.digest == file.checksum
        )

        def beside() -> Report:
            assert version is not None
            back = Back(file, version, file.path)
            kind, place = VaultKind.ARCHIVE, Place.KEEP_BOTH
            return acts.restore(repository, [back], kind=kind, conflict=place)

        return _Story(
            version.metadata.mtime_ns if version is not None else None,
            lambda: acts.put_away(repository, [file], reason=self._reason("archived")),
            # Of one content two files are not needed.
            None if same else beside,
            deletes=True,
        )

    def _deleted(self, conflict: Conflict, file: ActFile) -> _Story:
        acts, repository = self._engine.acts, self._repository
        assert conflict.other_id is not None
        operations = self._registry.operations(conflict.other_id, _JOURNAL_ROWS)
        deletions = (it.timestamp_ns for it in operations if it.operation_type == "delete")
        with acts.trash(repository) as trash:
            found = [
                it
                for it in trash.find(file_id=conflict.other_id)
                if it[0].reason is TrashReason.DELETE
            ]
        return _Story(
            next(deletions, None),
            lambda: acts.delete(repository, [file], reason=self._reason("deleted")),
            (lambda: acts.undelete(repository, found[:1], conflict=Place.KEEP_BOTH))
            if found
            else None,
            deletes=True,
        )

    def _renamed(self, conflict: Conflict, file: ActFile) -> _Story | None:
        acts, repository = self._engine.acts, self._repository
        assert conflict.other_id is not None
        other = self._registry.file(conflict.other_id)
        if other is not None and other.state is not LifecycleState.DELETED:
            return None
        version = self._version(VaultKind.BACKUP, file.file_id, conflict.checksum)

        def back(place: Place) -> Report:
            assert version is not None and conflict.other_id is not None
            known_as = {file.path: conflict.other_id}
            wanted = [Back(file, version, file.path)]
            return acts.restore(repository, wanted, conflict=place, known_as=known_as)

        def alone() -> Report:
            report = back(Place.REPLACE)
            if report.completed and other is not None:
                # Until it is back under its own name, it lies in the trash.
                with acts.trash(repository) as trash:
                    found = trash.find(file_id=conflict.other_id)[:1]
                acts.undelete(repository, found, to=other.path)
            return report

        return _Story(
            version.metadata.mtime_ns if version is not None else None,
            alone,
            lambda: back(Place.KEEP_BOTH),
            deletes=False,
        )

    def _version(
        self, kind: VaultKind, file_id: bytes, checksum: bytes | None = None
    ) -> VersionEvent | None:
        """The newest version of a file in a vault, or the newest with a checksum."""
        if not self._engine.vaults.is_there(kind):
            return None
        for version in self._engine.vaults.get(kind, create=False).versions_of(file_id):
            digest = None if version.content is None else version.content.digest
            if checksum is None or digest == checksum:
                return version
        return None

    def _reason(self, state: str) -> str:
        return f"conflict: the registry says that it is {state}"
