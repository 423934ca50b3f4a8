"""`backup`, `archive`, `recall`, `restore`, `verify`: what the vaults keep, by the real command."""

from __future__ import annotations

import errno
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from lifecycle_sync.fileops import FileOps
from tests.support.command import Done, lifecycle

SECOND = b"a second content"
# What any reader of SQLite writes, and the index of a vault, which is but a memory of it.
UNSEEN = r"lifecycle-sync$|-shm$|-wal$|registry\.db\.(index|lock)"


@pytest.fixture
def kept(tree: Path) -> Path:
    """The tree under management, backed up once."""
    lifecycle("run", tree, "--once", "-q")
    assert lifecycle("backup", "-q").code == 0
    return tree


def vault() -> Path:
    return Path(os.environ["XDG_DATA_HOME"]) / "lifecycle-sync/vault"


def archive() -> Path:
    return Path(os.environ["XDG_DATA_HOME"]) / "lifecycle-sync/archive"


def root_of(done: Done) -> dict[str, Any]:
    (root,) = done.document["roots"]
    assert isinstance(root, dict)
    return root


def everything(folder: Path) -> dict[str, tuple[int, int, int]]:
    """All there is below a folder: path, inode, size, mtime."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        found[str(path)] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def state_of(path: Path) -> str:
    return str(lifecycle("show", path, "--json").document["state"])


# -- backup --------------------------------------------------------------------------------


def test_a_backup_keeps_what_changed_and_a_second_one_has_nothing_to_do(tree):
    lifecycle("run", tree, "--once", "-q")
    first = lifecycle("backup")
    assert first.code == 0
    assert f"{tree}: backed up 5 files, 198 KiB in" in first.out
    second = lifecycle("backup")
    assert (second.code, second.out) == (0, f"{tree}: backed up nothing\n")
    (tree / "notes.txt").write_bytes(SECOND)
    third = root_of(lifecycle("backup", "--json"))
    assert (third["completed"], third["unchanged"], third["bytes"]) == (1, 0, len(SECOND))
    assert [it["path"] for it in third["files"]] == [str(tree / "notes.txt")]


def test_a_backup_takes_up_what_no_pass_has_seen(kept):
    (kept / "photos/new.jpg").write_bytes(b"new")
    (kept / "notes.txt").write_bytes(SECOND)
    assert root_of(lifecycle("backup", kept / "notes.txt", "--json"))["completed"] == 1
    assert root_of(lifecycle("backup", kept / "photos", "--json"))["completed"] == 1
    assert root_of(lifecycle("backup", kept, "--json"))["completed"] == 0


def test_a_named_file_is_looked_at_although_nothing_changed(kept):
    done = lifecycle("backup", kept / "notes.txt")
    assert (done.code, done.out) == (0, f"{kept}: 1 unchanged\n")


def test_a_file_can_be_named_by_its_id(kept):
    file_id = lifecycle("show", kept / "notes.txt", "--json").document["file_id"]
    assert root_of(lifecycle("backup", file_id, "--json"))["unchanged"] == 1


def test_what_is_named_twice_or_lies_in_another_name_is_done_once(kept):
    photos = kept / "photos"
    for name in ("a.jpg", "2025/b.jpg"):
        (photos / name).write_bytes(SECOND)
    done = lifecycle("backup", photos / "a.jpg", photos, photos, "--json")
    assert root_of(done)["completed"] == 2


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("missing.txt", "is neither on the disk nor in the registry"),
        (".hidden", "is ignored by a rule"),
        (".lifecycle", "belongs to lifecycle itself"),
        ("../elsewhere", "lies in no root"),
    ],
)
def test_names_that_are_no_subject_are_refused_with_a_remedy(kept, name, cause):
    for order in ("backup", "archive", "delete"):
        done = lifecycle(order, kept / name)
        assert (done.code, cause in done.err, "Remedy: " in done.err) == (2, True, True), done.err


def test_nothing_is_done_when_one_of_the_names_is_wrong(kept):
    (kept / "notes.txt").write_bytes(SECOND)
    assert lifecycle("delete", kept / "notes.txt", kept / "nope").code == 2
    assert (kept / "notes.txt").exists()


def test_a_backup_before_any_root_says_how_to_make_one(work):
    lifecycle("init")
    done = lifecycle("backup")
    assert done.code == 2
    assert "`lifecycle run FOLDER`" in done.err


@pytest.mark.parametrize("place", ["files", "files/vault", "files/.lifecycle/trash", "."])
def test_a_vault_among_what_it_keeps_is_refused_before_the_first_backup(
    work, tree, place, monkeypatch
):
    lifecycle("init")
    lifecycle("run", tree, "--once", "-q")
    before = everything(tree)
    monkeypatch.setenv("LIFECYCLE_BACKUP_PATH", str(work / place))
    if place == ".":
        # Nothing else of ours in the vault, or that is what is refused.
        (work / "lifecycle.toml").unlink()
        for path in work.glob("registry.db*"):
            path.rename(work.parent / path.name)
        monkeypatch.setenv("LIFECYCLE_DATABASE_PATH", str(work.parent / "registry.db"))
        monkeypatch.setenv("LIFECYCLE_ARCHIVE_PATH", str(work.parent / "archive"))
    done = lifecycle("backup")
    assert done.code == 2, done.err
    assert "root" in done.err
    assert "backup_path" in done.err
    assert everything(tree) == before
    looked = lifecycle("doctor", "--json").document["findings"]
    (fault,) = [it for it in looked if it["check"] == "vault.place"]
    assert fault["level"] == "fault"
    assert "backup_path" in fault["remedy"]


def test_an_unreadable_file_fails_alone(kept, monkeypatch):
    (kept / "notes.txt").write_bytes(SECOND)
    (kept / "photos/a.jpg").write_bytes(SECOND)
    from lifecycle_sync.fileops import FileOps

    real = FileOps.open_read_stat

    def refuses(self, name, *rest):
        if name == b"notes.txt":
            raise PermissionError(13, "Permission denied")
        return real(self, name, *rest)

    monkeypatch.setattr(FileOps, "open_read_stat", refuses)
    done = lifecycle("backup")
    assert done.code == 3
    assert "backed up 1 file" in done.out
    assert "1 FAILED" in done.out
    assert "notes.txt: cannot be read (permission denied)" in done.out


# -- looking ahead -------------------------------------------------------------------------


def test_a_dry_run_of_every_order_changes_nothing_at_all(kept):
    (kept / "notes.txt").write_bytes(SECOND)
    (kept / "new.txt").write_bytes(b"new")
    lifecycle("archive", kept / "photos/a.jpg", "-q")
    lifecycle("delete", kept / "photos/link", "-q")
    data = Path(os.environ["XDG_DATA_HOME"])
    before = [everything(kept), everything(data)]
    orders = [
        ["backup"],
        ["backup", "--again"],
        ["archive", kept],
        ["recall", kept],
        ["delete", kept],
        ["undelete", kept],
        ["restore", kept, "--conflict", "replace", "--deleted"],
        ["restore", kept, "--to", kept.parent / "out"],
        ["purge"],
    ]
    for order in orders:
        done = lifecycle(*order, "--dry-run", "--json")
        assert done.code == 0, (order, done.err)
        assert done.document["dry_run"] is True
        for folder, files in zip((kept, data), before, strict=True):
            now = everything(folder)
            changed = {
                path for path in files.keys() | now.keys() if files.get(path) != now.get(path)
            }
            assert not {path for path in changed if not re.search(UNSEEN, path)}, order
    assert not (kept.parent / "out").exists()


def test_a_dry_run_names_the_files_that_the_order_then_does(kept):
    (kept / "notes.txt").write_bytes(SECOND)
    (kept / "photos/new.jpg").write_bytes(b"new")
    for order in (["backup"], ["archive", kept / "photos"], ["recall", kept], ["delete", kept]):
        yes = ["--yes"] if order == ["delete", kept] else []
        foreseen = root_of(lifecycle(*order, "--dry-run", "--json"))
        done = root_of(lifecycle(*order, *yes, "--json"))
        assert {it["path"] for it in foreseen["files"]} == {it["path"] for it in done["files"]}
        for name in ("completed", "skipped", "failed", "bytes"):
            assert foreseen[name] == done[name], (order, name)
        assert done["completed"], order


# -- archive and recall --------------------------------------------------------------------


def test_archived_files_leave_and_a_recall_brings_them_back_as_they_were(kept):
    photos = kept / "photos"
    os.chmod(photos / "a.jpg", 0o640)
    os.utime(photos / "a.jpg", ns=(1, 1_500_000_000_123_456_789))
    done = lifecycle("archive", photos, "--reason", "old")
    assert (done.code, "archived 4 files" in done.out) == (0, True)
    assert [path.name for path in photos.rglob("*")] == ["2025"]
    assert state_of(photos / "a.jpg") == "archived"
    again = lifecycle("archive", photos / "a.jpg")
    assert (again.code, again.out) == (0, f"{kept}: 1 archived already\n")
    back = lifecycle("recall", kept)
    assert (back.code, "recalled 4 files" in back.out) == (0, True)
    assert (photos / "a.jpg").read_bytes() == b"same content"
    status = (photos / "a.jpg").stat()
    assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o640, 1_500_000_000_123_456_789)
    assert os.readlink(photos / "link") == "a.jpg"
    told = lifecycle("history", photos / "a.jpg").out
    assert "archive" in told
    assert "old" in told
    assert "recall" in told


def test_a_recall_leaves_a_place_that_is_taken(kept):
    lifecycle("archive", kept / "notes.txt", "-q")
    (kept / "notes.txt").write_bytes(SECOND)
    file_id = lifecycle("find", "--json", "notes*").lines[0]["file_id"]
    done = lifecycle("recall", file_id, "--json")
    assert done.code == 0
    assert root_of(done)["skipped"] == 1
    assert (kept / "notes.txt").read_bytes() == SECOND


# -- restore -------------------------------------------------------------------------------


def test_a_lost_folder_comes_back_with_all_of_its_metadata(kept):
    photos = kept / "photos"
    os.chmod(photos / "2025", 0o711)
    os.utime(photos / "2025", ns=(1, 1_400_000_000_000_000_001))
    os.setxattr(photos / "2025/b.jpg", "user.note", b"mine")
    (photos / "2025/b.jpg").write_bytes(SECOND)
    lifecycle("backup", "-q")
    before = {path: path.lstat() for path in photos.rglob("*")}
    os.system(f"rm -rf '{photos}'")
    done = lifecycle("restore", photos)
    assert (done.code, "restored 4 files" in done.out) == (0, True), done.err
    for path, old in before.items():
        new = path.lstat()
        assert (new.st_mode, new.st_size, new.st_mtime_ns) == (
            old.st_mode,
            old.st_size,
            old.st_mtime_ns,
        ), path
    assert os.getxattr(photos / "2025/b.jpg", "user.note") == b"mine"
    again = lifecycle("restore", photos)
    assert (again.code, again.out) == (0, f"{kept}: 4 there already\n")
    assert lifecycle("sync").code == 0


def test_the_newest_version_comes_back_and_an_older_one_by_its_number(kept):
    notes = kept / "notes.txt"
    notes.write_bytes(SECOND)
    lifecycle("backup", "-q")
    versions = lifecycle("show", notes, "--json").document["versions"]
    assert [it["version"] for it in versions] == [2, 1]
    notes.unlink()
    assert lifecycle("restore", notes).code == 0
    assert notes.read_bytes() == SECOND
    kept_as_it_is = lifecycle("restore", notes, "--version", "1")
    assert kept_as_it_is.code == 0
    assert "1 there already" in kept_as_it_is.out
    assert "--conflict" in kept_as_it_is.out
    assert notes.read_bytes() == SECOND
    assert lifecycle("restore", notes, "--version", "1", "--conflict", "keep-both").code == 0
    assert (kept / "notes (restored 1).txt").read_bytes() == b"n" * 3_000
    assert lifecycle("restore", notes, "--version", "1", "--conflict", "replace").code == 0
    assert notes.read_bytes() == b"n" * 3_000
    assert "replaced" in lifecycle("undelete", "--list").out
    missing = lifecycle("restore", notes, "--version", "9")
    assert (missing.code, "has no version 9" in missing.err) == (2, True)


def test_a_version_belongs_to_one_file(kept):
    for names in ([kept], [kept / "notes.txt", kept / "photos/a.jpg"]):
        done = lifecycle("restore", *names, "--version", "1")
        assert (done.code, "belongs to one file" in done.err) == (2, True)


def test_what_was_deleted_on_purpose_stays_deleted_unless_asked_for(kept):
    lifecycle("delete", kept / "notes.txt", "-q")
    (kept / "photos/a.jpg").unlink()
    lifecycle("archive", kept / "photos/2025/b.jpg", "-q")
    done = lifecycle("restore", kept)
    assert done.code == 0
    assert "restored 1 file" in done.out
    assert "files deleted on purpose left out: 1; --deleted" in done.out
    assert "archived files left out: 1; `lifecycle recall`" in done.out
    assert (kept / "photos/a.jpg").exists()
    assert not (kept / "notes.txt").exists()
    assert lifecycle("restore", kept / "notes.txt").code == 0
    assert (kept / "notes.txt").exists()
    lifecycle("delete", kept / "notes.txt", "-q")
    assert lifecycle("restore", kept, "--deleted").code == 0
    assert (kept / "notes.txt").exists()
    # Restored by an order and lost by hand: that was no order.
    (kept / "notes.txt").unlink()
    assert lifecycle("restore", kept).code == 0
    assert (kept / "notes.txt").exists()


def test_a_renamed_file_is_not_restored_to_its_old_name(kept):
    (kept / "notes.txt").rename(kept / "renamed.txt")
    assert lifecycle("restore", kept).code == 0
    assert not (kept / "notes.txt").exists()
    (kept / "renamed.txt").unlink()
    assert lifecycle("restore", kept).code == 0
    assert (kept / "renamed.txt").read_bytes() == b"n" * 3_000


def test_a_file_that_moved_into_a_folder_comes_back_with_it_and_one_that_left_does_not(kept):
    (kept / "notes.txt").rename(kept / "photos/notes.txt")
    (kept / "photos/a.jpg").rename(kept / "a.jpg")
    lifecycle("sync", "-q")
    for path in (kept / "photos/notes.txt", kept / "a.jpg"):
        path.unlink()
    assert lifecycle("restore", kept / "photos").code == 0
    assert (kept / "photos/notes.txt").exists()
    assert not (kept / "a.jpg").exists()
    assert not (kept / "photos/a.jpg").exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (".", "files/photos/2025/b.jpg"),
        ("photos", "photos/2025/b.jpg"),
        ("photos/2025", "2025/b.jpg"),
        ("photos/2025/b.jpg", "b.jpg"),
    ],
)
def test_below_another_folder_paths_start_at_what_was_named(kept, work, name, expected):
    os.chmod(kept / "photos/2025", 0o711)
    lifecycle("sync", "-q")
    (kept / "photos/2025/long.mp4").write_bytes(SECOND)
    lifecycle("backup", "-q")
    done = lifecycle("restore", kept / name, "--to", "out")
    assert done.code == 0, done.err
    assert f"below {work}/out" in done.out
    assert (work / "out" / expected).read_bytes() == b"same content"
    folder = (work / "out" / expected).parent
    if folder.name == "2025":
        assert folder.stat().st_mode & 0o777 == 0o711
    assert not (work / "out/.lifecycle").exists()
    again = lifecycle("restore", kept / name, "--to", "out", "--json")
    assert root_of(again)["completed"] == 0


def test_a_root_whose_disk_is_gone_can_be_restored_elsewhere(kept, work):
    os.system(f"rm -rf '{kept}'")
    assert lifecycle("restore", kept).code == 5
    assert lifecycle("restore", kept, "--to", "rescue").code == 0
    assert (work / "rescue/files/photos/2025/b.jpg").read_bytes() == b"same content"


def test_a_vault_a_trash_and_the_registry_are_no_places_to_restore_to(kept):
    lifecycle("delete", kept / "notes.txt", "-q")
    for place in (vault(), vault() / "packs", kept / ".lifecycle/trash", archive() / "new"):
        done = lifecycle("restore", kept, "--to", place)
        assert (done.code, "belongs to lifecycle itself" in done.err) == (2, True), done.err
    replaced = lifecycle("restore", kept, "--to", "out", "--conflict", "replace")
    assert replaced.code == 2


def test_what_was_never_kept_is_not_found(kept):
    (kept / "fresh.txt").write_bytes(b"x")
    done = lifecycle("restore", kept / "fresh.txt")
    assert (done.code, "no version of it is in the vault" in done.err) == (2, True)
    lifecycle("sync", "-q")
    assert lifecycle("restore", kept / "fresh.txt").code == 2


def test_without_a_vault_a_restore_says_so(tree):
    lifecycle("run", tree, "--once", "-q")
    done = lifecycle("restore", tree)
    assert done.code == 1
    assert "the first backup makes" in done.err


# -- verify --------------------------------------------------------------------------------


def test_sound_vaults_are_said_to_be_sound(kept):
    for options in ([], ["--all-bytes"]):
        done = lifecycle("verify", *options)
        assert (done.code, "(sound)" in done.out) == (0, True)
        assert "Archive" in done.out
    assert lifecycle("verify", "-q").out == ""


def test_a_flipped_bit_is_found_named_and_healed_from_the_file(kept):
    (pack,) = (vault() / "packs").rglob("*.zip")
    data = bytearray(pack.read_bytes())
    data[len(data) // 3] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)
    assert lifecycle("verify").code == 0
    done = lifecycle("verify", "--all-bytes", "--json")
    assert done.code == 1
    found = done.document["vaults"][0]
    assert found["findings"][0]["problem"] == "damaged"
    assert "`lifecycle verify --heal`" in found["findings"][0]["remedy"]
    (affected,) = {it["path"] for it in found["affected"]}
    shown = lifecycle("verify", "--all-bytes")
    assert (shown.code, "Remedy: " in shown.out, "Cannot be restored" in shown.out) == (1, 1, 1)
    lost = Path(affected)
    content = lost.read_bytes()
    assert lifecycle("backup", "--again", "-q").code == 0
    lost.unlink()
    assert lifecycle("restore", lost).code == 0
    assert lost.read_bytes() == content


def test_a_vault_that_may_only_be_read_gives_back_what_it_keeps(kept, work, monkeypatch):
    real = FileOps.create

    def create(self: FileOps, name: Any, dir_fd: int | None = None, mode: int = 0o600) -> int:
        place = "" if dir_fd is None else os.readlink(f"/proc/self/fd/{dir_fd}")
        if place.startswith(os.fspath(vault().resolve())):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(self, name, dir_fd, mode)

    monkeypatch.setattr(FileOps, "create", create)
    notes = (kept / "notes.txt").read_bytes()
    (kept / "notes.txt").unlink()
    refused = lifecycle("restore", kept / "notes.txt")
    assert (refused.code, "restore --to DIR" in refused.err) == (1, True)
    assert lifecycle("restore", kept, "--to", work / "rescue").code == 0
    assert (work / "rescue/files/notes.txt").read_bytes() == notes
    assert lifecycle("verify", "--all-bytes").code == 0


def test_a_vault_that_was_there_and_is_gone_is_damage(kept):
    vault().rename(vault().parent / "unmounted")
    done = lifecycle("verify")
    assert (done.code, "mount its disk" in done.out) == (1, True)
    vault().mkdir()
    assert lifecycle("verify").code == 1


@pytest.mark.parametrize("cut", [60, 0])
def test_a_manifest_that_rots_keeps_nothing_from_coming_back_that_others_tell_of(kept, work, cut):
    """It was read and indexed before; only what it alone tells of is missing, and that is said."""
    (first,) = (vault() / "manifests").iterdir()
    (kept / "late.txt").write_bytes(SECOND)
    assert lifecycle("backup", "-q").code == 0
    first.chmod(0o600)
    os.truncate(first, cut)
    for name in (kept, kept / "late.txt"):
        done = lifecycle("restore", name, "--to", work / "rescue")
        assert (done.code, "a manifest of the vault cannot be read" in done.out) == (3, True)
        assert "`lifecycle verify`" in done.out
    assert [it.name for it in (work / "rescue/files").iterdir()] == ["late.txt"]
    assert (work / "rescue/late.txt").read_bytes() == SECOND
    (kept / "later.txt").write_bytes(b"more")
    assert lifecycle("backup").code == 0
    assert lifecycle("verify").code == 1


def test_a_folder_of_which_nothing_is_kept_is_told(kept, work):
    (kept / "empty").mkdir()
    done = lifecycle("restore", kept / "empty", "--to", work / "rescue")
    assert (done.code, "no version of anything there" in done.out) == (0, True)


def test_what_is_no_folder_to_restore_to_is_said(kept):
    for place in (kept / "notes.txt", kept / "notes.txt/below", ""):
        done = lifecycle("restore", kept / "photos", "--to", place)
        assert (done.code, "--to" in done.err) == (2, True), done.err
    assert (kept / "notes.txt").read_bytes() == b"n" * 3_000


def test_a_vault_that_cannot_be_opened_is_damage(kept):
    (vault() / "FORMAT").chmod(0o600)
    (vault() / "FORMAT").write_bytes(b"{")
    done = lifecycle("verify")
    assert (done.code, "cannot be used" in done.out) == (1, True)
    assert lifecycle("doctor").code == 1


# -- what the other commands know ----------------------------------------------------------


def test_status_tells_of_backups_and_of_what_changed_since(tree):
    (tree / ".hidden").unlink()
    lifecycle("run", tree, "--once", "-q")
    assert "none yet: `lifecycle backup`" in lifecycle("status").out
    lifecycle("backup", "-q")
    assert "all is kept" in lifecycle("status").out
    (tree / "notes.txt").write_bytes(SECOND)
    time.sleep(0.03)
    lifecycle("sync", "-q")
    assert "1 file (16 B) since changed" in lifecycle("status").out
    (root,) = lifecycle("status", "--json").document["roots"]
    assert root["to_back_up"] == {"files": 1, "bytes": 16}
    assert root["last_backup"]


def test_status_says_what_is_not_kept_and_why(tree):
    (tree / ".hidden").write_bytes(SECOND)
    (tree / "upload.tmp").write_bytes(SECOND)
    os.mkfifo(tree / "pipe")
    lifecycle("run", tree, "--once", "-q")
    lifecycle("backup", "-q")
    told = lifecycle("status").out
    assert "all is kept" not in told and "all that is in the registry is kept" in told
    assert "2 entries are ignored: hidden, temporary, or matched by your patterns" in told
    assert "1 socket, FIFO or device skipped" in told
    (root,) = lifecycle("status", "--json").document["roots"]
    assert (root["ignored_entries"], root["special_files"], root["not_crossed"]) == (2, 1, [])


def test_show_and_history_tell_of_versions(kept):
    shown = lifecycle("show", kept / "notes.txt")
    assert "in the vault" in shown.out
    assert "Versions" in shown.out
    document = lifecycle("history", kept / "notes.txt", "--json").document
    assert [it["version"] for it in document["versions"]] == [1]
    assert "version 1" in lifecycle("history", kept / "notes.txt").out
