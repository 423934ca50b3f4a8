"""When a root that is followed is looked at: once it is quiet, again after a failure, once more
where files have several names, and as a whole now and then where something is in doubt.

Times are monotonic seconds. Not thread-safe: whoever has it has a lock.
"""

from __future__ import annotations

from collections.abc import Collection

NEVER = float("inf")
# Dirt that keeps coming is settled after this many debounce intervals.
_PATIENCE = 4
# A look that takes long is followed by a pause of so many times as long, while events come.
_REST = 5
_RETRY_SECONDS = 0.1
_RETRY_SECONDS_MAX = 60.0
# A file with several names is looked at again after these.
_LINKS_SECONDS = (1.0, 5.0, 30.0)
# A look at everything because of a doubt is followed by so many times as long without another.
_DOUBT_REST = 500


class Pace:
    """The times of one root. Dirt waits for `debounce_seconds` without more of it, or four times
    that in all; how long the last look took bounds how soon the next one comes. Looks at everything
    are `doubt_seconds` apart at least, where a doubt is all there is."""

    def __init__(self, debounce_seconds: float, doubt_seconds: float, now: float) -> None:
        self._debounce_seconds = debounce_seconds
        # Since when the oldest dirt has been waiting.
        self.dirty_since: float | None = None
        self._last_dirty = 0.0
        self._ended, self._took = now, 0.0
        self.retry_at = NEVER
        self._retry_seconds = _RETRY_SECONDS
        # When directories with links are looked at once more, and for which time.
        self._later: dict[bytes, tuple[float, int]] = {}
        self._doubt_seconds = doubt_seconds
        self._doubted = NEVER
        self._free_from = now

    def dirty(self, now: float) -> None:
        """There is more dirt."""
        self._last_dirty = now
        if self.dirty_since is None:
            self.dirty_since = now

    def looked(self, begun: float, ended: float) -> None:
        """A look began and ended."""
        self._ended, self._took = ended, ended - begun

    def went_well(self) -> None:
        """The next failure is the first one."""
        self._retry_seconds = _RETRY_SECONDS

    def try_again(self, now: float) -> None:
        """A look failed, or not all of it was certain."""
        self.retry_at = now + self._retry_seconds
        self._retry_seconds = min(2 * self._retry_seconds, _RETRY_SECONDS_MAX)

    def take_retry(self, now: float) -> bool:
        """Whether it is time to try again; it is then being done."""
        due = now >= self.retry_at
        if due:
            self.retry_at = NEVER
        return due

    def links(self, folders: Collection[bytes], now: float) -> None:
        """Look at these some times more: a name that came and went elsewhere tells no watcher of
        the others."""
        self._later.update((path, (now + _LINKS_SECONDS[0], 0)) for path in folders)

    def take_links(self, now: float) -> list[bytes]:
        """Those to be looked at by now."""
        due = [(path, turn) for path, (at, turn) in self._later.items() if at <= now]
        for path, turn in due:
            del self._later[path]
            if turn + 1 < len(_LINKS_SECONDS):
                self._later[path] = (now + _LINKS_SECONDS[turn + 1], turn + 1)
        return [path for path, _ in due]

    def doubt(self, now: float) -> None:
        """Something may have changed that nobody was told of."""
        self._doubted = min(self._doubted, now)

    def looked_at_all(self, begun: float, ended: float) -> None:
        """A look at everything began and ended."""
        if self._doubted <= begun:
            self._doubted = NEVER
        self._free_from = ended + max(self._doubt_seconds, _DOUBT_REST * (ended - begun))

    def doubt_due(self, now: float, asked: bool) -> bool:
        """Whether everything is to be looked at for a doubt; where somebody has asked and waits, at
        once."""
        return self._doubted != NEVER if asked else now >= self._check_at()

    def _check_at(self) -> float:
        return max(self._doubted + self._debounce_seconds, self._free_from)

    def due_at(self) -> float:
        """When the next look is due, for whichever of these reasons."""
        due = [self.retry_at, self._check_at(), *(at for at, _ in self._later.values())]
        if self.dirty_since is not None:
            quiet = max(self._last_dirty + self._debounce_seconds, self._ended + self._took)
            patience = max(_PATIENCE * self._debounce_seconds, _REST * self._took)
            due.append(min(quiet, self.dirty_since + patience))
        return min(due)
