"""What a person has said that stands above policies: holds, and confirmations of guards."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Hold:
    """Keeps acts from files: one by its id, or all that a query names.

    A query is an absolute path, as text: of a file, of a folder with all below it, or a shell
    pattern in which `*` stands for slashes too. Bytes that are not UTF-8 are written `\\xNN`, as
    the documented tables show them. Times are nanoseconds since 1970 UTC.
    """

    hold_id: bytes
    file_id: bytes | None
    query: str | None
    reason: str
    owner: str
    created_ns: int
    ends_ns: int | None = None
    released_ns: int | None = None

    def is_active(self, now_ns: int) -> bool:
        """Whether it holds at that time."""
        return self.released_ns is None and (self.ends_ns is None or self.ends_ns > now_ns)

    def names(self, path: str) -> bool:
        """Whether its query names a path, which is absolute and written as the query is."""
        query = self.query
        if query is None:
            return False
        return path == query or path.startswith(query + "/") or fnmatchcase(path, query)


def normal(query: str) -> str:
    """A query as it is kept: as the documented tables show paths, without slashes at its end."""
    text = query.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text.rstrip("/") or text


class Confirmation(NamedTuple):
    """A person agreed to what a guard held. `evidence` is what they were shown."""

    repository_id: bytes
    guard: str
    evidence: str
    at_ns: int


class Switch(NamedTuple):
    """What a person has switched on for all processes of a registry: "pause" stops everything that
    takes files away."""

    name: str
    reason: str
    owner: str
    at_ns: int
