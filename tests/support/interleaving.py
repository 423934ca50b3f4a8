"""Two writers, a prune or two, a verify and a reader on one vault, in an order by a seed; in some
of them one who heals a damaged file, too, and in some the vault is encrypted.

What a commit acknowledged and nobody pruned has to be there at the end, and whenever the reader
looks; verify must find nothing wrong of it at any time. Contents are few, so that writers want what
the prune is about to take away: parts of packs, whole packs, large objects, and what was pruned
before.
"""

from __future__ import annotations

import random
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

from lifecycle_sync.clock import FixedClock
from lifecycle_sync.errors import VaultError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.content import ContentKey
from lifecycle_sync.model.event import VersionEvent
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.testing.memory_storage import MemoryStorage
from lifecycle_sync.vault import age, objects, opening
from lifecycle_sync.vault.contents import names_of
from lifecycle_sync.vault.copying_out import stand_in
from lifecycle_sync.vault.findings import Finding, Problem
from lifecycle_sync.vault.healing import Source, heal
from lifecycle_sync.vault.prune import prune, withdraw
from lifecycle_sync.vault.vault import Vault, VaultKind
from tests.support.schedule import Inline, Schedule, TurnedStorage
from tests.support.vaults import REPOSITORY, START_NS, STORE, VaultHouse, key_of, read

_PART = 600
_DAY = 24 * 3600 * 10**9
_TRIES = 20
# By actor, the storage that its vault is opened on.
_OPENED = threading.local()


class Interleaving:
    """One seed."""

    def __init__(self, seed: int) -> None:
        self._chosen = random.Random(seed)
        self._prunes = 2 if random.Random(f"prunes of {seed}").random() < 0.3 else 1
        # Seeds that have found something once have neither, so that their orders stay.
        self._heals = seed % 7 == 5 or seed % 14 == 1
        self._key = age.generate() if seed % 7 == 1 else None
        self._identity = ""
        # The file that is damaged before all begins, and the contents that it alone has.
        self._spoiled = ""
        self._rotten: set[ContentKey] = set()
        self._storage = MemoryStorage()
        self._ids = VaultHouse(Path("/nowhere"))
        # What must be there: acknowledged, and not pruned since.
        self.acknowledged: dict[bytes, VersionEvent] = {}
        self._pruned: set[bytes] = set()
        self.refused = 0
        self.deleted = 0
        # Small ones, and objects of several parts.
        self._contents = [self._chosen.randbytes(40 + 10 * it) for it in range(12)]
        self._large = [self._chosen.randbytes(2 * _PART + 40 * it) for it in range(2)]

    def run(self) -> int:
        """How many steps there were. Raises `AssertionError`, or what went wrong."""
        schedule = Schedule(self._chosen)
        with _in_one_thread(), self._key_file():
            with self._vault(None) as vault:
                self._fill(vault)
            if self._heals:
                self._spoil()
            for number in range(2):
                schedule.add(f"writer {number}", self._writer(schedule))
            for _ in range(self._prunes):
                schedule.add("prune", self._pruner(schedule))
            schedule.add("verify", self._verifier(schedule))
            schedule.add("reader", self._reader(schedule))
            if self._heals:
                schedule.add("healer", self._healer(schedule))
            schedule.run()
            if self._heals:
                # Who was killed is followed by another one.
                with self._vault(None) as vault:
                    self._heal(vault)
            self._recover()
            self._check()
        return schedule.steps

    @contextmanager
    def _key_file(self) -> Iterator[None]:
        with tempfile.NamedTemporaryFile("w", prefix="lifecycle-key-") as file:
            if self._key is not None:
                file.write(self._key[1])
                file.flush()
                self._identity = file.name
            yield

    @contextmanager
    def _vault(self, schedule: Schedule | None, at_ns: int = START_NS) -> Iterator[Vault]:
        """The vault, opened by whoever comes; every one has an index of its own."""
        storage: Storage = self._storage
        if schedule is not None:
            actors = schedule.actors

            def wait(operation: str) -> None:
                for actor in actors:
                    actor.wait(operation)

            storage = TurnedStorage(self._storage, wait)
        _OPENED.storage = storage
        with Vault.open(
            "/vault",
            VaultKind.BACKUP,
            index_path="",
            fs=FileOps(),
            clock=FixedClock(at_ns),
            create=True,
            store_id=STORE,
            writer="test",
            recipients=[] if self._key is None else [self._key[0]],
            identity_path=self._identity,
        ) as vault:
            yield vault

    # -- what there is before --------------------------------------------------------------

    def _fill(self, vault: Vault) -> None:
        """Packs of three contents of which one or all are pruned, and an object that is."""
        going = []
        for at in range(0, 9, 3):
            some = [self._version(data) for data in self._contents[at : at + 3]]
            self._commit(vault, some)
            going += self._chosen.sample(some, self._chosen.choice([0, 1, 2, 3]))
        large = [self._version(data) for data in self._large]
        self._commit(vault, large)
        going += self._chosen.sample(large, self._chosen.choice([0, 1]))
        self._withdraw(vault, going)

    def _spoil(self) -> None:
        """A bit flips in a pack, or in a part of an object."""
        chosen = random.Random(self._chosen.random())
        files = sorted(it for it in self._storage.files if it.startswith(("packs/", "objects/")))
        self._spoiled = chosen.choice(files)
        data = bytearray(self._storage.files[self._spoiled])
        data[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
        self._storage.files[self._spoiled] = bytes(data)
        with self._vault(None) as vault:
            for content in [*self._contents, *self._large]:
                place = vault.index.place(key_of(content))
                if place and self._spoiled.removesuffix(".age") in names_of(place):
                    self._rotten.add(key_of(content))

    def _version(self, data: bytes) -> tuple[VersionEvent, bytes]:
        return self._ids.version(b"%d" % len(self.acknowledged), key_of(data), size=len(data)), data

    def _withdraw(self, vault: Vault, versions: list[tuple[VersionEvent, bytes]]) -> None:
        ids = [event.version_id for event, _ in versions]
        # From now on they may go, whether it comes to that or not.
        for version_id in ids:
            self.acknowledged.pop(version_id, None)
        if ids:
            withdraw(vault, ids, START_NS, "asked")
            self._pruned |= set(ids)

    def _commit(self, vault: Vault, versions: list[tuple[VersionEvent, bytes]]) -> None:
        with vault.writer() as writer:
            for event, data in versions:
                assert event.content is not None
                if data not in self._large:
                    writer.add(event.content, data)
                elif not vault.contains([event.content]):
                    upload = writer.open_object("sha256")
                    upload.write(data)
                    upload.finish()
            writer.commit([event for event, _ in versions])
        self.acknowledged |= {event.version_id: event for event, _ in versions}

    # -- the actors ------------------------------------------------------------------------

    def _writer(self, schedule: Schedule) -> Callable[[], None]:
        chosen = random.Random(self._chosen.random())

        def work() -> None:
            with self._vault(schedule) as vault:
                for _ in range(chosen.choice([1, 2, 3])):
                    wanted = chosen.sample([*self._contents, *self._large], chosen.choice([1, 3]))
                    versions = [self._version(data) for data in wanted]
                    for attempt in range(_TRIES):
                        try:
                            self._commit(vault, versions)
                        except VaultError:
                            # As an act does: the batch is tried again.
                            self.refused += 1
                            assert attempt < _TRIES - 1, "it is refused for ever"
                        else:
                            break

        return work

    def _pruner(self, schedule: Schedule) -> Callable[[], None]:
        chosen = random.Random(self._chosen.random())
        more = [it for it in self.acknowledged.values() if chosen.random() < 0.3]

        def work() -> None:
            for turn in range(chosen.choice([1, 2, 3])):
                # Days pass meanwhile, or none.
                now_ns = START_NS + turn * chosen.choice([0, 2 * _DAY])
                with self._vault(schedule, now_ns) as vault:
                    if turn == 1:
                        self._withdraw(vault, [(event, b"") for event in more])
                    if chosen.random() < 0.3:
                        vault.checkpoint()
                    report = prune(vault, now_ns=now_ns, grace_ns=0, repack_below=0.7)
                    self.deleted += report.deleted
                    # Another prune may take away what this one is about to copy, and has copied it.
                    assert self._heals or not report.unsaved, f"unsaved: {report.unsaved}"
                    assert not report.missing

        return work

    def _verifier(self, schedule: Schedule) -> Callable[[], None]:
        def work() -> None:
            with self._vault(schedule) as vault:
                for _ in range(2):
                    before, rotten = set(self.acknowledged), set(self._rotten)
                    report = vault.verify(contents=True)
                    self._believe(report.findings, before, rotten)

        return work

    def _believe(
        self, findings: list[Finding], before: set[bytes], rotten: set[ContentKey]
    ) -> None:
        """Whoever sleeps between its manifest and its last look may speak of what has gone, and
        has acknowledged nothing. All else is a false alarm."""
        kept = {self.acknowledged[it].content for it in before & self.acknowledged.keys()}
        for it in findings:
            named = it.subject == self._spoiled.removesuffix(".age")
            if named or (it.lost and rotten.issuperset(it.lost)):
                continue
            unfinished = it.problem is Problem.CONTRADICTORY and it.lost
            assert unfinished and not kept & set(it.lost), f"verify finds {it}"

    def _healer(self, schedule: Schedule) -> Callable[[], None]:
        def work() -> None:
            with self._vault(schedule) as vault:
                for attempt in range(_TRIES):
                    try:
                        self._heal(vault)
                    except VaultError:
                        self.refused += 1
                        assert attempt < _TRIES - 1, "it is refused for ever"
                    else:
                        break

        return work

    def _heal(self, vault: Vault) -> None:
        report = vault.verify(share=1.0)
        heal(vault, report.findings, sources=[Source("files", self)])
        self._rotten.clear()

    def read(self, key: ContentKey) -> Iterator[bytes] | None:
        """As files that still have what the vault was given."""
        data = next((it for it in [*self._contents, *self._large] if key_of(it) == key), None)
        return None if data is None else iter([data])

    def _reader(self, schedule: Schedule) -> Callable[[], None]:
        def work() -> None:
            with self._vault(schedule) as vault:
                for _ in range(3):
                    before = dict(self.acknowledged)
                    vault.refresh()
                    self._read_all(vault, before)

        return work

    def _read_all(self, vault: Vault, wanted: dict[bytes, VersionEvent]) -> None:
        told = {it.version_id: it for it in vault.all_versions(REPOSITORY)}
        for version_id, event in wanted.items():
            if version_id not in self.acknowledged:
                continue  # pruned since
            assert version_id in told, f"{event.path!r} is gone"
            assert event.content is not None
            rotten = event.content in self._rotten
            try:
                data = read(vault, event.content)
            except VaultError as error:
                if version_id in self.acknowledged and not rotten:
                    raise AssertionError(f"{event.path!r} cannot be read: {error}") from error
                continue
            assert key_of(data) == event.content

    def _recover(self) -> None:
        """What a killed writer has told, and promised nobody, is looked after by whoever takes it
        up: it stands from then on, or was taken back."""
        with self._vault(None) as vault:
            stand_in(vault, vault.manifests())
            for it in vault.all_versions(REPOSITORY):
                assert it.version_id not in self._pruned, "what was pruned is back"
                self.acknowledged.setdefault(it.version_id, it)

    # -- the end ---------------------------------------------------------------------------

    def _check(self) -> None:
        with self._vault(None) as vault:
            self._read_all(vault, self.acknowledged)
            told = {it.version_id for it in vault.all_versions(REPOSITORY)}
            assert not told & self._pruned, "what was pruned is back"
            report = vault.verify(contents=True)
            assert not report.findings, report.findings
            # And once more with all that is condemned gone.
            for turn in (1, 2):
                prune(vault, now_ns=START_NS + (100 + 2 * turn) * _DAY, grace_ns=0)
        with self._vault(None) as vault:
            self._read_all(vault, self.acknowledged)
            report = vault.verify(contents=True)
            assert not report.findings, report.findings
            assert not report.unreferenced + report.condemned, report


@contextmanager
def _in_one_thread() -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(patch.object(objects, "ThreadPoolExecutor", Inline))
        stack.enter_context(patch.object(opening, "open_storage", lambda *_, **__: _OPENED.storage))
        stack.enter_context(patch.object(objects, "PART_SIZE_MAX", _PART))
        stack.enter_context(patch.object(objects, "_BLOCK_SIZE", _PART // 2))
        yield
