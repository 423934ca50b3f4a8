"""Settings: typed and frozen, read from a file and the environment, every fault reported at once.

`Settings` says what can be set, and its annotations how: the type, the limits and the rule with
which a value is cleaned, so that a new setting is one line there. Whoever makes a `Settings`
(`load_config`, `with_overrides`, or its constructor) gets absolute paths and a `ConfigError` with
all faults instead of an object that is only half right. Secrets are shown nowhere.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from lifecycle_sync.config_files import ConfigFile, read_file
from lifecycle_sync.config_values import (
    HIDDEN,
    Algorithm,
    Conflicts,
    Count,
    Database,
    Days,
    Flag,
    Folder,
    Folders,
    Gigabytes,
    Given,
    OptionalFile,
    OptionalFolder,
    OptionalText,
    Patterns,
    Percent,
    Rate,
    Recipients,
    Seconds,
    Secret,
    Setting,
    TempFiles,
    TempFilesSection,
    Threads,
    Url,
    Wait,
    Walker,
    nearest,
    settle,
    shown,
    take_apart,
    unknown,
)
from lifecycle_sync.errors import ConfigError

_log = logging.getLogger("lifecycle_sync.config")

_APPLICATION = "lifecycle-sync"
_ENVIRONMENT_PREFIX = "LIFECYCLE_"
_ENVIRONMENT_FILE = "LIFECYCLE_CONFIG"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings. Intervals are seconds; paths are absolute, whatever they were made from.

    Made by its constructor, relative paths start at the working directory. Raises `ConfigError`
    with every fault. `local_storage_path` and `roots` are the folders under management;
    `worker_threads` None means one process a core that hashes, and 1 that backup and archiving read
    nothing ahead in another one either; `hash_megabytes_per_second` and
    `verify_megabytes_per_second` None no limit; `walker` "auto" means the native one where it is
    built; `source` is the file that was read, if any.
    """

    database_path: Database = Path("file_registry.db")
    local_storage_path: OptionalFolder = Path("storage")
    archive_path: Folder = Path("archive")
    backup_path: Folder = Path("backup")
    archive_copies: Folders = ()
    backup_copies: Folders = ()
    backup_recipients: Recipients = ()
    archive_recipients: Recipients = ()
    identity_path: OptionalFile = None
    registry_sync_interval: Seconds = 300
    reconciliation_interval: Seconds = 86_400
    cleanup_interval: Seconds = 3600
    backup_interval: Seconds = 3600
    policy_enforcement_interval: Seconds = 1800
    min_age_seconds: Wait = 120
    min_free_space_gb: Gigabytes = 1.0
    space_high_percent: Percent = 95.0
    space_low_percent: Percent = 85.0
    max_errors: Count = 10
    conflict_strategy: Conflicts = "disk"
    moonshot_api_base: Url = "https://api.moonshot.cn"
    moonshot_api_key: Secret = None
    roots: Folders = ()
    ignore: Patterns = ()
    ignore_defaults: Flag = True
    worker_threads: Threads = None
    max_concurrency: Threads = 4
    batch_size: Count = 20_000
    hash_megabytes_per_second: Rate = None
    scrub_days: Days = 30
    verify_days: Days = 30
    verify_megabytes_per_second: Rate = None
    drill_days: Days = 7
    drill_files: Count = 20
    prune_days: Days = 0
    prune_grace_days: Days = 7
    hash_algorithm: Algorithm = "sha256"
    calculate_hashes: Flag = True
    walker: Walker = "auto"
    temp_files: TempFilesSection = TempFiles()
    temp_roots: Folders = ()
    temp_jobs: OptionalText = None
    source: Path | None = None

    def __post_init__(self) -> None:
        given = {name: Given(name, getattr(self, name)) for name in _SETTINGS}
        values, faults = _settle(given)
        if faults:
            raise ConfigError(faults)
        for name, value in values.items():
            msgspec.structs.force_setattr(self, name, value)

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> Iterable[tuple[str, object]]:  # type: ignore[override]
        for name in self.__struct_fields__:
            value = getattr(self, name)
            secret = name in _SETTINGS and _SETTINGS[name].rule.secret
            yield name, HIDDEN if secret and value is not None else value


_SETTINGS: dict[str, Setting] = {
    field.name: take_apart(field)
    for field in msgspec.structs.fields(Settings)
    if field.name != "source"
}


def load_config(path: str | os.PathLike[str] | None = None) -> Settings:
    """The settings of a file with those of the environment over it.

    Without `path` the file is the one that LIFECYCLE_CONFIG names, or the first there is of
    lifecycle.toml, config.json and lifecycle.yaml in the working directory and lifecycle.toml in
    the user's configuration directory. A config.json that is found this way and knows none of our
    settings belongs to somebody else and is left alone. Without any file the database, the
    archive and the vault are in `default_data_directory()` and no folder is under management.

    LIFECYCLE_<SETTING> in the environment stands over the file; a list is JSON or one entry a line.
    Relative paths start at the file's directory, those of the environment at the working directory.
    Raises `ConfigError` with every fault.
    """
    file = _find_file(path)
    if file is None:
        given, faults, source = _places_without_file(), list[str](), None
    else:
        source, faults = file.path, list(file.faults)
        if file.table is None:
            raise ConfigError(faults, subject=str(source))
        base = str(source.parent)
        given = {name: Given(name, setting.default, base) for name, setting in _SETTINGS.items()}
        for key, value in file.table.items():
            if key in _SETTINGS:
                given[key] = Given(key, value, base)
            else:
                faults.append(unknown(key, _SETTINGS))
    given.update(_from_environment())
    values, more = _settle(given)
    if faults or more:
        raise ConfigError(faults + more, subject=str(source or ""))
    return Settings(**values, source=source)


def with_overrides(settings: Settings, **changes: object) -> Settings:
    """The same settings with some replaced, checked by the same rules.

    A change goes by the setting's name, with or without its `_path`; None leaves the setting as it
    is, as does a flag that was not given. Relative paths start at the working directory.
    Raises `ConfigError` with every fault.
    """
    given = {name: Given(name, getattr(settings, name)) for name in _SETTINGS}
    faults = []
    for label, value in changes.items():
        name = label if label in _SETTINGS else f"{label}_path"
        if name not in _SETTINGS:
            faults.append(unknown(label, _SETTINGS))
        elif value is not None:
            given[name] = Given(label, value)
    values, more = _settle(given)
    if faults or more:
        raise ConfigError(faults + more)
    return Settings(**values, source=settings.source)


def default_data_directory() -> Path:
    """The user's own directory for the registry, the archive and the vault; it may not exist."""
    import platformdirs

    return Path(platformdirs.user_data_dir(_APPLICATION, appauthor=False))


# -- where values come from ----------------------------------------------------------------


def _find_file(path: str | os.PathLike[str] | None) -> ConfigFile | None:
    if path is not None:
        return _read_named(path, "correct the path, or leave it out for the defaults")
    if named := os.environ.get(_ENVIRONMENT_FILE):
        return _read_named(named, f"correct {_ENVIRONMENT_FILE}, or unset it for the defaults")
    for name in ("lifecycle.toml", "config.json", "lifecycle.yaml"):
        if not os.path.isfile(name):
            continue
        file = read_file(Path(os.path.abspath(name)))
        if name != "config.json" or _is_ours(file):
            return file
        _log.warning("%s has none of our settings and is left alone", file.path)
    import platformdirs

    directory = platformdirs.user_config_dir(_APPLICATION, appauthor=False)
    personal = os.path.join(directory, "lifecycle.toml")
    return read_file(Path(personal)) if os.path.isfile(personal) else None


def _read_named(path: str | os.PathLike[str], remedy: str) -> ConfigFile:
    subject = os.path.expanduser(path)
    try:
        subject = os.path.abspath(subject)
        regular = stat.S_ISREG(os.stat(subject).st_mode)
    except PermissionError:
        regular = True  # reading says it better
    except (OSError, ValueError):
        raise ConfigError([f"there is no such file ({remedy})"], subject=subject) from None
    if not regular:
        # To open a pipe might wait for ever.
        raise ConfigError([f"is not a regular file ({remedy})"], subject=subject)
    return read_file(Path(subject))


def _is_ours(file: ConfigFile) -> bool:
    """Whether a file of so common a name as config.json was written for us.

    One that cannot be parsed but mentions a setting may be ours with a slip in it; to pass over it
    would run with other places than those its owner wrote.
    """
    if file.table is not None:
        return any(key in _SETTINGS for key in file.table)
    return file.text is None or any(f'"{name}"' in file.text for name in _SETTINGS)


def _places_without_file() -> dict[str, Given]:
    given = {name: Given(name, setting.default) for name, setting in _SETTINGS.items()}
    data = default_data_directory()
    places = {"database_path": "registry.db", "archive_path": "archive", "backup_path": "vault"}
    for name, place in places.items():
        given[name] = Given(name, data / place)
    given["local_storage_path"] = Given("local_storage_path", None)
    given["temp_files"] = Given("temp_files", TempFiles(temp_dir=data / "temp"))
    return given


def _from_environment() -> dict[str, Given]:
    variables = {_ENVIRONMENT_PREFIX + name.upper(): name for name in _SETTINGS}
    given = {}
    for variable, text in os.environ.items():
        if variable in variables:
            given[variables[variable]] = Given(variable, text, text=True)
        elif variable.startswith(_ENVIRONMENT_PREFIX) and variable != _ENVIRONMENT_FILE:
            # Without the prefix, which would make any two of them look alike.
            near = nearest(variable.removeprefix(_ENVIRONMENT_PREFIX).lower(), _SETTINGS)
            hint = f"; did you mean {_ENVIRONMENT_PREFIX}{near.upper()}?" if near else ""
            _log.warning("%s is not a setting and is ignored%s", variable, hint)
    return given


# -- what is checked beyond each value -----------------------------------------------------


def _settle(given: Mapping[str, Given]) -> tuple[dict[str, Any], list[str]]:
    values, faults = settle(_SETTINGS, given)
    faults += _misplaced(values, given) + _watermarks(values, given)
    return values, faults + _key_in_its_vault(values, given)


def _key_in_its_vault(values: Mapping[str, Any], given: Mapping[str, Given]) -> list[str]:
    key = values.get("identity_path")
    return [
        f"{given['identity_path'].label} = {shown(key)}: lies in {given[name].label}, which it"
        " opens (name a file on another disk, or none)"
        for name in ("backup_path", "archive_path")
        if key is not None
        and values.get(name) is not None
        and Path(os.path.realpath(key)).is_relative_to(os.path.realpath(values[name]))
    ]


def _watermarks(values: Mapping[str, Any], given: Mapping[str, Given]) -> list[str]:
    low, high = (values.get(f"space_{name}_percent") for name in ("low", "high"))
    if low is None or high is None or low < high:
        return []
    return [
        f"{given['space_low_percent'].label} = {low:g}: is not below space_high_percent ({high:g})"
    ]


def _misplaced(values: Mapping[str, Any], given: Mapping[str, Given]) -> list[str]:
    """Faults of paths that are equal or inside one another.

    Only the database may lie in a folder under management (it is excluded there by its inode): a
    copy kept in its source is lost with it, and would itself be backed up.
    """
    managed = [("local_storage_path", values.get("local_storage_path"))]
    managed += [("roots", root) for root in values.get("roots", ())]
    own = [(name, values.get(name)) for name in ("archive_path", "backup_path", "database_path")]
    for name in ("archive_copies", "backup_copies"):
        own += [(name, folder) for folder in values.get(name, ())]
    # What lies there may go any time.
    own += [("temp_roots", folder) for folder in values.get("temp_roots", ())]
    # Symlinks are followed, so that two names of one folder are seen to be one.
    places = [(name, path, Path(os.path.realpath(path))) for name, path in managed + own if path]
    faults = []
    for later, (name, path, real) in enumerate(places):
        for other, other_path, other_real in places[:later]:
            inner, outer, cause = (name, path), (other, other_path), "is inside"
            if real == other_real:
                cause = "is the same place as"
            elif other_real.is_relative_to(real):
                inner, outer = outer, inner
            elif not real.is_relative_to(other_real) or (
                name == "database_path" and other in ("local_storage_path", "roots")
            ):
                continue
            faults.append(
                f"{given[inner[0]].label} = {shown(inner[1])}: {cause} {given[outer[0]].label},"
                f" {shown(outer[1])} (name a place apart from it)"
            )
    return faults
