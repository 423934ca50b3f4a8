from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle_sync.act.sparse import SparseWriter
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.testing.fileops import RecordingFileOps

MIB = 1 << 20


def written(root_fd: int, content: bytes, piece: int, extents) -> tuple[bytes, int, list[str]]:
    """The file's bytes, its blocks, and the writes that were made."""
    fs = RecordingFileOps(FileOps())
    fd = fs.create(b"name", root_fd)
    try:
        writer = SparseWriter(fs, fd, extents)
        for at in range(0, len(content), piece):
            writer.write(content[at : at + piece])
        writer.finish()
        assert writer.size == len(content)
        writes = [call.arguments["offset"] for call in fs.calls if call.method == "write_at"]
        return os.pread(fd, len(content) + 10, 0), os.fstat(fd).st_blocks, writes
    finally:
        fs.unlink(b"name", root_fd)
        fs.close(fd)


def test_holes_are_left_and_the_end_is_kept(root_fd):
    content = bytes(3 * MIB) + b"data" * 1024 + bytes(2 * MIB)
    found, blocks, writes = written(root_fd, content, MIB // 2, [(3 * MIB, 4096)])
    assert found == content
    assert blocks * 512 <= MIB
    assert writes == [str(3 * MIB)]


def test_a_file_without_extents_is_written_whole(root_fd):
    content = bytes(MIB) + b"end"
    found, blocks, writes = written(root_fd, content, MIB, None)
    assert found == content
    assert writes == ["0", str(MIB)]
    assert blocks * 512 >= MIB


def test_an_empty_file_and_one_that_is_all_hole(root_fd):
    assert written(root_fd, b"", 10, [])[0] == b""
    found, blocks, writes = written(root_fd, bytes(MIB), 1000, [])
    assert (found, blocks, writes) == (bytes(MIB), 0, [])


def test_what_is_no_zero_is_written_though_the_extents_call_it_a_hole(root_fd):
    content = bytes(5000) + b"x" + bytes(5000)
    for extents in ([], [(0, 10)], [(9000, 10)], [(20_000, 1)]):
        assert written(root_fd, content, 777, extents)[0] == content


@settings(deadline=None, max_examples=60)
@given(
    runs=st.lists(st.tuples(st.integers(0, 300), st.sampled_from([b"\0", b"x"])), max_size=8),
    piece=st.integers(1, 400),
    extents=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 400)), max_size=6),
)
def test_the_content_is_the_same_whatever_the_extents_say(tmp_path_factory, runs, piece, extents):
    content = b"".join(byte * count for count, byte in runs)
    folder = tmp_path_factory.getbasetemp()
    root_fd = os.open(folder, os.O_RDONLY)
    try:
        assert written(root_fd, content, piece, extents)[0] == content
    finally:
        os.close(root_fd)


@pytest.mark.parametrize("size", [1, MIB - 1, MIB, MIB + 1, 2 * MIB + 3])
def test_one_byte_at_the_end_of_a_run_of_zeros_is_seen(root_fd, size):
    content = bytes(size - 1) + b"x"
    assert written(root_fd, content, size, [])[0] == content
