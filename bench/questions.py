"""The questions that `ls` and `find` ask of a registry, each many times with other values."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

from bench.trees import FIRST_NS, SEED, SPAN_NS, directory_path
from lifecycle_sync.model.file import FileType
from lifecycle_sync.model.record import FileQuery
from lifecycle_sync.registry.sqlite import SqliteRegistry

# How far apart the pages of "deep by cursor" are.
_HOP = 1000
_HOUR_NS = 3600 * 10**9


@dataclass(frozen=True, slots=True)
class _Registry:
    """What the makers of questions need to know."""

    store: SqliteRegistry
    repository_id: bytes
    files: int
    directories: int
    limit: int
    chance: random.Random


_Question = Callable[[], object]


def ask_all(store: SqliteRegistry, repeat: int, limit: int) -> dict[str, list[float]]:
    """Milliseconds of `repeat` questions of each kind, pages of `limit` records."""
    (root,) = store.repositories()
    totals = store.directory_totals(root.repository_id)
    known = _Registry(
        store,
        root.repository_id,
        totals.files,
        # Not counting the root and the folders that hold only folders.
        -(-totals.files // 50),
        limit,
        random.Random(SEED),
    )
    # The first question of a process opens its connection.
    store.find(FileQuery(), None, 1)
    times: dict[str, list[float]] = {}
    for kind, make in KINDS.items():
        times[kind] = []
        for question in islice(make(known), repeat):
            begun = time.perf_counter()
            question()
            times[kind].append((time.perf_counter() - begun) * 1000)
    return times


def _find(known: _Registry, cursor: str | None = None, **fields: object) -> _Question:
    query = FileQuery(repository_id=known.repository_id, **fields)  # type: ignore[arg-type]
    return lambda: known.store.find(query, cursor, known.limit)


def _some_directory(known: _Registry) -> bytes:
    return directory_path(known.chance.randrange(known.directories))


def _some_file(known: _Registry) -> int:
    return known.chance.randrange(known.files)


def _some_time(known: _Registry) -> int:
    return FIRST_NS + known.chance.randrange(SPAN_NS)


def _ls_folder(known: _Registry) -> Iterator[_Question]:
    while True:
        yield _find(known, under=_some_directory(known), recursive=False)


def _ls_below(known: _Registry) -> Iterator[_Question]:
    while True:
        yield _find(known, under=_some_directory(known).partition(b"/")[0])


def _deep_by_cursor(known: _Registry) -> Iterator[_Question]:
    query = FileQuery(repository_id=known.repository_id)
    hop = max(min(_HOP, known.files // 64), 1)
    cursor: str | None = None
    while True:
        following = known.store.find(query, cursor, hop).next_cursor
        cursor = following
        yield lambda at=cursor: known.store.find(query, at, known.limit)  # type: ignore[misc]


def _larger(known: _Registry, order: str, low: int, high: int) -> Iterator[_Question]:
    while True:
        yield _find(known, min_size=known.chance.randrange(low, high), order=order)


def _older(known: _Registry, order: str) -> Iterator[_Question]:
    while True:
        yield _find(known, modified_before_ns=_some_time(known), order=order)


def _older_none(known: _Registry, order: str) -> Iterator[_Question]:
    while True:
        before = FIRST_NS - known.chance.randrange(SPAN_NS)
        yield _find(known, modified_before_ns=before, order=order)


def _between(known: _Registry, order: str) -> Iterator[_Question]:
    while True:
        after = _some_time(known)
        yield _find(
            known, modified_after_ns=after, modified_before_ns=after + _HOUR_NS, order=order
        )


def _changed_since(known: _Registry, order: str) -> Iterator[_Question]:
    now = time.time_ns()
    while True:
        # From the last second to more than a day: from nothing at all to everything.
        since = now - int(10 ** known.chance.uniform(0, 5) * 10**9)
        yield _find(known, changed_since_ns=since, order=order)


def _changed_none(known: _Registry, order: str) -> Iterator[_Question]:
    while True:
        since = time.time_ns() + known.chance.randrange(_HOUR_NS)
        yield _find(known, changed_since_ns=since, order=order)


def _type_some(known: _Registry) -> Iterator[_Question]:
    choices = [FileType.DOCUMENT, FileType.IMAGE, FileType.VIDEO, FileType.ARCHIVE]
    while True:
        some = known.chance.sample(choices, known.chance.choice([1, 2]))
        yield _find(known, types=frozenset(some))


def _type_none(known: _Registry, order: str) -> Iterator[_Question]:
    while True:
        yield _find(known, types=frozenset({FileType.AUDIO}), order=order)


def _name_many(known: _Registry) -> Iterator[_Question]:
    while True:
        suffix = known.chance.choice([b"txt", b"jpg", b"pdf", b"mp4"])
        yield _find(known, name_glob=b"*." + suffix)


def _name_one(known: _Registry) -> Iterator[_Question]:
    while True:
        yield _find(known, name_glob=b"file_%07d.*" % _some_file(known))


def _name_none(known: _Registry) -> Iterator[_Question]:
    while True:
        yield _find(known, name_glob=b"*.none%d" % _some_file(known))


def _duplicates(known: _Registry) -> Iterator[_Question]:
    cursor: str | None = None
    while True:
        yield lambda at=cursor: known.store.duplicates(known.repository_id, at, known.limit)  # type: ignore[misc]
        _, cursor = known.store.duplicates(known.repository_id, cursor, 10)


def _top_folders(known: _Registry) -> Iterator[_Question]:
    while True:
        under = known.chance.choice([b"", _some_directory(known).partition(b"/")[0]])
        yield lambda at=under: known.store.top_folders(known.repository_id, at, 20)  # type: ignore[misc]


def _largest(known: _Registry) -> Iterator[_Question]:
    while True:
        limit = known.chance.randrange(5, known.limit + 1)
        yield lambda count=limit: known.store.largest(known.repository_id, count)  # type: ignore[misc]


def _one_path(known: _Registry) -> Iterator[_Question]:
    while True:
        page = known.store.find(
            FileQuery(repository_id=known.repository_id, under=_some_directory(known)), None, 1
        )
        path = page.records[0].path
        yield lambda at=path: known.store.file_at(known.repository_id, at)  # type: ignore[misc]


KINDS: dict[str, Callable[[_Registry], Iterator[_Question]]] = {
    "ls: one folder": _ls_folder,
    "ls: all below a folder": _ls_below,
    "ls: a page deep in the list": _deep_by_cursor,
    "show: one path": _one_path,
    "larger than, few, by path": partial(_larger, order="path", low=66_000, high=250_000),
    "larger than, few, by size": partial(_larger, order="size", low=66_000, high=250_000),
    "larger than, most, by path": partial(_larger, order="path", low=400, high=900),
    "larger than, most, by size": partial(_larger, order="size", low=400, high=900),
    "larger than, none, by path": partial(_larger, order="path", low=10**7, high=10**9),
    "larger than, none, by size": partial(_larger, order="size", low=10**7, high=10**9),
    "older than, by path": partial(_older, order="path"),
    "older than, by time": partial(_older, order="mtime"),
    "older than, none, by path": partial(_older_none, order="path"),
    "older than, none, by time": partial(_older_none, order="mtime"),
    "modified within an hour, by path": partial(_between, order="path"),
    "modified within an hour, by time": partial(_between, order="mtime"),
    "changed since, by path": partial(_changed_since, order="path"),
    "changed since, by change": partial(_changed_since, order="seq"),
    "changed since, none, by path": partial(_changed_none, order="path"),
    "changed since, none, by change": partial(_changed_none, order="seq"),
    "of a type": _type_some,
    "of a type, none, by path": partial(_type_none, order="path"),
    "of a type, none, by size": partial(_type_none, order="size"),
    "of a type, none, by time": partial(_type_none, order="mtime"),
    "name like *.txt": _name_many,
    "name of one file": _name_one,
    "name, none": _name_none,
    "duplicates": _duplicates,
    "top folders": _top_folders,
    "largest": _largest,
}
