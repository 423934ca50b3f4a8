"""`lifecycle doctor`: an examination, and how to mend what it finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lifecycle_sync.cli.command import command
from lifecycle_sync.cli.output import write_json
from lifecycle_sync.cli.session import Session
from lifecycle_sync.cli.sheet import Block, Heading, Styled, Table, Text, show
from lifecycle_sync.cli.words import count_text
from lifecycle_sync.errors import ConfigError
from lifecycle_sync.service.api import utf8_text

if TYPE_CHECKING:
    from lifecycle_sync.service.doctor import Finding

_STYLE = {"ok": "good", "warning": "warn", "fault": "bad"}


@command(
    "doctor",
    notes="Ends with 1 when there is a fault; warnings alone end with 0. -q leaves out what is"
    " well.",
    examples="""
        lifecycle doctor
        lifecycle doctor --json
    """,
)
def doctor(session: Session) -> int:
    """Examine the machine, the settings, the registry, the roots and their guards, the vaults, the
    trash, and free space.

    Every finding that is not well says how to mend it. Nothing is changed.
    """
    found = _examine(session)
    if session.as_json:
        write_json(_fields(found))
    else:
        show(_sheet([item for item in found if item.level != "ok" or not session.quiet]))
    return 1 if any(item.level == "fault" for item in found) else 0


def _examine(session: Session) -> list[Finding]:
    from lifecycle_sync.service.doctor import Finding, examine

    try:
        settings = session.settings()
    except ConfigError as error:
        # Nothing else can be examined: where the registry and the roots are is not known.
        remedy = error.remedy or "correct the settings file, or the environment"
        return [
            Finding("settings.read", "fault", error.subject, line, remedy) for line in error.faults
        ]
    return examine(settings)


def _counts(found: list[Finding]) -> dict[str, int]:
    return {level: sum(item.level == level for item in found) for level in _STYLE}


def _fields(found: list[Finding]) -> dict[str, Any]:
    counts = _counts(found)
    return {
        "faults": counts["fault"],
        "warnings": counts["warning"],
        "findings": [
            {
                "check": item.check,
                "level": item.level,
                "subject": utf8_text(item.subject),
                "message": utf8_text(item.message),
                "remedy": utf8_text(item.remedy),
            }
            for item in found
        ],
    }


def _sheet(found: list[Finding]) -> list[Block]:
    counts = _counts(found)
    verdict = ", ".join(
        count_text(counts[level], noun)
        for level, noun in (("fault", "fault"), ("warning", "warning"))
        if counts[level]
    )
    worst = "fault" if counts["fault"] else "warning" if counts["warning"] else "ok"
    rows: list[list[Text]] = []
    # What is well first, so that what is not stands where the eye ends.
    for item in sorted(found, key=lambda item: list(_STYLE).index(item.level)):
        subject = f"{utf8_text(item.subject)}: " if item.subject else ""
        rows.append(
            [Styled(item.level, _STYLE[item.level]), item.check, subject + utf8_text(item.message)]
        )
        if item.remedy:
            rows.append(["", Styled("remedy", "dim"), utf8_text(item.remedy)])
    note = Styled(verdict or "all is well", _STYLE[worst])
    return [Heading("Examination", note), Table("", rows)]
