"""Which directory each watch stands for: a tree of watch descriptors, small enough for many.

A watch stays on its directory wherever that is moved, so a node is a name and the watch of the
directory above it: renaming a directory changes one node, not all below it.
"""

from __future__ import annotations

from collections.abc import Iterator

# In place of a parent: the name is a whole path (that of the root is empty), or nobody knows where
# the directory is.
ANCHORED = -1
LIMBO = -2


class WatchTree:
    """Watch descriptors and where their directories are, by what events have told so far."""

    def __init__(self) -> None:
        self._parents: dict[int, int] = {}
        self._names: dict[int, bytes] = {}
        # Only for watches that have watched directories in them.
        self._children: dict[int, dict[bytes, int]] = {}
        # Paths asked for since something moved last.
        self._paths: dict[int, bytes | None] = {}

    def __len__(self) -> int:
        return len(self._parents)

    def __contains__(self, wd: int) -> bool:
        return wd in self._parents

    def path(self, wd: int) -> bytes | None:
        """Relative to the root; None for what is unknown or in limbo."""
        try:
            return self._paths[wd]
        except KeyError:
            found = self._paths[wd] = self._path(wd)
            return found

    def _path(self, wd: int) -> bytes | None:
        parts: list[bytes] = []
        while True:
            parent = self._parents.get(wd, LIMBO)
            if parent == LIMBO:
                return None
            if name := self._names[wd]:
                parts.append(name)
            if parent == ANCHORED:
                return b"/".join(reversed(parts))
            wd = parent

    def is_above(self, wd: int, other: int) -> bool:
        """Whether the directory of `wd` is that of `other` or above it."""
        while other >= 0:
            if other == wd:
                return True
            other = self._parents.get(other, LIMBO)
        return False

    def child(self, wd: int, name: bytes) -> int | None:
        return self._children.get(wd, _NONE).get(name)

    def place(self, wd: int, parent: int, name: bytes) -> bool:
        """Say where the directory of a watch, new or known, is now. False where it would lie in
        itself, as a mount that goes makes it seem: then nothing is known for sure any more."""
        if wd in self._parents:
            if self.is_above(wd, parent):
                return False
            self._unlink(wd)
        self._parents[wd] = parent
        self._names[wd] = name
        if parent >= 0:
            siblings = self._children.setdefault(parent, {})
            if (other := siblings.get(name)) is not None and other != wd:
                # Another directory was here; where it is now an event will tell.
                self._parents[other] = LIMBO
            siblings[name] = wd
        self._paths.clear()
        return True

    def lose(self, wd: int) -> None:
        """The directory was moved away, and nobody knows where to."""
        self._unlink(wd)
        self._parents[wd] = LIMBO
        self._paths.clear()

    def forget(self, wd: int) -> None:
        """The watch is gone. What lies below it is in limbo."""
        if wd not in self._parents:
            return
        self._unlink(wd)
        for child in self._children.pop(wd, _NONE).values():
            self._parents[child] = LIMBO
        del self._parents[wd]
        del self._names[wd]
        self._paths.clear()

    def below(self, wd: int) -> Iterator[int]:
        """A watch and all below it."""
        pending = [wd]
        while pending:
            wd = pending.pop()
            yield wd
            pending.extend(self._children.get(wd, _NONE).values())

    def forget_paths(self) -> None:
        """Drop the paths that were asked for: nothing happens, and they take room."""
        self._paths.clear()

    def _unlink(self, wd: int) -> None:
        parent = self._parents[wd]
        siblings = self._children.get(parent)
        if siblings is not None and siblings.get(self._names[wd]) == wd:
            del siblings[self._names[wd]]
            if not siblings:
                del self._children[parent]


_NONE: dict[bytes, int] = {}
