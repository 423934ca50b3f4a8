"""`lifecycle run`: the main job. Registers folders, indexes them, and goes on following them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from lifecycle_sync.cli.command import command, directory_argument
from lifecycle_sync.cli.live import Live
from lifecycle_sync.cli.output import flush, on_terminal, write_json, write_line
from lifecycle_sync.cli.passes import (
    check_configured,
    register_configured,
    say_added,
    telling_what_was_done,
)
from lifecycle_sync.cli.process import (
    cancelled_by_signals,
    hear_signals,
    is_worth_renewing,
    noted_hangup,
    renew,
    was_renewed,
)
from lifecycle_sync.cli.progress import progress_for
from lifecycle_sync.cli.session import Session
from lifecycle_sync.cli.words import count_text, duration_text, name_text, time_text
from lifecycle_sync.errors import CancelledError, ConfigError, LifecycleError
from lifecycle_sync.service.api import (
    CancelToken,
    Repository,
    below,
    import_summaries,
    path_fields,
    summary_fields,
    summary_of,
    to_iso,
    to_text,
    utf8_text,
)

if TYPE_CHECKING:
    from threading import Event

    from lifecycle_sync.service.api import Action, Settings
    from lifecycle_sync.service.cycle import SyncReport
    from lifecycle_sync.service.enforcing import Enforced
    from lifecycle_sync.service.engine import Engine
    from lifecycle_sync.service.look import Settled
    from lifecycle_sync.service.outcome import PassOutcome
    from lifecycle_sync.service.watching import Watching


@command(
    "run",
    notes="A signal (^C) ends it at the next safe point, a second one at once. With --json it gives"
    " one line a pass and root.",
    examples="""
        lifecycle run ~/Pictures --once
        lifecycle run /srv/uploads /srv/media --interval 60
        lifecycle run
    """,
)
@directory_argument("dir", many=True, required=False)
@click.option("--once", is_flag=True, help="End after the first pass and its summary.")
@click.option(
    "--enforce",
    is_flag=True,
    help="Let policies archive and delete in these folders; it is remembered. Without it they are"
    " backed up, and policies only advise.",
)
@click.option(
    "--no-policies", is_flag=True, help="Only keep the registry in step: back nothing up either."
)
@click.option("--no-hash", is_flag=True, help="Do not hash: no duplicates, no damage is found.")
@click.option("--events", is_flag=True, help="Show a line for each file that changes.")
@click.option("--no-watch", is_flag=True, help="Do not watch: look at all at every interval.")
@click.option(
    "--interval",
    type=click.IntRange(1, 366 * 86_400),
    metavar="SECONDS",
    help="Between two looks at what is not told by the kernel"
    " (default: registry_sync_interval of the settings, 300).",
)
def run(
    session: Session,
    dir: tuple[str, ...],
    *,
    once: bool,
    enforce: bool,
    interval: int | None,
    events: bool,
    **without: bool,
) -> int:
    """Register folders, index and hash them, do what policies ask for, and keep following them.

    What changes is recorded within a second or so, and shown: a line a look, or with --events a
    line a file.

    Without DIR the folders of the settings are registered and all roots followed. A folder that is
    new is backed up, and policies only advise what else they would do, until --enforce. A second
    run takes up where the first one stood, also after a crash. Ends with ^C or SIGTERM.
    """
    from lifecycle_sync.service.orders import preview_roots

    settings = session.settings(registry_sync_interval=interval)
    if dir:
        preview_roots(settings, dir)
    else:
        check_configured(settings, "run")
    cancel, calm = CancelToken(), was_renewed()
    with cancelled_by_signals(cancel), noted_hangup() as hangup:
        hear_signals()
        while True:
            with session.engine(settings, create=True) as engine:
                follower = _Follower(
                    session,
                    engine,
                    hashes=not without["no_hash"],
                    policies=not without["no_policies"],
                    cancel=cancel,
                    hangup=hangup,
                    calm=calm,
                    events=events,
                )
                watch = not (without["no_watch"] or once)
                code = follower.run(dir, once=once, enforce=enforce, watch=watch)
            if code == _RENEW:
                renew(cancel)
                if cancel.cancelled:
                    session.say("Ended by a signal; what was recorded stays")
                    return 0
            elif code is not None:
                return code
            hangup.clear()
            calm = True
            settings = _read_again(session, settings, interval)


def _read_again(session: Session, before: Settings, interval: int | None) -> Settings:
    """The settings as they are in their file by now; one with faults changes nothing."""
    try:
        settings = session.settings(registry_sync_interval=interval)
    except ConfigError as error:
        session.warn(f"lifecycle: {error}; the settings stay as they were")
        return before
    session.say("Settings read again")
    return settings


_RENEW = -1


def _import_what_tells() -> None:
    """Import what is needed after the first pass before it: the classes of a module that comes
    among a million records stay where those were, and each keeps a megabyte with it."""
    import lifecycle_sync.cli.acting
    import lifecycle_sync.cli.plan
    import lifecycle_sync.cli.summary_sheet  # noqa: F401

    import_summaries()


class _Follower:
    """One `run`, as people see it."""

    def __init__(
        self,
        session: Session,
        engine: Engine,
        *,
        hashes: bool,
        policies: bool,
        events: bool,
        cancel: CancelToken,
        hangup: Event,
        calm: bool,
    ) -> None:
        self._session = session
        self._engine = engine
        self._hashes = hashes
        self._policies = policies
        self._enforced_code = 0
        self._last_waiting = ""
        self._cancel = cancel
        self._hangup = hangup
        self._progress = progress_for(session, self._cancel)
        self._outcomes: list[PassOutcome] = []
        # The first pass is told in full; of the later ones only what is new.
        self._first = not calm
        self._told = calm
        self._progress.calm = calm
        self._last_said: dict[bytes, str] = {}
        self._events = events
        self._live: Live | None = None
        # What was recorded before anybody could be told of it.
        self._untold: list[Settled] = []

    def run(self, folders: Sequence[str], *, once: bool, enforce: bool, watch: bool) -> int | None:
        """The exit code, None when the settings are to be read again, or `_RENEW` when what the
        first pass had in memory is best given back by beginning anew."""
        from lifecycle_sync.service.daemon import Daemon
        from lifecycle_sync.service.outcome import exit_code_of

        _import_what_tells()
        named = self._register(folders, enforce=enforce)
        daemon = Daemon(
            self._engine,
            named,
            hashes=None if self._hashes else False,
            progress=self._progress,
            cancel=self._cancel,
            on_report=self._on_report,
            on_trouble=self._on_trouble,
            on_enforced=self._on_enforced,
            policies=self._policies,
            watching=self._watching() if watch else None,
        )
        with daemon:
            try:
                with telling_what_was_done(self._progress, "run"):
                    daemon.once()
                    if self._policies:
                        daemon.enforce()
            except CancelledError as error:
                if once:
                    raise
                self._session.say(f"Ended: {error.cause}; {error.remedy}")
                return 0
            if self._first and not once and is_worth_renewing():
                return _RENEW
            if self._policies and self._session.as_json:
                write_json({"item": "next", **self._next_fields()})
                flush()
            if once:
                return exit_code_of(self._outcomes) or self._enforced_code
            self._first = False
            self._progress.calm = True
            interval = self._engine.settings.registry_sync_interval
            count = count_text(len(self._engine.roots.all() if named is None else named), "root")
            how = "" if watch else f", a pass every {duration_text(interval)}"
            # On a terminal what was told ends with an empty line.
            calm_word = "" if self._told or on_terminal() else "\n"
            self._session.say(f"{calm_word}Following {count}{how}; ^C ends it")
            if self._policies and not self._session.as_json:
                self._say_next()
            self._live = Live(self._session, self._engine, events=self._events)
            for settled in self._untold:
                self._live.settled(settled)
            if daemon.follow(interval, self._hangup.is_set):
                return None
            self._session.say("Ended by a signal; what was recorded stays")
        return 0

    def _watching(self) -> Watching:
        from lifecycle_sync.service.watching import Watching

        return Watching(
            self._engine,
            hashes=None if self._hashes else False,
            on_settled=self._on_settled,
            on_report=self._on_report,
        )

    def _on_settled(self, settled: Settled) -> None:
        if self._live is not None:
            self._live.settled(settled)
        else:
            self._untold.append(settled)

    def _say_next(self) -> None:
        """When the next thing happens to a file."""
        action = self._engine.decisions.upcoming()
        if action is None:
            self._session.say("Nothing will happen to a file by its date, as things are")
            return
        name = name_text(utf8_text(self._path(action)))
        what = f"{action.verb.value} {name} ({action.policy_name}: {action.reason})"
        held = f"; {action.guard} stands against it" if action.guard else ""
        self._session.say(f"Next by its date, on {time_text(action.due_ns)}: {what}{held}")

    def _next_fields(self) -> dict[str, Any]:
        """What happens next to a file by its date; all null where nothing will, as things are."""
        action = self._engine.decisions.upcoming()
        if action is None:
            return dict.fromkeys(("due", "verb", "file_id", "path", "policy", "reason", "guard"))
        return {
            "due": to_iso(action.due_ns),
            "verb": action.verb.value,
            "file_id": to_text(action.file_id),
            **path_fields(self._path(action)),
            "policy": action.policy_name,
            "reason": action.reason,
            "guard": action.guard,
        }

    def _path(self, action: Action) -> bytes:
        repository = self._engine.registry.repository(action.repository_id)
        return action.path if repository is None else below(repository.path, action.path)

    def _register(self, folders: Sequence[str], *, enforce: bool) -> list[Repository] | None:
        """The roots that were named, registered; None for all there are."""
        from lifecycle_sync.service.guarding import set_enforcement
        from lifecycle_sync.service.orders import register_roots

        if not folders:
            register_configured(self._session, self._engine, "run")
            if enforce:
                for root in self._engine.roots.all():
                    set_enforcement(self._engine, root, enforce=True)
            return None
        added = register_roots(self._engine, folders, enforce=enforce)
        for item in added:
            say_added(self._session, item)
        return [item.repository for item in added]

    def _on_report(self, report: SyncReport) -> None:
        from lifecycle_sync.cli.summary_sheet import trouble_of
        from lifecycle_sync.service.outcome import outcome_of

        outcome = outcome_of(self._engine, report)
        if self._first:
            self._outcomes.append(outcome)
        if self._session.as_json:
            self._write_record(outcome)
        elif self._first:
            self._show_summary(outcome)
        else:
            self._show_line(outcome)
        flush()
        if self._live is not None:
            self._live.read()
        self._last_said[report.repository.repository_id] = trouble_of(outcome)

    def _write_record(self, outcome: PassOutcome) -> None:
        from lifecycle_sync.service.outcome import outcome_fields

        fields = outcome_fields(outcome)
        if self._first:
            fields["summary"] = summary_fields(summary_of(self._engine, outcome))
        write_json({"item": "pass", **fields})

    def _show_summary(self, outcome: PassOutcome) -> None:
        from lifecycle_sync.cli.sheet import show
        from lifecycle_sync.cli.summary_sheet import summary_sheet
        from lifecycle_sync.service.orders import why_unreadable

        if self._session.quiet and not (outcome.exit_code or outcome.report.verdict):
            return
        summary = summary_of(self._engine, outcome)
        if len(self._outcomes) > 1:
            write_line("")
        show(summary_sheet(outcome, summary, partial(why_unreadable, self._engine)))

    def _show_line(self, outcome: PassOutcome) -> None:
        """One calm line, when something changed or a guard or an error says something new."""
        from lifecycle_sync.cli.summary_sheet import pass_line, trouble_of

        root = outcome.report.repository.repository_id
        trouble = trouble_of(outcome)
        new = outcome.changed or trouble != self._last_said.get(root, "")
        if new and (trouble or not self._session.quiet):
            now = time_text(self._engine.now_ns())
            write_line(f"{now}  {name_text(pass_line(outcome))}")

    def _on_enforced(self, enforced: Enforced) -> None:
        """What policies did, and what waits: the first time in full, later what is new."""
        from lifecycle_sync.cli.acting import outcome_lines
        from lifecycle_sync.cli.plan import waiting_lines
        from lifecycle_sync.cli.sheet import Notes, show
        from lifecycle_sync.service.act_orders import exit_code_of

        code = exit_code_of(enforced.outcomes)
        if self._first:
            self._enforced_code = 0 if code == 4 else code
        # Without a word on it a first run over files that have just come would seem to do nothing.
        waiting = waiting_lines(enforced.plan, young=self._first and not enforced.outcomes)
        said = "\n".join(str(getattr(line, "text", line)) for line in waiting)
        new = bool(enforced.outcomes) or said != self._last_waiting
        self._last_waiting = said
        if self._session.as_json:
            if self._first or new:
                write_json({"item": "policies", **_enforced_fields(enforced)})
            flush()
            return
        if not new or (self._session.quiet and not code):
            return
        lines = [line for outcome in enforced.outcomes for line in outcome_lines(outcome)]
        if lines or waiting:
            title = "Policies" if self._first else f"{time_text(self._engine.now_ns())}  policies"
            show([Notes(title, [*lines, *waiting])])
            if self._first and waiting_lines(enforced.plan):
                self._session.say("`lifecycle plan` shows each file, and why")
        flush()

    def _on_trouble(self, error: LifecycleError) -> None:
        self._session.warn(f"lifecycle: {error}; trying again at the next pass")


def _enforced_fields(enforced: Enforced) -> dict[str, Any]:
    from lifecycle_sync.cli.acting import outcome_fields
    from lifecycle_sync.cli.plan import totals_fields

    return {
        "roots": [outcome_fields(outcome) for outcome in enforced.outcomes],
        "plan": totals_fields(enforced.plan),
    }
