"""Files that came to a watched directory, until they were seen to have no other name.

A second name of a file (`link`), written through and taken away again before anybody looked, leaves
nothing to look at: its events do not say which file it was, and those who have the other name are
told nothing. So who came and went unseen is worth a doubt. Most that come are seen to have one name
a moment later; those that are not, such as temporary files of a few milliseconds, cast it.
"""

from __future__ import annotations

import time

# How long it may take to look at the directory; after that the names that went are missed there.
_SECONDS = 10.0
_NAMES_MAX = 20_000
# So many are looked at, one by one, once it is quiet; a burst is left to time.
_FRESH_MAX = 256

_NEVER = float("-inf")

Name = tuple[int, bytes]


class Newcomers:
    """Names by the watch of their directory. `fresh` are those to be looked at once it is quiet."""

    def __init__(self) -> None:
        self.fresh: list[Name] = []
        self._since: dict[Name, float] = {}

    def came(self, wd: int, name: bytes) -> bool:
        """Note a name that came; whether one that nobody had looked at was in its place, or there
        are more than can be noted."""
        key = (wd, name)
        unseen = self._since.pop(key, None) is not None
        if not self._note(key):
            return True
        if len(self.fresh) < _FRESH_MAX:
            self.fresh.append(key)
        return unseen

    def folder(self, wd: int) -> bool:
        """Note a directory that came; whether there are more than can be noted. What was in it
        before it was watched no event has told of."""
        return not self._note((wd, b""))

    def went(self, wd: int, name: bytes) -> bool:
        """Whether a name that went had come just before, or its directory had, and nobody had
        looked at it."""
        now = time.monotonic()
        came = max(self._since.pop((wd, name), _NEVER), self._since.get((wd, b""), _NEVER))
        return now - came < _SECONDS

    def seen(self, names: list[Name]) -> None:
        """These have no other name."""
        for key in names:
            self._since.pop(key, None)

    def _note(self, key: Name) -> bool:
        """Whether there was room for it."""
        now = time.monotonic()
        if len(self._since) >= _NAMES_MAX:
            self._forget(now)
        if len(self._since) >= _NAMES_MAX:
            return False
        self._since.pop(key, None)
        self._since[key] = now
        return True

    def _forget(self, now: float) -> None:
        # In the order of their times, so that a burst does not look at all of them for each.
        while self._since:
            key = next(iter(self._since))
            if now - self._since[key] < _SECONDS:
                return
            del self._since[key]
