"""One setting of a settings file changed, and nothing else of it."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from lifecycle_sync.config import load_config
from lifecycle_sync.errors import BusyError, UsageError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.service.settings_file import set_list
from lifecycle_sync.service.starter import TEMPLATE

NAME = "ignore"
KEYS = ["*.one", 'ssh-ed25519 AAAA "a quote" ]', "ünï"]


def change(path: Path, values: list[str]) -> str:
    assert set_list(load_config(path), NAME, values, FileOps()) == path.resolve()
    assert list(load_config(path).ignore) == values
    return path.read_text(encoding="utf-8")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "lifecycle.toml"


@pytest.mark.parametrize(
    "text",
    [
        f'# a comment\n{NAME} = ["age1old"] # ] and why\nbackup_path = "v"\n[temp_files]\n',
        f'{NAME}=[\n  "age1old", # ] not yet\n  "ssh-ed25519 ]",\n]\nbackup_path = "v"',
        f"  {NAME} = []\n",
        f'backup_path = "v" # {NAME} = ["age1comment"]\n# {NAME} = ["age1comment"]\n'
        f'{NAME} = ["age1old"]\n',
    ],
)
def test_a_list_that_is_there_is_replaced_and_all_around_it_stays(file, text):
    file.write_text(text, encoding="utf-8")
    before = tomllib.loads(text)
    after = ""
    for values in (KEYS, ["age1a"], KEYS):
        after = change(file, values)
        assert tomllib.loads(after) == before | {NAME: values}
    for line in text.splitlines():
        if "#" in line and not line.strip().startswith(('"', NAME)):
            assert line in after


@pytest.mark.parametrize(
    "text",
    [
        TEMPLATE,
        "",
        "backup_path = 'v'",
        "backup_path = 'v'\n[temp_files]\n",
        'roots = [\n"/x",\n]\n\n[temp_files]\n',
    ],
)
def test_a_list_that_is_not_there_comes_before_the_first_table(file, text):
    file.write_text(text, encoding="utf-8")
    after = change(file, KEYS)
    assert tomllib.loads(after) == tomllib.loads(text) | {NAME: KEYS}
    assert set(text.splitlines()) <= set(after.splitlines())


def test_json_keeps_its_values_and_their_order(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"roots": [], NAME: ["age1old"], "backup_path": "vault"}))
    assert list(json.loads(change(path, KEYS)).items()) == [
        ("roots", []),
        (NAME, KEYS),
        ("backup_path", "vault"),
    ]


def test_mode_and_a_link_to_it_stay(tmp_path, file):
    real = tmp_path / "elsewhere.toml"
    real.write_text("")
    real.chmod(0o640)
    file.symlink_to(real)
    set_list(load_config(file), NAME, KEYS, FileOps())
    assert file.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert tomllib.loads(real.read_text(encoding="utf-8")) == {NAME: KEYS}
    assert sorted(os.listdir(tmp_path)) == ["elsewhere.toml", "lifecycle.toml"]


def test_what_cannot_be_changed_safely_says_what_to_write(tmp_path, file, monkeypatch):
    yaml = tmp_path / "lifecycle.yaml"
    yaml.write_text("backup_path: v\n")
    with pytest.raises(UsageError, match="without a person") as refused:
        set_list(load_config(yaml), NAME, KEYS, FileOps())
    assert NAME in refused.value.remedy
    file.write_text("")
    settings = load_config(file)
    monkeypatch.setenv("LIFECYCLE_IGNORE", "age1x")
    with pytest.raises(UsageError, match="environment"):
        set_list(settings, NAME, KEYS, FileOps())
    monkeypatch.delenv("LIFECYCLE_IGNORE")
    monkeypatch.chdir(tmp_path / "..")
    file.write_text("this is no TOML")
    with pytest.raises(UsageError, match="TOML"):
        set_list(settings, NAME, KEYS, FileOps())
    assert file.read_text() == "this is no TOML"


def test_without_a_file_it_says_how_to_make_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="no settings file") as refused:
        set_list(load_config(), NAME, KEYS, FileOps())
    assert "lifecycle init" in refused.value.remedy


class _Saves(FileOps):
    """A person saves the file while it is being replaced."""

    def __init__(self, save: Callable[[], object]) -> None:
        self._save = save

    def fsync(self, fd: int) -> None:
        super().fsync(fd)
        self._save()


def test_what_a_person_saves_meanwhile_stays(tmp_path, file):
    file.write_text("backup_path = 'v'\n")
    saved = "backup_path = 'w'\n"
    with pytest.raises(BusyError, match="somebody else"):
        set_list(load_config(file), NAME, KEYS, _Saves(lambda: file.write_text(saved)))
    assert file.read_text() == saved
    assert os.listdir(tmp_path) == [file.name]


def test_what_somebody_else_has_changed_since_it_was_read_stays(file):
    file.write_text("")
    settings = load_config(file)
    change(file, ["*.theirs"])
    with pytest.raises(BusyError, match="somebody else"):
        set_list(settings, NAME, KEYS, FileOps())
    assert list(load_config(file).ignore) == ["*.theirs"]


def test_two_at_once_do_not_both_change_it(file):
    file.write_text("")
    settings = load_config(file)

    def also() -> None:
        with pytest.raises(BusyError, match="somebody else"):
            set_list(settings, NAME, ["*.theirs"], FileOps())

    set_list(settings, NAME, KEYS, _Saves(also))
    assert list(load_config(file).ignore) == KEYS


def test_what_one_that_was_killed_had_begun_is_removed(tmp_path, file):
    file.write_text("")
    (tmp_path / f".{file.name}.0123456789abcdef").write_text("half")
    (tmp_path / f".{file.name}.swp").write_text("an editor's")
    change(file, KEYS)
    assert sorted(os.listdir(tmp_path)) == [f".{file.name}.swp", file.name]
