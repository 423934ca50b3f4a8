"""The settings under examination: where they come from, and what is odd about them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from lifecycle_sync.config import Settings
from lifecycle_sync.config_values import nearest
from lifecycle_sync.service.doctor_findings import Finding, age_text, fine, warning

_PREFIX = "LIFECYCLE_"
_NO_SETTINGS = {"LIFECYCLE_CONFIG"}
_SHORTEST_SECONDS = 10
_LONGEST_SECONDS = 86_400


def examine_settings(settings: Settings, environment: Mapping[str, str]) -> list[Finding]:
    """Where they come from, and what of them is odd by itself."""
    source = settings.source
    if source is None:
        first = fine("settings.source", "settings", "no file: the defaults and the environment")
    else:
        first = fine("settings.source", os.fspath(source), "was read")
    return [
        first,
        *_unknown_variables(environment),
        *_intervals(settings),
        *_places(settings),
    ]


def _unknown_variables(environment: Mapping[str, str]) -> list[Finding]:
    settings = [name for name in Settings.__struct_fields__ if name != "source"]
    known = {f"{_PREFIX}{name.upper()}" for name in settings}
    found = []
    for name in sorted(environment):
        if name.startswith(_PREFIX) and name not in known | _NO_SETTINGS:
            near = nearest(name.removeprefix(_PREFIX).lower(), settings)
            remedy = f"did you mean {_PREFIX}{near.upper()}? Otherwise unset it" if near else ""
            found.append(
                warning(
                    "settings.environment",
                    name,
                    "is not a setting and is ignored",
                    remedy or f"unset {name}",
                )
            )
    return found


def _intervals(settings: Settings) -> list[Finding]:
    check, subject = "settings.intervals", "registry_sync_interval"
    seconds = settings.registry_sync_interval
    if seconds < _SHORTEST_SECONDS:
        return [
            warning(
                check,
                subject,
                f"{seconds} s: the disks hardly rest between two passes",
                f"set it to {_SHORTEST_SECONDS} s or more; 300 is usual",
            )
        ]
    if seconds > _LONGEST_SECONDS:
        return [
            warning(
                check,
                subject,
                f"{age_text(seconds)}: changes are noticed so late",
                "set it to a day or less; 300 is usual",
            )
        ]
    return [fine(check, subject, f"{seconds:,} s")]


def _places(settings: Settings) -> list[Finding]:
    found = [
        warning(
            "settings.folders",
            root,
            "is to be a root and is not there",
            "mount it, make it, or take it out of the settings",
        )
        for root in configured_roots(settings)
        if not os.path.isdir(root)
    ]
    for name, place in _kept(settings):
        if os.path.isdir(place):
            found.append(fine("settings.folders", place, f"is the {name}"))
        else:
            found.append(fine("settings.folders", place, f"is made when the {name} is first used"))
    return found


def examine_shared_disks(settings: Settings, roots: Iterable[str]) -> list[Finding]:
    """Vault and archive beside the roots: a copy on the disk of its original is lost with it."""
    found = []
    devices = {os.stat(root).st_dev: root for root in roots if os.path.isdir(root)}
    for name, place in _kept(settings):
        root = devices.get(os.stat(existing(place)).st_dev)
        if root is not None:
            found.append(
                warning(
                    "settings.disks",
                    place,
                    f"the {name} is on the disk of the root {root}: one failure takes both",
                    f"put the {name} on another disk, and copy it elsewhere until then",
                )
            )
    return found


def configured_roots(settings: Settings) -> list[str]:
    """The folders that the settings want to have under management."""
    local = settings.local_storage_path
    roots = [*([local] if local is not None else []), *settings.roots]
    return [os.fspath(root) for root in roots]


def _kept(settings: Settings) -> list[tuple[str, str]]:
    return [
        ("vault", os.fspath(settings.backup_path)),
        ("archive", os.fspath(settings.archive_path)),
    ]


def existing(path: str) -> str:
    """The path, or the nearest folder above it that is there."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path
