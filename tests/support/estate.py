"""A small root with every sort of file on it, what is known of its contents, and orders on it.

Everything that was ever there is written down with the test's own means (`Look`), so that whatever
lies in the root, in the trash or in a vault afterwards can be told: right, or lost.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import stat
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from lifecycle_sync.act.occupied import Conflict
from lifecycle_sync.act.returning import Back
from lifecycle_sync.act.trash import Trash
from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import NS_PER_DAY, Clock
from lifecycle_sync.errors import VaultMissingError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.act import ActFile
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.model.trash import TrashBatch, TrashReason
from lifecycle_sync.service.act_orders import How
from lifecycle_sync.service.act_report import Report
from lifecycle_sync.service.drill import DrillOutcome, drill
from lifecycle_sync.service.progress import NoProgress
from lifecycle_sync.service.pruning import PruneOutcome, Pruning, prune_copy, prune_vault
from lifecycle_sync.service.vault_copies import copy_vault, mend_vault
from lifecycle_sync.service.vault_keys import rewrite
from lifecycle_sync.service.verifying import Manner, VaultOutcome, verify_vaults
from lifecycle_sync.vault import age, index_live, objects, reserve
from lifecycle_sync.vault.copying import CopyReport
from lifecycle_sync.vault.rewriting import RewriteReport
from lifecycle_sync.vault.vault import Vault, VaultKind
from tests.support.house import House

OLD_NS = 1_600_000_000_123_456_789
LARGE = 1_300_000
_SETTLED_NS = 10**9
PART = 1 << 20
KEY, COPY, REWRITTEN = "key", "copy", "rewritten"
SECOND, SETTINGS = "second", "lifecycle.toml"
# Its name is no text.
ODD = b"d/e/emp\xffty"
# What acts take away: all sorts, in two folders, but not everything.
GOING = (b"a.txt", b"d/large", b"d/link", ODD, b"d/sparse")


def make_key(base: Path, where: str) -> str:
    """Let the vaults of an estate be encrypted ("later": a key for vaults that are not). Its engine
    knows the secret key unless it is "away"; whoever looks at the vaults afterwards does.

    Gives the public key."""
    public, text = age.generate()
    (base / KEY).write_text(text)
    (base / KEY).chmod(0o600)
    (base / f"{KEY}.public").write_text(f"{public} {where}")
    return public


def further_settings(base: Path) -> dict[str, Any]:
    """Of copies and keys, as they lie there."""
    copies = {"backup_copies": [base / COPY]} if (base / COPY).exists() else {}
    return _keys_in(base) | copies


def _keys_in(base: Path) -> dict[str, Any]:
    if not (base / KEY).exists():
        return {}
    public, where = (base / f"{KEY}.public").read_text().split()
    keys: dict[str, Any] = {} if where == "away" else {"identity_path": base / KEY}
    if where != "later":
        keys |= {"backup_recipients": [public], "archive_recipients": [public]}
    if (base / SETTINGS).exists():
        told = tomllib.loads((base / SETTINGS).read_text())
        keys |= {"backup_recipients": tuple(told["backup_recipients"]), "source": base / SETTINGS}
    return keys


class AheadClock(Clock):
    """The machine's clock, so far ahead that nothing in a tree made just now is too fresh."""

    def __init__(self, ahead_ns: int = 60 * 10**9) -> None:
        self.ahead_ns = ahead_ns

    def now_ns(self) -> int:
        return time.time_ns() + self.ahead_ns


def _digest(path: str | bytes | Path, status: os.stat_result) -> str:
    if time.time_ns() - status.st_ctime_ns > _SETTLED_NS:
        return _settled_digest(path, status.st_dev, status.st_ino, status.st_ctime_ns)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=1000)
def _settled_digest(path: str | bytes | Path, *_: int) -> str:
    """Of a file that nobody has touched for long enough that another touch has another time."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Look:
    """A file as anybody sees it; `content` is its SHA-256, or where a symlink points."""

    kind: str
    content: str
    mode: int
    mtime_ns: int
    xattrs: tuple[tuple[str, bytes], ...]

    @classmethod
    def at(cls, path: str | bytes | Path) -> Look:
        status = os.lstat(path)
        xattrs = tuple(
            (name, os.getxattr(path, name, follow_symlinks=False))
            for name in sorted(os.listxattr(path, follow_symlinks=False))
        )
        if stat.S_ISLNK(status.st_mode):
            target = os.fsdecode(os.readlink(os.fsencode(path)))
            return cls("symlink", target, 0, status.st_mtime_ns, xattrs)
        content = _digest(path, status)
        return cls("file", content, status.st_mode & 0o7777, status.st_mtime_ns, xattrs)

    def is_as(self, other: Look, *, exact: bool) -> bool:
        """`exact`: in all, else what is in it."""
        return self == other or (
            not exact and (self.kind, self.content) == (other.kind, other.content)
        )


@dataclass
class Ledger:
    """What must survive. Paths are relative to the root.

    `looks`: what each file was like whenever it was looked at; `sources`: what lay in the root or
    in its trash when the act began; `versions`: what had been kept by then, as (file, number,
    content); `ids`: the records by path.
    """

    looks: dict[bytes, set[Look]] = field(default_factory=dict)
    sources: dict[bytes, set[str]] = field(default_factory=dict)
    versions: set[tuple[bytes, int, str]] = field(default_factory=set)
    # Of these such as no rule keeps: they may be gone.
    beyond: set[tuple[bytes, int, str]] = field(default_factory=set)
    ids: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def contents(self) -> set[str]:
        return {look.content for looks in self.looks.values() for look in looks}


class Estate:
    """A house with files in it. Made in an empty folder, or opened on one that was made."""

    def __init__(
        self,
        base: Path,
        *,
        fs: FileOps | None = None,
        ledger: Ledger | None = None,
        clock: Clock | None = None,
    ) -> None:
        # A large file is in two parts, and costs little all the same.
        self._part_size = vars(objects)["PART_SIZE_MAX"]
        vars(objects)["PART_SIZE_MAX"] = PART
        self.base = base
        self.ledger = ledger or Ledger()
        self.house = House(base, fs=fs, clock=clock or AheadClock(), **further_settings(base))
        self.engine = self.house.engine
        self.root = self.house.root

    def close(self) -> None:
        vars(objects)["PART_SIZE_MAX"] = self._part_size
        self.engine.close()

    def save(self) -> None:
        (self.base / "ledger").write_bytes(pickle.dumps(self.ledger))

    @classmethod
    def reopen(cls, base: Path, **options: Any) -> Estate:
        ledger = pickle.loads((base / "ledger").read_bytes())
        return cls(base, ledger=ledger, **options)

    # -- the tree --------------------------------------------------------------------------

    def fill(self) -> None:
        write = self.house.write
        write("stay.txt", b"nobody touches this")
        write("a.txt", b"alpha")
        os.setxattr(self.root / "a.txt", "user.colour", b"blue\0")
        os.chmod(self.root / "a.txt", 0o640)
        os.makedirs(self.root / "d/e")
        os.link(self.root / "a.txt", self.root / "d/hard.txt")
        os.symlink("../a.txt", self.root / "d/link")
        write(ODD, b"")
        write("d/large", hashlib.shake_128(b"large").digest(LARGE))
        with open(self.root / "d/sparse", "wb") as file:
            file.write(b"begin")
            file.seek(400_000)
            file.write(b"end")
        # The same in every run, so that what comes of two can be compared.
        for path in self.paths():
            os.utime(self.house.path(path), ns=(OLD_NS, OLD_NS), follow_symlinks=False)
        self.house.add()
        self.sync()

    def sync(self) -> None:
        """A pass; everything that lies in the root then is known."""
        report = self.house.sync(wait=False)
        assert report.verdict is None
        self.look()

    def look(self) -> None:
        ids = self.ids_of_paths()
        for path in self.paths():
            look = Look.at(self.house.path(path))
            self.ledger.looks.setdefault(path, set()).add(look)
        self.ledger.ids.update(ids)

    def paths(self) -> list[bytes]:
        return sorted(_files(os.fsencode(self.root)))

    def ids_of_paths(self) -> dict[bytes, bytes]:
        return {path: record.file_id for path, record in self.house.records().items()}

    def change(self, path: str, content: bytes) -> None:
        """Write in place, as a program that knows no better."""
        with open(self.root / path, "r+b") as file:
            file.truncate()
            file.write(content)
        later = OLD_NS + len(content) * 10**9
        os.utime(self.root / path, ns=(later, later))

    def arm(self) -> None:
        """Write down what must survive from here on."""
        ledger = self.ledger
        self.look()
        ledger.sources = {}
        for path in self.paths():
            look = Look.at(self.house.path(path))
            ledger.sources.setdefault(path, set()).add(look.content)
        for path, file in self.in_trash():
            look = Look.at(file)
            ledger.looks.setdefault(path, set()).add(look)
            ledger.sources.setdefault(path, set()).add(look.content)
        ledger.versions = self.versions()
        self.save()

    # -- what there is ---------------------------------------------------------------------

    def trash(self) -> Trash:
        """The trash of the root; the caller closes it."""
        repository = self.house.repository
        return Trash(
            FileOps(),
            AheadClock(),
            repository.path,
            repository_id=repository.repository_id,
            registry_id=self.engine.registry.registry_id,
        )

    def in_trash(self) -> Iterator[tuple[bytes, Path]]:
        """The files in the trash, with the paths that they had."""
        with self.trash() as trash:
            for batch in trash.batches():
                assert isinstance(batch, TrashBatch), batch
                folder = self.root / ".lifecycle/trash" / _uuid(batch.batch_id)
                for entry in trash.left(batch):
                    yield entry.path, folder / str(batch.entries.index(entry))

    def vaults(self) -> Iterator[Vault]:
        """Those there are, for one who has the key where they are encrypted."""
        away = (self.base / KEY).exists() and self.house.settings.identity_path is None
        for kind in VaultKind:
            try:
                if away:
                    with self._opened_with_key(kind) as vault:
                        yield vault
                else:
                    yield self.engine.vaults.get(kind, create=False)
            except VaultMissingError:
                continue

    def _opened_with_key(self, kind: VaultKind) -> Vault:
        return Vault.open(
            self.engine.vaults.path(kind),
            kind,
            index_path="",
            fs=FileOps(),
            clock=self.engine.clock,
            read_only=True,
            identity_path=os.fspath(self.base / KEY),
        )

    def versions(self) -> set[tuple[bytes, int, str]]:
        """All versions that a vault tells of: file, number, content."""
        found = set()
        for vault in self.vaults():
            for event in vault.all_versions(self.house.repository.repository_id):
                content = (
                    event.content.digest.hex()
                    if event.content
                    else os.fsdecode(event.metadata.target or b"")
                )
                found.add((event.file_id, event.number, content))
        return found

    def files(self, *paths: bytes) -> list[ActFile]:
        """The live records at these paths."""
        known = self.engine.registry.files_under(
            self.house.repository.repository_id, b"", None, 1000
        )
        return [file for file in known if not paths or file.path in paths]

    def everything(self) -> list[ActFile]:
        """All records that there are, whatever became of them."""
        _, rows = self.engine.registry.query("SELECT file_id FROM files")
        return list(self.engine.registry.act_files([row[0] for row in rows]).values())

    # -- orders, which may be given again ----------------------------------------------------

    def back_up(self) -> Report:
        return self.engine.acts.back_up(self.house.repository)

    def keep_one_version(self) -> None:
        """From now on the rules keep one version of each file."""
        statements = self.engine.statements
        for policy in statements.policies():
            statements.put_policy(replace(policy, max_versions=1))
        self.engine.decisions.settle()
        newest: dict[bytes, int] = {}
        for file_id, number, _ in self.versions():
            newest[file_id] = max(number, newest.get(file_id, 0))
        self.ledger.beyond = {it for it in self.versions() if it[1] < newest[it[0]]}
        assert self.ledger.beyond

    def prune(self, grace_days: float = 0) -> PruneOutcome:
        # Small, and also packs that are small are copied out of.
        with patch.object(reserve, "RESERVE_BYTES", 5000), patch.object(index_live, "FIXED", 0):
            return prune_vault(self.engine, Pruning(grace_days, repack_below=0.9), How())

    def prune_copy(self) -> PruneOutcome:
        with patch.object(reserve, "RESERVE_BYTES", 5000), patch.object(index_live, "FIXED", 0):
            return prune_copy(self.engine, str(self.base / COPY), Pruning(0), How())

    def delete(self, *paths: bytes) -> Report:
        files = [it for it in self.files(*paths) if it.state is not LifecycleState.ARCHIVED]
        return self.engine.acts.delete(self.house.repository, files, reason="asked")

    def archive(self, *paths: bytes) -> Report:
        files = [it for it in self.files(*paths) if it.state is not LifecycleState.ARCHIVED]
        return self.engine.acts.archive(self.house.repository, files, reason="asked")

    def undelete(self) -> Report:
        # With the test's own file operations: this is not part of the order.
        with self.trash() as trash:
            wanted = [
                (batch, entry)
                for batch in trash.batches()
                if isinstance(batch, TrashBatch) and batch.reason is TrashReason.DELETE
                for entry in trash.left(batch)
            ]
        return self.engine.acts.undelete(self.house.repository, wanted)

    def recall(self) -> Report:
        files = [it for it in self.everything() if it.state is LifecycleState.ARCHIVED]
        return self.engine.acts.recall(self.house.repository, files)

    def restore(self, conflict: Conflict, number: int | None = None, *paths: bytes) -> Report:
        """Restore the last version (or the one of a number) of each file that had one."""
        vault = self.engine.vaults.get(VaultKind.BACKUP, create=False)
        wanted = []
        for file in self.everything():
            if paths and file.path not in paths:
                continue
            versions = list(vault.versions_of(file.file_id))
            chosen = [it for it in versions if number in (None, it.number)]
            if chosen:
                wanted.append(Back(file, chosen[0], chosen[0].path))
        return self.engine.acts.restore(self.house.repository, wanted, conflict=conflict)

    def purge(self, days: int = 40) -> Report:
        now_ns = self.engine.now_ns() + days * NS_PER_DAY
        return self.engine.acts.purge(self.house.repository, now_ns=now_ns)

    def purge_early(self) -> Report:
        """All that a vault has a copy of, as if no room were ever enough."""
        vaults = self.engine.vaults.existing()
        return self.engine.acts.purge_early(
            self.house.repository,
            copy=lambda entry: self.engine.making_room.copy_of(vaults, entry),
            enough=lambda: False,
            reason="its disk is full",
        )

    def heal(self, *, contents: bool = False) -> list[VaultOutcome]:
        """Every byte of the vaults, and whatever is damaged from wherever it can be had."""
        manner = Manner(share=1.0, contents=contents, heal=True)
        return verify_vaults(self.engine, manner, progress=NoProgress(), cancel=CancelToken())

    def copy_vault(self, place: str = COPY) -> CopyReport:
        return copy_vault(
            self.engine,
            str(self.base / place),
            archive=False,
            check=True,
            dry_run=False,
            progress=NoProgress(),
            cancel=CancelToken(),
        )

    def mend(self, place: str = COPY) -> CopyReport:
        return mend_vault(
            self.engine,
            str(self.base / place),
            archive=False,
            dry_run=False,
            progress=NoProgress(),
            cancel=CancelToken(),
        )

    def rewrite(self, *, plain: bool = False, keys: Sequence[str] = ()) -> RewriteReport:
        """To the key of the estate (or others), whether the vault is encrypted or not."""
        public, _ = (self.base / f"{KEY}.public").read_text().split()
        return rewrite(
            self.engine,
            str(self.base / REWRITTEN),
            [] if plain else keys or [public],
            plain=plain,
            archive=False,
            dry_run=False,
            progress=NoProgress(),
            cancel=CancelToken(),
        )

    @contextmanager
    def beside(self, name: str) -> Iterator[Vault]:
        """The copy of the backup vault (or what it was written anew as), for one who has the
        key."""
        identity = self.base / KEY
        with Vault.open(
            self.base / name,
            VaultKind.BACKUP,
            index_path="",
            fs=FileOps(),
            clock=self.engine.clock,
            read_only=True,
            identity_path=os.fspath(identity) if identity.exists() else "",
        ) as vault:
            yield vault

    def drill(self) -> list[DrillOutcome]:
        return drill(
            self.engine,
            [self.house.repository],
            sample=9,
            seed=1,
            progress=NoProgress(),
            cancel=CancelToken(),
        )

    def recover(self) -> int:
        return self.engine.acts.recover(self.house.repository)


Order = Callable[[Estate], object]


def _files(top: bytes, folder: bytes = b"") -> Iterator[bytes]:
    for entry in os.scandir(os.path.join(top, folder)):
        path = os.path.join(folder, entry.name)
        if path == b".lifecycle":
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(top, path)
        else:
            yield path


def _uuid(identifier: bytes) -> str:
    digits = identifier.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
