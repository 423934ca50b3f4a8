"""`status`, `ls`, `find`, `show`, `history` and `sql`: the questions people ask."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.support.command import Done, lifecycle

DAY = 86_400


def make_library(folder: Path) -> Path:
    """A tree of known sizes and ages."""
    root = folder / "library"
    for path, size, age_days in (
        ("a/big.mp4", 300_000, 400),
        ("a/deep/er/notes.txt", 500, 1),
        ("a/photo.jpg", 70_000, 40),
        ("b/photo-copy.jpg", 70_000, 10),
        ("b/Photo.JPG", 2_000, 10),
        ("empty", 0, 3),
        ("[x]*.txt", 10, 3),
    ):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        content = b"photo" if "photo" in path else path.encode()
        file.write_bytes((content * (size // len(content) + 1))[:size])
        then = time.time() - age_days * DAY
        os.utime(file, (then, then))
    time.sleep(0.03)
    return root


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An indexed library for all tests that only ask; its registry lies beside it."""
    folder = tmp_path_factory.mktemp("shared")
    root = make_library(folder)
    assert lifecycle("run", root, "--once", "--database", folder / "registry.db").code == 0
    return root


@pytest.fixture
def library(shared: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shared library and its registry. Nothing may change them."""
    monkeypatch.setenv("LIFECYCLE_DATABASE_PATH", str(shared.parent / "registry.db"))
    monkeypatch.chdir(shared.parent)
    return shared


@pytest.fixture
def own_library(work: Path) -> Path:
    """A library of the test's own."""
    root = make_library(work)
    assert lifecycle("run", root, "--once").code == 0
    return root


def names(done: Done) -> list[str]:
    assert (done.code, done.err) == (0, "")
    return [os.path.basename(item["path"]) for item in done.lines]


def found(*arguments: str | os.PathLike[str]) -> list[str]:
    return names(lifecycle("find", "--json", *arguments))


# -- find ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["photo"], {"photo.jpg", "photo-copy.jpg"}),
        (["photo", "-i"], {"photo.jpg", "photo-copy.jpg", "Photo.JPG"}),
        (["*.jpg"], {"photo.jpg", "photo-copy.jpg"}),
        (["[!p]*.jpg"], set()),
        (["[[]x]*"], {"[x]*.txt"}),
        (["--larger", "70000"], {"big.mp4"}),
        (["--larger", "69999"], {"big.mp4", "photo.jpg", "photo-copy.jpg"}),
        (["--larger", "60k", "--smaller", "0.2M"], {"photo.jpg", "photo-copy.jpg"}),
        (["--smaller", "1"], {"empty"}),
        (["--older", "1y"], {"big.mp4"}),
        (["--older", "30d", "--type", "image"], {"photo.jpg"}),
        (["--newer", "2d"], {"notes.txt"}),
        (["--newer", "2w", "--type", "image"], {"photo-copy.jpg", "Photo.JPG"}),
        (["--type", "image", "--type", "video", "--larger", "1k"], None),
        (["--state", "deleted"], set()),
        (["--changed-since", "1h", "--under", "library/b"], {"photo-copy.jpg", "Photo.JPG"}),
        (["--changed-since", "2100-01-01"], set()),
        (["--suspect", "--unreadable"], set()),
    ],
)
def test_find_answers(library, arguments, expected):
    if expected is None:
        expected = {"big.mp4", "photo.jpg", "photo-copy.jpg", "Photo.JPG"}
    assert set(found(*arguments)) == expected


def test_find_sorts(library):
    assert found("--sort", "size", "--larger", "1k")[0] == "big.mp4"
    assert found("--sort", "mtime", "--larger", "0")[:2] == ["big.mp4", "photo.jpg"]
    by_path = [item["path"] for item in lifecycle("find", "--json").lines]
    assert len(by_path) == 7
    assert {os.path.dirname(path) for path in by_path[:2]} == {str(library)}


def test_pages_follow_one_another_also_where_an_age_is_asked_for(library):
    everything = found("--older", "1s")
    seen: list[str] = []
    more: list[str] = []
    while True:
        lines = lifecycle("find", "--older", "1s", "--limit", "3", "--json", *more).lines
        seen += [os.path.basename(item["path"]) for item in lines if item["item"] == "file"]
        if lines[-1]["item"] != "next":
            break
        more = ["--cursor", lines[-1]["cursor"]]
    assert seen == everything


def test_people_are_told_how_to_go_on(library):
    done = lifecycle("find", "--limit", "2")
    assert len(done.out.splitlines()) == 2
    cursor = done.err.removeprefix("There is more: --cursor ").strip()
    assert len(lifecycle("find", "--cursor", cursor).out.splitlines()) == 5
    wrong = lifecycle("find", "--cursor", cursor, "--type", "image")
    assert wrong.code == 2
    assert "belongs to another query" in wrong.err
    assert lifecycle("find", "--cursor", "nonsense").code == 2


def test_find_gives_raw_names(own_library):
    odd = os.fsencode(own_library) + b"/odd\n\xff"
    with open(odd, "wb"):
        pass
    lifecycle("sync")
    assert os.fsencode(lifecycle("find", "odd", "-0").out) == odd + b"\0"


def test_find_duplicates(library):
    assert found("--duplicates", "--larger", "1k", "--type", "video") == []
    (group,) = lifecycle("find", "--duplicates", "--json").lines
    assert group["item"] == "duplicates"
    assert (group["copies"], group["size"], group["wasted_bytes"]) == (2, 70_000, 70_000)
    assert [os.path.basename(item["path"]) for item in group["files"]] == [
        "photo.jpg",
        "photo-copy.jpg",
    ]
    text = lifecycle("find", "--duplicates", "--under", library / "b").out.splitlines()
    assert text[0] == "2 × 68.4 KiB, 68.4 KiB could be spared"
    assert text[1:] == [f"    {library}/a/photo.jpg", f"    {library}/b/photo-copy.jpg"]
    refused = lifecycle("find", "--duplicates", "--older", "1d")
    assert refused.code == 2
    assert "--older: does not go with --duplicates" in refused.err


def test_find_top_folders(library):
    folders = lifecycle("find", "--top-folders", "--json").lines
    assert [(item["path"], item["files"], item["bytes"]) for item in folders] == [
        (f"{library}/a", 3, 370_500),
        (f"{library}/b", 2, 72_000),
    ]
    assert names(lifecycle("find", "--top-folders", "--under", library / "a", "--json")) == ["deep"]
    assert lifecycle("find", "pattern", "--top-folders").code == 2


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--larger", "ten"], "binary units: 1k is 1024 bytes"),
        (["--older", "3m"], "write 12h, 30d, 2w or 1y"),
        (["--newer", "2026-13-01"], "2026-01-31"),
        (["--type", "picture"], "'image'"),
        (["--state", "gone"], "'deleted'"),
        (["a/b"], "--under"),
        (["--under", "/nowhere"], "lies in no root"),
        (["--limit", "0"], "--limit"),
        (["--json", "-0"], "do not go together"),
    ],
)
def test_a_question_that_cannot_be_understood_is_refused(library, arguments, word):
    done = lifecycle("find", *arguments)
    assert (done.code, done.out) == (2, "")
    assert word in done.err


# -- ls ------------------------------------------------------------------------------------


def test_ls_shows_folders_with_totals_then_files(library):
    rows = [line.split() for line in lifecycle("ls", library).out.splitlines()]
    assert [row[-1] for row in rows] == ["a/", "b/", "[x]*.txt", "empty"]
    assert rows[0][:4] == ["362", "KiB", "3", "files"]
    assert rows[3][:2] == ["0", "B"]


def test_ls_without_a_folder_lists_the_roots(library):
    (root,) = lifecycle("ls", "--json").lines
    assert (root["item"], root["path"], root["files"]) == ("folder", str(library), 7)


def test_ls_of_a_file_and_of_what_is_not_known(library):
    assert "big.mp4" in lifecycle("ls", library / "a/big.mp4").out
    done = lifecycle("ls", library / "nowhere")
    assert done.code == 2
    assert "no folder that the registry knows" in done.err


def test_ls_shows_deleted_files_when_asked(own_library):
    (own_library / "a/photo.jpg").unlink()
    lifecycle("sync")
    assert "photo.jpg" not in lifecycle("ls", own_library / "a").out
    assert "deleted" in lifecycle("ls", own_library / "a", "--deleted").out
    assert found("--state", "deleted") == ["photo.jpg"]
    assert "photo.jpg" in found("--deleted", "photo")
    assert "gone" in lifecycle("show", own_library / "a/photo.jpg").out


# -- one file ------------------------------------------------------------------------------


def test_show_tells_all_by_path_and_by_id(library):
    document = lifecycle("show", library / "a/big.mp4", "--json").document
    assert document["size"] == 300_000
    assert document["type"] == "video"
    assert document["modified_at"].endswith("Z")
    again = lifecycle("show", document["file_id"], "--json").document
    assert again == document
    text = lifecycle("show", library / "a/big.mp4").out
    assert document["checksum"] in text
    assert "293 KiB (300,000 bytes)" in text


@pytest.mark.parametrize("command", ["show", "history"])
def test_what_is_no_file_of_the_registry(library, command):
    folder = lifecycle(command, library / "a")
    assert folder.code == 2
    assert "is a folder" in folder.err
    assert "`lifecycle ls`" in folder.err
    unknown = lifecycle(command, "00000000-0000-7000-8000-000000000000")
    assert (unknown.code, "is not in the registry" in unknown.err) == (2, True)


def test_history_tells_of_a_move(own_library):
    (own_library / "a/big.mp4").rename(own_library / "b/renamed.mp4")
    time.sleep(0.03)
    lifecycle("sync")
    done = lifecycle("history", own_library / "b/renamed.mp4")
    assert "move" in done.out
    assert "a/big.mp4 → b/renamed.mp4" in done.out
    assert "registered" in done.out


# -- status and sql ------------------------------------------------------------------------


def test_status_tells_where_each_root_stands(library):
    document = lifecycle("status", "--json").document
    assert document["registry"]["bytes"] > 0
    (root,) = document["roots"]
    assert (root["status"], root["files"], root["bytes"]) == ("active", 7, 442_510)
    assert root["last_run"]["status"] == "completed"
    text = lifecycle("status").out
    assert f"{library}  (active)" in text
    assert "7 in 5 folders, 432 KiB" in text
    assert "7 added" in text


def test_status_of_an_empty_registry_says_how_to_begin(work):
    lifecycle("init")
    assert "`lifecycle run FOLDER`" in lifecycle("status").out


def test_sql_answers_and_only_reads(library):
    statement = "SELECT file_name, file_size FROM file_registry WHERE file_size > 100000"
    document = lifecycle("sql", statement, "--json").document
    assert document["columns"] == ["file_name", "file_size"]
    assert document["rows"] == [["big.mp4", 300_000]]
    lines = lifecycle("sql", statement).out.splitlines()
    assert lines[0].split() == ["file_name", "file_size"]
    assert lines[1].split() == ["big.mp4", "300000"]
    nothing = lifecycle("sql", "SELECT file_id FROM file_registry WHERE 0", "--json").document
    assert (nothing["columns"], nothing["rows"]) == (["file_id"], [])
    for wrong in ("DELETE FROM files", "SELEC", "SELECT 1; SELECT 2"):
        done = lifecycle("sql", wrong)
        assert done.code == 2
        assert "lifecycle sql --help" in done.err or "one at a time" in done.err


def test_sql_values_that_json_has_not(library):
    document = lifecycle("sql", "SELECT 9e999, x'00ff', NULL", "--json").document
    assert document["rows"] == [["inf", {"base64": "AP8="}, None]]


def test_the_help_of_sql_names_columns_that_exist(library):
    out = lifecycle("sql", "--help").out
    for view in (
        "file_registry",
        "file_records",
        "sync_operations",
        "sync_runs",
        "lifecycle_policies",
    ):
        document = lifecycle("sql", f"SELECT * FROM {view} LIMIT 1", "--json").document
        assert view in out
        if view != "lifecycle_policies":
            assert all(column in out for column in document["columns"]), view
