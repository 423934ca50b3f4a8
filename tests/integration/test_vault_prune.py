"""Pruning takes away what no version needs, and nothing else, whoever writes beside it."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.errors import LifecycleError, VaultCorruptError, VaultError
from lifecycle_sync.model.event import PrunedEvent, StateEvent, VersionEvent
from lifecycle_sync.model.file import LifecycleState
from lifecycle_sync.vault import compaction, manifest, sealing, verify_manifests
from lifecycle_sync.vault import needed as needed_
from lifecycle_sync.vault import prune as pruning
from lifecycle_sync.vault.contents import Contents
from lifecycle_sync.vault.copying_out import stand_in
from lifecycle_sync.vault.events import encode_event
from lifecycle_sync.vault.format import decode_format, manifest_path
from lifecycle_sync.vault.index_live import Lines
from lifecycle_sync.vault.manifest import Header, ManifestReader
from lifecycle_sync.vault.needed import Needed
from lifecycle_sync.vault.prune import STRAY_NS, PruneReport, prune, withdraw
from lifecycle_sync.vault.vault import Vault, VaultWriter
from tests.support.vaults import REPOSITORY, EncryptedHouse, VaultHouse, flip, key_of, noise, read

_DAY = 24 * 3600 * 10**9
_BIG = 3 << 20


@pytest.fixture
def house(tmp_path):
    return VaultHouse(tmp_path)


def run(house: VaultHouse, vault: Vault, grace: int = 0, **options: Any) -> PruneReport:
    return prune(vault, now_ns=house.clock.now_ns(), grace_ns=grace, **options)


def take_back(house: VaultHouse, vault: Vault, versions) -> str:
    ids = [it.version_id for it in versions]
    return withdraw(vault, ids, house.clock.now_ns(), "no rule keeps it")


def stored(house: VaultHouse) -> set[str]:
    names = (os.fspath(path.relative_to(house.path)) for path in house.files())
    return {name for name in names if name.startswith(("packs", "objects"))}


@contextmanager
def second(house: VaultHouse, tmp_path: Path) -> Iterator[Vault]:
    """The same vault, opened by somebody else, with an index of its own."""
    with house.open(index_path=os.fspath(tmp_path / "second.db"), writer="second") as vault:
        yield vault


def whole(house: VaultHouse, contents: list[bytes], **options: Any) -> None:
    """All of this can be read, by this index and by a new one, and nothing is damaged."""
    for lose in (False, True):
        if lose:
            house.lose_index()
        with house.open(**options) as vault:
            for data in contents:
                assert read(vault, key_of(data)) == data
            assert vault.verify(contents=True).ok


def test_what_no_version_needs_goes_and_the_rest_stays(house):
    kept, gone = [noise(1), noise(2, _BIG)], [noise(3), noise(4, _BIG)]
    with house.open() as vault:
        house.store(vault, {b"a": kept[0]})
        house.store(vault, {b"b": kept[1]})
        _, small = house.store(vault, {b"c": gone[0]})
        _, large = house.store(vault, {b"d": gone[1]})
        before = stored(house)
        take_back(house, vault, small + large)
        report = run(house, vault)
        assert (report.condemned, report.deleted, report.unsaved) == (2, 2, [])
        assert len(stored(house)) == len(before) - 2
        assert vault.contains([key_of(data) for data in gone]) == set()
        again = run(house, vault)
        assert (again.condemned, again.deleted, again.copied_bytes) == (0, 0, 0)
    whole(house, kept)


def test_versions_that_were_pruned_are_not_told_any_more(house):
    with house.open() as vault:
        _, kept = house.store(vault, {b"a": b"kept"})
        _, gone = house.store(vault, {b"b": b"gone"})
        take_back(house, vault, gone)
    for step in range(3):
        if step == 1:
            house.lose_index()
        if step == 2:
            with house.open() as vault:
                run(house, vault)
        with house.open() as vault:
            told = [it for it in vault.events(vault.manifests()) if it in kept + gone]
            assert told == kept
            assert list(vault.versions_of(gone[0].file_id)) == []
            assert list(vault.versions_of(kept[0].file_id)) == kept
            assert list(vault.all_versions(kept[0].repository_id)) == kept


def test_verify_counts_the_versions_that_are_kept(house):
    """Pruned and not deleted yet, repeated by a checkpoint, told by checkpoints alone."""
    with house.open() as vault:
        versions = []
        for number in range(6):
            versions += house.store(vault, {b"%d" % number: noise(number)})[1]
        assert vault.verify().versions == 6
        for left in (5, 4, 3, 2):
            house.clock.advance(1)
            take_back(house, vault, [versions.pop()])
            assert vault.verify().versions == left
            assert run(house, vault).deleted == 1
            # As it was counted, and as it was remembered.
            assert [vault.verify().versions for _ in range(2)] == [left, left]
    house.lose_index()
    with house.open() as vault:
        assert vault.verify().versions == 2


def test_two_checkpoints_that_did_not_know_of_each_other_say_each_line_once(house, tmp_path):
    second = os.fspath(tmp_path / "second.db")
    with house.open() as one, house.open(index_path=second, writer="second") as two:
        for number in range(4):
            house.store(one, {b"%d" % number: noise(number)})
        two.refresh()
        for it in (one, two):
            it.catalogue.write_checkpoint()
        one.refresh()
        one.catalogue.remove(one.catalogue.superseded())
        assert [it.verify().versions for it in (one, two)] == [4, 4]
        house.clock.advance(1)
        third = one.catalogue.write_checkpoint()
        assert len(list(one.events([third]))) == 4


def test_what_a_verify_counted_before_others_pruned_does_not_stay(house, monkeypatch):
    check_lines = verify_manifests._check_lines
    pruned: list[bytes] = []

    def meanwhile(look, reader):
        found = check_lines(look, reader)
        if not pruned:
            pruned.append(versions[0].version_id)
            house.clock.advance(1)
            with house.open() as other:
                withdraw(other, pruned, house.clock.now_ns(), "asked")
        return found

    with house.open() as vault:
        _, versions = house.store(vault, {b"a": noise(1), b"b": noise(2)})
        monkeypatch.setattr(verify_manifests, "_check_lines", meanwhile)
        vault.verify()
        assert [vault.verify().versions for _ in range(2)] == [1, 1]


def test_what_a_damaged_checkpoint_repeats_is_counted_where_it_stands(house):
    with house.open() as vault:
        for number in range(4):
            house.store(vault, {b"%d" % number: noise(number)})
        path = house.path / manifest_path(vault.catalogue.write_checkpoint())
        assert vault.verify().versions == 4
        flip(path, path.stat().st_size // 2)
        assert [vault.verify().versions for _ in range(2)] == [4, 4]


def test_nothing_is_deleted_before_its_grace_has_passed(house):
    with house.open() as vault:
        _, gone = house.store(vault, {b"a": noise(1)})
        take_back(house, vault, gone)
        first = run(house, vault, grace=7 * _DAY)
        assert (first.condemned, first.deleted, first.waiting) == (1, 0, 1)
        assert first.waiting_until_ns == house.clock.now_ns() + 7 * _DAY
        assert read(vault, key_of(noise(1))) == noise(1), "it can still be read"
        assert vault.contains([key_of(noise(1))]) == set(), "and nobody relies on it"
        house.clock.advance(7 * 86_400 - 1)
        assert run(house, vault, grace=7 * _DAY).deleted == 0
        house.clock.advance(1)
        assert run(house, vault, grace=7 * _DAY).deleted == 1
        assert stored(house) == set()


def test_packs_that_are_mostly_empty_are_copied_out_of(house):
    contents = [noise(number) for number in range(10)]
    with house.open() as vault:
        _, versions = house.store(
            vault, {b"%d" % number: data for number, data in enumerate(contents)}
        )
        take_back(house, vault, versions[3:])
        (before,) = stored(house)
        assert run(house, vault, repack_below=0.2).condemned == 0
        report = run(house, vault, repack_below=0.5)
        assert (report.emptied, report.deleted) == (1, 1)
        (after,) = stored(house)
        assert after != before
        assert (house.path / after).stat().st_size < 200_000
    whole(house, contents[:3])


def test_what_is_copied_out_is_told_before_it_is_much(house, monkeypatch):
    """Of tiny contents a pack has many, and until a manifest tells of a copy it is in memory."""
    monkeypatch.setattr(pruning, "_MEMBERS_PER_COMMIT", 7)
    monkeypatch.setattr(pruning, "_PACKS", 2)
    contents = [[noise(100 * pack + number, 300) for number in range(40)] for pack in range(5)]
    most = 0
    right = VaultWriter.add_packed

    def add(self, algorithm, packed):
        nonlocal most
        right(self, algorithm, packed)
        most = max(most, len(self._stored))

    with house.open() as vault:
        for some in contents:
            _, versions = house.store(vault, {b"%d" % it: data for it, data in enumerate(some)})
            take_back(house, vault, versions[10:])
        monkeypatch.setattr(VaultWriter, "add_packed", add)
        report = run(house, vault)
        assert (report.emptied, report.deleted, report.unsaved) == (5, 5, [])
    assert most == 7
    whole(house, [data for some in contents for data in some[:10]])


def test_a_dry_run_changes_nothing_and_says_the_same(house):
    with house.open() as vault:
        _, versions = house.store(vault, {b"%d" % n: noise(n) for n in range(10)})
        house.store(vault, {b"large": noise(99, _BIG)})
        ids = [it.version_id for it in versions[3:]]
        files = house.files()
        dry = run(house, vault, going=ids, dry_run=True)
        assert house.files() == files
        take_back(house, vault, versions[3:])
        real = run(house, vault)
        assert (dry.condemned, dry.condemned_bytes) == (real.condemned, real.condemned_bytes)
        assert (dry.emptied, dry.copied_bytes) == (real.emptied, real.copied_bytes)


def test_what_a_dead_session_left_goes_after_a_day_and_a_grace(house):
    with house.open() as vault:
        with vault.writer() as writer:
            for number in range(20):
                writer.add(key_of(noise(number, 1 << 20)), noise(number, 1 << 20))
        assert len(stored(house)) == 1
        assert run(house, vault).strays == 1
        house.clock.advance(86_399)
        assert run(house, vault).condemned == 0
        house.clock.advance(1)
        assert run(house, vault).deleted == 1
        assert stored(house) == set()


def test_parts_that_two_objects_share_stay_for_the_one_that_is_needed(house, monkeypatch):
    monkeypatch.setattr("lifecycle_sync.vault.objects.PART_SIZE_MAX", 1 << 20)
    one, two = noise(1, 2 << 20) + b"one", noise(1, 2 << 20) + b"two"
    with house.open() as vault:
        house.store(vault, {b"a": one})
        _, gone = house.store(vault, {b"b": two})
        assert len(stored(house)) == 4
        take_back(house, vault, gone)
        assert run(house, vault).deleted == 1
    whole(house, [one])


def test_a_version_that_is_told_again_is_there_again(house):
    with house.open() as vault:
        _, (version,) = house.store(vault, {b"a": b"again"})
        take_back(house, vault, [version])
        run(house, vault)
        with vault.writer() as writer:
            writer.add(key_of(b"again"), b"again")
            writer.commit([version])
        (found,) = vault.versions_of(version.file_id)
        assert found.version_id == version.version_id
        assert found.at_ns > version.at_ns
        assert run(house, vault).condemned == 0
    whole(house, [b"again"])


def test_the_first_prune_keeps_older_programs_from_writing(house):
    with house.open() as vault:
        _, gone = house.store(vault, {b"a": b"gone"})
        assert decode_format((house.path / "FORMAT").read_bytes()).min_writer == 1
        take_back(house, vault, gone)
        found = decode_format((house.path / "FORMAT").read_bytes())
        assert (found.min_writer, found.min_reader) == (2, 1)
        assert vault.verify(contents=True).ok


def test_a_change_of_format_that_was_cut_off_is_finished(house):
    with house.open() as vault:
        sums = (house.path / "SHA256SUMS").read_bytes()
        _, gone = house.store(vault, {b"a": b"gone"})
        take_back(house, vault, gone)
    (house.path / "SHA256SUMS").write_bytes(sums)
    with house.open() as vault:
        assert vault.verify(contents=True).ok


def test_manifests_go_when_two_checkpoints_repeat_them(house):
    contents = [noise(number) for number in range(30)]
    with house.open() as vault:
        for turn in range(3):
            for number in range(turn * 10, turn * 10 + 10):
                _, versions = house.store(vault, {b"%d" % number: contents[number]})
                if number % 2:
                    take_back(house, vault, versions)
            run(house, vault)
        names = sorted(os.listdir(house.path / "manifests"))
        checkpoints = [n for n in names if ManifestReader(vault.storage, n).header.checkpoint]
        assert len(checkpoints) == 2
        assert names[0] == checkpoints[0], "what came before it is in both"
    whole(house, contents[::2])
    # One of the two may be damaged, and nothing is lost.
    (house.path / "manifests" / checkpoints[1]).write_bytes(b"damaged")
    house.lose_index()
    with house.open() as vault:
        for data in contents[::2]:
            assert read(vault, key_of(data)) == data


# -- beside others ---------------------------------------------------------------------------------


def test_a_writer_that_knows_stores_anew_what_is_condemned(house, tmp_path):
    with house.open() as vault, second(house, tmp_path) as other:
        _, gone = house.store(vault, {b"a": noise(1)})
        take_back(house, vault, gone)
        run(house, vault, grace=_DAY)
        with other.writer() as writer:
            other.refresh()
            assert writer.add(key_of(noise(1)), noise(1)), "it counts as not stored"
            writer.commit([house.version(b"b", key_of(noise(1)))])
        house.clock.advance(86_400)
        assert run(house, vault, grace=_DAY).deleted == 1
    whole(house, [noise(1)])


@pytest.mark.parametrize("size", [40_000, _BIG])
@pytest.mark.parametrize("deleted", [False, True])
def test_a_writer_that_was_suspended_stores_again_or_fails(house, tmp_path, size, deleted):
    """It found its content stored, and then slept while that was condemned (and deleted)."""
    data = noise(1, size)
    with house.open() as vault, second(house, tmp_path) as other:
        _, gone = house.store(vault, {b"a": data})
        other.refresh()
        with other.writer() as writer:
            assert other.contains([key_of(data)]) == {key_of(data)}
            take_back(house, vault, gone)
            run(house, vault, grace=0 if deleted else _DAY)
            version = house.version(b"b", key_of(data))
            if deleted:
                with pytest.raises(VaultError, match="not stored"):
                    writer.commit([version])
            else:
                writer.commit([version])
        house.clock.advance(86_400)
        run(house, vault, grace=_DAY)
    whole(house, [] if deleted else [data])


@pytest.mark.parametrize("size", [40_000, _BIG])
@pytest.mark.parametrize("deleted", [False, True])
def test_a_writer_that_was_suspended_before_it_published_looks_again(
    house, tmp_path, size, deleted
):
    """The last moment there is: all was looked at, and the manifest is not there yet."""
    data = noise(1, size)
    with house.open() as vault, second(house, tmp_path) as other:
        _, gone = house.store(vault, {b"a": data})
        other.refresh()
        version = house.version(b"b", key_of(data))
        with other.writer() as writer:
            publish = writer._publish

            def late(events):
                if not events or isinstance(events[0], PrunedEvent):
                    return publish(events)
                writer._publish = publish  # type: ignore[method-assign]
                header = other.next_header()
                take_back(house, vault, gone)
                run(house, vault, grace=0 if deleted else _DAY)
                other.next_header = lambda: header  # type: ignore[method-assign]
                try:
                    return publish(events)
                finally:
                    del other.next_header

            writer._publish = late  # type: ignore[method-assign]
            if deleted:
                with pytest.raises(VaultError, match="pruned before this was committed"):
                    writer.commit([version])
            else:
                writer.commit([version])
        house.clock.advance(86_400)
        assert run(house, vault, grace=_DAY).missing == 0
        told = [it.version_id for it in vault.all_versions(version.repository_id)]
        assert told == ([] if deleted else [version.version_id])
    whole(house, [] if deleted else [data])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("grace", [0, _DAY])
@pytest.mark.parametrize("step", ["knows", "publishes"])
def test_a_process_that_sleeps_across_a_prune_promises_nothing_that_is_gone(
    house, tmp_path, step, grace
):
    """Really stopped, by a signal, and woken when all is condemned (and deleted)."""
    data = noise(1)
    with house.open() as vault:
        _, gone = house.store(vault, {b"a": data})
    version = house.version(b"b", key_of(data))
    child = os.fork()
    if child == 0:
        os._exit(_sleeps(house, tmp_path, step, version))
    _, status = os.waitpid(child, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    with house.open() as vault:
        take_back(house, vault, gone)
        run(house, vault, grace=grace)
        os.kill(child, signal.SIGCONT)
        _, status = os.waitpid(child, 0)
        promised = os.waitstatus_to_exitcode(status)
        assert promised == (_FAILED if grace == 0 else _PROMISED)
        house.clock.advance(86_400)
        run(house, vault, grace=_DAY)
    whole(house, [data] if promised == _PROMISED else [])


_PROMISED, _FAILED, _BROKEN = 0, 7, 8


def _sleeps(house: VaultHouse, tmp_path: Path, step: str, version: VersionEvent) -> int:
    def sleep() -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    try:
        with second(house, tmp_path) as other, other.writer() as writer:
            assert version.content is not None
            assert other.contains([version.content])
            if step == "knows":
                sleep()
            else:
                header = other.next_header

                def late() -> Header:
                    del other.next_header
                    made = header()
                    sleep()
                    return made

                other.next_header = late  # type: ignore[method-assign]
            writer.commit([version])
    except VaultError:
        return _FAILED
    except BaseException:
        return _BROKEN
    return _PROMISED


def test_a_prune_that_sees_a_late_manifest_copies_out_what_it_needs(house, tmp_path):
    data = noise(1)
    with house.open() as vault, second(house, tmp_path) as other:
        _, gone = house.store(vault, {b"a": data})
        other.refresh()
        take_back(house, vault, gone)
        run(house, vault, grace=_DAY)
        with other.writer() as writer:
            # One that never looks: as if it had died right after it published.
            writer._publish([house.version(b"b", key_of(data))])
        house.clock.advance(86_400)
        report = run(house, vault, grace=_DAY)
        assert (report.saved, report.deleted) == (1, 1)
    whole(house, [data])


@pytest.mark.parametrize("deleted", [False, True])
def test_what_a_writer_published_and_was_killed_is_looked_after_by_others(house, tmp_path, deleted):
    """It died between its manifest and its second look; whoever takes the manifest up, looks."""
    data = noise(1)
    with house.open() as vault, second(house, tmp_path) as other:
        _, gone = house.store(vault, {b"a": data})
        other.refresh()
        version = house.version(b"b", key_of(data))
        header = other.next_header()
        take_back(house, vault, gone)
        run(house, vault, grace=0 if deleted else _DAY)
        with other.writer() as writer:
            other.next_header = lambda: header  # type: ignore[method-assign]
            name = writer._publish([version])
        vault.refresh()
        assert stand_in(vault, [name]) == deleted
        assert stand_in(vault, [name]) == 0
        assert list(vault.versions_of(version.file_id)) == ([] if deleted else [version])
        house.clock.advance(86_400)
        run(house, vault, grace=_DAY)
    whole(house, [] if deleted else [data])


def test_what_a_living_session_stored_is_condemned_and_stored_again(house, tmp_path):
    contents = [noise(number, 1 << 20) for number in range(20)] + [noise(30, _BIG)]
    with house.open() as vault, second(house, tmp_path) as other:
        with other.writer() as writer:
            for data in contents[:-1]:
                writer.add(key_of(data), data)
            upload = writer.open_object("sha256")
            upload.write(contents[-1])
            upload.finish()
            run(house, vault)
            house.clock.advance(86_400)
            assert run(house, vault, grace=STRAY_NS).condemned == 2
            writer.commit([house.version(b"%d" % n, key_of(it)) for n, it in enumerate(contents)])
        house.clock.advance(86_400)
        assert run(house, vault, grace=STRAY_NS).deleted == 2
    whole(house, contents)


def test_two_prunes_that_know_different_places_lose_nothing(house, tmp_path):
    """Each condemns the place that the other one relies on."""
    data = noise(1)
    with house.open() as one, second(house, tmp_path) as two:
        house.store(one, {b"a": data})
        with two.writer() as writer:
            # It does not know of the first.
            two.news = lambda: False  # type: ignore[method-assign]
            writer.add(key_of(data), data + b"", again=True)
            writer.add(key_of(b"more"), b"more")
            writer.commit([house.version(b"b", key_of(data)), house.version(b"c", key_of(b"more"))])
            del two.news
        for turn in range(3):
            for vault in (one, two):
                run(house, vault, grace=turn * _DAY)
                house.clock.advance(2 * 86_400)
    whole(house, [data, b"more"])


def test_what_another_prune_has_emptied_is_not_called_unsaved(house, tmp_path, monkeypatch):
    contents = [noise(number) for number in range(10)]
    with house.open() as vault, second(house, tmp_path) as other:
        _, versions = house.store(vault, {b"%d" % n: data for n, data in enumerate(contents)})
        take_back(house, vault, versions[3:])
        empty = pruning._Pruning._empty_packs

        def beside(it: pruning._Pruning) -> None:
            monkeypatch.setattr(pruning._Pruning, "_empty_packs", empty)
            report = run(house, other)
            assert (report.emptied, report.deleted) == (1, 1)
            empty(it)

        monkeypatch.setattr(pruning._Pruning, "_empty_packs", beside)
        report = run(house, vault)
        assert (report.unsaved, report.missing, report.emptied) == ([], 0, 0)
    whole(house, contents[:3])


def test_a_reader_finds_what_was_moved_while_it_had_the_vault_open(house, tmp_path):
    contents = [noise(number) for number in range(10)] + [noise(50, _BIG)]
    with house.open() as vault, second(house, tmp_path) as reader:
        _, versions = house.store(vault, {b"%d" % n: data for n, data in enumerate(contents)})
        reader.refresh()
        take_back(house, vault, versions[3:10])
        run(house, vault)
        for data in [*contents[:3], contents[-1]]:
            assert read(reader, key_of(data)) == data
        with pytest.raises(LifecycleError):
            read(reader, key_of(contents[5]))


def test_a_reader_finds_what_was_moved_again_while_it_looked_for_it(house, tmp_path, monkeypatch):
    contents = [noise(number) for number in range(10)]
    moved = Contents._moved
    with house.open() as vault, second(house, tmp_path) as reader:
        _, versions = house.store(vault, {b"%d" % n: data for n, data in enumerate(contents)})
        reader.refresh()
        take_back(house, vault, versions[3:])
        run(house, vault)

        def moved_again(self, *arguments):
            found = moved(self, *arguments)
            monkeypatch.setattr(Contents, "_moved", moved)
            take_back(house, vault, versions[1:3])
            run(house, vault)
            return found

        monkeypatch.setattr(Contents, "_moved", moved_again)
        assert read(reader, key_of(contents[0])) == contents[0]


# -- what is wrong with a vault ----------------------------------------------------------------


def test_what_is_known_of_many_versions_at_once_compacts_as_each_by_itself(house, monkeypatch):
    """Frames of which all versions stay, none, or some; in one a version has no content."""
    monkeypatch.setattr(manifest, "_FRAME_SIZE", 3_000)
    monkeypatch.setattr(manifest, "_PASSES", 2_000)
    stayed: list[dict[Lines, bool]] = []
    passed: list[bool] = []
    right = compaction.compact

    def both_ways(vault, now_ns, known, written):
        stayed.append(dict(known.stay))
        one = compaction._Choosing(vault, now_ns, known)
        other = compaction._Choosing(vault, now_ns, compaction.Known({}, {}, known.awaited))
        passing = one.passing(known.frames)
        for name in vault.catalogue.sources():
            for number, text, _inner in ManifestReader(vault.storage, name).frames():
                assert text is not None
                lines = text.splitlines()
                chosen = other.choose(name, number, lines)
                assert one.choose(name, number, lines) == chosen
                it = passing.get(name, {}).get(number)
                if it is not None:
                    assert chosen == (lines if it.stays else it.lines)
                    passed.append(it.stays)
        return right(vault, now_ns, known, written)

    monkeypatch.setattr(pruning, "compact", both_ways)
    small = [noise(number, 200) for number in range(60)]
    with house.open() as vault:
        _, versions = house.store(vault, {b"%d" % n: data for n, data in enumerate(small)})
        with vault.writer() as writer:
            nothing = [house.version(b"link %d" % n, None) for n in range(3)]
            writer.commit([*nothing, house.version(b"again", key_of(small[0]))])
        take_back(house, vault, [*versions[:30], versions[33], *nothing[:1]])
        assert run(house, vault, repack_below=1.0).emptied == 1
        left = {it.path for it in vault.all_versions(versions[0].repository_id)}
    (stay,) = stayed
    assert set(stay.values()) == {True, False}
    assert True in passed
    gone = {it.path for it in [*versions[:30], versions[33], nothing[0]]}
    assert left == {it.path for it in [*versions, *nothing]} - gone | {b"again"}
    whole(house, [small[0], *small[30:33], *small[34:]])


@pytest.mark.parametrize("make", [VaultHouse, EncryptedHouse])
def test_a_checkpoint_says_the_same_whether_frames_pass_or_not(make, tmp_path, monkeypatch):
    """Of contents in packs and objects, with lines between that always count, and other writers'
    manifests, of which nothing is known beforehand."""
    monkeypatch.setattr(manifest, "_FRAME_SIZE", 3_000)
    monkeypatch.setattr(manifest, "_PASSES", 1_000)
    house = make(tmp_path / "first")
    key = {"key": True} if make is EncryptedHouse else {}
    copied: list[int] = []
    real = manifest.ManifestWriter.copy

    def copy(writer, data, lines):
        copied.append(lines)
        real(writer, data, lines)

    monkeypatch.setattr(manifest.ManifestWriter, "copy", copy)
    small = {b"%d" % n: noise(n, 200) for n in range(100)}
    with house.open(**key) as vault:
        _, versions = house.store(vault, small)
        _, more = house.store(vault, {b"more %d" % n: noise(1000 + n, 150) for n in range(70)})
        with vault.writer() as writer:
            events = [house.version(b"link", None) for _ in range(30)]
            writer.commit(events)
        again = [house.version(b"again", it.content) for it in versions[:40]]
        state = StateEvent(house.id(), REPOSITORY, b"x", LifecycleState.DELETED, 1, house.id())
        with vault.writer() as writer:
            writer.commit([it for version in again for it in (version, state)])
        _, objects = house.store(vault, {b"big %d" % n: noise(n, _BIG) for n in (1, 2)})
        take_back(house, vault, [*versions, *again, more[3], objects[0]])
    twin = make(tmp_path / "second")
    shutil.copytree(house.folder, twin.folder, dirs_exist_ok=True)
    if isinstance(house, EncryptedHouse):
        twin.public = house.public
    said = []
    for it, passes in ((house, True), (twin, False)):
        if not passes:
            monkeypatch.setattr(compaction._Choosing, "passing", lambda self, frames: {})
        before = len(copied)
        with it.open(**key) as vault:
            assert run(it, vault).deleted
            newest = max(vault.catalogue.known())
            said.append([line.raw for line in ManifestReader(vault.storage, newest).lines()])
            assert said[-1].count(encode_event(state)) == len(again)
            left = {it.path for it in vault.all_versions(versions[0].repository_id)}
        assert left == {it.path for it in [*more, *events, *objects]} - {b"more 3", b"big 1"}
        assert (len(copied) > before) == passes
        whole(it, [*(noise(1000 + n, 150) for n in range(70) if n != 3), noise(2, _BIG)], **key)
    assert said[0] == said[1]


def test_a_frame_that_is_read_wrong_when_it_is_repeated_is_found(house, monkeypatch):
    """Its manifest was whole when it was read, and is: a fault of the memory, or of a cable."""
    monkeypatch.setattr(manifest, "_FRAME_SIZE", 3_000)
    monkeypatch.setattr(manifest, "_PASSES", 1_000)
    with house.open() as vault:
        house.store(vault, {b"%d" % n: noise(n, 200) for n in range(100)})
        _, gone = house.store(vault, {b"gone": noise(1, _BIG)})
        take_back(house, vault, gone)
        before = house.files("manifests")
        right = manifest.ManifestReader.data

        def flipped(reader, inner):
            pieces = type(vault.storage).pieces

            def wrong(storage, name, offset=0, *more):
                return (
                    bytes([it[0], *(255 - b for b in it[1:])])
                    for it in pieces(storage, name, offset, *more)
                )

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(type(vault.storage), "pieces", wrong)
                return right(reader, inner)

        with monkeypatch.context() as patch:
            patch.setattr(manifest.ManifestReader, "data", flipped)
            with pytest.raises(VaultCorruptError):
                run(house, vault)
        assert set(before) < set(house.files("manifests"))
        assert not vault.verify().findings
        run(house, vault)
        assert not vault.verify(contents=True).findings


def test_a_damaged_checkpoint_repeats_nothing(house):
    """What it repeated goes only when two whole ones do."""
    with house.open() as vault:
        _, versions = house.store(vault, {b"%d" % n: noise(n, _BIG) for n in range(5)})
        first = set(house.files("manifests"))
        take_back(house, vault, versions[:1])
        assert run(house, vault).deleted
        checkpoint = house.path / "manifests" / max(vault.catalogue.known())
        flip(checkpoint, checkpoint.stat().st_size // 2)
        take_back(house, vault, versions[1:2])
        assert run(house, vault).deleted
        assert checkpoint.name in vault.catalogue.damaged
        assert first <= set(house.files("manifests"))
        take_back(house, vault, versions[2:3])
        assert run(house, vault).deleted
        assert not first & set(house.files("manifests"))
        left = {it.path for it in vault.all_versions(versions[0].repository_id)}
        assert left == {b"3", b"4"}


def test_a_large_encrypted_manifest_is_not_opened_anew_for_each_of_its_frames(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(manifest, "_FRAME_SIZE", 3_000)
    monkeypatch.setattr(manifest, "_PASSES", 1_000)
    house = EncryptedHouse(tmp_path)
    with house.open(key=True) as vault:
        house.store(vault, {b"%d" % n: noise(n, 200) for n in range(100)})
    for limit, lost, passes in ((1 << 20, True, True), (100, False, True), (100, True, False)):
        monkeypatch.setattr(sealing, "_WHOLE_BYTES_MAX", limit)
        if lost:
            house.lose_machine()
        with house.open(key=True) as vault, Needed(vault, CancelToken()) as needed:
            if lost:
                monkeypatch.setattr(vault.storage, "kept", None)
            needed.catch_up()
            assert bool(needed.frames) == passes


def test_what_is_remembered_of_frames_is_bounded(house, monkeypatch):
    monkeypatch.setattr(manifest, "_FRAME_SIZE", 1_000)
    monkeypatch.setattr(manifest, "_PASSES", 500)
    remembered = {}
    for room in (1 << 20, 2_000):
        monkeypatch.setattr(needed_, "_FACTS_BYTES", room)
        with house.open() as vault:
            if room > 2_000:
                _, events = house.store(vault, {b"%d" % n: noise(n, 200) for n in range(20)})
                state = StateEvent(
                    house.id(), REPOSITORY, b"x", LifecycleState.DELETED, 1, house.id()
                )
                with vault.writer() as writer:
                    again = [house.version(b"again", it.content) for it in events]
                    writer.commit([*[state] * 60, *again])
            with Needed(vault, CancelToken()) as needed:
                needed.catch_up()
                remembered[room] = list(needed.frames.values())
    sizes = {room: sum(sum(map(len, it.lines)) for it in remembered[room]) for room in remembered}
    assert sizes[1 << 20] > 2_000 >= sizes[2_000]
    # Those that cost nothing are remembered all the same.
    assert [it for it in remembered[2_000] if not it.lines]


def test_a_reader_looks_where_a_late_checkpoint_does_not_send_it(house, tmp_path):
    """A content was stored anew, and one who did not know of that has repeated its old place."""
    data = noise(1)
    with house.open() as vault, second(house, tmp_path) as late:
        house.store(vault, {b"a": data})
        late.refresh()
        (old,) = stored(house)
        with vault.writer() as writer:
            writer.add(key_of(noise(2)), noise(2))
            writer.add(key_of(data), data, again=True)
            writer.commit([])
        late.checkpoint()
        late.checkpoint()
    (house.path / old).unlink()
    house.lose_index()
    with house.open() as vault:
        assert read(vault, key_of(data)) == data


def test_nothing_is_pruned_while_a_manifest_is_damaged_or_missing(house):
    with house.open() as vault:
        name, _ = house.store(vault, {b"a": noise(1)})
        _, gone = house.store(vault, {b"b": noise(2)})
        take_back(house, vault, gone)
    path = house.path / "manifests" / name
    data = path.read_bytes()
    files = stored(house)
    for damage in (lambda: path.write_bytes(data[:-1] + b"x"), path.unlink):
        damage()
        for lose in (False, True):
            if lose:
                house.lose_index()
            with house.open() as vault, pytest.raises(VaultCorruptError, match="nobody knows"):
                run(house, vault)
        assert stored(house) == files
        path.write_bytes(data)
    house.lose_index()
    with house.open() as vault:
        assert run(house, vault).deleted == 1


def test_a_pack_with_a_damaged_member_stays(house):
    contents = [noise(number) for number in range(10)]
    with house.open() as vault:
        _, versions = house.store(vault, {b"%d" % n: data for n, data in enumerate(contents)})
        take_back(house, vault, versions[3:])
        (name,) = stored(house)
        data = bytearray((house.path / name).read_bytes())
        data[len(data) // 12] ^= 1
        (house.path / name).write_bytes(bytes(data))
        report = run(house, vault)
        assert report.unsaved == [name]
        assert (report.condemned, report.deleted) == (0, 0)
        assert name in stored(house)


def test_pruning_that_is_cut_off_between_any_two_steps_goes_on(house, monkeypatch):
    contents = [noise(number) for number in range(12)]
    with house.open() as vault:
        _, versions = house.store(vault, {b"%d" % n: data for n, data in enumerate(contents)})
        take_back(house, vault, versions[4:])
    steps = ["_condemn_unused", "_tell", "_copy_out_needed", "_delete"]
    for name in steps:
        with monkeypatch.context() as patched:
            patched.setattr(pruning._Pruning, name, _killed)
            with house.open() as vault, pytest.raises(KeyboardInterrupt):
                run(house, vault)
    with house.open() as vault:
        run(house, vault)
        assert len(stored(house)) == 1
    whole(house, contents[:4])


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt
