"""What is kept is tended while `run` goes on: read again, healed, restored for a trial.

So many bytes of each vault and of its copies are read every few hours that all of them are within
`verify_days`, those first that were read the longest ago; what is damaged is healed at once. Every
`drill_days` some versions of each root are restored for a trial; every `prune_days`, where that is
wanted, the backup vault is pruned. After a backup the copies that the
settings name are brought up to date; one that is away is told, and tried with the next backup.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Sequence

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import NS_PER_DAY, NS_PER_SECOND
from lifecycle_sync.errors import CancelledError, LifecycleError, StorageError
from lifecycle_sync.model.check import DRILL, PRUNE, VERIFY
from lifecycle_sync.model.repository import Repository
from lifecycle_sync.service.act_orders import How
from lifecycle_sync.service.drill import DrillOutcome, drill
from lifecycle_sync.service.engine import Engine
from lifecycle_sync.service.progress import NoProgress
from lifecycle_sync.service.pruning import PruneOutcome, Pruning, prune_vault
from lifecycle_sync.service.scheduler import note_loop
from lifecycle_sync.service.verifying import Manner, VaultOutcome, verify_vault
from lifecycle_sync.vault.vault import VaultKind

_log = logging.getLogger(__name__)
VERIFYING, DRILLING, COPIES = "verify", "restore drill", "vault copies"
PRUNING = "prune"
_INTERVAL_SECONDS = 6 * 3600.0
# After a long time away only so much is made up for at once.
_SHARE_INTERVALS_MAX = 4
_MB = 1_000_000


class Tending:
    """Verifies and drills, in a thread of its own, from `start` to `stop`. `roots` are those that
    are followed; `on_trouble` is told of damage and of drills that failed, in that thread."""

    def __init__(
        self,
        engine: Engine,
        roots: Callable[[], Sequence[Repository]],
        on_trouble: Callable[[LifecycleError], None],
        *,
        interval_seconds: float = _INTERVAL_SECONDS,
        first_seconds: float = 60.0,
    ) -> None:
        self._engine = engine
        self._roots = roots
        self._on_trouble = on_trouble
        self._interval_seconds = interval_seconds
        self._first_seconds = first_seconds
        self._cancel = CancelToken()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        settings = self._engine.settings
        if settings.verify_days or settings.drill_days or settings.prune_days:
            self._thread = threading.Thread(target=self._run, name="lifecycle-tend", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End within a second or so; the next start goes on from there."""
        self._cancel.cancel()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        # Not at once: a start has enough to do.
        wait = self._first_seconds
        while not self._cancel.wait(wait):
            wait = self._interval_seconds
            try:
                self._do(VERIFYING, self._verify)
                self._do(DRILLING, self._drill)
                self._do(PRUNING, self._prune)
            except CancelledError:
                return

    def _do(self, name: str, work: Callable[[], bool]) -> None:
        begun, failure = time.monotonic(), ""
        try:
            if not work():
                return
        except CancelledError:
            raise
        except LifecycleError as error:
            failure = str(error)
            self._on_trouble(error)
        except OSError as error:
            failure = str(error)
            _log.warning("%s: %s", name, error)
        took, engine = time.monotonic() - begun, self._engine
        note_loop(
            engine.registry,
            engine.now_ns(),
            name,
            took=took,
            until_next=self._interval_seconds,
            failure=failure,
        )

    def _verify(self) -> bool:
        failures = []
        done = False
        for kind in VaultKind:
            outcome = verify_slice(
                self._engine, kind, self._cancel, interval=self._interval_seconds
            )
            if outcome is not None:
                done = True
                failures += _faults(outcome)
        if failures:
            raise StorageError(
                "; ".join(failures),
                operation="verify",
                remedy="`lifecycle verify --all` lists all damage; what could be healed was",
            )
        return done

    def _prune(self) -> bool:
        outcome = prune_due(self._engine, self._cancel)
        if outcome is not None and outcome.exit_code:
            kept = len(outcome.vault.unsaved)
            raise StorageError(
                f"{kept} files have something in them that cannot be read, and were kept"
                if kept
                else "not all could be pruned",
                operation="prune",
                subject=outcome.path,
                remedy="`lifecycle vault prune` tells more; `lifecycle verify` of the damage",
            )
        return outcome is not None

    def _drill(self) -> bool:
        outcomes = drill_due(self._engine, self._roots(), self._cancel)
        failed = [it for it in outcomes if not it.ok]
        for outcome in failed:
            if outcome.error is not None:
                raise outcome.error
        if failed:
            count = sum(len(it.failures) for it in failed)
            raise StorageError(
                f"{count} versions did not come back as they were kept"
                f" ({failed[0].failures[0].reason})",
                operation="drill",
                subject=failed[0].repository.path,
                remedy="`lifecycle verify --all --heal`, and look at the disk of the vault",
            )
        return bool(outcomes)


def prune_due(engine: Engine, cancel: CancelToken) -> PruneOutcome | None:
    """Prune the backup vault, if the last time is so long ago; None where it is not due, or nothing
    is there. Raises `VaultError`, `GuardError`, `CancelledError`."""
    days, now_ns = engine.settings.prune_days, engine.now_ns()
    if not days or not engine.vaults.is_there(VaultKind.BACKUP):
        return None
    path = os.fsencode(engine.vaults.path(VaultKind.BACKUP))
    last_ns = _last_ns(engine, PRUNE, path)
    if last_ns <= now_ns < last_ns + days * NS_PER_DAY:
        return None
    return prune_vault(engine, Pruning(sweep=True), How(cancel=cancel))


def verify_slice(
    engine: Engine,
    kind: VaultKind,
    cancel: CancelToken,
    *,
    interval: float = _INTERVAL_SECONDS,
) -> VaultOutcome | None:
    """Read the share of a vault and its copies that is due by now, and heal what is damaged; None
    where nothing is due, or nothing is there. Raises `VaultError`, `CancelledError`."""
    settings = engine.settings
    if not settings.verify_days or not engine.vaults.is_there(kind):
        return None
    now_ns = engine.now_ns()
    done_ns = _last_ns(engine, VERIFY, os.fsencode(engine.vaults.path(kind)))
    elapsed_ns = now_ns - done_ns if 0 < done_ns <= now_ns else int(interval * NS_PER_SECOND)
    if elapsed_ns < interval * NS_PER_SECOND / 2:
        # Another process, or a person, has just done it.
        return None
    longest_ns = _SHARE_INTERVALS_MAX * interval * NS_PER_SECOND
    share = min(elapsed_ns, longest_ns) / (settings.verify_days * NS_PER_DAY)
    rate = settings.verify_megabytes_per_second
    manner = Manner(
        min(share, 1.0),
        heal=True,
        rate=None if rate is None else rate * _MB,
        # A small vault is not read again and again.
        before_ns=now_ns - settings.verify_days * NS_PER_DAY // 2,
    )
    return verify_vault(engine, kind, manner, progress=NoProgress(), cancel=cancel)


def _faults(outcome: VaultOutcome) -> list[str]:
    healed = [it for it in outcome.damage if it.healed]
    for it in healed:
        _log.warning("%s: %s: %s: healed", outcome.path, it.subject, it.detail)
    found = [f"{outcome.path}: {it.subject} {it.detail}" for it in outcome.damage if not it.healed]
    return found + [
        f"{copy.path}: {copy.check.damaged[0][0]} {copy.check.damaged[0][1]}"
        for copy in outcome.copies
        if copy.check is not None and not copy.ok
    ]


def drill_due(
    engine: Engine, roots: Sequence[Repository], cancel: CancelToken
) -> list[DrillOutcome]:
    """Drill those roots whose last drill is so long ago. Raises `CancelledError`."""
    settings, now_ns = engine.settings, engine.now_ns()
    if not settings.drill_days:
        return []
    due = []
    for repository in roots:
        last_ns = _last_ns(engine, DRILL, repository.repository_id)
        fresh = last_ns <= now_ns < last_ns + settings.drill_days * NS_PER_DAY
        if not fresh and engine.registry.acts(repository.repository_id, 1):
            due.append(repository)
    if not due:
        return []
    return drill(
        engine,
        due,
        sample=settings.drill_files,
        seed=random.SystemRandom().randrange(1_000_000),
        progress=NoProgress(),
        cancel=cancel,
    )


def _last_ns(engine: Engine, what: str, subject: bytes) -> int:
    return next(
        (
            it.ended_ns
            for it in engine.registry.checks()
            if (it.what, it.subject) == (what, subject)
        ),
        0,
    )
