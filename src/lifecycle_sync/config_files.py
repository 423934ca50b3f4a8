"""Configuration files as tables: JSON, TOML or YAML by their suffix.

A file that cannot be read this way is described by faults, lines of text with cause and remedy.
They name line and column and never quote what stands there, because it may be a secret.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

# A configuration is small; what is larger is some other file under our name.
SIZE_MAX_BYTES = 1 << 20


class ConfigFile(NamedTuple):
    """A file as read. `table` is None where it could not be parsed, `text` where not even read.

    With a table, `text` is the whole file; without one it may be cut off or have lost characters.
    """

    path: Path
    text: str | None
    table: dict[str, object] | None
    faults: list[str]


class _ParseError(Exception):
    """The text is not in its format; the argument is the fault."""


def read_file(path: Path) -> ConfigFile:
    """The table in a file, and its faults. Raises nothing: what went wrong is a fault, too."""
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_MAX_BYTES + 1)
    except OSError as error:
        cause = (error.strerror or "unknown error").lower()
        return ConfigFile(path, None, None, [f"cannot be read: {cause} (check its permissions)"])
    if len(data) > SIZE_MAX_BYTES:
        fault = "is larger than 1 MiB (name a configuration file)"
        return ConfigFile(path, data.decode("utf-8", "replace"), None, [fault])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        fault = f"is not UTF-8 text at line {line} (save it as UTF-8)"
        return ConfigFile(path, data.decode("utf-8", "replace"), None, [fault])
    try:
        table, twice = _parse(path.suffix, text)
    except _ParseError as error:
        return ConfigFile(path, text, None, [str(error)])
    faults = [f"{key!r} stands there more than once (keep one of them)" for key in twice]
    return ConfigFile(path, text, table, faults)


def parse_text(suffix: str, text: str) -> dict[str, object] | None:
    """The table in a text; None where it cannot be parsed, or a key stands there twice."""
    try:
        table, twice = _parse(suffix, text)
    except _ParseError:
        return None
    return None if twice else table


def _parse(suffix: str, text: str) -> tuple[dict[str, object], list[str]]:
    parser = _PARSERS.get(suffix.lower())
    if parser is None:
        known = ", ".join(_PARSERS)
        raise _ParseError(f"has no known suffix but {suffix!r} (give it one of {known})")
    try:
        table, twice = parser(text)
    except RecursionError:
        raise _ParseError("is nested too deeply (settings are plain values and lists)") from None
    if not isinstance(table, dict):
        raise _ParseError("holds no settings by name (write them as key and value)")
    return {str(key): value for key, value in table.items()}, twice


def _parse_json(text: str) -> tuple[object, list[str]]:
    twice: list[str] = []

    def build(pairs: list[tuple[str, object]]) -> dict[str, object]:
        twice.extend(_repeated([name for name, _ in pairs]))
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=build), twice
    except json.JSONDecodeError as error:
        raise _not_valid("JSON", error.lineno, error.colno, error.msg) from None
    except ValueError:
        raise _ParseError("is not valid JSON: a number is too long (shorten it)") from None


def _parse_toml(text: str) -> tuple[object, list[str]]:
    try:
        return tomllib.loads(text), []
    except tomllib.TOMLDecodeError as error:
        cause, _, place = str(error).partition(" (at ")
        found = re.match(r"line (\d+), column (\d+)", place)
        if found:
            raise _not_valid("TOML", int(found[1]), int(found[2]), cause) from None
        last = text.rpartition("\n")[2]
        raise _not_valid("TOML", text.count("\n") + 1, len(last) + 1, cause) from None
    except ValueError:
        raise _ParseError("is not valid TOML: a number is too long (shorten it)") from None


def _parse_yaml(text: str) -> tuple[object, list[str]]:
    try:
        import yaml
    except ImportError:
        raise _ParseError(
            "YAML needs PyYAML, which is not installed"
            " (pip install 'lifecycle-sync[yaml]', or write TOML or JSON)"
        ) from None
    twice: list[str] = []

    class Loader(yaml.SafeLoader):
        # YAML forbids a key to stand twice, but PyYAML silently takes the last one.
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            twice.extend(_repeated(keys))
            return super().construct_mapping(node, deep)

    try:
        table = yaml.load(text, Loader)  # noqa: S506  (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        # The problem may quote a name from the file.
        cause = re.sub(r"\s*'[^']*'", "", error.problem or "unknown problem")
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise _not_valid("YAML", line, column, cause) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        column = len(before.rpartition("\n")[2]) + 1
        raise _not_valid("YAML", before.count("\n") + 1, column, "control character") from None
    except ValueError:
        raise _ParseError("is not valid YAML: a date or number is impossible (quote it)") from None
    return ({} if table is None else table), twice


def _repeated(names: list[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _not_valid(kind: str, line: int, column: int, cause: str) -> _ParseError:
    return _ParseError(
        f"is not valid {kind} at line {line}, column {column}: {cause} (correct it there)"
    )


_PARSERS: dict[str, Callable[[str], tuple[object, list[str]]]] = {
    ".json": _parse_json,
    ".toml": _parse_toml,
    ".yaml": _parse_yaml,
    ".yml": _parse_yaml,
}
