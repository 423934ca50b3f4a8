"""What a registry promises of acts: journal, holds, policies, due dates, what vaults tell."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Literal, Protocol

from lifecycle_sync.model.act import ActFile, ActOutcome, Intent, VersionRow
from lifecycle_sync.model.event import Event
from lifecycle_sync.model.hold import Confirmation, Hold, Switch
from lifecycle_sync.model.operation import ActRun, Operation
from lifecycle_sync.model.plan import (
    Decided,
    KeptVersion,
    MarkedFile,
    MarkedGoing,
    MarkedPage,
    Subject,
    VersionMark,
)
from lifecycle_sync.model.policy import LifecyclePolicy
from lifecycle_sync.registry.replay import Replayed


class Journal(Protocol):
    """What was done to single files, and the policies."""

    def add_operations(self, operations: Sequence[Operation]) -> None: ...

    def operations(self, file_id: bytes, limit: int) -> list[Operation]:
        """Newest first."""
        ...

    def operation_count(self, since_ns: int) -> int: ...

    def journal(
        self, after: bytes | None, limit: int, *, types: Collection[str] = ()
    ) -> list[Operation]:
        """All operations (of these types), by their ids, which grow with time."""
        ...

    def policies(self) -> list[LifecyclePolicy]:
        """In declared order; the shipped ones are there from the start."""
        ...


class MarkedStore(Protocol):
    """Versions that are marked as kept by no rule, given up page by page: of a page those files go
    that are of one of its kinds, and whose versions that are not marked are the newest so many, as
    many as the kind says. Files that are suspect, or not followed, are left, and what lies in
    another vault than the one that backups go to."""

    def last_marked(self, after: bytes | None, limit: int) -> bytes | None:
        """The file up to which there are about so many such versions after that file; None where
        there are no more. No page up to there has more than `limit` files."""
        ...

    def marked_roots(self, page: MarkedPage, most: int) -> list[bytes]:
        """The repositories of files on a page that would go, so many at most."""
        ...

    def begin_marked(
        self, act: ActRun, page: MarkedPage, ids: bytes, now_ns: int
    ) -> MarkedGoing | None:
        """Write an intent "prune" for each file on a page, of the repository of the act, that goes:
        judged as it is written, and none for one that is held or has another one pending. They get
        the `ids`, growing ones that stand one after the other, as far as these reach. None where
        there is no such file."""
        ...

    def finish_marked(
        self,
        act: ActRun,
        going: MarkedGoing,
        at_ns: int,
        now_ns: int,
        *,
        manifests: Sequence[tuple[bytes, str]] = (),
    ) -> int:
        """Forget the versions that these intents are about, and no others, of those that were kept
        at `at_ns` or before; write down that the intents were done, and that `manifests` (vault,
        name) are in the registry. All of it or nothing; how many versions that were."""
        ...


class ActStore(MarkedStore, Protocol):
    """The journal of acts: what is intended, before it is done, and what came of it, after.

    Every call here that writes is one durable transaction: what it has taken outlives a power cut.
    Whether a run of acts still lives, its caller tells by a lock; here it is only noted.
    """

    def begin_act(self, repository_id: bytes, verb: str, now_ns: int) -> ActRun:
        """A run that is "running". Raises `NotFoundError`. Runs outlive their repository."""
        ...

    def end_act(self, act: ActRun, now_ns: int, status: str, counts: str | None = None) -> None:
        """`counts` is JSON text. What is pending stays so."""
        ...

    def acts(self, repository_id: bytes | None, limit: int) -> list[ActRun]:
        """Newest first."""
        ...

    def act(self, act_id: int) -> ActRun | None: ...

    def begin_operations(
        self, act: ActRun, intents: Sequence[Intent], now_ns: int, *, unless_held: bool
    ) -> dict[bytes, str]:
        """Write the intents down as "pending", with the act's id as `run_id`; those that are
        refused by their operation ids, and why: "no such file" (in the act's repository), "held:
        ..." or "another act is pending". Of two intents for one file one is refused, however many
        processes try. With `unless_held` each is written by the very statement that sees that
        nothing holds its file: a hold that was added before stops it. Raises `NotFoundError` for
        a repository that is gone."""
        ...

    def finish_operations(
        self,
        act: ActRun,
        outcomes: Sequence[ActOutcome],
        now_ns: int,
        *,
        manifests: Sequence[tuple[bytes, str]] = (),
    ) -> dict[bytes, str]:
        """Write down what came of intents, of whatever act, with what it did to their records; and
        that `manifests` (vault, name) are in the registry. All of it or nothing.

        Idempotent: an operation that is not pending is passed over, its change too. States follow
        the transition table (a backup passes through BACKUP_PENDING); but ARCHIVED and DELETED are
        taken as facts, from wherever. A record in them is not missing, and nothing of it is due
        to be hashed; one that comes back is looked at by the next scan. A record keeps its id
        wherever its file is put: where a scan has met that file first, its new record goes.

        Returned is, by operation, what could not be done to a record, and why. Where another file
        has the place, that operation is "failed" and its record stays as it was; all else is
        recorded nevertheless.
        """
        ...

    def complete_operations(
        self, act: ActRun, now_ns: int, *, manifests: Sequence[tuple[bytes, str]] = ()
    ) -> int:
        """Write down that every intent of this act that is pending was done, and did nothing to
        records; and that `manifests` (vault, name) are in the registry. All of it or nothing; how
        many that were."""
        ...

    def pending_operations(self, repository_id: bytes | None) -> list[Operation]:
        """Those of acts on a repository, or all, by act and in the order of their ids. The living
        ones are among them."""
        ...

    def to_back_up(self, repository_id: bytes, after: int, limit: int) -> list[ActFile]:
        """Records by row_id, greater than `after`: tracked, UPLOADED or BACKUP_PENDING, a regular
        file or a symlink, and neither claimed, unstable, suspect nor missing. A page costs what is
        on it, however many records there are."""
        ...

    def files_under(
        self, repository_id: bytes, path: bytes, after: bytes | None, limit: int
    ) -> list[ActFile]:
        """Tracked live records (the archived ones too) at a path or below it, empty for the whole
        root: a file at the path itself, then folder by folder and name by name. `after` is the
        path of the last one of the page before."""
        ...

    def act_files(self, file_ids: Iterable[bytes]) -> dict[bytes, ActFile]:
        """Those that there are, of every state and tracking, by id."""
        ...

    def held(self, file_ids: Collection[bytes], now_ns: int) -> dict[bytes, str]:
        """Which of these files are held, and the reason of one hold on each."""
        ...

    def versions(self, file_id: bytes) -> list[VersionRow]:
        """Newest first. They outlive the record."""
        ...

    def versions_in(
        self, store_id: bytes, after: tuple[bytes, int, bytes] | None, limit: int
    ) -> list[tuple[bytes, VersionRow]]:
        """All versions that lie in a vault, or where that is not known, each with its file, by
        file, number and id. `after` is the last one of the page before, in these three."""
        ...

    def drop_versions(self, versions: Sequence[tuple[bytes, bytes]], at_ns: int) -> int:
        """Forget versions (file, version) that a vault was told are kept no longer, of those that
        were kept at `at_ns` or before; how many that were. Idempotent."""
        ...

    def applied_manifests(self, store_id: bytes) -> set[str]:
        """The manifests of a vault that are in the registry."""
        ...

    def add_applied(self, store_id: bytes, names: Sequence[str], now_ns: int) -> None:
        """Idempotent."""
        ...

    def store(self, kind: str) -> bytes | None:
        """The id of the vault that is used for "backup" or "archive"; None where none was yet."""
        ...

    def set_store(self, kind: str, store_id: bytes | None) -> None:
        """None forgets it, for another one to be used."""
        ...


class HoldStore(Protocol):
    """What a person has said that stands above policies."""

    def add_hold(self, hold: Hold) -> None:
        """From its return on it stops every act that asks. Raises `UsageError` for one that names
        not exactly one of file and query, or whose id is taken, and `NotFoundError`."""
        ...

    def release_hold(self, hold_id: bytes, now_ns: int) -> None:
        """Idempotent: the first release counts. Raises `NotFoundError`."""
        ...

    def holds(self, file_id: bytes | None = None, now_ns: int | None = None) -> list[Hold]:
        """All, or those on a file, by their query too; with `now_ns` only what holds at that time.
        Oldest first."""
        ...

    def add_confirmation(self, confirmation: Confirmation) -> None:
        """Idempotent."""
        ...

    def confirmations(self, repository_id: bytes) -> list[Confirmation]:
        """Newest first. They outlive their repository."""
        ...


class PolicyStore(Protocol):
    """The changing of policies."""

    def put_policy(self, policy: LifecyclePolicy, now_ns: int) -> None:
        """Add a policy, last in the order, or give the one of that name new rules. Files for which
        it was chosen before it was removed go by it again. Raises `UsageError`."""
        ...

    def remove_policy(self, name: str, now_ns: int) -> None:
        """The files for which it was chosen go by their type. Raises `NotFoundError`, and
        `UsageError` for a shipped one."""
        ...

    def assign_policy(self, file_id: bytes, policy_name: str | None, now_ns: int) -> None:
        """Choose a policy for a file; None leaves the choice to the rules. Raises
        `NotFoundError`."""
        ...

    def statements(self) -> list[Event]:
        """All that people have said and a vault has to know: policies that were put or removed,
        those that were chosen for files, holds, confirmations."""
        ...


class DueStore(Protocol):
    """What is due, and what was decided about records by the rules as they are.

    A record that changed since, or all once the rules change, is undecided: what it says of its
    policy and its dates is not to be relied on.
    """

    def due(
        self, at_ns: int, after: tuple[int, int] | None, limit: int
    ) -> tuple[list[Subject], tuple[int, int] | None]:
        """Tracked, decided records whose next date is not after `at_ns`, the oldest first, and
        where the next page begins, None after the last one. Costs what is due, however many
        records there are."""
        ...

    def undecided(self, after_seq: int | None, limit: int) -> list[Subject]:
        """Records of any tracking that changed since they were decided on, by seq; `after_seq` is
        that of the last one of the page before."""
        ...

    def subjects(self, file_ids: Iterable[bytes]) -> dict[bytes, Subject]:
        """Those that there are, of every state and tracking, by id."""
        ...

    def write_decided(
        self, decided: Sequence[Decided], seq: int | None, marks: Sequence[VersionMark] = ()
    ) -> None:
        """Write policies and dates of records that still have their seq, which stays; with `seq`
        all records up to it are decided. `marks` say of versions that no rule keeps them, or that
        one does again."""
        ...

    def kept_versions(self, file_ids: Iterable[bytes]) -> dict[bytes, list[KeptVersion]]:
        """The versions of files in the vault that backups go to, newest first, by file; files
        without any are left out."""
        ...

    def count_versions(self, file_ids: Iterable[bytes]) -> int:
        """How many versions these files have, wherever they are kept."""
        ...

    def files_with_versions_beyond(self, after: bytes | None, limit: int) -> list[bytes]:
        """Ids of files that have versions which are marked as kept by no rule, in their order."""
        ...

    def marked_files(
        self, after: bytes | None, limit: int
    ) -> tuple[list[MarkedFile], bytes | None]:
        """Tracked files that are not suspect and have versions in the vault that backups go to
        which are marked as kept by no rule: those with about so many such versions after that
        file, in their order, of each file all. And the id up to which files were looked at, None
        where there are no more."""
        ...

    def note_download(self, file_id: bytes, at_ns: int, now_ns: int) -> None:
        """Note that a file was downloaded then; what is not newer than what is known changes
        nothing. The record counts as changed, and as undecided. Raises `NotFoundError`."""
        ...

    def deleted_since(self, repository_id: bytes, since_ns: int) -> int:
        """How many files acts have deleted in a repository since then."""
        ...

    def switch(self, name: str) -> Switch | None: ...

    def set_switch(self, switch: Switch) -> None:
        """Durable: from its return on every process sees it."""
        ...

    def clear_switch(self, name: str) -> bool:
        """Whether it was set."""
        ...


class ReplayStore(Protocol):
    """Learning again from vaults what a lost or older database does not know."""

    def apply_events(
        self,
        events: Iterable[Event],
        now_ns: int,
        manifests: Sequence[tuple[bytes, str]] = (),
        *,
        kind: Literal["backup", "archive"] = "backup",
    ) -> Replayed:
        """Take up what events tell, then note `manifests` (vault, name) as applied, durably.

        The newest counts, by `at_ns`, also against what the registry knows by itself: versions are
        added; a state, a place or a chosen policy that is newer is taken; holds, confirmations and
        policies are added, a release is never undone. Unknown repositories are added OFFLINE,
        unknown files with their newest version's tuple and checksum, the times they had, and such
        that the next scan looks at them. What a scan has seen of a file stays. `kind` says which of
        a record's copies its newest version is.

        Idempotent, and the same in whatever order and portions events come, as long as those of a
        file come with or after one of its repository, and no two files claim one place: then the
        newer one is live and the older one DELETED. It is written in portions, so an error may
        leave some of it written; repeat it. Events that cannot be placed are counted. Versions that
        were pruned are forgotten; that they do not come after is the vault's to see to.
        """
        ...
