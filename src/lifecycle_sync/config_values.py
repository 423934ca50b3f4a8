"""The values of settings: their types, the rules that clean them, and the words for their faults.

A type of a setting is an `Annotated` with a `Rule`. `settle` turns what people wrote into values
and collects every fault as one line with name, value, cause and remedy. Nothing here knows which
file or variable a value came from, only the name it had there.
"""

from __future__ import annotations

import json
import os
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from lifecycle_sync.model.gitignore import compile_pattern

HIDDEN = "(hidden)"


class Rule(NamedTuple):
    """What a setting's type does not say.

    `remedy` is what a fault tells the reader to write; `clean` returns the value to keep or raises
    `ValueError` with the cause.
    """

    remedy: str
    clean: Callable[[Any], Any] | None = None
    secret: bool = False


def _clean_file(path: Path) -> Path:
    # os.path, here and below, because it says False where a path is too long or not to be reached.
    if os.path.isdir(path):
        raise ValueError("is a folder where a file is meant")
    return path


def _clean_optional_file(path: Path | None) -> Path | None:
    return None if path is None else _clean_file(path)


def _clean_folder(path: Path | None) -> Path | None:
    if path is not None and os.path.exists(path) and not os.path.isdir(path):
        raise ValueError("is a file where a folder is meant")
    return path


def _clean_folders(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    for path in paths:
        try:
            _clean_folder(path)
        except ValueError as error:
            raise ValueError(f"{path} {error}") from None
    return paths


def _clean_url(url: str) -> str:
    from urllib.parse import urlsplit

    # urlsplit drops line breaks silently.
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("has a character that no URL can have")
    cause = "is not a valid http or https URL"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(cause) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(cause)
    if "@" in parts.netloc:
        raise ValueError("carries a user or a password")
    if parts.query or parts.fragment:
        raise ValueError("has a query or a fragment")
    return url.rstrip("/")


def _clean_key(key: str | None) -> str | None:
    # What could not stand in an HTTP header would be refused there, with the key in the message.
    if key and not all("!" <= character <= "~" for character in key):
        raise ValueError("has a blank, a line break or a character beyond ASCII")
    return key or None


def _clean_patterns(patterns: tuple[str, ...]) -> tuple[str, ...]:
    for number, pattern in enumerate(patterns, 1):
        try:
            compile_pattern(pattern)
        except ValueError as error:
            cause = f"entry {number}, {shown(pattern)}, is no gitignore pattern: {error}"
            raise ValueError(cause) from None
    return patterns


def _clean_recipients(keys: tuple[str, ...]) -> tuple[str, ...]:
    for number, key in enumerate(keys, 1):
        if key.upper().startswith("AGE-SECRET-KEY-"):
            # Without the key, which would stand in a log.
            raise ValueError(f"entry {number} is a secret key, where its public half is meant")
        if not re.match(r"age1[a-z0-9]+$|ssh-(ed25519|rsa) \S+", key):
            raise ValueError(f"entry {number}, {shown(key)}, is no public key of age or ssh")
    return keys


Database = Annotated[Path, Rule("name a file, such as registry.db", _clean_file)]
Folder = Annotated[Path, Rule("name a folder of its own", _clean_folder)]
OptionalFile = Annotated[Path | None, Rule("name a file, or leave it out", _clean_optional_file)]
OptionalFolder = Annotated[Path | None, Rule("name a folder of its own", _clean_folder)]
Folders = Annotated[tuple[Path, ...], Rule("write a list of folders", _clean_folders)]
Patterns = Annotated[
    tuple[str, ...],
    Rule('write a list of patterns as in a .gitignore, such as ["*.tmp"]', _clean_patterns),
]
# Hidden when one is faulty: it may be the secret half.
Recipients = Annotated[
    tuple[str, ...],
    Rule(
        'write a list of public keys, such as ["age1…"], as `lifecycle vault keygen` shows them',
        _clean_recipients,
        secret=True,
    ),
]
Flag = Annotated[bool, Rule("write true or false")]
Seconds = Annotated[
    int,
    msgspec.Meta(ge=1, le=366 * 86_400),
    Rule("write whole seconds from 1 to 31622400, which are 366 days"),
]
Wait = Annotated[
    int,
    msgspec.Meta(ge=0, le=366 * 86_400),
    Rule("write whole seconds from 0 to 31622400, which are 366 days"),
]
Gigabytes = Annotated[
    float, msgspec.Meta(ge=0, le=1_000_000), Rule("write a number of gigabytes (2^30 bytes), or 0")
]
Percent = Annotated[float, msgspec.Meta(gt=0, le=100), Rule("write a number over 0 and up to 100")]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000), Rule("write a whole number from 1 on")]
Threads = Annotated[
    Annotated[int, msgspec.Meta(ge=1, le=256)] | None,
    Rule("write a whole number from 1 to 256, or leave it out for one a core"),
]
Rate = Annotated[
    Annotated[float, msgspec.Meta(gt=0, le=1_000_000)] | None,
    Rule("write megabytes a second, such as 20, or leave it out for no limit"),
]
Days = Annotated[
    int,
    msgspec.Meta(ge=0, le=36_500),
    Rule("write whole days from 1 to 36500, or 0 for never"),
]
Algorithm = Annotated[Literal["sha256", "blake3"], Rule("write sha256 or blake3")]
Conflicts = Annotated[
    Literal["disk", "registry", "newest", "keep_both"],
    Rule("write disk, registry, newest or keep_both"),
]
Walker = Annotated[Literal["auto", "native", "python"], Rule("write auto, native or python")]
Url = Annotated[str, Rule("write it like https://api.moonshot.cn", _clean_url)]
# It may carry a password, as the URLs of databases do.
OptionalText = Annotated[
    str | None,
    Rule("write `registry` or a database's URL, such as sqlite:///app.db", secret=True),
]
Secret = Annotated[str | None, Rule("write the key alone, or leave it out", _clean_key, True)]


class TempFiles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an application handles the temporary files that it makes while it works: see
    `service.temp.lifespan`."""

    temp_dir: Path = Path("temp")
    cleanup_on_startup: bool = True
    cleanup_after_processing: bool = True
    max_temp_age_hours: Annotated[float, msgspec.Meta(gt=0, le=1_000_000)] = 24
    enable_periodic_cleanup: bool = True
    cleanup_interval_minutes: Annotated[float, msgspec.Meta(gt=0, le=1_000_000)] = 30


TempFilesSection = Annotated[
    TempFiles, Rule('write a table, such as {"temp_dir": "temp", "max_temp_age_hours": 24}')
]


class Setting(NamedTuple):
    """One setting: a field taken apart. `many` says that its value is a list."""

    type: Any
    default: object
    rule: Rule
    many: bool


def take_apart(field: msgspec.structs.FieldInfo) -> Setting:
    """A field whose type is an `Annotated` with a `Rule`."""
    plain, *details = typing.get_args(field.type)
    rule = next(detail for detail in details if isinstance(detail, Rule))
    return Setting(field.type, field.default, rule, typing.get_origin(plain) is tuple)


class Given(NamedTuple):
    """A value as a person gave it, under the name it had there.

    A relative path in it starts at `base`, which is the working directory where it is empty;
    `text` says that the value came as text whatever its type.
    """

    label: str
    value: object
    base: str = ""
    text: bool = False


def _split_list(text: str) -> object:
    """A list from the environment. A gitignore pattern may begin with a bracket as JSON does."""
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        if text.lstrip().startswith('["'):
            raise ValueError("is not a valid JSON list") from None
        entries = None
    return entries if isinstance(entries, list) else [line for line in text.splitlines() if line]


# -- from what was given to values and faults ----------------------------------------------


def settle(
    settings: Mapping[str, Setting], given: Mapping[str, Given]
) -> tuple[dict[str, Any], list[str]]:
    """The values of all settings, and every fault; a value that has one is missing."""
    values: dict[str, Any] = {}
    faults = []
    for name, setting in settings.items():
        entry = given[name]
        try:
            values[name] = _convert(setting, entry)
        except (ValueError, msgspec.ValidationError) as error:
            value = HIDDEN if setting.rule.secret else shown(entry.value)
            faults.append(f"{entry.label} = {value}: {_worded(str(error))} ({setting.rule.remedy})")
    return values, faults


def _convert(setting: Setting, entry: Given) -> Any:
    value = entry.value
    if entry.text and setting.many:
        value = _split_list(str(value))
    elif entry.text and isinstance(setting.default, TempFiles):
        value = json.loads(str(value))
    # Field by field, because msgspec stops at the first fault.
    value = msgspec.convert(value, setting.type, strict=not entry.text, dec_hook=_to_path)
    if isinstance(value, Path):
        value = _absolute(value, entry.base)
    elif isinstance(value, TempFiles):
        value = msgspec.structs.replace(value, temp_dir=_absolute(value.temp_dir, entry.base))
    elif setting.many:
        value = tuple(_absolute(v, entry.base) if isinstance(v, Path) else v for v in value)
    return setting.rule.clean(value) if setting.rule.clean else value


def _to_path(kind: type, value: object) -> Path:
    assert kind is Path
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise ValueError("expected text with a path")
    if not value.strip():
        raise ValueError("is empty")
    if "://" in value:
        raise ValueError("is a URL where a path is meant")
    try:
        unusable = b"\0" in os.fsencode(value)
    except UnicodeEncodeError:
        unusable = True
    if unusable:
        raise ValueError("has a character that no path can have")
    return Path(value)


def _absolute(path: Path, base: str) -> Path:
    try:
        return Path(os.path.abspath(os.path.join(base, os.path.expanduser(path))))
    except FileNotFoundError:
        raise ValueError("is relative to a working directory that is gone") from None


# -- words ---------------------------------------------------------------------------------

_KINDS = {
    "array": "a list",
    "bool": "true or false",
    "bytes": "bytes",
    "float": "a number with decimals",
    "int": "a whole number",
    "null": "nothing",
    "object": "a table",
    "str": "text",
}


def _worded(message: str) -> str:
    """A message of msgspec in words for somebody who wrote a configuration file."""

    def in_words(found: re.Match[str]) -> str:
        return " or ".join(_KINDS.get(kind, kind) for kind in found[1].split(" | "))

    message = re.sub(r" - at `\$\[(\d+)\]`", lambda at: f" in entry {int(at[1]) + 1}", message)
    message = re.sub(r"`([a-z| ]+)`", in_words, message)
    message = re.sub(r"^Invalid enum value.*", "is not one of those known", message)
    return re.sub(r"^Expected", "expected", message)


def shown(value: object) -> str:
    """A value for people: as JSON, shortened, without what looks like a password or a key."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        text = f"<{type(value).__name__}>"
    text = re.sub(r"://\S*@", "://…@", text)
    text = re.sub(r"\bsk-[\w-]{8,}", "sk-…", text)
    return text if len(text) <= 200 else text[:199] + "…"


def unknown(key: str, known: Iterable[str]) -> str:
    """The fault of a name that is no setting; without the value, which may be a secret's."""
    near = nearest(key.lower().replace("-", "_"), known)
    remedy = f"did you mean {near}?" if near else "remove it"
    return f"{shown(key)[1:-1]}: there is no such setting ({remedy})"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The name somebody may have meant."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(name[:100], known, 1)), None)
