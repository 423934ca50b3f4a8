"""Outcomes that are all alike, as those of a backup are, written by statements over all of them.

What has to be known of each comes in once, in a table of the connection's own; nothing is read into
Python, and between the statements, each of which runs without the interpreter, there is little to
do. `Finishing` does the same, and more, record by record.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import chain
from operator import itemgetter

from lifecycle_sync.bulk_rows import LONG_ROWS, in_bulk
from lifecycle_sync.model.act import DONE_BY_ACT, UNSET, ActOutcome, RecordChange, may_finish
from lifecycle_sync.model.file import Kind, LifecycleState
from lifecycle_sync.registry import codes
from lifecycle_sync.registry.database import Connection
from lifecycle_sync.registry.sqlite_base import ACTS, Locations, Seqs

# How many values the table has of each.
_WIDTH = 11
_VERSION = itemgetter(RecordChange._fields.index("version"))


def finish_alike(
    connection: Connection,
    outcomes: Sequence[ActOutcome],
    now_ns: int,
    seqs: Seqs,
    locations: Locations,
) -> bool:
    """Write all outcomes, or nothing: False where one is of another kind, or its record is not what
    the act worked on."""
    operation_ids, statuses, details, changes = zip(*outcomes, strict=True)
    if (
        None in changes
        or len(set(statuses)) > 1
        or len(set(operation_ids)) < len(outcomes)
        or not all(map(_VERSION, changes))
    ):
        return False
    (
        _,
        states,
        prints,
        looks,
        attributes,
        checksums,
        algorithms,
        backups,
        archives,
        versions,
        set_flags,
        clear_flags,
        paths,
    ) = zip(*changes, strict=True)
    state = states[0]
    # A new state, and nothing else but where the copy lies and what it is.
    same = zip(
        states, looks, attributes, algorithms, archives, set_flags, clear_flags, paths, strict=True
    )
    if (
        state is None
        or state in DONE_BY_ACT
        or set(same) != {(state, None, None, algorithms[0], UNSET, 0, 0, None)}
        or None in prints
        or None in checksums
        or UNSET in backups
    ):
        return False
    kinds, sizes, mtimes, ctimes, inodes = zip(*prints, strict=True)
    version_ids, numbers, version_algorithms, digests, *rest = zip(*versions, strict=True)
    version_sizes, version_mtimes, created, where = rest
    if (
        set(kinds) != {Kind.REGULAR}
        or set(version_algorithms) != {algorithms[0]}
        or len(set(where)) > 1
        or (digests, version_sizes, version_mtimes) != (checksums, sizes, mtimes)
    ):
        return False
    connection.execute(ACTS["make_alike"])
    # Whatever one left that an error ended: not done then, for what it ran on may be gone.
    connection.execute("DELETE FROM temp.alike")
    columns = zip(
        operation_ids,
        details,
        sizes,
        mtimes,
        ctimes,
        inodes,
        checksums,
        backups,
        version_ids,
        numbers,
        created,
        strict=True,
    )
    before = connection.total_changes()
    values = list(chain.from_iterable(columns))
    in_bulk(connection, _fill(state), values, _WIDTH, rows=LONG_ROWS)
    if connection.total_changes() - before != len(outcomes):
        return False
    connection.execute(ACTS["finish_alike"], (statuses[0], now_ns))
    first = seqs.take_many(len(outcomes)).start
    algorithm = codes.ALGORITHM_CODE[algorithms[0]]
    connection.execute(ACTS["change_alike"], (codes.STATE_CODE[state], first - 1, algorithm))
    location = None if where[0] is None else locations[where[0]]
    connection.execute(ACTS["insert_alike"], (algorithm, location))
    return True


@cache
def _fill(state: LifecycleState) -> str:
    """The statement that takes those whose records may become this state where they are."""
    may = (old for old in LifecycleState if old not in DONE_BY_ACT and may_finish(old, state))
    return ACTS["fill_alike"].format(states=", ".join(str(codes.STATE_CODE[old]) for old in may))
