"""Names of temporary files that say which job and chunk they belong to.

A pattern is text with `{job_id}`, optionally `{chunk_id}`, and a `*` at its end, such as
`job_{job_id}_chunk_{chunk_id}_*`. What stands before `{chunk_id}`'s own text is also the pattern of
files that are a job's but no chunk's: `job_{job_id}_*`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

DEFAULT_PATTERN = "job_{job_id}_chunk_{chunk_id}_*"
_PATTERN = re.compile(r"([^*{}/]+)\{job_id\}([^*{}/]+)(?:\{chunk_id\}([^*{}/]+))?\*")
# How many longer ids a name without a chunk is tried for.
_PERHAPS_MAX = 3


class JobName(NamedTuple):
    """`perhaps` are longer ids that the name may mean as well: `job_1_2_x` is job 1's, or 1_2's."""

    job_id: str
    chunk_id: str | None = None
    perhaps: tuple[str, ...] = ()


class JobNames:
    """One pattern. Raises `ValueError` for what is none."""

    def __init__(self, pattern: str = DEFAULT_PATTERN) -> None:
        found = re.fullmatch(
            r"([^*{}/]+)\{job_id\}([^*{}/]+)(?:\{chunk_id\}([^*{}/]+))?\*", pattern
        )
        if found is None:
            raise ValueError(
                "a pattern of names is like job_{job_id}_* or job_{job_id}_chunk_{chunk_id}_*:"
                " text, {job_id}, text, and perhaps {chunk_id} and text, then *"
            )
        self.pattern = pattern
        self._head, middle, after_chunk = found.groups()
        self._middle, self._after_chunk = middle, after_chunk
        # What ends the id in the name of a file that is no chunk's.
        self._separator = middle[0] if after_chunk is not None else middle
        self._whole = (
            re.compile(
                f"{re.escape(self._head)}(.+?){re.escape(middle)}(.+?){re.escape(after_chunk)}.+",
                re.DOTALL,
            )
            if after_chunk is not None
            else None
        )

    def parse(self, name: str) -> JobName | None:
        """Whose a file of that name is; None for a name that is no job's."""
        if not name.startswith(self._head):
            return None
        if self._whole is not None:
            found = self._whole.fullmatch(name)
            if found is not None:
                return JobName(found.group(1), found.group(2))
        parts = name[len(self._head) :].split(self._separator)
        if len(parts) < 2 or not parts[0] or not parts[-1]:
            return None
        longer = range(2, min(len(parts), 2 + _PERHAPS_MAX))
        return JobName(parts[0], None, tuple(self._separator.join(parts[:n]) for n in longer))

    def name_of(self, job_id: str, chunk_id: str, rest: str) -> str:
        """The name of a chunk's file. Raises `ValueError` where the pattern has no chunks."""
        if self._after_chunk is None:
            raise ValueError(f"the pattern {self.pattern} has no chunks")
        return f"{self._head}{job_id}{self._middle}{chunk_id}{self._after_chunk}{rest}"
