"""Manifests frame by frame: what is read, passed over, and put into another as it is."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle_sync.errors import VaultCorruptError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.storage.protocol import Storage
from lifecycle_sync.vault import manifest, opening
from lifecycle_sync.vault.manifest import Header, Inner, ManifestReader, ManifestWriter

LINES = st.lists(st.binary(max_size=60).map(lambda data: data.replace(b"\n", b"")), max_size=40)


@contextmanager
def storage_with_small_frames() -> Iterator[Storage]:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "_FRAME_SIZE", 200)
        patch.setattr(manifest, "_PASSES", 90)
        with opening.open_storage(os.fspath(folder), FileOps(), create=True) as storage:
            yield storage


def write(storage: Storage, lines: list[bytes], sequence: int = 1) -> str:
    writer = ManifestWriter(storage, Header(bytes(16), sequence, "test", 0))
    writer.lines(lines)
    return writer.publish()


def lines_of(storage: Storage, name: str) -> list[bytes]:
    return [it.raw for it in ManifestReader(storage, name).lines()]


@given(LINES)
def test_frames_say_what_the_lines_say(lines):
    with storage_with_small_frames() as storage:
        name = write(storage, lines)
        frames = list(ManifestReader(storage, name).frames())
        assert lines_of(storage, name) == lines
        assert b"".join(it.text or b"" for it in frames) == b"".join(it + b"\n" for it in lines)
        assert [it.number for it in frames] == list(range(len(frames)))


@given(LINES, st.data())
def test_what_is_passed_over_can_be_put_into_another_as_it_is(lines, data):
    with storage_with_small_frames() as storage:
        reader = ManifestReader(storage, write(storage, lines))
        all_of_it = {it.number: it for it in reader.frames()}
        inner = {number: it.inner for number, it in all_of_it.items() if it.inner is not None}
        passed = {number: it for number, it in inner.items() if data.draw(st.booleans())}
        writer = ManifestWriter(storage, Header(bytes(16), 2, "test", 0))
        for frame in reader.frames(passed):
            assert (frame.text is None) == (frame.number in passed)
            if frame.text is None:
                it = passed[frame.number]
                writer.copy(reader.data(it), it.lines)
            else:
                assert frame == all_of_it[frame.number]
                writer.block(frame.text.split(b"\n")[:-1])
        assert lines_of(storage, writer.publish()) == lines


@pytest.mark.parametrize("left", [0, 4])
def test_the_first_and_the_last_line_of_a_long_one_have_frames_of_their_own(left):
    with storage_with_small_frames() as storage:
        # Seven of these fill a frame, and `left` are enough for one.
        lines = [b"x" * 30] * (21 + left)
        head, *frames = ManifestReader(storage, write(storage, lines)).frames()
        assert head.text == b"" and head.inner is None
        assert len(frames) > 2
        assert None not in [it.inner for it in frames]
        # Of a short one all is in one frame.
        (short,) = ManifestReader(storage, write(storage, lines[:1], 2)).frames()
        assert short.inner is None


def test_a_frame_that_is_not_there_is_damage():
    with storage_with_small_frames() as storage:
        reader = ManifestReader(storage, write(storage, [b"x" * 30] * 30))
        with pytest.raises(VaultCorruptError, match="too early"):
            reader.data(Inner(10, 1 << 20, 3))
        # One that is said to have other lines than it has.
        frames = {it.number: it.inner for it in reader.frames() if it.inner is not None}
        number, it = next(iter(frames.items()))
        wrong = it._replace(lines=it.lines + 1)
        with pytest.raises(VaultCorruptError, match="too early"):
            list(reader.frames({number: wrong}))
        with pytest.raises(VaultCorruptError, match="too early"):
            reader.data(wrong)
