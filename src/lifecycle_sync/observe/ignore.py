"""Which entries of a root are not observed.

The default rules are those of the documented sync system: hidden names (a leading '.'), names
ending in '~', '.tmp', '.bak' or '.swp', and 'Thumbs.db'; case counts. A hidden directory is ignored
with all below it; the other defaults speak of files, so a directory `2024.bak` is observed.
Patterns in gitignore syntax come after the defaults: the last rule that matches an entry itself
decides, so `!.config` brings `.config` back (and not the hidden entries inside it), while nothing
brings back what lies in a directory that is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

from lifecycle_sync.errors import ConfigError
from lifecycle_sync.model.gitignore import GitPattern, compile_pattern
from lifecycle_sync.model.repository import PRIVATE_DIRECTORY

# Part of every hash: another number where the same patterns come to mean something else.
_MEANING = b"lifecycle-sync ignore rules 1"
_LITTER_SUFFIXES = (b"~", b".tmp", b".bak", b".swp")
_LITTER_NAME = b"Thumbs.db"


class Sifted(NamedTuple):
    """The ignored names of one directory: whatever they are, only where the entry is not a
    directory, only where it is one."""

    always: frozenset[bytes] = frozenset()
    unless_directory: frozenset[bytes] = frozenset()
    if_directory: frozenset[bytes] = frozenset()


NOTHING = Sifted()


class IgnoreRules:
    """The rules of one root. Immutable, so one instance may serve all threads.

    `hash` (16 bytes) changes with the rules' meaning and is part of every directory signature.
    Raises `ConfigError` with one fault for each pattern that is malformed.
    """

    def __init__(self, patterns: Sequence[str] = (), *, defaults: bool = True) -> None:
        if isinstance(patterns, str):
            raise TypeError("a sequence of patterns, not one string")
        self.patterns = tuple(patterns)
        self.defaults = defaults
        self._patterns = _compile(patterns)
        self._any_name = _any_of(p for p in self._patterns if not p.anchored)
        self._any_path = _any_of(p for p in self._patterns if p.anchored)
        digest = blake2b(_MEANING + bytes([defaults]), digest_size=16)
        for pattern in self._patterns:
            text = pattern.text.encode("utf-8", "surrogateescape")
            digest.update(len(text).to_bytes(8, "little") + text)
        self.hash = digest.digest()

    def ignores(self, path: bytes, is_directory: bool) -> bool:
        """Whether an entry is ignored, itself or with a directory above it.

        `path` is relative to the root; the root itself (empty) is never ignored. Our own directory
        in the root always is.
        """
        if not path:
            return False
        components = path.split(b"/")
        if components[0] == PRIVATE_DIRECTORY:
            return True
        last = len(components) - 1
        for position in range(len(components)):
            entry = b"/".join(components[: position + 1])
            if self._ignores_itself(entry, is_directory or position < last):
                return True
        return False

    def sift(self, directory: bytes, names: list[bytes], joined: bytes) -> Sifted:
        """The ignored ones among the entries of a directory that is not ignored itself.

        `names` are sorted and `joined` is the same with NULs between. This runs for every directory
        of a walk: where all names are ordinary it looks at none of them singly.
        """
        if not names:
            return NOTHING
        sifted = NOTHING
        if self.defaults and (
            # A hidden name sorts before "/", so the first one does as well.
            names[0] < b"/"
            # Looking for one byte is far cheaper than for several.
            or b"~" in joined
            or (b"p" in joined and (b".tmp" in joined or b".swp" in joined))
            or (b"k" in joined and b".bak" in joined)
            or (b"T" in joined and _LITTER_NAME in joined)
        ):
            sifted = _sift_defaults(names)
        if self._patterns:
            return self._sift_patterns(directory, names, joined, sifted)
        return sifted

    def _sift_patterns(
        self, directory: bytes, names: list[bytes], joined: bytes, sifted: Sifted
    ) -> Sifted:
        prefix = _text(directory) + "/" if directory else ""
        texts = _text(joined).split("\0")
        hits: set[int] = set()
        if self._any_name:
            match = self._any_name.fullmatch
            hits.update([at for at, text in enumerate(texts) if match(text)])
        if self._any_path:
            match = self._any_path.fullmatch
            hits.update([at for at, text in enumerate(texts) if match(prefix + text)])
        if not hits:
            return sifted
        ignored_file = set(sifted.always | sifted.unless_directory)
        ignored_directory = set(sifted.always)
        for at in hits:
            for is_directory, ignored in ((False, ignored_file), (True, ignored_directory)):
                verdict = self._verdict(prefix + texts[at], is_directory)
                if verdict is True:
                    ignored.add(names[at])
                elif verdict is False:
                    ignored.discard(names[at])
        return Sifted(
            frozenset(ignored_file & ignored_directory),
            frozenset(ignored_file - ignored_directory),
            frozenset(ignored_directory - ignored_file),
        )

    def _ignores_itself(self, path: bytes, is_directory: bool) -> bool:
        verdict = self._verdict(_text(path), is_directory)
        if verdict is not None:
            return verdict
        name = path.rpartition(b"/")[2]
        return self.defaults and (name.startswith(b".") or (not is_directory and _is_litter(name)))

    def _verdict(self, path: str, is_directory: bool) -> bool | None:
        """What the last pattern that matches says; None where no pattern does."""
        for pattern in reversed(self._patterns):
            if pattern.matches(path, is_directory):
                return not pattern.negated
        return None


def _compile(patterns: Sequence[str]) -> tuple[GitPattern, ...]:
    compiled: list[GitPattern] = []
    faults: list[str] = []
    for line in patterns:
        try:
            pattern = compile_pattern(line)
        except ValueError as error:
            faults.append(f"ignore pattern {line!r}: {error}")
        else:
            if pattern is not None:
                compiled.append(pattern)
    if faults:
        raise ConfigError(faults, remedy="the syntax is that of gitignore")
    return tuple(compiled)


def _any_of(patterns: Iterable[GitPattern]) -> re.Pattern[str] | None:
    """One expression for "some pattern may match", so that most names are looked at once."""
    expressions = [f"(?:{pattern.regex.pattern})" for pattern in patterns]
    return re.compile("|".join(expressions), re.DOTALL) if expressions else None


def _text(name: bytes) -> str:
    """Names as text, whatever the locale; a byte that is not UTF-8 is one character."""
    return name.decode("utf-8", "surrogateescape")


def _is_litter(name: bytes) -> bool:
    return name.endswith(_LITTER_SUFFIXES) or name == _LITTER_NAME


def _sift_defaults(names: list[bytes]) -> Sifted:
    hidden = frozenset([name for name in names if name.startswith(b".")])
    litter = frozenset([name for name in names if _is_litter(name)])
    return Sifted(hidden, litter) if hidden or litter else NOTHING
