"""Policies as documents and in words: read from a file with every fault, shown to people."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, fields, replace
from typing import Any

import msgspec

from lifecycle_sync.errors import UsageError
from lifecycle_sync.model.policy import KeepRules, LifecyclePolicy, Match, faults_of

_FIELDS = frozenset(field.name for field in fields(LifecyclePolicy))
_INNER = {
    "match": frozenset(field.name for field in fields(Match)),
    "keep": frozenset(field.name for field in fields(KeepRules)),
}


def policy_fields(policy: LifecyclePolicy) -> dict[str, Any]:
    """A policy as JSON: the documented keys, and the others where they say something."""
    document = asdict(policy)
    if policy.match is None:
        del document["match"]
    return document


def read_policies(
    path: str | os.PathLike[str], *, allow_empty: bool = False
) -> list[LifecyclePolicy]:
    """The policies of a JSON file: one object, or a list of them. Raises `UsageError` with every
    fault of all of them."""
    try:
        with open(path, "rb") as file:
            document = json.loads(file.read())
    except OSError as error:
        raise _refused(path, (error.strerror or str(error)).lower(), "check the path") from error
    except ValueError as error:
        raise _refused(path, f"is no JSON ({error})", "see docs/reference/policies.md") from error
    found: list[LifecyclePolicy] = []
    faults: list[str] = []
    for given in document if isinstance(document, list) else [document]:
        name = given.get("name", "a policy") if isinstance(given, dict) else "a policy"
        try:
            policy = policy_of(given)
        except ValueError as error:
            faults.append(f"{name}: {error}")
            continue
        faults += (f"{name}: {fault}" for fault in faults_of(policy, allow_empty=allow_empty))
        if any(policy.name == other.name for other in found):
            faults.append(f"{name}: stands there twice")
        found.append(policy)
    if faults:
        raise _refused(path, "; ".join(faults), "see docs/reference/policies.md")
    return found


def policy_of(given: object) -> LifecyclePolicy:
    """A policy from its document. Raises `ValueError` for what is none, and for fields that no
    policy has: one that is misspelt would be a rule that is not there."""
    if isinstance(given, dict):
        odd = sorted(set(given) - _FIELDS)
        for name, known in _INNER.items():
            inner = given.get(name)
            if isinstance(inner, dict):
                odd += (f"{name}.{key}" for key in sorted(set(inner) - known))
        if odd:
            raise ValueError(f"no policy has {', '.join(odd)}")
    try:
        return msgspec.convert(given, LifecyclePolicy)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error


def changed(policy: LifecyclePolicy, **given: Any) -> LifecyclePolicy:
    """A policy with what is given (not None) changed in it; its match and keep rules, too."""
    match_fields = {
        "paths", "exclude", "min_size", "max_size", "owners", "older_than_days",
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None and value != ()}
    document = asdict(policy)
    match = dict(document["match"] or {})
    match.update({name: _listed(given.pop(name)) for name in match_fields & set(given)})
    keep = dict(document["keep"])
    keep.update({name: given.pop(f"keep_{name}") for name in keep if f"keep_{name}" in given})
    other = policy_of({**document, **{name: _listed(it) for name, it in given.items()},
                       "match": match or None, "keep": keep})  # fmt: skip
    return replace(other, name=policy.name)


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def rules_of(policy: LifecyclePolicy) -> list[str]:
    """What a policy does, in sentences."""
    said = []
    if policy.backup_frequency_hours:
        hours = policy.backup_frequency_hours
        often = {24: "every day", 168: "every week"}.get(hours, f"every {hours} hours")
        said.append(f"what changed is backed up {often}, {_kept(policy)}")
    else:
        said.append("never backed up")
    for name, days, auto in (
        ("archived", policy.archive_after_days, policy.auto_archive),
        ("deleted", policy.delete_after_days, policy.auto_delete),
    ):
        if auto:
            said.append(f"{name} after {'1 day' if days == 1 else f'{days:,} days'}")
        else:
            said.append(f"never {name} by itself")
    if policy.retention_days:
        said.append(f"its retention ends after {policy.retention_days:,} days")
    if policy.auto_delete and policy.grace_days != LifecyclePolicy("").grace_days:
        said.append(f"what was deleted lies in the trash for {policy.grace_days} days")
    if policy.verified_copies:
        copies = "1 place" if policy.verified_copies == 1 else f"{policy.verified_copies} places"
        text = f"deleted only when {copies} were verified within"
        said.append(f"{text} {policy.verified_within_days} days to hold it")
        if policy.verified_places:
            said[-1] += f", {', '.join(policy.verified_places)} among them"
    if policy.copies is not None:
        goes = f"to {', '.join(policy.copies)} alone" if policy.copies else "to none"
        said.append(f"of the copies of the vault it goes {goes}")
    if policy.age_from == "downloaded":
        said.append("age counts from when it was last downloaded; without that it does not age")
    elif policy.age_from != "later":
        said.append(f"age counts from when it was {policy.age_from.value}")
    return said


def _kept(policy: LifecyclePolicy) -> str:
    if not policy.versioning_enabled:
        return "the newest version is kept"
    rules = [
        f"{getattr(policy.keep, name)} {name}"
        for name in KeepRules.__slots__
        if getattr(policy.keep, name)
    ]
    number = policy.max_versions
    kept = "1 version is kept" if number == 1 else f"{number} versions are kept"
    return f"{kept}, and {', '.join(rules)}" if rules else kept


def for_whom(policy: LifecyclePolicy) -> str:
    """Which files a policy is for, in short."""
    words = []
    if policy.file_types:
        words.append(", ".join(file_type.value for file_type in policy.file_types))
    match = policy.match
    if match is not None:
        words += match.paths
        words += (f"not {pattern}" for pattern in match.exclude)
        if match.min_size is not None:
            words.append(f"from {match.min_size:,} bytes")
        if match.max_size is not None:
            words.append(f"up to {match.max_size:,} bytes")
        if match.owners:
            words.append("owned by " + ", ".join(map(str, match.owners)))
        if match.older_than_days:
            words.append(f"older than {match.older_than_days:,} days")
    if words:
        return "; ".join(words)
    return "all others" if policy.name == "default" else "files that it is assigned to"


def _refused(path: str | os.PathLike[str], cause: str, remedy: str) -> UsageError:
    return UsageError(cause, operation="read policies", subject=os.fspath(path), remedy=remedy)
