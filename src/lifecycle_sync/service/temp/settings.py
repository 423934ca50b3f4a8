"""`TempStorageCleanupSettings`: read from the environment, checked, and changed while in use."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lifecycle_sync.decide.job_names import DEFAULT_PATTERN, JobNames
from lifecycle_sync.errors import ConfigError

PREFIX = "TEMP_STORAGE_CLEANUP_"
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


class TempStorageCleanupSettings:
    """The settings of `TempStorageCleanupService`.

    What is not given is read from `TEMP_STORAGE_CLEANUP_<NAME>` in the environment, else it is the
    default. A value that cannot be is refused, all of them at once by the constructor, with a
    `ConfigError`; so is one that is assigned later.
    """

    temp_storage_path: Path
    emergency_cleanup_threshold: float
    warning_threshold: float
    cleanup_batch_size: int
    max_orphan_age_hours: float
    scheduled_cleanup_interval_minutes: float
    emergency_check_interval_minutes: float
    cleanup_failed_jobs_after_hours: float
    enable_storage_monitoring: bool
    storage_check_interval_seconds: float
    log_cleanup_stats: bool
    min_free_space_gb: float
    max_files_per_cleanup: int
    max_cleanup_workers: int
    job_file_pattern: str
    cleanup_dry_run: bool
    keep_temp_files_for_debugging: bool
    delete_where_writers_unknown: bool

    def __init__(self, *, environment: Mapping[str, str] | None = None, **given: Any) -> None:
        environment = os.environ if environment is None else environment
        faults = [_no_such(name) for name in given if name not in _FIELDS]
        values: dict[str, Any] = {}
        for name, (default, clean) in _FIELDS.items():
            variable = PREFIX + name.upper()
            if name in given:
                label, value = name, given[name]
            elif environment.get(variable, "").strip():
                label, value = variable, environment[variable].strip()
            else:
                label, value = name, default
            try:
                values[name] = clean(value)
            except (ValueError, TypeError) as error:
                faults.append(f"{label}: {error} (it is {value!r})")
        if not faults:
            faults = _together(values)
        if faults:
            raise ConfigError(faults, subject="temporary storage")
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _FIELDS:
            raise AttributeError(_no_such(name))
        try:
            cleaned = _FIELDS[name][1](value)
        except (ValueError, TypeError) as error:
            raise ConfigError([f"{name}: {error} (it is {value!r})"]) from error
        faults = _together({**self.__dict__, name: cleaned})
        if faults:
            raise ConfigError(faults, subject="temporary storage")
        self.__dict__[name] = cleaned

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.as_dict().items())
        return f"{type(self).__name__}({shown})"

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, TempStorageCleanupSettings)
        return same and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

    def as_dict(self) -> dict[str, Any]:
        """All of them by name."""
        return dict(self.__dict__)

    @property
    def min_free_bytes(self) -> int:
        return int(self.min_free_space_gb * (1 << 30))


def _no_such(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, _FIELDS, 1)
    return f"{name}: there is no such setting" + (f"; did you mean {near[0]}?" if near else "")


def _together(values: Mapping[str, Any]) -> list[str]:
    if values["warning_threshold"] >= values["emergency_cleanup_threshold"]:
        return [
            "warning_threshold: it must be below emergency_cleanup_threshold"
            f" ({values['warning_threshold']:g} and {values['emergency_cleanup_threshold']:g})"
        ]
    return []


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError("it must be a number")
    try:
        number = float(value)
    except (ValueError, TypeError):
        raise TypeError("it must be a number") from None
    if not math.isfinite(number):
        raise ValueError("it must be a number")
    return number


def _percent(value: Any) -> float:
    number = _number(value)
    if not 0 < number <= 100:
        raise ValueError("it must be over 0 and at most 100 percent")
    return number


def _over_zero(value: Any) -> float:
    number = _number(value)
    if number <= 0:
        raise ValueError("it must be over 0")
    return int(number) if number.is_integer() else number


def _not_negative(value: Any) -> float:
    number = _number(value)
    if number < 0:
        raise ValueError("it must not be below 0")
    return number


def _count(low: int, high: int) -> Callable[[Any], int]:
    def clean(value: Any) -> int:
        number = _number(value)
        if not number.is_integer() or not low <= number <= high:
            raise ValueError(f"it must be a whole number from {low:,} to {high:,}")
        return int(number)

    return clean


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text not in _TRUE | _FALSE:
        raise ValueError("it must be true or false")
    return text in _TRUE


def _path(value: Any) -> Path:
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise TypeError("it must be a path")
    if "\0" in os.fspath(value):
        raise ValueError("a path has no null character")
    return Path(value)


def _pattern(value: Any) -> str:
    JobNames(value)
    return str(value)


# Name: (default, what makes a value of what is given).
_FIELDS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "temp_storage_path": (Path("./temp_storage"), _path),
    "emergency_cleanup_threshold": (95.0, _percent),
    "warning_threshold": (85.0, _percent),
    "cleanup_batch_size": (1000, _count(1, 1_000_000)),
    "max_orphan_age_hours": (24, _over_zero),
    "scheduled_cleanup_interval_minutes": (60, _over_zero),
    "emergency_check_interval_minutes": (5, _over_zero),
    "cleanup_failed_jobs_after_hours": (1, _not_negative),
    "enable_storage_monitoring": (True, _flag),
    "storage_check_interval_seconds": (30, _over_zero),
    "log_cleanup_stats": (True, _flag),
    "min_free_space_gb": (1.0, _not_negative),
    "max_files_per_cleanup": (10_000, _count(1, 1_000_000_000)),
    "max_cleanup_workers": (4, _count(1, 64)),
    "job_file_pattern": (DEFAULT_PATTERN, _pattern),
    "cleanup_dry_run": (False, _flag),
    "keep_temp_files_for_debugging": (False, _flag),
    "delete_where_writers_unknown": (False, _flag),
}
