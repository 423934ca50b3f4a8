"""What is measured of acts on files: backup, restore, deletion and the vault, beside programs that
do the like. One function a benchmark, each yielding the rows of the report.

The budgets hold against restic as it comes; restic without its cache and borg stand beside it, in
some of the turns.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench import keepers
from bench.keepers import Borg, Encrypted, Keeper, Ours, Restic, ResticUncached
from bench.lab import WORKERS, Grown, Lab
from bench.measure import (
    FailedError,
    Pairs,
    Sample,
    command,
    forget,
    in_turns,
    mounted_with_discard,
    ours,
    settle,
)
from bench.row import (
    MIB,
    Row,
    inverse,
    missing_tools,
    ratio_row,
    samples_of,
    speed_row,
    work,
)
from bench.sameness import PRIVATE, names_below, read_all
from bench.trees import need_room

# Those that stand beside take part in so many turns: their ratios have no budget.
_BESIDE_TURNS = 2
_MEGABYTE = 10**6
_PEAK_MIB = 150.0

Turns = dict[str, list[Sample]]


# -- in turns ------------------------------------------------------------------------------


def _all(lab: Lab, grown: Grown, action: str, *kinds: type[Restic] | type[Borg]) -> list[Keeper]:
    """Ours, then the peers that are installed."""
    mine = keepers.of(grown, Ours)
    mine.profile = action if lab.options.profile else ""
    return [mine] if lab.options.profile else [mine, *keepers.peers(grown, *kinds)]


def _take_turns(lab: Lab, some: Sequence[Keeper], act: Callable[[Keeper], Sample]) -> Turns:
    turns: Turns = {keeper.name: [] for keeper in some}
    for turn in range(lab.options.repeat):
        for keeper in some:
            if turn < _BESIDE_TURNS or keeper.name in (Ours.name, Restic.name):
                turns[keeper.name].append(act(keeper))
    return turns


def _pairs(turns: Turns, peer: str) -> Pairs:
    theirs = turns.get(peer, [])
    mine = turns[Ours.name]
    return Pairs(mine[: len(theirs)] if theirs else mine, theirs)


def _restic(turns: Turns, verb: str) -> str:
    return f"restic {verb}" if turns.get(Restic.name) else "not installed: restic"


def _beside(name: str, turns: Turns, *, speed: bool = False) -> Iterator[Row]:
    """A row for each peer but restic."""
    for peer, theirs in turns.items():
        if peer in (Ours.name, Restic.name) or not theirs:
            continue
        pairs = _pairs(turns, peer)
        ratio, spread = pairs.ratio(work), pairs.spread(work)
        if speed and spread:
            ratio, spread = inverse(ratio), (1 / spread[1], 1 / spread[0])
        yield Row(
            name,
            f"  beside {peer}",
            ratio,
            "× the speed" if speed else "×",
            spread=spread,
            peer=f"{median(pairs.peer):.2f} s",
            samples=samples_of(pairs),
        )


# -- backup --------------------------------------------------------------------------------


def backup(lab: Lab) -> Iterator[Row]:
    """Small files: all of them, then nothing that changed."""
    grown = lab.files_to_act_on()
    some = _all(lab, grown, "backup", Restic, ResticUncached, Borg)
    read_all(grown.tree.path)
    again: Turns = {keeper.name: [] for keeper in some}

    def act(keeper: Keeper) -> Sample:
        keeper.fresh()
        sample = keeper.back_up()
        again[keeper.name].append(keeper.back_up())
        return sample

    first = _take_turns(lab, some, act)
    row = ratio_row(
        "backup",
        "back up small files, first",
        _pairs(first, Restic.name),
        _restic(first, "backup"),
        1.0,
    )
    row.note += "; the aim is 0.6"
    yield row
    yield from _beside("backup", first)
    row = ratio_row(
        "backup",
        "back up small files, unchanged",
        _pairs(again, Restic.name),
        _restic(again, "backup"),
        0.15,
    )
    if again.get(Restic.name):
        opening = keepers.of(grown, Restic).opening().whole
        row.note += f"; restic's opening alone {opening:.2f} s"
    yield row
    yield from _beside("backup", again)


def backup_large(lab: Lab) -> Iterator[Row]:
    """Large files, that do not compress."""
    grown = lab.large()
    some = _all(lab, grown, "backup", Restic, Borg)
    read_all(grown.tree.path)

    def act(keeper: Keeper) -> Sample:
        keeper.fresh()
        return keeper.back_up()

    turns = _take_turns(lab, some, act)
    yield _rate_row("backup-large", "backup", grown, turns, 0.9)
    yield from _beside("backup-large", turns, speed=True)


def backup_encrypted(lab: Lab) -> Iterator[Row]:
    """What encryption costs: the same backups and restores without it are the peer."""
    for grown, what in ((lab.files_to_act_on(), "small"), (lab.large(), "large")):
        read_all(grown.tree.path)
        some = [keepers.of(grown, Encrypted), keepers.of(grown, Ours)]
        restores: Turns = {keeper.name: [] for keeper in some}

        def act(keeper: Keeper, restores: Turns = restores) -> Sample:
            keeper.fresh()
            sample = keeper.back_up()
            restores[keeper.name].append(keeper.restore())
            return sample

        turns: Turns = {keeper.name: [] for keeper in some}
        for _ in range(lab.options.repeat):
            for keeper in some:
                turns[keeper.name].append(act(keeper))
        for found, verb, limit in ((turns, "back up", 1.5), (restores, "restore", None)):
            plain = [replace(sample, whole=sample.work) for sample in found[Ours.name]]
            yield ratio_row(
                "backup-encrypted",
                f"{verb} {what} files, encrypted",
                Pairs(found[Encrypted.name], plain),
                "not encrypted",
                limit,
            )


def restore(lab: Lab) -> Iterator[Row]:
    """Everything to an empty folder."""
    grown = lab.files_to_act_on()
    some = _all(lab, grown, "restore", Restic, ResticUncached, Borg)
    for keeper in some:
        keeper.ready()
    turns = _take_turns(lab, some, lambda keeper: keeper.restore())
    yield ratio_row(
        "restore",
        "restore small files",
        _pairs(turns, Restic.name),
        _restic(turns, "restore"),
        1.0,
    )
    yield from _beside("restore", turns)
    grown = lab.large()
    some = _all(lab, grown, "restore", Restic)
    for keeper in some:
        keeper.ready()
    turns = _take_turns(lab, some, lambda keeper: keeper.restore())
    yield _rate_row("restore", "restore", grown, turns, None)


def _rate_row(name: str, verb: str, grown: Grown, turns: Turns, limit: float | None) -> Row:
    pairs = _pairs(turns, Restic.name)
    title = f"{'back up' if verb == 'backup' else verb} large files"
    row = speed_row(name, title, pairs, _restic(turns, verb), limit=limit)
    row.mine = f"{grown.tree.bytes / pairs.work / _MEGABYTE:,.0f} MB/s"
    if pairs.peer:
        row.peer = f"{grown.tree.bytes / median(pairs.peer) / _MEGABYTE:,.0f} MB/s, restic {verb}"
    return row


# -- the vault -----------------------------------------------------------------------------


def vault_size(lab: Lab) -> Iterator[Row]:
    """Bytes that a backup takes."""
    grown = lab.files_to_act_on()
    some = _all(lab, grown, "", Restic, Borg)
    for keeper in some:
        keeper.ready()
    sizes = {keeper.name: keeper.size() for keeper in some}
    own = sizes[Ours.name]
    other = sizes.get(Restic.name)
    over = (own - grown.tree.bytes) / grown.tree.files
    yield Row(
        "vault-size",
        "bytes of the vault, small files",
        None if other is None else own / other,
        "×",
        1.2,
        mine=f"{own / MIB:,.1f} MiB",
        peer="not installed: restic" if other is None else f"{other / MIB:,.1f} MiB, restic",
        note=f"the files have {grown.tree.bytes / MIB:,.1f} MiB; {over:+.0f} bytes a file beyond",
        samples={"bytes": sizes},
    )
    if Borg.name in sizes:
        yield Row(
            "vault-size",
            f"  beside {Borg.name}",
            own / sizes[Borg.name],
            "×",
            peer=f"{sizes[Borg.name] / MIB:,.1f} MiB",
        )


def _from_disk(folder: Path, argv: Sequence[str]) -> Sample:
    forget(folder)
    return command(argv)


def verify(lab: Lab) -> Iterator[Row]:
    """Every byte of a vault, of small files and of large ones."""
    for grown, what in ((lab.files_to_act_on(), "small"), (lab.large(), "large")):
        (keeper,) = _all(lab, grown, "verify")
        assert isinstance(keeper, Ours)
        keeper.ready()
        size = keeper.size()
        peer: Callable[[], Sample] | None = None
        label = "xargs -P2 sha256sum"
        if missing := missing_tools("find", "xargs", "sha256sum"):
            label = f"not installed: {', '.join(missing)}"
        elif not lab.options.profile:
            # A verify reads from the disk, and so does its peer.
            script = f'find "$1" -type f -print0 | xargs -0 -P{WORKERS} -n 1 sha256sum > /dev/null'
            peer = partial(_from_disk, keeper.vault, ["sh", "-c", script, "sh", str(keeper.vault)])
        else:
            label = ""
        # The first time the lines of manifests are looked at, too; they say the same for ever.
        first = keeper.verify()
        pairs = in_turns(lab.options.repeat, keeper.verify, peer)
        rates = [size / sample.work / _MEGABYTE for sample in pairs.mine]
        rate = size / median(pairs.peer) / _MEGABYTE if pairs.peer else 0.0
        if rate:
            label = f"{rate:,.0f} MB/s, {label}"
        yield Row(
            "verify",
            f"verify every byte, {what} files",
            median(rates) / rate if rate else None,
            "×",
            0.9,
            at_most=False,
            mine=f"{median(rates):,.0f} MB/s, {pairs.work:.2f} s",
            peer=label,
            note=f"the first time {first.work:.2f} s; the whole process {pairs.whole:.2f} s; CPU"
            f" time {median(sample.cpu for sample in pairs.mine):.2f} s",
            samples=samples_of(pairs),
        )
        deep = keeper.verify(contents=True)
        yield Row(
            "verify",
            f"  every content unpacked, {what} files",
            size / deep.work / _MEGABYTE,
            "MB/s",
            mine=f"{deep.work:.2f} s",
            note=f"{deep.data['contents']:,} contents; CPU time {deep.cpu:.2f} s",
        )


def vault_memory(lab: Lab) -> Iterator[Row]:
    """Peaks of the processes that back up and restore, of every size that there is."""
    sizes = {grown.tree.path: grown for grown in (lab.files_to_act_on(), lab.files(), lab.large())}
    for grown in sizes.values():
        keeper = keepers.of(grown, Ours)
        keeper.ready()
        if not keeper.restores:
            keeper.restore()
        for verb, samples in (("backup", keeper.backups), ("restore", keeper.restores)):
            peak = max(sample.data["peak_bytes"] for sample in samples)
            longest = max(samples, key=work)
            yield Row(
                "vault-memory",
                f"peak memory of {verb}, {grown.tree.path.name}",
                peak / MIB,
                "MiB",
                _PEAK_MIB,
                mine=f"{longest.work:.1f} s",
            )


# -- deletion ------------------------------------------------------------------------------


def delete(lab: Lab) -> Iterator[Row]:
    """Files that were backed up into the trash, against `rm` of a tree of the same kind.

    On a filesystem mounted with `discard` most of the time of `rm` is the disk's; what counts is
    its CPU time then, the harder comparison.
    """
    grown = lab.files_to_act_on()
    place = grown.place / "delete"
    discards = mounted_with_discard(lab.options.scratch)
    need_room(lab.options.scratch, 3 * grown.tree.files * 5000 + (1 << 26))

    def mine() -> Sample:
        root = copy_of(grown, place / "root")
        told: dict[str, Any] = {
            "root": str(root),
            "files": grown.tree.files,
            "workers": WORKERS,
            "database": str(place / "registry.db"),
        }
        ours("add", **told)
        ours("backup", **told)
        settle(place)
        sample = ours("delete", profile=lab.options.profile, **told)
        _check_deleted(grown, sample, root, told)
        return sample

    def peer() -> Sample:
        root = copy_of(grown, place / "root")
        settle(place)
        sample = command(["rm", "-rf", str(root)])
        if root.exists():
            raise FailedError(f"{root} is still there")
        return sample

    walls = in_turns(lab.options.repeat, mine, None if lab.options.profile else peer)
    pairs, label = walls, "rm -rf"
    if discards:
        pairs, label = Pairs(walls.mine, [Sample(it.cpu, it.cpu) for it in walls.peers]), "rm's CPU"
    yield ratio_row("delete", "delete small files into the trash", pairs, label, 3.0)
    seconds = median(sample.data["with_check"] for sample in pairs.mine)
    yield Row(
        "delete",
        "  with the check before it",
        pairs.ratio(lambda sample: float(sample.data["with_check"])),
        "×",
        mine=f"{seconds:.2f} s",
    )
    if discards:
        yield Row(
            "delete",
            "  beside rm -rf with its waiting",
            walls.ratio(work),
            "×",
            spread=walls.spread(work),
            peer=f"{median(walls.peer):.2f} s",
        )
    shutil.rmtree(place)


def copy_of(grown: Grown, root: Path) -> Path:
    """A copy of the tree, made while the disk was at rest; what was there before is gone."""
    shutil.rmtree(root.parent, ignore_errors=True)
    root.parent.mkdir(parents=True)
    settle(root.parent)
    command(["cp", "-a", str(grown.tree.path), str(root)])
    shutil.rmtree(root / PRIVATE, ignore_errors=True)
    return root


def _check_deleted(grown: Grown, sample: Sample, root: Path, told: dict[str, Any]) -> None:
    files = grown.tree.files
    left = sum(1 for _ in names_below(root))
    found = ours("give_back", **told).data
    counted = (sample.data["completed"], found["told"], found["trashed"])
    if left or counted != (files, files, files):
        raise FailedError(f"of {files} files {left} are left; deleted, told, in trash: {counted}")
    for name in found["given_back"]:
        if (root / name).read_bytes() != (grown.tree.path / name).read_bytes():
            raise FailedError(f"{root / name} came out of the trash with other bytes")


ACT_BENCHMARKS: dict[str, Callable[[Lab], Iterator[Row]]] = {
    "backup": backup,
    "backup-large": backup_large,
    "backup-encrypted": backup_encrypted,
    "restore": restore,
    "vault-size": vault_size,
    "verify": verify,
    "vault-memory": vault_memory,
    "delete": delete,
}
# Those whose action can be profiled.
ACT_PROFILED = ("backup", "backup-large", "restore", "verify", "delete")
