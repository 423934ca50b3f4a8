"""A vault whose packs, objects and manifests are files of `age`: written without a secret, read
with one of the keys, and verified and copied without any."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from lifecycle_sync.errors import (
    KeyFileError,
    StorageError,
    VaultCorruptError,
    VaultError,
    VaultKeyError,
)
from lifecycle_sync.vault import age, verify_stored
from lifecycle_sync.vault.bulk import BulkReader
from lifecycle_sync.vault.prune import prune, withdraw
from tests.support.vaults import (
    REPOSITORY,
    EncryptedHouse,
    VaultHouse,
    contents_of,
    flip,
    key_of,
    read,
)

LARGE = random.Random(3).randbytes((2 << 20) + 77)
CONTENTS = {b"a": b"alpha" * 100, b"directory/beta": b"beta", b"large": LARGE}


@pytest.fixture
def house(tmp_path) -> EncryptedHouse:
    return EncryptedHouse(tmp_path)


@pytest.fixture
def stored(house, monkeypatch):
    """What `CONTENTS` is stored as; the large one in three parts."""
    monkeypatch.setattr("lifecycle_sync.vault.objects.PART_SIZE_MAX", 1 << 20)
    with house.open() as vault:
        _, events = house.store(vault, CONTENTS)
    return contents_of(events)


def test_every_content_comes_back_with_the_key(house, stored):
    with house.open(key=True) as vault:
        assert [read(vault, key) for key in stored] == list(CONTENTS.values())
        reader = BulkReader(vault)
        reader.prepare(stored)
        assert [b"".join(reader.read(key)) for key in stored] == list(CONTENTS.values())


def test_nothing_of_the_contents_or_names_lies_in_the_vault(house, stored):
    data = b"".join(path.read_bytes() for path in house.files())
    for secret in (b"alpha", b"directory/beta", LARGE[:64]):
        assert secret not in data
    names = [
        path.name for folder in ("packs", "objects", "manifests") for path in house.files(folder)
    ]
    assert len(names) == 5
    assert all(name.endswith(".age") for name in names)
    told = json.loads((house.path / "FORMAT").read_text())
    assert (told["format"], told["min_reader"], told["encryption"]) == (2, 2, "age")
    assert house.public in (house.path / "RECIPIENTS").read_text()


def test_without_a_key_the_writer_knows_what_it_has_stored(house, stored):
    for lose in (lambda: None, house.lose_index):
        lose()
        with house.open() as vault:
            assert vault.contains(stored) == set(stored)
            (version,) = vault.versions_at(REPOSITORY, b"directory/beta")
            assert version.content == key_of(b"beta")
            assert list(vault.events(vault.manifests())) != []
            with pytest.raises(VaultKeyError, match="identity_path"):
                vault.read_small(stored[1])


def test_a_machine_that_lost_all_and_has_no_key_stores_again(house, stored, caplog):
    house.lose_machine()
    with house.open() as vault:
        assert vault.contains(stored) == set()
        assert len(caplog.messages) == 1
        assert "kept again" in caplog.messages[0]
        name, _ = house.store(vault, CONTENTS)
        assert name.startswith("0000000002-")
        assert vault.contains(stored) == set(stored)
    caplog.clear()
    with house.open():
        # It was said once.
        assert not caplog.messages
    house.lose_machine()
    with house.open(key=True) as vault:
        assert len(vault.manifests()) == 2
        assert [read(vault, key) for key in stored] == list(CONTENTS.values())


def test_another_process_that_was_given_the_key_tells_one_that_was_not(house, stored):
    house.lose_machine()
    with house.open() as vault:
        assert vault.manifests() == []
        with house.open(key=True, index_path=os.fspath(house.folder / "other.db")) as other:
            # Another index, but the same manifests in the clear.
            shutil.copytree(
                f"{other.index.path}.manifests", f"{house.index_path}.manifests", dirs_exist_ok=True
            )
        vault.refresh()
        assert vault.contains(stored) == set(stored)


def test_what_a_prune_takes_away_while_verify_reads_it_is_no_damage(house, stored, monkeypatch):
    with house.open(key=True) as vault:
        plain = verify_stored._plain

        def late(*arguments):
            monkeypatch.setattr(verify_stored, "_plain", plain)
            with house.open(key=True, index_path=os.fspath(house.folder / "other.db")) as other:
                gone = [it.version_id for it in other.all_versions(REPOSITORY)]
                withdraw(other, gone, house.clock.now_ns(), "no rule keeps it")
                for days in (0, 2):
                    prune(other, now_ns=house.clock.now_ns() + days * 86_400 * 10**9, grace_ns=0)
            return plain(*arguments)

        monkeypatch.setattr(verify_stored, "_plain", late)
        assert vault.verify(contents=True).ok


def test_what_another_process_condemns_is_known_without_a_key(house, stored):
    """A writer that did not know would rely on what is about to be deleted."""
    with house.open(index_path=os.fspath(house.folder / "writer.db")) as vault:
        shutil.rmtree(f"{vault.index.path}.manifests")
        Path(f"{vault.index.path}.manifests").symlink_to(f"{house.index_path}.manifests")
    with house.open(index_path=os.fspath(house.folder / "writer.db")) as vault:
        assert vault.contains(stored) == set(stored)
        with house.open(key=True) as other:
            gone = [it.version_id for it in other.all_versions(REPOSITORY)]
            withdraw(other, gone, house.clock.now_ns(), "no rule keeps it")
            prune(other, now_ns=house.clock.now_ns(), grace_ns=10**15)
        vault.news()
        assert vault.contains(stored) == set()


def test_a_key_that_was_there_once_has_told_the_machine_everything(house, stored):
    house.lose_machine()
    with house.open(key=True) as vault:
        assert len(vault.manifests()) == 1
    with house.open() as vault:
        assert vault.contains(stored) == set(stored)
        assert [it.path for it in vault.all_versions(REPOSITORY)] == list(CONTENTS)


def test_any_of_several_keys_opens_it_and_no_other_does(house):
    other, text = age.generate()
    (house.folder / "other").write_text(text)
    _, stranger = age.generate()
    (house.folder / "stranger").write_text(stranger)
    with house.open(recipients=[house.public, other]) as vault:
        _, events = house.store(vault, CONTENTS)
    for name in ("key", "other"):
        with house.open(read_only=True, identity_path=os.fspath(house.folder / name)) as vault:
            assert [read(vault, key) for key in contents_of(events)] == list(CONTENTS.values())
    with (
        house.open(read_only=True, identity_path=os.fspath(house.folder / "stranger")) as vault,
        pytest.raises(VaultKeyError, match=r"no key in .*stranger opens it"),
    ):
        vault.read_small(key_of(b"beta"))


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_ssh_keys_are_keys(house, kind):
    if shutil.which("ssh-keygen") is None:
        pytest.skip("not installed: ssh-keygen")
    path = house.folder / kind
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path], check=True)
    public = path.with_suffix(".pub").read_text()
    with house.open(recipients=[public]) as vault:
        house.store(vault, {b"a": b"one"})
    with house.open(recipients=[public], identity_path=os.fspath(path)) as vault:
        assert vault.read_small(key_of(b"one")) == b"one"
    assert public.strip() in (house.path / "RECIPIENTS").read_text()


def test_damage_is_told_from_a_wrong_key(house, stored):
    pack = house.files("packs")[0]
    data = pack.read_bytes()
    with house.open(key=True) as vault:
        for at in (30, len(data) - 40):
            flip(pack, at)
            vault.storage.opened._whole.clear()
            with pytest.raises(VaultCorruptError):
                vault.read_small(stored[1])
            with pytest.raises(VaultCorruptError):
                list(BulkReader(vault).read(stored[1]))
            flip(pack, at)
        pack.write_bytes(data[:-1])
        with pytest.raises(VaultCorruptError):
            vault.read_small(stored[1])
    with house.open() as vault, pytest.raises(VaultCorruptError):
        vault.check(stored[1])


def test_what_is_stored_is_checked_without_a_key(house, stored):
    with house.open() as vault:
        reader = BulkReader(vault)
        reader.prepare(stored)
        for key in stored:
            vault.check(key)
            reader.check(key)
    # Names are those of encrypted bytes, so their order is another each time.
    flip(max(house.files("objects"), key=lambda path: path.stat().st_size), 1000)
    with house.open() as vault, pytest.raises(VaultCorruptError):
        vault.check(stored[2])


def test_contents_are_found_where_manifests_are_lost(house, stored):
    for path in house.files("manifests"):
        path.unlink()
    house.lose_machine()
    with house.open(key=True) as vault:
        assert vault.find_lost() == 3
        assert [read(vault, key) for key in stored] == list(CONTENTS.values())


def test_a_large_file_passes_by_in_pieces(house, monkeypatch, stored):
    monkeypatch.setattr("lifecycle_sync.vault.sealing._WHOLE_BYTES_MAX", 100_000)
    with house.open(key=True) as vault:
        _, events = house.store(vault, {b"more": LARGE[::-1], b"small": b"s" * 1000})
        for key, data in zip(contents_of(events), (LARGE[::-1], b"s" * 1000), strict=True):
            assert read(vault, key) == data
        # Given up half way, nothing is left over.
        pieces = vault.read(stored[2])
        next(pieces)
        pieces.close()
        part = max(house.files("objects"), key=lambda path: path.stat().st_size)
        flip(part, part.stat().st_size // 2)
        damaged = [key for key in (stored[2], key_of(LARGE[::-1])) if not _is_read(vault, key)]
        assert len(damaged) == 1


def _is_read(vault, key) -> bool:
    try:
        return bool(read(vault, key))
    except VaultCorruptError:
        return False


def test_plain_and_encrypted_are_not_mixed(house, tmp_path_factory, stored):
    with pytest.raises(VaultKeyError, match="no recipients are set"):
        house.open(recipients=[])
    plain = VaultHouse(tmp_path_factory.mktemp("plain"))
    with plain.open() as vault:
        plain.store(vault, {b"a": b"one"})
    with pytest.raises(VaultKeyError, match="is not encrypted"):
        plain.open(recipients=[house.public])
    with plain.open(recipients=[house.public], read_only=True) as vault:
        assert vault.read_small(key_of(b"one")) == b"one"
    # A plain file in an encrypted vault is foreign, whoever put it there.
    pack = plain.files("packs")[0]
    target = house.path / "packs" / pack.parent.name
    target.mkdir(exist_ok=True)
    shutil.copy(pack, target / pack.name)
    with house.open(key=True) as vault:
        assert vault.storage.size(f"packs/{pack.parent.name}/{pack.name}") is None


def test_recipients_that_are_added_are_told_and_those_taken_out_stay_told(house, stored):
    other, text = age.generate()
    (house.folder / "other").write_text(text)
    with house.open(recipients=[other]) as vault:
        _, events = house.store(vault, {b"new": b"for the other one"})
    told = (house.path / "RECIPIENTS").read_text()
    assert house.public in told
    assert other in told
    with house.open(key=True) as vault:
        assert vault.read_small(stored[1]) == b"beta"
        with pytest.raises(VaultKeyError):
            vault.read_small(contents_of(events)[0])


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "no secret key"),
        ("# only a comment\n", "no secret key"),
        ("hello", "line 1 is no secret key"),
        ("AGE-SECRET-KEY-1QQQQ", "no key that can be used"),
        ("age-encryption.org/v1\n-> scrypt", "passphrase"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nzzz\n", "no key that can be used"),
        ("\N{SNOWMAN}", "is no text"),
    ],
)
def test_a_key_file_that_cannot_be_used_says_why(house, stored, text, cause):
    house.key_path.write_text(text, encoding="utf-8")
    with pytest.raises(KeyFileError, match=cause) as caught:
        house.open(key=True)
    assert caught.value.remedy
    assert caught.value.exit_code == 2
    assert "QQQQ" not in str(caught.value)


def test_a_key_file_that_is_not_there_says_so(house, stored):
    house.key_path.unlink()
    with pytest.raises(KeyFileError, match="no such file"):
        house.open(key=True)


@pytest.mark.parametrize("text", ["age1qqqq", "ssh-rsa AAAA", "AGE-SECRET-KEY-1", "anything"])
def test_a_recipient_that_is_none_is_refused_before_anything_is_made(house, text):
    with pytest.raises((KeyFileError, VaultError)):
        house.open(recipients=[text])
    assert not house.path.exists() or not house.files()


def test_a_damaged_copy_of_a_manifest_in_the_clear_is_not_believed(house, stored):
    (copy,) = Path(f"{house.index_path}.manifests/kept").iterdir()
    flip(copy, 40)
    house.lose_index()
    with house.open() as vault:
        assert vault.manifests() == []
    assert not copy.exists()
    house.lose_index()
    with house.open(key=True) as vault:
        assert vault.contains(stored) == set(stored)


def test_what_is_in_the_clear_is_for_its_owner_alone(house, stored):
    for path in house.folder.glob("index.db*"):
        assert path.stat().st_mode & 0o077 == 0, path
    for path in Path(f"{house.index_path}.manifests").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_verify_of_all_bytes_needs_no_key_and_reads_more_with_one(house, stored):
    with house.open() as vault:
        report = vault.verify(contents=True)
    assert report.ok, report.findings
    assert not report.foreign + report.unreferenced
    with house.open(key=True) as vault:
        report = vault.verify(contents=True)
    assert report.ok, report.findings
    assert (report.contents_read, report.versions) == (3, 3)
    # On a machine that knows nothing of it.
    with house.open(read_only=True, index_path="") as vault:
        report = vault.verify(contents=True)
    assert report.ok, report.findings


@pytest.mark.parametrize("key", [False, True])
def test_a_flipped_bit_anywhere_is_found_with_and_without_a_key(house, stored, key):
    chosen = random.Random(20261129)
    for path in house.files():
        data = path.read_bytes()
        for at in chosen.sample(range(len(data)), min(6, len(data))):
            flip(path, at, bit=chosen.randrange(8))
            try:
                with house.open(key=key, read_only=True) as vault:
                    assert not vault.verify(contents=True).ok, (path, at)
            except VaultError:
                # FORMAT says nothing that could be used.
                assert path.name == "FORMAT"
            path.write_bytes(data)


@pytest.mark.parametrize("folder", ["packs", "objects", "manifests"])
def test_a_machine_that_knows_nothing_of_it_reads_every_stored_byte(house, stored, folder):
    house.lose_machine()
    files = len(house.files("packs")) + len(house.files("objects"))
    with house.open(read_only=True) as vault:
        report = vault.verify(share=1.0)
        assert (report.findings, report.hashed) == ([], files)
        assert vault.index.check_totals("").oldest_ns > 0
        path = house.files(folder)[0]
        flip(path, path.stat().st_size // 2)
        house.clock.advance(1)
        found = vault.verify(share=1.0).findings
        assert [vault.file_name(it.subject) for it in found] == [str(path.relative_to(house.path))]


def test_a_damaged_format_does_not_make_a_plain_vault_of_an_encrypted_one(house, stored):
    path = house.path / "FORMAT"
    path.write_text(path.read_text().replace("encryption", "encryptioo"))
    with pytest.raises(VaultCorruptError, match="how the vault is encrypted"):
        house.open(recipients=[])


def test_a_verify_tells_what_is_missing_without_a_key(house, stored):
    pack = house.files("packs")[0]
    pack.unlink()
    with house.open(read_only=True) as vault:
        (finding,) = vault.verify(contents=False).findings
    assert (finding.problem, set(finding.lost)) == ("missing", set(stored[:2]))


def test_it_is_pruned_with_the_key_by_its_only_writer(house, stored):
    with house.open() as vault:
        _, gone = house.store(vault, {b"gone": b"gone", b"gone too": LARGE[1:]})
        withdraw(vault, [it.version_id for it in gone], house.clock.now_ns(), "no rule keeps it")
        house.store(vault, {b"later": b"later"})
    now_ns = house.clock.now_ns()
    with house.open(key=True) as vault:
        report = prune(vault, now_ns=now_ns, grace_ns=0)
        assert report.deleted == 4
        for data in [*CONTENTS.values(), b"later"]:
            assert read(vault, key_of(data)) == data
    house.lose_machine()
    with house.open() as vault, pytest.raises(VaultKeyError, match="nobody knows"):
        prune(vault, now_ns=now_ns, grace_ns=0)
    with house.open(key=True, writer="another") as vault:
        house.store(vault, {b"other": b"other"})
    with house.open(key=True) as vault, pytest.raises(VaultError, match="another program"):
        prune(vault, now_ns=now_ns, grace_ns=0)


def test_opening_it_again_changes_nothing_in_it(house, stored):
    before = {path: path.stat().st_mtime_ns for path in house.files()}
    for key in (False, True):
        with house.open(key=key):
            pass
    assert {path: path.stat().st_mtime_ns for path in house.files()} == before


def test_nothing_is_told_that_whoever_tells_it_would_not_know(house, stored):
    kept = Path(f"{house.index_path}.manifests/kept")
    with house.open() as vault:
        shutil.rmtree(kept)
        kept.write_bytes(b"no folder")
        with pytest.raises(StorageError):
            house.store(vault, {b"more": b"more"})
    assert len(house.files("manifests")) == 1
