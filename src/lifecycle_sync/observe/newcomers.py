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
        now = time.monotonic()
        unseen = self._since.pop(key, None) is not None
        if len(self._since) >= _NAMES_MAX:
            self._forget(now)
            if len(self._since) >= _NAMES_MAX:
                return True
        self._since[key] = now
        if len(self.fresh) < _FRESH_MAX:
            self.fresh.append(key)
        return unseen

    def went(self, wd: int, name: bytes) -> bool:
        """Whether a name that went had come just before, and nobody had looked at it."""
        since = self._since.pop((wd, name), None)
        return since is not None and time.monotonic() - since < _SECONDS

    def seen(self, names: list[Name]) -> None:
        """These have no other name."""
        for key in names:
            self._since.pop(key, None)

    def _forget(self, now: float) -> None:
        for key, since in list(self._since.items()):
            if now - since < _SECONDS:
                break
            del self._since[key]
