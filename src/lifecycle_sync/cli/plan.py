"""`lifecycle plan` and `apply`: what will happen to files, why, and doing it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from lifecycle_sync.cli.acting import carried_out, dry_run_option, show_outcomes
from lifecycle_sync.cli.command import command, directory_argument
from lifecycle_sync.cli.output import write_json
from lifecycle_sync.cli.quantities import When, moment
from lifecycle_sync.cli.session import Session
from lifecycle_sync.cli.sheet import Block, Heading, Notes, Styled, Table, Text
from lifecycle_sync.cli.sheet import show as show_sheet
from lifecycle_sync.cli.words import count_text, name_text, size_text, time_text
from lifecycle_sync.errors import UsageError
from lifecycle_sync.service.api import to_text, utf8_text

if TYPE_CHECKING:
    from lifecycle_sync.service.api import Action, Beyond, Plan, RootPlan
    from lifecycle_sync.service.engine import Engine

_SHOWN = 20
_REASONS = 3
STYLES = {"backup": "good", "archive": "warn", "expire": "warn", "delete": "bad"}
at_option = click.option(
    "--at",
    callback=moment,
    metavar="WHEN",
    help="As if it were then: +30d (in 30 days), or a date.",
)


@command(
    "plan",
    notes="A plan changes nothing, the registry included. `lifecycle apply FILE` does what one in a"
    " file says, or less: what changed since is left as it is.",
    examples="""
        lifecycle plan
        lifecycle plan /srv/uploads --at +30d
        lifecycle plan --out friday.plan
    """,
)
@directory_argument("dir", many=True, required=False)
@at_option
@click.option(
    "--out", type=click.Path(readable=False), metavar="FILE", help="Write the plan to a new file."
)
@click.option("--all", "everything", is_flag=True, help="Show every file, not the first ones.")
def plan(
    session: Session, dir: tuple[str, ...], at: When | None, out: str | None, everything: bool
) -> None:
    """Show what policies would do to which files, and why; what waits, and for what."""
    from lifecycle_sync.service.plan_file import plan_fields, write_plan

    with session.engine() as engine:
        roots = [engine.roots.get(name) for name in dir] or None
        at_ns = None if at is None else at.ns(engine.now_ns())
        made = engine.decisions.plan(roots, at_ns=at_ns)
        if out is not None:
            _write_new(engine, out, write_plan(made).encode())
            session.say(f"Wrote {out}: `lifecycle apply {out}` does it")
        if session.as_json:
            write_json(plan_fields(made))
        elif out is None or not session.quiet:
            show_sheet(_sheet(made, None if everything else _SHOWN, now_ns=engine.now_ns()))


def _write_new(engine: Engine, path: str, data: bytes) -> None:
    try:
        fd = engine.fs.create(path)
    except OSError as error:
        raise UsageError(
            (error.strerror or str(error)).lower(),
            operation="write plan",
            subject=path,
            remedy="name a file that does not exist yet, in a folder that does",
        ) from error
    try:
        engine.fs.write(fd, data)
    finally:
        engine.fs.close(fd)


def _sheet(plan: Plan, shown: int | None, *, now_ns: int) -> list[Block]:
    then = "" if plan.at_ns == plan.made_ns else f"as of {time_text(plan.at_ns)}"
    blocks: list[Block] = []
    by_root: dict[bytes, list[Action]] = {root.repository_id: [] for root in plan.roots}
    for action in plan.actions:
        by_root[action.repository_id].append(action)
    for root in plan.roots:
        actions = by_root[root.repository_id]
        blocks.append(Heading(name_text(root.path), then or _mode(root)))
        blocks.append(Notes("", _totals(actions)))
        if root.guard:
            blocks.append(
                Notes("", [Styled(f"Waits for {_who(root.guard)}: {root.waits}", "warn")])
            )
        if root.space:
            early = "what the trash has verified copies of is purged before its grace ends"
            blocks.append(Notes("", [Styled(f"{root.space}: {early}", "warn")]))
        blocks += _tables(actions, shown)
        mine = [it for it in plan.versions if it.repository_id == root.repository_id]
        blocks += _versions(mine, shown)
    if plan.more_versions:
        blocks.append(Notes("", ["More versions than these are kept by no rule"]))
    if plan.more:
        more = count_text(plan.more, "more action is", "more actions are")
        blocks.append(Notes("", [f"{more} due beside these: the next plan has them"]))
    if not plan.roots:
        blocks.append(Notes("", ["No folder is under management: `lifecycle add FOLDER`"]))
    return blocks


def _mode(root: RootPlan) -> str:
    return "policies act on it" if root.enforce else "policies only advise"


def _who(guard: str) -> str:
    return {
        "mass": "somebody to confirm (`lifecycle confirm`)",
        "shrink": "somebody to accept (`lifecycle accept`)",
        "root": "its folder",
    }.get(guard, guard)


def _totals(actions: list[Action]) -> list[Text]:
    if not actions:
        return ["Nothing is due"]
    files: Counter[tuple[str, bool]] = Counter()
    sizes: Counter[tuple[str, bool]] = Counter()
    for action in actions:
        key = action.verb.value, bool(action.guard)
        files[key] += 1
        sizes[key] += action.size
    lines: list[Text] = []
    for verb in ("backup", "archive", "expire", "delete"):
        parts = []
        for waits in (False, True):
            if count := files[verb, waits]:
                size = size_text(sizes[verb, waits])
                words = f"{count_text(count, 'file')}, {size}"
                parts.append(f"{words} waiting" if waits else words)
        if parts:
            lines.append(Styled(f"{verb:<8} {'; '.join(parts)}", STYLES[verb]))
    return lines


_VERBS = {"backup": "back up"}


def waiting_lines(plan: Plan, *, young: bool = False) -> list[Text]:
    """What of a plan waits, for what, in one line each; empty when nothing does. What only has to
    grow older is told with `young`."""
    paths = {root.repository_id: root.path for root in plan.roots}
    return [
        Styled(
            f"{name_text(paths[it.repository_id])}: {count_text(it.files, 'file')} to"
            f" {_VERBS.get(it.verb, it.verb)}, waiting ({it.guard}): {_some(it.waits)}",
            "dim" if it.guard == "young" else "warn",
        )
        for it in plan.totals
        if it.guard and (young or it.guard != "young")
    ]


def _some(reasons: frozenset[str]) -> str:
    """A few of them."""
    told = sorted(reasons)[:_REASONS]
    left = len(reasons) - len(told)
    return "; ".join(told) + (f"; and {left:,} other reasons" if left else "")


def totals_fields(plan: Plan) -> list[dict[str, Any]]:
    """How many files a plan has for which act, and what they wait for, as JSON."""
    return [
        {
            "repository_id": to_text(it.repository_id),
            "verb": it.verb.value,
            "guard": it.guard,
            "files": it.files,
        }
        for it in plan.totals
    ]


def _tables(actions: list[Action], shown: int | None) -> list[Block]:
    # What goes is what people want to see first.
    order = {"delete": 0, "archive": 1, "expire": 2, "backup": 3}
    ordered = sorted(actions, key=lambda it: (order[it.verb.value], it.guard, it.path))
    part = ordered if shown is None else ordered[:shown]
    if not part:
        return []
    rows: list[list[Text]] = [
        [
            Styled(action.verb.value, STYLES[action.verb.value]),
            size_text(action.size),
            time_text(action.due_ns),
            f"{action.policy_name}: {action.reason}",
            Styled(f"{action.guard}: {action.waits}", "warn") if action.guard else "",
            utf8_text(action.path),
        ]
        for action in part
    ]
    headers = ("what", "size", "since", "why", "waits for", "file")
    blocks: list[Block] = [Table("", rows, headers, frozenset({1}))]
    if len(ordered) > len(part):
        left = f"and {len(ordered) - len(part):,} more; --all shows them"
        blocks.append(Notes("", [Styled(left, "dim")]))
    return blocks


def _versions(versions: list[Beyond], shown: int | None) -> list[Block]:
    if not versions:
        return []
    total = size_text(sum(version.size for version in versions))
    count = count_text(len(versions), "version")
    files = count_text(len({version.file_id for version in versions}), "file")
    lines: list[Text] = [f"{count} of {files}, {total}: marked for pruning, and still in the vault"]
    part = versions if shown is None else versions[:shown]
    rows: list[list[Text]] = [
        [
            size_text(version.size),
            time_text(version.kept_ns),
            f"{version.policy_name}: {version.reason}",
            Styled(f"{version.guard}: {version.waits}", "warn") if version.guard else "",
            utf8_text(version.path),
        ]
        for version in part
    ]
    headers = ("size", "kept", "why", "waits for", "file")
    blocks: list[Block] = [
        Notes("Versions that no rule keeps", lines),
        Table("", rows, headers, frozenset({0})),
    ]
    if len(versions) > len(part):
        left = f"and {len(versions) - len(part):,} more; --all shows them"
        blocks.append(Notes("", [Styled(left, "dim")]))
    return blocks


@command(
    "apply",
    notes="What changed since the plan was made is left as it is, with its reason. Done a second"
    " time it does nothing.",
    examples="""
        lifecycle plan --out friday.plan
        lifecycle apply friday.plan --dry-run
        lifecycle apply friday.plan
    """,
)
@click.argument("file", metavar="FILE", type=click.Path(readable=False))
@dry_run_option
def apply(session: Session, file: str, dry_run: bool) -> int:
    """Do what a plan in a file says, or less.

    A plan that was edited, that is of another registry, or that follows from other policies than
    there are now is refused.
    """
    from lifecycle_sync.service import applying
    from lifecycle_sync.service.plan_file import load_plan

    read = load_plan(file)
    with session.engine() as engine:
        if dry_run:
            applying.check(engine, read)
            show_sheet(_sheet(read, _SHOWN, now_ns=engine.now_ns()))
            return 0
        with carried_out(session) as how:
            outcomes = applying.apply(engine, read, how)
        engine.decisions.settle()
    return show_outcomes(session, "apply", outcomes, dry_run=False)
