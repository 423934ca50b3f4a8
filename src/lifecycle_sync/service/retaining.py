"""Versions that no rule keeps any more: marked where dates are settled, and told in plans.

Nothing is taken out of the vault here. A mark says since when a version could go, for pruning and
for people; what a plan tells is judged anew, so that a rule that changed a moment ago counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.decide import retention
from lifecycle_sync.decide.choice import Rules
from lifecycle_sync.decide.planning import Situation
from lifecycle_sync.model.plan import Beyond, KeptVersion, Subject, Unkept, VersionMark
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
        while ids := self._registry.files_with_versions_beyond(after, _PAGE):
            cancel.check()
            after = ids[-1]
            files = list(self._registry.subjects(ids).values())
            for some in self._groups(files):
                yield self._unkept(some, situation)
        last: int | None = None
        while page := self._registry.undecided(last, _PAGE):
            cancel.check()
            last = page[-1].seq
            for some in self._groups(page):
                yield self._unkept(some, situation, unmarked=True)

    def _unkept(
        self, subjects: Sequence[Subject], situation: Situation, *, unmarked: bool = False
    ) -> list[Unkept]:
        roots, rules, at_ns = situation.roots, situation.rules, situation.at_ns
        files = [it for it in subjects if it.repository_id in roots]
        held = self._registry.held([file.file_id for file in files], situation.at_ns)
        versions = self.of(files)
        page = []
        # The words are the same for most of them.
        why: dict[tuple[str, int], str] = {}
        for file in files:
            of = versions.get(file.file_id)
            if not of or (unmarked and any(it.beyond_ns is not None for it in of)):
                continue
            policy, found = retention.unkept(file, of, rules, at_ns)
            if not found:
                continue
            name, newer = policy.name, found[0][0]
            if (name, newer) not in why:
                why[name, newer] = retention.why_beyond(policy, newer)
            guard, waits = roots[file.repository_id].guard, roots[file.repository_id].waits
            if not guard and file.file_id in held:
                guard, waits = "hold", held[file.file_id] or "no reason given"
            going = tuple([version for _newer, version in found])
            alone = len(going) == len(of)
            page.append(
                Unkept(
                    file.file_id,
                    file.repository_id,
                    file.path,
                    name,
                    why[name, newer],
                    going,
                    alone,
                    guard,
                    waits,
                )
            )
        return page

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


def retained(
    file: Subject, versions: Sequence[KeptVersion], situation: Situation
) -> tuple[Retained, ...]:
    """The versions of a file, the newest first, with what keeps each."""
    by_id = {version.version_id: version for version in versions}
    verdicts = retention.of_file(file, versions, situation.rules, situation.at_ns)
    return tuple((by_id[it.version.version_id], it.reasons) for it in verdicts)
