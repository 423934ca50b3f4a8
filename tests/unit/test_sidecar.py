from __future__ import annotations

import base64
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle_sync.act.sidecar import check_path, decode, encode, folders_of
from lifecycle_sync.errors import TrashError, TrashNewerError
from lifecycle_sync.model.observation import Fingerprint
from lifecycle_sync.model.trash import TrashBatch, TrashEntry, TrashFolder, TrashReason

AT_NS = 1_767_323_045_000_000_000
names = st.binary(min_size=1, max_size=20).filter(
    lambda it: it not in (b".", b"..", b".lifecycle") and not {0, 47} & {*it}
)
paths = st.lists(names, min_size=1, max_size=4).map(b"/".join)
sizes = st.integers(0, 2**63 - 1)
entries = st.builds(
    TrashEntry,
    file_id=st.binary(min_size=16, max_size=16),
    operation_id=st.binary(min_size=16, max_size=16),
    path=paths,
    fingerprint=st.builds(
        Fingerprint,
        kind=st.sampled_from([1, 8, 10, 12]),
        size=sizes,
        mtime_ns=st.integers(-(2**63), 2**63 - 1),
        ctime_ns=st.integers(-(2**63), 2**63 - 1),
        inode=st.integers(-(2**63), 2**64 - 1),
    ),
    algorithm=st.just("blake3"),
    checksum=st.binary(min_size=32, max_size=32),
)


def batch_of(*entries: TrashEntry, **changes: object) -> TrashBatch:
    given = {
        "batch_id": bytes(range(16)),
        "repository_id": b"r" * 16,
        "registry_id": b"g" * 16,
        "reason": TrashReason.ARCHIVE,
        "at_ns": AT_NS,
        "until_ns": AT_NS + 86_400 * 10**9,
        "entries": tuple(entries),
        **changes,
    }
    return TrashBatch(**given)  # type: ignore[arg-type]


def entry(path: bytes = b"folder/name") -> TrashEntry:
    return TrashEntry(b"f" * 16, b"o" * 16, path, Fingerprint(8, 5, 1, 2, 3), "sha256", b"c" * 32)


def lines_of(batch: TrashBatch) -> list[dict[str, object]]:
    return [json.loads(line) for line in encode(batch).splitlines()]


def text_of(lines: list[dict[str, object]]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


@given(
    st.lists(entries, max_size=5, unique_by=lambda it: it.path),
    st.dictionaries(paths, st.builds(TrashFolder, st.integers(0, 0o7777), sizes, sizes)),
)
def test_what_is_written_is_read_again(listed, folders):
    batch = batch_of(*listed, folders=folders)
    assert decode(encode(batch), "it") == batch


def test_a_file_that_was_never_hashed_has_no_checksum():
    batch = batch_of(entry()._replace(algorithm="", checksum=None))
    assert "checksum" not in lines_of(batch)[1]
    assert decode(encode(batch), "it") == batch


def test_a_person_can_read_it():
    odd = entry(b"caf\xc3\xa9/\xff\n")
    header, folder, file, end = lines_of(
        batch_of(odd, folders={b"caf\xc3\xa9": TrashFolder(0o750, 1, 2)})
    )
    assert header["trash"] == 1
    assert header["reason"] == "archive"
    assert (header["at"], header["until"]) == (
        "2026-01-02T03:04:05.000000Z",
        "2026-01-03T03:04:05.000000Z",
    )
    assert "undelete" in str(header["about"])
    assert folder == {"line": "folder", "path": "café", "mode": 0o750, "uid": 1, "gid": 2}
    assert (file["name"], file["path"], file["kind"]) == ("0", "café/\\xff\n", "regular")
    assert base64.b64decode(str(file["path_bytes"])) == odd.path
    assert file["checksum"] == "sha256:" + b"c".hex() * 32
    assert end == {"line": "end", "lines": 4}


# -- hostile and damaged -------------------------------------------------------------------------

HOSTILE_PATHS = [
    b"",
    b"/",
    b"/etc/passwd",
    b"..",
    b"../outside/file",
    b"a/../../outside",
    b"a/..",
    b".",
    b"./a",
    b"a/.",
    b"a//b",
    b"a/",
    b"nul\0",
    b".lifecycle",
    b".lifecycle/root.json",
    b".lifecycle/trash/x",
]


@pytest.mark.parametrize("path", HOSTILE_PATHS)
def test_a_path_that_leads_out_of_the_root_or_into_our_own_is_refused(path):
    with pytest.raises(ValueError, match="path"):
        check_path(path)
    lines = lines_of(batch_of(entry()))
    lines[1]["path_bytes"] = base64.b64encode(path).decode()
    with pytest.raises(TrashError, match="damaged"):
        decode(text_of(lines), "it")
    lines = lines_of(batch_of(entry(), folders={b"folder": TrashFolder(0, 0, 0)}))
    lines[1] |= {"path": path.decode(), "path_bytes": None}
    with pytest.raises(TrashError, match="damaged"):
        decode(text_of(lines), "it")


@pytest.mark.parametrize(
    "path",
    [b"...", b"a/...", b"..a", b"a/.b", b"x" * 255, b"a/.lifecycle", b".lifecycles/a", b"\n"],
)
def test_an_unusual_path_is_a_path(path):
    check_path(path)
    batch = batch_of(entry(path))
    assert decode(encode(batch), "it") == batch


@pytest.mark.parametrize(
    ("number", "changes"),
    [
        (0, {"line": "file"}),
        (0, {"trash": "1"}),
        (0, {"batch_id": "11"}),
        (0, {"batch_id": "x" * 32}),
        (0, {"repository_id": None}),
        (0, {"reason": "because"}),
        (0, {"at": "yesterday"}),
        (0, {"at": "2026-01-02T03:04:05"}),
        (0, {"until": 7}),
        (1, {"name": "1"}),
        (1, {"name": "../0"}),
        (1, {"name": "batch.jsonl"}),
        (1, {"kind": "8"}),
        (1, {"size": "5"}),
        (1, {"size": 1.5}),
        (1, {"mtime_ns": None}),
        (1, {"file_id": "00"}),
        (1, {"checksum": "md5:00"}),
        (1, {"checksum": "sha256:00"}),
        (1, {"path": "\ud800"}),
        (1, {"path_bytes": "%"}),
        (1, {"line": "other"}),
        (1, {"nested": 0}),
        (2, {"lines": 4}),
        (2, {"line": "folder"}),
    ],
)
def test_a_sidecar_with_anything_odd_in_it_is_damaged(number, changes):
    lines = lines_of(batch_of(entry()))
    lines[number] |= changes
    text = text_of(lines)
    if "nested" in changes:
        text = text.replace(b'"nested": 0', b'"nested": ' + b"[" * 100_000 + b"]" * 100_000)
    with pytest.raises(TrashError, match="damaged") as caught:
        decode(text, "the batch")
    assert caught.value.subject == "the batch"
    assert "by hand" in caught.value.remedy


def test_a_file_that_is_listed_twice_is_refused():
    lines = lines_of(batch_of(entry(b"a"), entry(b"b")))
    lines[2]["path"] = "a"
    with pytest.raises(TrashError, match="twice"):
        decode(text_of(lines), "it")


def test_a_sidecar_that_is_torn_anywhere_is_damaged():
    text = encode(batch_of(entry(b"a"), entry(b"b")))
    for end in range(len(text) - 1):
        with pytest.raises(TrashError):
            decode(text[:end], "it")
    with pytest.raises(TrashError):
        decode(text + text, "it")


@given(st.binary(max_size=200))
def test_bytes_that_are_no_sidecar_are_damaged(data):
    with pytest.raises(TrashError):
        decode(data, "it")


def test_a_sidecar_of_a_newer_program_is_refused_by_its_number_alone():
    text = json.dumps({"trash": 2, "everything": "else is new"}).encode() + b"\n\xff\0"
    with pytest.raises(TrashNewerError, match="format 2") as caught:
        decode(text, "it")
    assert "upgrade" in caught.value.remedy


def test_what_a_later_program_adds_to_this_format_is_passed_over():
    lines = lines_of(batch_of(entry()))
    for line in lines:
        line["note"] = {"new": [os.getpid()]}
    assert decode(text_of(lines), "it") == batch_of(entry())


def test_folders_come_before_what_they_hold():
    assert folders_of([b"a/b/c/file", b"a/b/file", b"top", b"z/file"]) == [
        b"a",
        b"a/b",
        b"a/b/c",
        b"z",
    ]
