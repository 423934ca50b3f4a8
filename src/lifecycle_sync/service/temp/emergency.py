"""The clean-up under pressure: what may go is gathered, put in order, and discarded until it is
enough, exactly."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from lifecycle_sync.decide.pressure import Choice, Tier, excess, tier_of
from lifecycle_sync.model.temp import TempFile
from lifecycle_sync.service.temp.jobs import AskedJobs
from lifecycle_sync.service.temp.provider import asked
from lifecycle_sync.service.temp.sweep import Condemned, Sweep, jobs_of
from lifecycle_sync.service.temp.tally import Tally

if TYPE_CHECKING:
    from lifecycle_sync.service.temp.core import TempCleanup
    from lifecycle_sync.service.temp.trash_first import TrashFirst

_GB = 1 << 30
_TRASH_REASON = "it lies in a trash, and its content has a verified copy"

_log = logging.getLogger("lifecycle_sync.temp")


def relieve(cleanup: TempCleanup, sweep: Sweep, tally: Tally, now_ns: int) -> None:
    """Bring the place down to its low watermark.

    Before each file the place itself is asked whether that is enough, so no more than one file a
    worker goes beyond it. Whose a file is, is asked once more right before its batch goes: a job
    that came back to life meanwhile keeps its files. Where it was never enough, that is an error of
    the clean-up, with what was wanted and what was freed.
    """
    settings, limits, folder = cleanup.settings, cleanup.limits, cleanup.base
    wanted, wanted_inodes = excess(cleanup.usage(), limits)
    if not (wanted or wanted_inodes) or not os.path.isdir(folder):
        return
    base = os.fsencode(folder)
    failed_wait_ns = int(settings.cleanup_failed_jobs_after_hours * 3_600_000_000_000)
    asked_jobs = AskedJobs(cleanup.jobs)
    freed_before, would_before = tally.freed, tally.would_free

    def judged(batch: list[TempFile]) -> Iterator[tuple[TempFile, Tier, str]]:
        batch = cleanup.owned(batch)
        jobs = asked_jobs.look(jobs_of(batch))
        referred = cleanup.referred(batch)
        for file in batch:
            tier, reason = tier_of(
                file,
                jobs,
                now_ns=now_ns,
                failed_wait_ns=failed_wait_ns,
                reference=referred(file),
            )
            if tier is not None and not sweep.kept(file):
                yield file, tier, reason

    reached = False

    def enough() -> bool:
        nonlocal reached
        over, inodes = excess(asked(cleanup.provider, folder), limits)
        # In a dry run nothing gets less.
        found = over <= tally.would_free - would_before and inodes <= tally.would
        reached = reached or found
        return found

    if cleanup.trash is not None and not settings.keep_temp_files_for_debugging:
        _trash(cleanup.trash, folder, enough, sweep, tally)
        if enough():
            return
    choice = Choice(tally.left)
    for batch in sweep.batches(settings.cleanup_batch_size):
        for file, tier, _reason in judged(batch):
            choice.add(file, tier)

    waiting = iter(choice.in_order())
    while not sweep.cancel.cancelled and tally.left and not enough():
        batch = list(islice(waiting, min(settings.cleanup_batch_size, tally.left)))
        if not batch:
            break
        condemned = [Condemned(file, reason) for file, _tier, reason in judged(batch)]
        if settings.keep_temp_files_for_debugging:
            continue
        if tally.dry_run:
            for one in condemned:
                if enough():
                    break
                tally.would_delete(base, one.file, one.reason)
            continue
        sweep.discard(
            condemned,
            lambda one, done: tally.done(base, one.file, one.reason, done),
            workers=settings.max_cleanup_workers,
            enough=enough,
        )
    for error in asked_jobs.errors:
        tally.failed(error, log=False)
    # What others have written since it was enough is for the next one.
    if not (enough() or reached or tally.dry_run):
        _alarm(tally, wanted, wanted_inodes, tally.freed - freed_before, cleanup)


def _trash(
    trash: TrashFirst, folder: str, enough: Callable[[], bool], sweep: Sweep, tally: Tally
) -> None:
    """What only the trash has besides a vault."""
    if tally.dry_run:
        for one in trash.would(folder):
            if enough() or not tally.left or sweep.cancel.cancelled:
                return
            tally.purged(*one, _TRASH_REASON)
        return
    left = tally.left
    asked_for = 0

    def stop() -> bool:
        nonlocal asked_for
        # It is asked before each file, so this is at least how many went.
        asked_for += 1
        return asked_for > left or enough()

    for one in trash.purge(folder, stop, sweep.cancel):
        tally.purged(*one, _TRASH_REASON)


def _alarm(tally: Tally, wanted: int, inodes: int, freed: int, cleanup: TempCleanup) -> None:
    percent = cleanup.settings.warning_threshold
    what = f"wanted {_amount(wanted)}, freed {_amount(freed)}"
    if not wanted:
        what = f"wanted {inodes:,} files, deleted {tally.deleted:,}"
    why = "" if tally.left else "; it stopped at the most files for one clean-up"
    message = f"the emergency clean-up did not reach its target of {percent:g} %: {what}{why}"
    _log.critical("%s", message)
    tally.failed(message, log=False)


def _amount(count: int) -> str:
    if count >= _GB:
        return f"{count / _GB:.1f} GB"
    return f"{count / (1 << 20):.1f} MB" if count else "0"
