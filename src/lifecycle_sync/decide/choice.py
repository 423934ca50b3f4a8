"""Which policy a file goes by: the one that was set for it, else the first whose `match` holds in
declared order, else that of its type, else `default`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from lifecycle_sync.decide.dates import NS_PER_DAY, age_begins_ns
from lifecycle_sync.model.file import FileType
from lifecycle_sync.model.plan import Subject
from lifecycle_sync.model.policy import KeepRules, LifecyclePolicy, Match

DEFAULT = "default"


class Considered(NamedTuple):
    """One rule that was looked at, and what came of it."""

    policy: LifecyclePolicy
    chosen: bool
    why: str


class Rules:
    """All policies of a registry, in declared order."""

    def __init__(self, policies: Sequence[LifecyclePolicy]) -> None:
        self.policies = tuple(policies)
        self._by_name = {policy.name: policy for policy in policies}
        self._matching = [(it, it.match) for it in self.policies if it.match is not None]
        self._by_type = {
            file_type: policy
            for policy in reversed(self.policies)
            if policy.match is None and policy.name != DEFAULT
            for file_type in policy.file_types
        }
        self._keeping = [it for it in self._matching if it[0].keep != KeepRules()]
        self._aging = any(match.older_than_days for _policy, match in self._matching)

    def choose(self, file: Subject, now_ns: int) -> LifecyclePolicy:
        """The policy that governs a file at a time: the one that `consider` comes to."""
        if file.explicit is not None and file.explicit in self._by_name:
            return self._by_name[file.explicit]
        for policy, match in self._matching:
            # The commonest mismatch needs no words here.
            if policy.file_types and file.file_type not in policy.file_types:
                continue
            if not mismatch(policy, match, file, now_ns):
                return policy
        return self._by_type.get(file.file_type) or self._by_name[DEFAULT]

    def regardless(self, file_type: FileType, explicit: str | None) -> LifecyclePolicy | None:
        """The policy that governs every file of a type, with that policy chosen for it, whatever
        else it is like. None where that depends, or the keep rules of others may join."""
        if any(_may_be_for(policy, file_type) for policy, _match in self._keeping):
            return None
        if explicit is not None and explicit in self._by_name:
            return self._by_name[explicit]
        if any(_may_be_for(policy, file_type) for policy, _match in self._matching):
            return None
        return self._by_type.get(file_type) or self._by_name[DEFAULT]

    def joining(self, file: Subject, now_ns: int) -> list[LifecyclePolicy]:
        """The policies whose keep rules join those of the one that governs a file, which may be
        among them: all whose match holds."""
        return [
            policy for policy, match in self._keeping if not mismatch(policy, match, file, now_ns)
        ]

    def consider(self, file: Subject, now_ns: int) -> Iterator[Considered]:
        """Every rule in the order in which it is asked, up to the one that is chosen."""
        by_name = self._by_name
        if file.explicit is not None and file.explicit in by_name:
            yield Considered(by_name[file.explicit], True, "it was set for this file")
            return
        for policy in self.policies:
            if policy.match is not None:
                against = mismatch(policy, policy.match, file, now_ns)
                yield Considered(policy, not against, against or "its match holds")
                if not against:
                    return
        for policy in self.policies:
            if policy.match is None and policy.name != DEFAULT:
                holds = file.file_type in policy.file_types
                why = f"it is for {_types(policy)}, and this is {_a(file.file_type.value)}"
                yield Considered(policy, holds, f"it is for {_types(policy)}" if holds else why)
                if holds:
                    return
        yield Considered(by_name[DEFAULT], True, "no other one is for it")

    def changes_ns(self, file: Subject, now_ns: int) -> int | None:
        """When another rule may begin to hold by the file's age alone."""
        if file.explicit is not None or not self._aging:
            return None
        moments = []
        for policy in self.policies:
            if policy.match is not None and policy.match.older_than_days:
                moment = _old_enough_ns(policy, policy.match, file)
                if moment is not None and moment > now_ns:
                    moments.append(moment)
        return min(moments, default=None)


def _may_be_for(policy: LifecyclePolicy, file_type: FileType) -> bool:
    return not policy.file_types or file_type in policy.file_types


def mismatch(policy: LifecyclePolicy, match: Match, file: Subject, now_ns: int) -> str:
    """What of a match does not hold for a file, in words; empty when all does."""
    if policy.file_types and file.file_type not in policy.file_types:
        return f"it is for {_types(policy)}, and this is {_a(file.file_type.value)}"
    place = file.place
    if match.paths and not any(fnmatchcase(place, pattern) for pattern in match.paths):
        return "none of its path patterns matches"
    for pattern in match.exclude:
        if fnmatchcase(place, pattern):
            return f"it excludes {pattern}"
    if match.min_size is not None and file.size < match.min_size:
        return f"it is for files of {match.min_size:,} bytes and more"
    if match.max_size is not None and file.size > match.max_size:
        return f"it is for files of at most {match.max_size:,} bytes"
    if match.owners and file.uid not in match.owners:
        return "it is for files of other owners"
    if match.older_than_days:
        old_enough_ns = _old_enough_ns(policy, match, file)
        if old_enough_ns is None or old_enough_ns > now_ns:
            return f"it is for files older than {match.older_than_days:,} days"
    return ""


def _old_enough_ns(policy: LifecyclePolicy, match: Match, file: Subject) -> int | None:
    begins_ns = age_begins_ns(file, policy)
    return None if begins_ns is None else begins_ns + match.older_than_days * NS_PER_DAY


def _types(policy: LifecyclePolicy) -> str:
    return "files of type " + ", ".join(file_type.value for file_type in policy.file_types)


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"
