"""Errors as they are shown: what was being done, to what, why it failed, and what to do about it.

People get two lines on standard error; with `--json` it is one JSON line there, `{"error": ...}`,
so that standard output holds nothing but data. The exit code is that of the error's class.
"""

from __future__ import annotations

import json
import sys
import traceback
from typing import Any

from lifecycle_sync.cli.words import name_text
from lifecycle_sync.errors import ConfigError, LifecycleError
from lifecycle_sync.service.api import SCHEMA_VERSION, error_fields, utf8_text


def show_error(error: LifecycleError, *, as_json: bool) -> int:
    """Show an error and return its exit code."""
    if as_json:
        _write_json(error_fields(error))
        return error.exit_code
    if isinstance(error, ConfigError) and len(error.faults) > 1:
        head = ": ".join(filter(None, [error.operation, error.subject]))
        lines = [f"{head}: {len(error.faults)} faults", *(f"  - {f}" for f in error.faults)]
    elif isinstance(error, ConfigError):
        lines = [": ".join(filter(None, [error.operation, error.subject, *error.faults]))]
    else:
        lines = [": ".join(filter(None, [error.operation, error.subject, error.cause]))]
    if error.remedy:
        lines.append(f"  Remedy: {error.remedy}")
    _write_lines(lines)
    return error.exit_code


def show_usage(message: str, command: str, *, as_json: bool) -> int:
    """Show what is wrong with the words of an order."""
    remedy = f"`{command} --help` shows how it is written"
    if as_json:
        fields = {
            "code": "usage",
            "operation": command,
            "subject": "",
            "cause": utf8_text(message),
            "remedy": remedy,
            "exit_code": 2,
        }
        _write_json(fields)
    else:
        subcommand = command.partition(" ")[2]
        head = f"{subcommand}: {message}" if subcommand else message
        _write_lines([head, f"  Remedy: {remedy}"])
    return 2


def show_unexpected(error: BaseException, *, verbose: bool, as_json: bool) -> int:
    """Show an error that nobody foresaw; the traceback only to those who ask for it."""
    cause = f"unexpected {type(error).__name__}: {error}"
    if verbose:
        traceback.print_exception(error, file=sys.stderr)
    if as_json:
        fields = {
            "code": "unexpected",
            "operation": "",
            "subject": "",
            "cause": utf8_text(cause),
            "remedy": "run it again with -v for the traceback, and report it",
            "exit_code": 1,
        }
        _write_json(fields)
    else:
        _write_lines([cause, "  Remedy: run it again with -v for the traceback, and report it"])
    return 1


def _write_json(fields: dict[str, Any]) -> None:
    document = {"schema_version": SCHEMA_VERSION, "error": fields}
    _write(json.dumps(document) + "\n")


def _write_lines(lines: list[str]) -> None:
    first, *more = (name_text(line) for line in lines)
    _write("\n".join([f"lifecycle: {first}", *more]) + "\n")


def _write(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        # Nobody is left to be told.
        pass
