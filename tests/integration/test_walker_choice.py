"""Which walker lists folders: chosen by settings, told by the doctor, no matter to a registry."""

from __future__ import annotations

import os

import pytest

from lifecycle_sync.errors import LifecycleError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.observe import native_walker
from lifecycle_sync.observe.native_walker import unavailable
from lifecycle_sync.service import listings
from lifecycle_sync.service.doctor import examine
from lifecycle_sync.service.doctor_machine import judge_walker
from lifecycle_sync.testing.fileops import RecordingFileOps
from tests.support.house import House
from tests.support.native import needs_native


def fill(house: House) -> None:
    for number in range(60):
        house.write(f"{number % 7}/{number % 3}/{number}.txt", b"%d" % number)
        house.write(f"{number % 7}/{number}.tmp")
    os.symlink("nowhere", house.path("link"))
    os.mkfifo(house.path("1/fifo"))


@pytest.fixture
def used(monkeypatch) -> list[str]:
    """The names of the walkers that are used, one a walk."""
    names: list[str] = []

    def noted(name: str) -> None:
        real = getattr(listings, name)

        def walk(*arguments, **options):
            names.append(name)
            return real(*arguments, **options)

        monkeypatch.setattr(listings, name, walk)

    noted("walk")
    noted("walk_native")
    return names


@needs_native
@pytest.mark.parametrize(("first", "second"), [("native", "python"), ("python", "native")])
def test_what_one_has_recorded_is_unchanged_to_the_other(tmp_path, used, first, second):
    house = House(tmp_path, walker=first)
    fill(house)
    report = house.sync()
    house.check()
    assert (report.counts.files, report.counts.directories) == (61, 29)
    house.reopen(walker=second)
    again = house.sync(wait=False)
    assert again.counts.unchanged_directories == again.counts.directories == 29
    house.engine.close()
    expected = {"native": "walk_native", "python": "walk"}
    assert list(dict.fromkeys(used)) == [expected[first], expected[second]]


@needs_native
def test_the_native_one_is_used_where_nothing_is_set(tmp_path, used):
    house = House(tmp_path)
    fill(house)
    house.sync()
    house.engine.close()
    assert set(used) == {"walk_native"}


@needs_native
def test_file_operations_that_a_test_has_made_are_for_the_one_in_python(tmp_path, used):
    house = House(tmp_path, fs=RecordingFileOps(FileOps()))
    fill(house)
    house.sync()
    house.engine.close()
    assert set(used) == {"walk"}


def test_where_it_is_not_built_the_one_in_python_walks(tmp_path, used, monkeypatch):
    monkeypatch.setattr(listings, "unavailable", lambda: "not built")
    house = House(tmp_path)
    fill(house)
    report = house.sync()
    house.engine.close()
    assert report.counts.files == 61
    assert set(used) == {"walk"}


def test_where_only_the_native_one_will_do_and_it_is_not_built_the_pass_says_so(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(listings, "unavailable", lambda: "not built")
    house = House(tmp_path, walker="native")
    fill(house)
    house.add()
    report = house.pass_over()
    house.engine.close()
    assert isinstance(report.error, LifecycleError)
    assert "the native walker cannot be used: not built" in str(report.error)
    assert "set walker to auto" in report.error.remedy


@needs_native
def test_one_that_was_built_for_another_version_is_not_used(monkeypatch):
    from lifecycle_sync.observe import _native

    monkeypatch.setattr(_native, "INTERFACE", -1)
    unavailable.cache_clear()
    try:
        assert native_walker.unavailable() == "built for another version"
        monkeypatch.setattr(_native, "INTERFACE", 1)
        monkeypatch.setattr(_native, "refusal", lambda: 38)
        unavailable.cache_clear()
        assert native_walker.unavailable() == "the kernel refuses statx (Function not implemented)"
    finally:
        monkeypatch.undo()
        unavailable.cache_clear()


@pytest.mark.parametrize(
    ("walker", "cause", "level", "message"),
    [
        ("auto", None, "ok", "native"),
        ("native", None, "ok", "native"),
        ("python", None, "ok", "in Python, as it is set"),
        ("auto", "not built", "ok", "in Python; the native one is not built"),
        ("native", "not built", "fault", "the native walker is set and cannot be used: not built"),
    ],
)
def test_the_doctor_says_which_it_is_and_why(walker, cause, level, message):
    found = judge_walker(walker, cause)
    assert (found.level, found.message) == (level, message)
    assert bool(found.remedy) == (level == "fault")


def test_the_doctor_looks_at_the_setting(tmp_path):
    house = House(tmp_path, walker="python")
    found = {finding.check: finding for finding in examine(house.settings)}
    house.engine.close()
    assert found["machine.walker"].message == "in Python, as it is set"
