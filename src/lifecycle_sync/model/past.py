"""A file as it was at a moment of the past."""

from __future__ import annotations

from typing import NamedTuple

from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.model.file import Kind


class PastFile(NamedTuple):
    """A file as it was. `path` is relative to the root; `at_ns` is when the version was kept (of
    what was never kept: when its record changed), `content` is None for a symlink and for what is
    not hashed."""

    file_id: bytes
    path: bytes
    number: int
    version_id: bytes
    at_ns: int
    kind: Kind
    size: int
    mtime_ns: int
    content: ContentKey | None
