"""Versions that no rule keeps any more: marked where dates are settled, and told in plans.

Nothing is taken out of the vault here. A mark says since when a version could go, for pruning and
for people; what a plan tells is judged anew, so that a rule that changed a moment ago counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lifecycle_sync.act.pruning import told_why
from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.decide import retention
from lifecycle_sync.decide.choice import Rules
from lifecycle_sync.decide.planning import Situation
from lifecycle_sync.model.file import FileType
from lifecycle_sync.model.plan import (
    Beyond,
    KeptVersion,
    MarkedFile,
    MarkedKind,
    Subject,
    Unkept,
    UnkeptFile,
    VersionMark,
)
from lifecycle_sync.model.policy import LifecyclePolicy
from lifecycle_sync.registry.protocol import Registry

_PAGE = 2_000
# So many are told in one plan; of others it says that there are some. And no more are in memory at
# one time, unless one file has them.
VERSIONS_MAX = 10_000
# A version, and all that keeps it: nothing, where no rule does.
Retained = tuple[KeptVersion, tuple[str, ...]]


@dataclass
class Found:
    """Versions that no rule keeps, as many as a plan has room for."""

    most: int
    versions: list[Beyond] = field(default_factory=list)
    files: set[bytes] = field(default_factory=set)
    more: bool = False


class _Gathered:
    """Files with versions that no rule keeps, gathered by root, reason and what stands against it
    that they go."""

    def __init__(self, situation: Situation) -> None:
        self._roots = situation.roots
        self._by_key: dict[tuple[object, ...], list[UnkeptFile | MarkedFile]] = {}
        self.groups: list[Unkept] = []

    def add(
        self,
        file: UnkeptFile | MarkedFile,
        repository_id: bytes,
        policy: LifecyclePolicy,
        newer: int,
        *,
        alone: bool,
        held: str | None,
    ) -> None:
        """A file of which the newest such version has so many `newer` ones."""
        key = repository_id, policy.name, newer, alone, held
        files = self._by_key.get(key)
        if files is None:
            files = self._by_key[key] = []
            guard, waits = self._roots[repository_id].guard, self._roots[repository_id].waits
            if not guard and held is not None:
                guard, waits = "hold", held or "no reason given"
            reason = retention.why_beyond(policy, newer)
            self.groups.append(
                Unkept(repository_id, policy.name, reason, alone, guard, waits, files)
            )
        files.append(file)


class Retaining:
    """Asks one registry for versions, and judges them. Thread-safe."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def marks(
        self, files: Sequence[Subject], rules: Rules, now_ns: int
    ) -> Iterator[list[VersionMark]]:
        """Which versions of these files no rule keeps any more, or one does again: some files at a
        time."""
        for some in self._groups(files):
            versions = self.of(some)
            yield [
                mark
                for file in some
                if file.file_id in versions
                for mark in retention.marks_of(file, versions[file.file_id], rules, now_ns)
            ]

    def _groups(self, files: Sequence[Subject]) -> Iterator[Sequence[Subject]]:
        """Files, as many at a time as have no more versions than there is room for."""
        half = len(files) // 2
        if half and self._registry.count_versions([it.file_id for it in files]) > VERSIONS_MAX:
            yield from self._groups(files[:half])
            yield from self._groups(files[half:])
        elif files:
            yield files

    def of(self, files: Sequence[Subject]) -> dict[bytes, list[KeptVersion]]:
        """The versions of files in the backup vault, newest first; files without any left out."""
        backed_up = [file.file_id for file in files if file.last_version_ns is not None]
        return self._registry.kept_versions(backed_up) if backed_up else {}

    def add(
        self,
        files: Sequence[Subject],
        situation: Situation,
        held: Mapping[bytes, str],
        found: Found,
    ) -> None:
        """The versions of these files that no rule keeps, added to what a plan tells."""
        for some in self._groups(files):
            if found.more or not found.most:
                return
            self._add(some, situation, held, found)

    def _add(
        self,
        files: Sequence[Subject],
        situation: Situation,
        held: Mapping[bytes, str],
        found: Found,
    ) -> None:
        versions = self.of(files)
        for file in files:
            if file.file_id not in versions:
                continue
            for version in retention.beyond(
                file,
                versions[file.file_id],
                situation.rules,
                situation.at_ns,
                held.get(file.file_id),
            ):
                if len(found.versions) == found.most:
                    found.more = True
                    return
                found.versions.append(version)
                found.files.add(version.file_id)

    def unkept(self, situation: Situation, cancel: CancelToken) -> Iterator[list[Unkept]]:
        """The versions that no rule keeps, page by page, of each file all. Of those that are
        marked, or whose dates are not settled yet, each judged anew."""
        after: bytes | None = None
        while True:
            cancel.check()
            files, after = self._registry.marked_files(after, VERSIONS_MAX)
            if after is None:
                break
            yield from self._of_marked(files, situation)
        last: int | None = None
        while page := self._registry.undecided(last, _PAGE):
            cancel.check()
            last = page[-1].seq
            for some in self._groups(page):
                yield self._unkept(some, situation, unmarked=True)

    def _of_marked(
        self, files: Sequence[MarkedFile], situation: Situation
    ) -> Iterator[list[Unkept]]:
        """Where a rule keeps the newest so many of every such file, and these are not marked, the
        marks are right. Other files are judged one by one."""
        held = self._registry.held([it.file_id for it in files], situation.at_ns)
        gathered = _Gathered(situation)
        alike: dict[tuple[FileType, str | None], tuple[LifecyclePolicy, int] | None] = {}
        others: list[bytes] = []
        for it in files:
            kind = it.file_type, it.explicit
            if kind not in alike:
                alike[kind] = retention.newest_alone(situation.rules, *kind)
            found = alike[kind]
            if found is None or not retention.as_marked(it, found[1]):
                others.append(it.file_id)
            elif it.repository_id in situation.roots:
                policy, number = found
                why = held.get(it.file_id)
                gathered.add(it, it.repository_id, policy, number, alone=not number, held=why)
        yield gathered.groups
        for at in range(0, len(others), _PAGE):
            subjects = self._registry.subjects(others[at : at + _PAGE])
            for some in self._groups(list(subjects.values())):
                yield self._unkept(some, situation)

    def _unkept(
        self, subjects: Sequence[Subject], situation: Situation, *, unmarked: bool = False
    ) -> list[Unkept]:
        files = [it for it in subjects if it.repository_id in situation.roots]
        held = self._registry.held([file.file_id for file in files], situation.at_ns)
        versions = self.of(files)
        gathered = _Gathered(situation)
        for file in files:
            of = versions.get(file.file_id)
            if not of or (unmarked and any(it.beyond_ns is not None for it in of)):
                continue
            policy, found = retention.unkept(file, of, situation.rules, situation.at_ns)
            if found:
                going = [version for _newer, version in reversed(found)]
                told = UnkeptFile(
                    file.file_id,
                    ",".join([str(it.number) for it in going]),
                    "".join([it.version_id.hex() for it in going]),
                    sum([it.size for it in going]),
                    going[-1].kept_ns,
                )
                alone = len(going) == len(of)
                why = held.get(file.file_id)
                gathered.add(told, file.repository_id, policy, found[0][0], alone=alone, held=why)
        return gathered.groups

    def add_marked(self, situation: Situation, found: Found, cancel: CancelToken) -> None:
        """Those that are marked, of files that a plan did not look at."""
        after: bytes | None = None
        while found.most and not found.more:
            cancel.check()
            ids = self._registry.files_with_versions_beyond(after, _PAGE)
            if not ids:
                return
            after = ids[-1]
            subjects = self._registry.subjects([it for it in ids if it not in found.files])
            files = [it for it in subjects.values() if it.repository_id in situation.roots]
            held = self._registry.held([file.file_id for file in files], situation.at_ns)
            self.add(files, situation, held, found)


def kinds_of(rules: Rules) -> list[MarkedKind]:
    """The kinds of files of which one rule keeps the newest versions, and no others."""
    return [
        MarkedKind(
            file_type,
            explicit,
            number,
            told_why(policy.name, retention.why_beyond(policy, number)),
        )
        for file_type, explicit, policy, number in retention.all_alike(rules)
    ]


def retained(
    file: Subject, versions: Sequence[KeptVersion], situation: Situation
) -> tuple[Retained, ...]:
    """The versions of a file, the newest first, with what keeps each."""
    by_id = {version.version_id: version for version in versions}
    verdicts = retention.of_file(file, versions, situation.rules, situation.at_ns)
    return tuple((by_id[it.version.version_id], it.reasons) for it in verdicts)
