"""What runs in a fresh process: one action on the package, its figures on the last line it prints.

    python -m bench.work ACTION '{"argument": ...}'

`work` is what the budget speaks of, in seconds, with the interpreter and its imports left out.
Every action checks that it came by as many files as the tree has: a fast wrong answer is no result.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

from bench import profiles
from bench.act_work import ACTS, Arguments, Result, demand_seen, settings_of
from bench.measure import peak_bytes
from bench.plan_work import PLAN_ACTS
from bench.temp_work import TEMP_ACTS
from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.cli.process import share_heap, spare_collections
from lifecycle_sync.clock import SystemClock
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.record import HashTask
from lifecycle_sync.observe.hash_pool import HashPool
from lifecycle_sync.observe.ignore import IgnoreRules
from lifecycle_sync.observe.native_walker import walk_native
from lifecycle_sync.observe.walker import MARGIN_NS, walk
from lifecycle_sync.registry.sqlite import SqliteRegistry
from lifecycle_sync.service.engine import Engine


def add(arguments: Arguments) -> Result:
    """An empty registry that has the tree as its root."""
    with Engine.open(settings_of(arguments)) as engine:
        engine.add_root(arguments["root"], adopt=True)
    return {}


def remove(arguments: Arguments) -> Result:
    """Take the root's marker away again."""
    with Engine.open(settings_of(arguments)) as engine:
        for repository in engine.roots.all():
            engine.roots.remove(repository)
    return {}


def sync(arguments: Arguments) -> Result:
    """A whole pass, from opening the registry to closing it."""
    begun, cpu = time.perf_counter(), time.process_time()
    with Engine.open(settings_of(arguments)) as engine:
        (report,) = engine.sync(hashes=arguments["hashes"])
    work, cpu = time.perf_counter() - begun, time.process_time() - cpu
    demand_seen(report, arguments)
    counts = report.counts
    return {
        "work": work,
        "cpu": cpu,
        "added": counts.added,
        "directories": counts.directories,
        "unchanged_directories": counts.unchanged_directories,
        "hashed": report.hashes.hashed,
        "hash_seconds": report.hash_seconds,
        "hash_bytes": report.hash_bytes,
    }


def statements(arguments: Arguments) -> Result:
    """How many rows of the table of files a pass read or wrote, and by how many statements."""
    counter = profiles.StatementCounter()
    counter.install()
    result = sync(arguments)
    return result | {
        "statements": counter.all,
        "on_files": counter.on_files,
        "rows": counter.rows,
        "texts": sorted(counter.texts)[:5],
    }


def walker(arguments: Arguments) -> Result:
    """The walk alone."""
    begun = time.perf_counter()
    files = 0
    for listing in (walk_native if arguments["walker"] == "native" else walk)(
        os.fsencode(arguments["root"]),
        IgnoreRules(),
        fs=FileOps(),
        clock=SystemClock(),
        cancel=CancelToken(),
        margin_ns=MARGIN_NS,
    ):
        files += listing.file_count
    work = time.perf_counter() - begun
    if files != arguments["files"]:
        sys.exit(f"{files} files instead of {arguments['files']}")
    return {"work": work}


def hash_pool(arguments: Arguments) -> Result:
    """The hasher alone, over tasks that are there already."""
    root = os.fsencode(arguments["root"])
    tasks = _tasks(root)
    if len(tasks) != arguments["files"]:
        sys.exit(f"{len(tasks)} files instead of {arguments['files']}")
    begun = time.perf_counter()
    good = 0
    with HashPool(arguments["workers"], margin_ns=MARGIN_NS) as pool:
        for results in pool.hash(root, tasks, cancel=CancelToken()):
            good += sum(1 for result in results if result.status == "ok")
    work = time.perf_counter() - begun
    if good != len(tasks):
        sys.exit(f"{good} of {len(tasks)} files were hashed")
    return {"work": work}


def _tasks(root: bytes) -> list[HashTask]:
    tasks: list[HashTask] = []
    for listing in walk(
        root, IgnoreRules(), fs=FileOps(), clock=SystemClock(), cancel=CancelToken()
    ):
        columns = listing.columns
        for name, size, mtime, ctime, inode in zip(
            columns.names,
            columns.sizes,
            columns.mtimes_ns,
            columns.ctimes_ns,
            columns.inodes,
            strict=True,
        ):
            tasks.append(HashTask(len(tasks) + 1, listing.path, name, size, mtime, ctime, inode))
    return tasks


def size(arguments: Arguments) -> Result:
    """Bytes in the database, by table and index."""
    import apsw

    connection = apsw.Connection(arguments["database"], flags=apsw.SQLITE_OPEN_READONLY)
    try:
        rows = connection.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name").fetchall()
        ((files, hashed),) = connection.execute("SELECT count(*), count(checksum) FROM files")
    finally:
        connection.close()
    return {
        "bytes": {str(name): total for name, total in rows},
        "files": files,
        "hashed": hashed,
    }


def pages(arguments: Arguments) -> Result:
    """Questions that `ls` and `find` ask; the milliseconds of each, by kind."""
    from bench.questions import ask_all

    registry = SqliteRegistry.open(arguments["database"])
    try:
        return {"kinds": ask_all(registry, arguments["repeat"], arguments["limit"])}
    finally:
        registry.close()


def facts(arguments: Arguments) -> Result:
    """What only the package's own libraries can say of the machine."""
    import apsw

    from lifecycle_sync import __version__
    from lifecycle_sync.mounts import filesystem_of

    filesystem = filesystem_of(os.fsencode(arguments["scratch"]))
    return {
        "filesystem": filesystem.type,
        "sqlite": apsw.sqlite_lib_version(),
        "lifecycle_sync": __version__,
    }


ACTIONS: dict[str, Callable[[Arguments], Result]] = {
    function.__name__: function
    for function in (
        add,
        remove,
        sync,
        statements,
        walker,
        hash_pool,
        size,
        pages,
        facts,
        *ACTS,
        *TEMP_ACTS,
        *PLAN_ACTS,
    )
}


def main() -> None:
    # As the command does.
    spare_collections()
    share_heap()
    action, arguments = ACTIONS[sys.argv[1]], json.loads(sys.argv[2])
    if arguments.pop("profile", False):
        result = profiles.profiled(lambda: action(arguments))
    else:
        result = action(arguments)
    result.setdefault("peak_bytes", peak_bytes("self"))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
