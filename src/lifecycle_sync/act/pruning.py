"""Takes versions out of the backup vault that no rule keeps any more.

intent -> the vault is told, the commit point -> the registry forgets -> outcome. What the versions
held is deleted later, and only by who has read all that the vault tells: see `vault/prune.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, wait
from itertools import repeat
from typing import NamedTuple, ParamSpec, TypeVar

import msgspec

from lifecycle_sync.act.site import SKIPPED, Done, Site, begin
from lifecycle_sync.model.act import Intent
from lifecycle_sync.model.ids import ID_BYTES
from lifecycle_sync.model.many import many
from lifecycle_sync.model.plan import MarkedFile, MarkedGoing, MarkedPage, Unkept, UnkeptFile
from lifecycle_sync.vault.prune import withdraw

_REASON = "no rule keeps it"
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Withdrawn(NamedTuple):
    """What came of some files: how many were done, of how many versions, with how many bytes; and
    those that were left as they are, with how many versions of each, and the reason."""

    files: int
    versions: int
    size: int
    left: list[tuple[int, Done]]


class _Why(msgspec.Struct):
    """What the journal says of all files of a group, beside their versions and bytes."""

    rule: str
    reason: str


_encode = msgspec.json.Encoder().encode


def told_why(policy_name: str, reason: str) -> str:
    """The end of what the journal says of a file, as JSON text: the rule, and the reason."""
    return _encode(_Why(policy_name, reason)).decode()[1:]


def prune_marked(
    site: Site,
    pages: Iterable[MarkedPage],
    files_max: int,
    beside: Executor,
    meanwhile: Callable[[], None],
) -> Withdrawn:
    """Keep no longer what is marked of files on some pages, as far as nothing stands against it:
    the registry judges as it writes. So much is done many at a time, by few statements, and the
    rest is for `prune_versions`. There are `files_max` files on a page at most.

    The registry works `beside`, on one thing after the other, while the vault is told here of a
    page whose intents are durable; `meanwhile` is called when it was told of all, and the registry
    has yet to forget. An error leaves intents pending, as those of one who was killed."""
    registry, vault = site.registry, site.vaults.backup()
    begun = [
        beside.submit(
            registry.begin_marked, site.act, page, site.ids.block(files_max), site.now_ns()
        )
        for page in pages
    ]
    told: list[tuple[MarkedGoing, int, str]] = []
    try:
        for coming in begun:
            going = coming.result()
            if going is not None:
                at_ns = max(site.now_ns(), going.newest_ns)
                manifest = withdraw(vault, ids_of(going.version_ids), at_ns, _REASON)
                told.append((going, at_ns, manifest))
    except BaseException:
        for coming in begun:
            coming.cancel()
        wait(begun)
        raise
    done = [
        beside.submit(
            registry.finish_marked,
            site.act,
            going,
            at_ns,
            site.now_ns(),
            manifests=[(vault.store_id, manifest)],
        )
        for going, at_ns, manifest in told
    ]
    try:
        meanwhile()
    finally:
        wait(done)
    for it in done:
        it.result()
    files = sum(going.files for going, _at_ns, _manifest in told)
    versions = sum(going.versions for going, _at_ns, _manifest in told)
    size = sum(going.size for going, _at_ns, _manifest in told)
    site.told.advance(files, size)
    return Withdrawn(files, versions, size, [])


class AtOnce(Executor):
    """Does what is submitted before `submit` returns."""

    def submit(
        self, call: Callable[_P, _T], /, *arguments: _P.args, **fields: _P.kwargs
    ) -> Future[_T]:
        future: Future[_T] = Future()
        try:
            future.set_result(call(*arguments, **fields))
        except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
            future.set_exception(error)
        return future


def prune_versions(site: Site, groups: Sequence[Unkept]) -> Withdrawn:
    """Keep these versions no longer; those of a file that somebody holds stay."""
    vault = site.vaults.backup()
    files = [it for group in groups for it in group.files]
    details = [text for group in groups for text in _details(group)]
    ids = site.ids.take(len(files))
    file_ids = [it.file_id for it in files]
    intents = list(many(Intent, zip(ids, file_ids, repeat("prune"), details)))
    refused = begin(site, intents, unless_held=True)
    left = []
    if refused:
        numbered = list(zip(ids, files, strict=True))
        left = _left(site, [(it, refused[at]) for at, it in numbered if at in refused])
        files = [it for at, it in numbered if at not in refused]
    if not files:
        return Withdrawn(0, 0, 0, left)
    going = ids_of("".join([it.version_ids for it in files]))
    newest_ns = max([it.newest_ns for it in files])
    at_ns = max(site.now_ns(), newest_ns)
    manifest = withdraw(vault, going, at_ns, _REASON)
    owners = [it.file_id for it in files for _ in range(it.versions)]
    site.registry.drop_versions(list(zip(owners, going, strict=True)), at_ns)
    site.registry.complete_operations(
        site.act, site.now_ns(), manifests=[(vault.store_id, manifest)]
    )
    size = sum([it.size for it in files])
    site.told.advance(len(files), size)
    return Withdrawn(len(files), len(going), size, left)


def _left(
    site: Site, files: Sequence[tuple[UnkeptFile | MarkedFile, str]]
) -> list[tuple[int, Done]]:
    known = site.registry.act_files([it.file_id for it, _reason in files])
    paths = {file_id: file.path for file_id, file in known.items()}
    return [
        (it.versions, Done(it.file_id, paths.get(it.file_id, b""), SKIPPED, reason, it.size))
        for it, reason in files
    ]


def _details(group: Unkept) -> list[str]:
    """What the journal says of each file of a group, as JSON text."""
    end = told_why(group.policy_name, group.reason)
    return [
        f'{{"versions":[{_newest_first(it.numbers)}],"bytes":{it.size},{end}' for it in group.files
    ]


def _newest_first(numbers: str) -> str:
    return ",".join(numbers.split(",")[::-1]) if "," in numbers else numbers


def ids_of(digits: str) -> list[bytes]:
    """The ids that stand one after the other as hexadecimal digits."""
    data = bytes.fromhex(digits)
    return [data[at : at + ID_BYTES] for at in range(0, len(data), ID_BYTES)]
