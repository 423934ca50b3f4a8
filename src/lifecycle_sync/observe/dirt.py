"""What may have changed in a root since it was looked at last: hints, which only a look settles."""

from __future__ import annotations

from dataclasses import dataclass, field

# More names of one directory, or of all, are no longer told one by one.
NAMES_MAX = 10_000
NAMES_MAX_ALL = 200_000
_RENAMES_MAX = 10_000


@dataclass(slots=True)
class Dirt:
    """Paths are relative to the root.

    `folders` are to be listed again; beside each, the names whose content may have changed though
    nothing else of them did (None: any of them). `deep` are those that came, went or were
    replaced: all that is known below is doubtful. `renames` are files from where they were to where
    they went. `cookies` are names of files by which somebody asks whether all that happened before
    is recorded. With `lost` events are missing, and only a look at everything helps. With `unseen`
    something came and went before anybody looked, and if that was another name of a file, nobody
    knows which file has changed.
    """

    folders: dict[bytes, set[bytes] | None] = field(default_factory=dict)
    deep: set[bytes] = field(default_factory=set)
    renames: dict[bytes, bytes] = field(default_factory=dict)
    cookies: list[bytes] = field(default_factory=list)
    lost: bool = False
    unseen: bool = False
    _names: int = 0

    def __bool__(self) -> bool:
        return bool(self.folders or self.deep or self.cookies or self.lost or self.unseen)

    def folder(self, path: bytes) -> None:
        """A directory is to be listed again."""
        if path not in self.folders:
            self.folders[path] = _NOTHING

    def content(self, path: bytes, name: bytes) -> None:
        """A file was written to."""
        names = self.folders.get(path, _NOTHING)
        if names is None:
            return
        if names is _NOTHING:
            names = self.folders[path] = set()
        before = len(names)
        names.add(name)
        self._names += len(names) - before
        if len(names) > NAMES_MAX or self._names > NAMES_MAX_ALL:
            self._names -= len(names)
            self.folders[path] = None

    def tree(self, path: bytes) -> None:
        """A directory came, went or was replaced, with all that was below it."""
        self.folder(path)
        self.deep.add(path)

    def rename(self, old: bytes, new: bytes) -> None:
        """A file went from one path to another."""
        if len(self.renames) < _RENAMES_MAX:
            self.renames[old] = new

    def add(self, other: Dirt) -> None:
        """What another one has, too; its names win over nothing, and nothing is forgotten."""
        for path, names in other.folders.items():
            mine = self.folders.get(path, _NOTHING)
            if names is None or mine is None:
                self.folders[path] = None
            elif names or path not in self.folders:
                self.folders[path] = mine | names if mine else names
        self._names += other._names
        self.deep |= other.deep
        self.renames.update(other.renames)
        self.cookies += other.cookies
        self.lost = self.lost or other.lost
        self.unseen = self.unseen or other.unseen


# Shared by all directories without names, so that a burst of them costs little. Never added to.
_NOTHING: set[bytes] = set()
