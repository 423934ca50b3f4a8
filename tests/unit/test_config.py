"""What a configuration means, and how its faults are told."""

from __future__ import annotations

import copy
import errno
import json
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import platformdirs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle_sync.config import (
    Settings,
    default_data_directory,
    load_config,
    with_overrides,
)
from lifecycle_sync.config_values import TempFiles
from lifecycle_sync.errors import ConfigError

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
KEY = "sk-0123456789abcdefghij"
PASSWORD = "correct-horse"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty working directory, an empty home, and no settings in the environment."""
    for name in list(os.environ):
        if name.startswith(("LIFECYCLE_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    directory = tmp_path / "here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


def write(path: Path, text: str | dict[str, object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return path


def faults_of(*arguments, **keywords) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(*arguments, **keywords)
    return caught.value.faults


def fault_of(key: str, value: object) -> str:
    """The only fault of a file with only this in it."""
    (fault,) = faults_of(write(Path("one.json"), {key: value}))
    return fault


def test_nothing_of_ours_may_lie_in_a_folder_of_temporary_files():
    faults = faults_of(write(Path("one.json"), {"temp_roots": ["."]}))
    inside = {fault.partition(" ")[0] for fault in faults if "is inside temp_roots" in fault}
    assert inside == {"archive_path", "backup_path", "database_path", "local_storage_path"}


# -- defaults ------------------------------------------------------------------------------


def test_an_empty_file_means_the_documented_defaults_beside_it(tmp_path):
    file = write(tmp_path / "etc" / "config.json", {})
    settings = load_config(file)
    assert {name: getattr(settings, name) for name in settings.__struct_fields__} == {
        "database_path": tmp_path / "etc" / "file_registry.db",
        "local_storage_path": tmp_path / "etc" / "storage",
        "archive_path": tmp_path / "etc" / "archive",
        "backup_path": tmp_path / "etc" / "backup",
        "archive_copies": (),
        "backup_copies": (),
        "registry_sync_interval": 300,
        "backup_recipients": (),
        "archive_recipients": (),
        "identity_path": None,
        "reconciliation_interval": 86_400,
        "cleanup_interval": 3600,
        "backup_interval": 3600,
        "policy_enforcement_interval": 1800,
        "min_age_seconds": 120,
        "min_free_space_gb": 1.0,
        "space_high_percent": 95.0,
        "space_low_percent": 85.0,
        "max_errors": 10,
        "conflict_strategy": "disk",
        "moonshot_api_base": "https://api.moonshot.cn",
        "moonshot_api_key": None,
        "roots": (),
        "ignore": (),
        "ignore_defaults": True,
        "worker_threads": None,
        "max_concurrency": 4,
        "batch_size": 20_000,
        "hash_megabytes_per_second": None,
        "scrub_days": 30,
        "verify_days": 30,
        "verify_megabytes_per_second": None,
        "drill_days": 7,
        "drill_files": 20,
        "prune_days": 0,
        "prune_grace_days": 7,
        "hash_algorithm": "sha256",
        "calculate_hashes": True,
        "walker": "auto",
        "temp_files": TempFiles(temp_dir=tmp_path / "etc" / "temp"),
        "temp_roots": (),
        "temp_jobs": None,
        "source": file,
    }


def test_without_a_file_everything_is_in_the_users_data_directory_and_nothing_is_managed():
    settings = load_config()
    data = default_data_directory()
    assert data.is_absolute()
    assert data.name == "lifecycle-sync"
    assert settings.database_path == data / "registry.db"
    assert settings.archive_path == data / "archive"
    assert settings.backup_path == data / "vault"
    assert settings.local_storage_path is None
    assert settings.roots == ()
    assert settings.source is None
    assert settings.registry_sync_interval == 300
    assert not data.exists()


def test_the_constructor_takes_text_relative_to_the_working_directory_and_checks_it(here):
    written: dict[str, Any] = {
        "database_path": "a.db",
        "roots": ["x", Path("y")],
        "ignore": ["*.tmp"],
    }
    settings = Settings(**written)
    assert settings.database_path == here / "a.db"
    assert settings.local_storage_path == here / "storage"
    assert settings.roots == (here / "x", here / "y")
    assert settings.ignore == ("*.tmp",)
    with pytest.raises(ConfigError, match="cleanup_interval = 0"):
        Settings(cleanup_interval=0)


# -- formats -------------------------------------------------------------------------------

IN_EACH_FORMAT = {
    "c.json": '{"cleanup_interval": 60, "roots": ["a", "/b"], "ignore_defaults": false}',
    "c.toml": 'cleanup_interval = 60\nroots = ["a", "/b"]\nignore_defaults = false\n',
    "c.yaml": "cleanup_interval: 60\nroots: [a, /b]\nignore_defaults: false\n",
    "c.yml": "cleanup_interval: 60\nroots:\n- a\n- /b\nignore_defaults: no\n",
    "C.JSON": '\ufeff{"cleanup_interval": 60, "roots": ["a", "/b"], "ignore_defaults": false}',
}


@pytest.mark.parametrize("name", IN_EACH_FORMAT)
def test_each_format_says_the_same(here, name):
    if name.endswith(("yaml", "yml")):
        pytest.importorskip("yaml")
    settings = load_config(str(write(here / name, IN_EACH_FORMAT[name])))
    assert settings.cleanup_interval == 60
    assert settings.roots == (here / "a", Path("/b"))
    assert settings.ignore_defaults is False
    assert settings.source == here / name


def test_yaml_without_its_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    (fault,) = faults_of(write(Path("c.yaml"), "cleanup_interval: 60"))
    assert "lifecycle-sync[yaml]" in fault


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        (
            "c.json",
            '{\n  "cleanup_interval": 60,\n  "roots": [1 2]\n}',
            "JSON at line 3, column 15",
        ),
        ("c.json", "", "JSON at line 1, column 1"),
        ("c.toml", "cleanup_interval = 60\nroots = = 1", "TOML at line 2, column 9"),
        ("c.toml", "a = 1\ncleanup_interval", "TOML at line 2, column 17"),
        ("c.toml", "cleanup_interval = 1\ncleanup_interval = 2", "TOML at line 2, column 21"),
        ("c.yaml", "roots: [a\ncleanup_interval: 60", "YAML at line 2, column 17"),
        ("c.yaml", "a: 1\nb: \x00", "YAML at line 2, column 4"),
    ],
)
def test_a_file_that_is_not_valid_names_line_and_column(name, text, place):
    if name.endswith("yaml"):
        pytest.importorskip("yaml")
    (fault,) = faults_of(write(Path(name), text))
    assert f"is not valid {place}: " in fault


def test_bytes_that_are_no_text_name_their_line(here):
    (here / "c.toml").write_bytes(b'a = 1\nb = "\xff"\n')
    assert faults_of("c.toml") == ["is not UTF-8 text at line 2 (save it as UTF-8)"]


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("c.json", "[1]", "no settings by name"),
        ("c.json", "[" * 100_000, "nested too deeply"),
        ("c.json", '{"cleanup_interval": ' + "9" * 5000 + "}", "too long"),
        ("c.toml", "cleanup_interval = " + "9" * 5000, "too long"),
        ("c.yaml", "- 1", "no settings by name"),
        ("c.yaml", "cleanup_interval: 2020-99-99", "impossible"),
        ("c.ini", "[a]", "suffix"),
        ("c.json", " " * (1 << 20) + "{}", "1 MiB"),
    ],
)
def test_a_file_that_cannot_be_a_configuration_is_refused(name, text, word):
    if name.endswith("yaml"):
        pytest.importorskip("yaml")
    (fault,) = faults_of(write(Path(name), text))
    assert word in fault


@pytest.mark.parametrize("name", ["c.json", "c.yaml"])
def test_a_key_that_stands_there_twice_is_a_fault(name):
    if name.endswith("yaml"):
        pytest.importorskip("yaml")
    file = write(Path(name), '{"cleanup_interval": 60,\n "cleanup_interval": 70,\n "ignore": []}')
    (fault,) = faults_of(file)
    assert fault == "'cleanup_interval' stands there more than once (keep one of them)"


def test_an_empty_yaml_or_toml_file_means_the_defaults():
    assert load_config(write(Path("c.toml"), "")).cleanup_interval == 3600
    pytest.importorskip("yaml")
    assert load_config(write(Path("c.yaml"), "# nothing\n")).cleanup_interval == 3600


# -- which file ----------------------------------------------------------------------------


def test_a_missing_file_says_what_to_do():
    with pytest.raises(ConfigError, match=r"nowhere\.toml.*no such file.*leave it out"):
        load_config("nowhere.toml")


def test_a_missing_file_of_the_environment_names_the_variable(monkeypatch):
    monkeypatch.setenv("LIFECYCLE_CONFIG", "nowhere.toml")
    with pytest.raises(ConfigError, match="correct LIFECYCLE_CONFIG"):
        load_config()


@pytest.mark.parametrize("called", ["stat", "open"])
def test_a_file_that_may_not_be_read_says_so(monkeypatch, called):
    def refuse(*arguments, **keywords):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    write(Path("c.json"), {})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        if called == "stat":
            patch.setattr(os, "stat", refuse)
        faults = faults_of("c.json")
    assert faults == ["cannot be read: permission denied (check its permissions)"]


def test_a_folder_or_a_pipe_is_no_configuration(here):
    (here / "folder.json").mkdir()
    os.mkfifo(here / "pipe.json")
    for name in ("folder.json", "pipe.json"):
        (fault,) = faults_of(name)
        assert "not a regular file" in fault


def test_the_first_file_in_order_is_read(here, tmp_path, monkeypatch):
    def interval() -> int:
        return load_config().cleanup_interval

    pytest.importorskip("yaml")
    home = Path(platformdirs.user_config_dir("lifecycle-sync"))
    write(home / "lifecycle.toml", "cleanup_interval = 1")
    assert interval() == 1
    write(here / "lifecycle.yaml", "cleanup_interval: 2")
    assert interval() == 2
    write(here / "config.json", '{"cleanup_interval": 3}')
    assert interval() == 3
    write(here / "lifecycle.toml", "cleanup_interval = 4")
    assert interval() == 4
    write(tmp_path / "elsewhere.toml", "cleanup_interval = 5")
    monkeypatch.setenv("LIFECYCLE_CONFIG", "../elsewhere.toml")
    assert interval() == 5
    assert load_config().source == tmp_path / "elsewhere.toml"
    assert load_config("config.json").cleanup_interval == 3
    monkeypatch.setenv("LIFECYCLE_CONFIG", "")
    assert interval() == 4


@pytest.mark.parametrize(
    "text",
    [
        '{"port": 80, "nested": {"ignore": []}}',
        "[]",
        "{ // not JSON at all\n}",
        "\x80",
        " " * 2**21,
    ],
)
def test_another_programs_config_json_is_left_alone_with_a_warning(here, caplog, text):
    (here / "config.json").write_bytes(text.encode("latin-1"))
    assert load_config().source is None
    (record,) = caplog.records
    assert record.name == "lifecycle_sync.config"
    assert record.levelno == logging.WARNING
    assert "config.json" in record.getMessage()


def test_a_config_json_with_one_of_our_keys_is_ours_and_its_faults_are_told(here):
    write(here / "config.json", {"cleanup_interval": 60, "backup_paht": "x"})
    assert faults_of() == ["backup_paht: there is no such setting (did you mean backup_path?)"]


def test_a_config_json_with_a_slip_that_mentions_our_keys_is_ours(here):
    write(here / "config.json", '{"cleanup_interval": 60,}')
    (fault,) = faults_of()
    assert "is not valid JSON at line 1" in fault


def test_a_named_config_json_is_ours_whatever_is_in_it(here):
    write(here / "config.json", {"port": 80})
    assert faults_of("config.json") == ["port: there is no such setting (remove it)"]


# -- paths ---------------------------------------------------------------------------------


def test_paths_of_a_file_start_at_its_directory_and_a_tilde_is_the_home(tmp_path):
    write(
        tmp_path / "etc" / "c.json",
        {"database_path": "../x/r.db", "archive_path": "~/old", "backup_path": "/b/./c"},
    )
    settings = load_config("../etc/c.json")
    assert settings.database_path == tmp_path / "x" / "r.db"
    assert settings.archive_path == tmp_path / "home" / "old"
    assert settings.backup_path == Path("/b/c")
    assert settings.source == tmp_path / "etc" / "c.json"


def test_null_means_that_there_is_no_main_folder():
    file = write(Path("c.json"), {"local_storage_path": None, "roots": ["a"]})
    assert load_config(file).local_storage_path is None


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"backup_path": "storage/backup"}, "backup_path = .*is inside local_storage_path"),
        ({"archive_path": "a", "roots": ["."]}, "archive_path = .*is inside roots"),
        ({"archive_path": "backup"}, "backup_path = .*is the same place as archive_path"),
        ({"archive_path": "backup/old"}, "archive_path = .*is inside backup_path"),
        ({"roots": ["storage/sub"]}, "roots = .*is inside local_storage_path"),
        ({"roots": ["a", "a/b"]}, "roots = .*a/b.*is inside roots.*/a"),
        ({"roots": ["a", "b/../a"]}, "roots = .*is the same place as roots"),
        ({"local_storage_path": "backup/x"}, "local_storage_path = .*is inside backup_path"),
        ({"database_path": "backup/r.db"}, "database_path = .*is inside backup_path"),
        ({"database_path": "archive"}, "database_path = .*is the same place as archive_path"),
        ({"backup_path": "link/backup"}, "backup_path = .*is inside local_storage_path"),
    ],
)
def test_places_that_would_spoil_one_another_are_faults(here, changes, fault):
    (here / "storage").mkdir()
    (here / "link").symlink_to("storage")
    with pytest.raises(ConfigError, match=fault):
        load_config(write(here / "c.json", changes))


def test_only_the_database_may_lie_in_a_folder_under_management(here):
    file = write(here / "c.json", {"database_path": "storage/r.db"})
    assert load_config(file).database_path == here / "storage" / "r.db"


def test_a_folder_for_a_file_and_a_file_for_a_folder_are_faults(here):
    (here / "folder").mkdir()
    write(here / "file", "")
    assert "is a folder where a file is meant" in fault_of("database_path", "folder")
    for key in ("local_storage_path", "archive_path", "backup_path"):
        assert "is a file where a folder is meant" in fault_of(key, "file")
    assert "file is a file where a folder is meant" in fault_of("roots", ["folder", "file"])


def test_a_path_that_cannot_be_looked_at_is_left_to_those_who_use_it():
    load_config(write(Path("c.json"), {"database_path": "x" * 5000, "archive_path": "y" * 5000}))


# -- faults --------------------------------------------------------------------------------


def test_all_faults_are_told_at_once_and_the_file_stays_as_it_is(here):
    text = json.dumps(
        {
            "registry_sync_interval": -5,
            "cleanup_interval": "soon",
            "hash_algorithm": "md5",
            "databse_path": "x.db",
            "backup_path": "storage/backup",
        }
    )
    file = write(here / "config.json", text)
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert caught.value.faults == [
        "databse_path: there is no such setting (did you mean database_path?)",
        "registry_sync_interval = -5: expected a whole number >= 1"
        " (write whole seconds from 1 to 31622400, which are 366 days)",
        'cleanup_interval = "soon": expected a whole number, got text'
        " (write whole seconds from 1 to 31622400, which are 366 days)",
        'hash_algorithm = "md5": is not one of those known (write sha256 or blake3)',
        f'backup_path = "{here}/storage/backup": is inside local_storage_path, "{here}/storage"'
        " (name a place apart from it)",
    ]
    message = str(caught.value)
    assert str(file) in message
    assert "5 faults" in message
    assert all(fault in message for fault in caught.value.faults)
    assert file.read_text() == text


@pytest.mark.parametrize(
    ("key", "value", "cause"),
    [
        ("registry_sync_interval", 0, "expected a whole number >= 1"),
        ("registry_sync_interval", 366 * 86_400 + 1, "expected a whole number <= 31622400"),
        ("registry_sync_interval", True, "expected a whole number, got true or false"),
        ("registry_sync_interval", 1.5, "expected a whole number, got a number with decimals"),
        ("registry_sync_interval", float("nan"), "expected a whole number"),
        ("registry_sync_interval", None, "expected a whole number, got nothing"),
        ("registry_sync_interval", 10**40, "expected a whole number <= 31622400"),
        ("calculate_hashes", 1, "expected true or false, got a whole number"),
        ("calculate_hashes", "true", "expected true or false, got text"),
        ("database_path", "", "is empty"),
        ("database_path", " ", "is empty"),
        ("database_path", 5, "expected text with a path"),
        ("database_path", None, "expected text with a path"),
        ("database_path", "a\0b", "has a character that no path can have"),
        ("database_path", "\ud800", "has a character that no path can have"),
        ("database_path", "sqlite:///x.db", "is a URL where a path is meant"),
        ("roots", "a", "expected a list, got text"),
        ("roots", ["a", ""], "is empty in entry 2"),
        ("ignore", ["*.tmp", 5], "expected text, got a whole number in entry 2"),
        ("ignore", ["!"], 'entry 1, "!", is no gitignore pattern'),
        ("ignore", ["*.tmp", "[z-a]"], 'entry 2, "[z-a]", is no gitignore pattern'),
        (
            "ignore",
            ["a\nb"],
            'entry 1, "a\\nb", is no gitignore pattern: it contains a line break or a NUL',
        ),
        ("worker_threads", 0, "expected a whole number >= 1"),
        ("worker_threads", 257, "expected a whole number <= 256"),
        ("hash_algorithm", 5, "expected text, got a whole number"),
        ("walker", "rust", "is not one of those known (write auto, native or python)"),
        ("moonshot_api_base", "api.moonshot.cn", "is not a valid http or https URL"),
        ("moonshot_api_base", "ftp://api.moonshot.cn", "is not a valid http or https URL"),
        ("moonshot_api_base", "https://", "is not a valid http or https URL"),
        ("moonshot_api_base", "https://a:port", "is not a valid http or https URL"),
        ("moonshot_api_base", "https://[a", "is not a valid http or https URL"),
        ("moonshot_api_base", "https://a\n.cn", "has a character that no URL can have"),
        ("moonshot_api_base", "https://a/?b=c", "has a query or a fragment"),
        ("moonshot_api_key", "a b", "has a blank"),
        ("moonshot_api_key", 5, "expected text or nothing, got a whole number"),
        ("temp_jobs", 5, "expected text or nothing, got a whole number"),
        ("temp_roots", ["backup/below"], "is inside"),
    ],
)
def test_each_fault_names_key_value_cause_and_remedy(key, value, cause):
    fault = fault_of(key, value)
    assert fault.startswith(f"{key} = ")
    assert f": {cause}" in fault
    assert fault.endswith(")")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("databasePath", "database_path"),
        ("cleanup-interval", "cleanup_interval"),
        ("ROOTS", "roots"),
        ("hash_algorithmus", "hash_algorithm"),
    ],
)
def test_an_unknown_key_is_told_with_the_one_that_was_meant(written, meant):
    fault = fault_of(written, 1)
    assert fault == f"{written}: there is no such setting (did you mean {meant}?)"


def test_patterns_that_git_knows_are_accepted():
    patterns = ["", "# comment", "!keep.tmp", "/a/**/b", "[[]x", "[!a-c]*", r"\!x", "dir/"]
    assert load_config(write(Path("c.json"), {"ignore": patterns})).ignore == tuple(patterns)


def test_the_address_of_the_interface_loses_its_last_slash():
    file = write(Path("c.json"), {"moonshot_api_base": "http://localhost:8080/v1/"})
    assert load_config(file).moonshot_api_base == "http://localhost:8080/v1"


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=8)
    | st.sampled_from(["a", "b/c", "/a", "..", "~", "[", "https://a", "://@", "sha256", "*.tmp"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(Settings.__struct_fields__) | st.text(), values, max_size=6))
def test_whatever_is_in_a_file_gives_settings_or_a_configuration_error(table):
    Path("any.json").write_text(json.dumps(table))
    try:
        settings = load_config("any.json")
    except ConfigError as error:
        assert error.faults  # noqa: PT017  (raising is one of two right outcomes)
    else:
        assert settings.database_path.is_absolute()
        assert with_overrides(settings) == settings


# -- the environment -----------------------------------------------------------------------


def test_the_environment_stands_over_the_file(here, monkeypatch, tmp_path):
    file = write(
        tmp_path / "c.json",
        {"database_path": "file.db", "cleanup_interval": 60, "hash_algorithm": "blake3"},
    )
    monkeypatch.setenv("LIFECYCLE_DATABASE_PATH", "variable.db")
    monkeypatch.setenv("LIFECYCLE_REGISTRY_SYNC_INTERVAL", "17")
    monkeypatch.setenv("LIFECYCLE_CLEANUP_INTERVAL", "61")
    monkeypatch.setenv("LIFECYCLE_CALCULATE_HASHES", "false")
    monkeypatch.setenv("LIFECYCLE_WORKER_THREADS", "3")
    monkeypatch.setenv("LIFECYCLE_MOONSHOT_API_KEY", KEY)
    settings = load_config(file)
    assert settings.database_path == here / "variable.db"
    assert settings.registry_sync_interval == 17
    assert settings.cleanup_interval == 61
    assert settings.calculate_hashes is False
    assert settings.worker_threads == 3
    assert settings.moonshot_api_key == KEY
    assert settings.hash_algorithm == "blake3"
    assert settings.archive_path == tmp_path / "archive"


def test_the_environment_stands_over_the_defaults_without_a_file(here, monkeypatch):
    monkeypatch.setenv("LIFECYCLE_LOCAL_STORAGE_PATH", "files")
    assert load_config().local_storage_path == here / "files"


@pytest.mark.parametrize(
    ("text", "patterns"),
    [
        ('["*.tmp", "/a b/"]', ("*.tmp", "/a b/")),
        ("*.tmp\n\n/a b/\n", ("*.tmp", "/a b/")),
        ("[ab].txt", ("[ab].txt",)),
        ("[0-9]", ("[0-9]",)),
        ("5", ("5",)),
        ("[]", ()),
        ("", ()),
    ],
)
def test_a_list_in_the_environment_is_json_or_an_entry_a_line(monkeypatch, text, patterns):
    monkeypatch.setenv("LIFECYCLE_IGNORE", text)
    assert load_config().ignore == patterns


def test_a_fault_in_the_environment_names_the_variable(monkeypatch):
    monkeypatch.setenv("LIFECYCLE_CLEANUP_INTERVAL", "soon")
    monkeypatch.setenv("LIFECYCLE_DATABASE_PATH", "")
    monkeypatch.setenv("LIFECYCLE_IGNORE", '["*.tmp",')
    faults = faults_of(write(Path("c.json"), {"hash_algorithm": "md5"}))
    assert [fault.partition(" (")[0] for fault in faults] == [
        'LIFECYCLE_DATABASE_PATH = "": is empty',
        'LIFECYCLE_CLEANUP_INTERVAL = "soon": expected a whole number, got text',
        'LIFECYCLE_IGNORE = "[\\"*.tmp\\",": is not a valid JSON list',
        'hash_algorithm = "md5": is not one of those known',
    ]


def test_an_unknown_variable_is_only_logged_and_without_its_value(monkeypatch, caplog):
    monkeypatch.setenv("LIFECYCLE_MOONSHOT_APIKEY", KEY)
    monkeypatch.setenv("LIFECYCLE_ZZZ", "1")
    load_config()
    messages = sorted(record.getMessage() for record in caplog.records)
    assert messages == [
        "LIFECYCLE_MOONSHOT_APIKEY is not a setting and is ignored"
        "; did you mean LIFECYCLE_MOONSHOT_API_KEY?",
        "LIFECYCLE_ZZZ is not a setting and is ignored",
    ]
    assert {record.name for record in caplog.records} == {"lifecycle_sync.config"}


# -- overrides -----------------------------------------------------------------------------


def test_overrides_start_at_the_working_directory_and_keep_the_rest(here, tmp_path):
    settings = load_config(write(tmp_path / "etc" / "c.json", {"cleanup_interval": 60}))
    changed = with_overrides(settings, database="r.db", roots=["a"], hash_algorithm=None)
    assert changed.database_path == here / "r.db"
    assert changed.roots == (here / "a",)
    assert changed.archive_path == tmp_path / "etc" / "archive"
    assert changed.cleanup_interval == 60
    assert changed.source == settings.source
    assert with_overrides(settings, database_path="r.db") == with_overrides(
        settings, database=Path("r.db")
    )
    assert settings.database_path == tmp_path / "etc" / "file_registry.db"


def test_overrides_are_checked_by_the_same_rules(here):
    settings = load_config(write(here / "c.json", {}))
    with pytest.raises(ConfigError) as caught:
        with_overrides(settings, backup="storage/b", cleanup_interval=0, databse="x", source="y")
    assert [fault.partition(":")[0] for fault in caught.value.faults] == [
        "databse",
        "source",
        "cleanup_interval = 0",
        f'backup = "{here}/storage/b"',
    ]


# -- what Settings is ----------------------------------------------------------------------


def test_settings_are_frozen_equal_by_value_and_survive_a_copy():
    settings = load_config(write(Path("c.json"), {"roots": ["a"], "moonshot_api_key": KEY}))
    with pytest.raises(AttributeError):
        settings.cleanup_interval = 5  # type: ignore[misc]
    for twin in (
        copy.copy(settings),
        pickle.loads(pickle.dumps(settings)),
        msgspec.structs.replace(settings),
    ):
        assert twin == settings
        assert hash(twin) == hash(settings)


def test_a_secret_is_shown_nowhere(caplog, monkeypatch, here):
    caplog.set_level(logging.DEBUG)
    settings = load_config(write(here / "c.json", {"moonshot_api_key": KEY}))
    assert settings.moonshot_api_key == KEY
    told = [repr(settings), str(settings), f"{settings}", repr(list(settings.__rich_repr__()))]
    assert all("moonshot_api_key" in text and "(hidden)" in text for text in told)

    broken = {
        "broken.json": f'{{"moonshot_api_key": "{KEY}" "x": 1}}',
        "broken.toml": f"moonshot_api_key = {KEY}",
        "broken.yaml": f"moonshot_api_key: *{KEY}",
        "typed.json": json.dumps({"moonshot_api_key": [KEY]}),
        "spaced.json": json.dumps({"moonshot_api_key": f"{KEY} "}),
        "unknown.json": json.dumps({"moonshot_api_kye": KEY}),
        "twice.json": f'{{"moonshot_api_key": "{KEY}", "moonshot_api_key": "{KEY}"}}',
        "swapped.json": json.dumps({"moonshot_api_base": KEY}),
        "user.json": json.dumps({"moonshot_api_base": f"https://me:{KEY}@a.cn"}),
        "url.json": json.dumps({"database_path": f"postgresql://me:{PASSWORD}/@a/b"}),
        "list.json": json.dumps({"roots": f"s3://me:{PASSWORD}@a/b"}),
    }
    for name, text in broken.items():
        with pytest.raises(ConfigError) as caught:
            load_config(write(here / name, text))
        told += [str(caught.value), repr(caught.value)]
        assert caught.value.__cause__ is None
    monkeypatch.setenv("LIFECYCLE_MOONSHOT_API_KEY", f"{KEY}\n")
    told += faults_of(here / "c.json")
    told.append(caplog.text)
    assert not [text for text in told if KEY in text or PASSWORD in text]


def test_an_empty_key_is_no_key(monkeypatch):
    monkeypatch.setenv("LIFECYCLE_MOONSHOT_API_KEY", "")
    assert load_config().moonshot_api_key is None


def test_a_working_directory_that_is_gone_matters_only_to_relative_paths(here, tmp_path):
    file = write(tmp_path / "c.json", {})
    here.rmdir()
    settings = load_config(file)
    assert with_overrides(settings, database=tmp_path / "r.db").database_path == tmp_path / "r.db"
    assert load_config().source is None
    with pytest.raises(ConfigError, match="working directory that is gone"):
        with_overrides(settings, database="r.db")


def test_the_section_of_temporary_files_is_read_and_checked(tmp_path, monkeypatch):
    section = {"temp_dir": "work", "cleanup_on_startup": False, "max_temp_age_hours": 0.5}
    settings = load_config(write(tmp_path / "c.json", {"temp_files": section}))
    assert settings.temp_files == TempFiles(
        temp_dir=tmp_path / "work", cleanup_on_startup=False, max_temp_age_hours=0.5
    )
    wrong: list[object] = [{"max_temp_age_hours": 0}, {"temp_dirs": "x"}, {"temp_dir": ""}, 7, None]
    for value in wrong:
        (fault,) = faults_of(write(tmp_path / "w.json", {"temp_files": value}))
        assert "temp_files" in fault
    monkeypatch.setenv("LIFECYCLE_TEMP_FILES", '{"temp_dir": "/srv/work"}')
    assert load_config(tmp_path / "c.json").temp_files == TempFiles(temp_dir=Path("/srv/work"))
    monkeypatch.setenv("LIFECYCLE_TEMP_FILES", "work")
    with pytest.raises(ConfigError, match="LIFECYCLE_TEMP_FILES"):
        load_config(tmp_path / "c.json")


# -- the examples --------------------------------------------------------------------------


def test_the_json_example_says_nothing_but_the_defaults(here):
    write(here / "config.json", (EXAMPLES / "config_example.json").read_text())
    write(here / "empty.json", {})
    example = load_config()
    assert example.source == here / "config.json"
    assert msgspec.structs.replace(load_config("empty.json"), source=example.source) == example


def test_the_toml_example_loads_and_mentions_every_setting(here):
    text = (EXAMPLES / "lifecycle_example.toml").read_text()
    write(here / "lifecycle.toml", text)
    example = load_config()
    assert example.roots == (here / "uploads", here / "media")
    assert example.ignore == ("*.partial", "/uploads/incoming/")
    defaults = Settings(source=example.source)
    assert msgspec.structs.replace(example, roots=(), ignore=()) == defaults
    written = {line.lstrip("# ").partition(" = ")[0] for line in text.splitlines()}
    assert set(Settings.__struct_fields__) - {"source"} <= written


def test_reading_a_configuration_does_not_import_platformdirs_when_a_file_is_named(here):
    write(here / "c.json", {})
    code = (
        "import sys; from lifecycle_sync import load_config; load_config('c.json');"
        "print({'platformdirs', 'pathspec', 'yaml', 'difflib'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
