"""What doors may use of the rooms further in: nouns, times, JSON shapes. Cheap to import.

What costs an import of SQLite or of the settings' parser is in its own module of this room, or
behind a function here, so that a door pays for it when there is work to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import (
    NS_PER_DAY,
    NS_PER_SECOND,
    SystemClock,
    from_datetime,
    to_datetime,
    to_iso,
)
from lifecycle_sync.decide.guards import Verdict
from lifecycle_sync.model.act import VersionRow
from lifecycle_sync.model.file import (
    FileFlag,
    FileRecord,
    FileType,
    Kind,
    LifecycleState,
    Tracking,
)
from lifecycle_sync.model.ids import to_text
from lifecycle_sync.model.operation import Operation, Run, RunStatus, RunType
from lifecycle_sync.model.record import Duplicates, FileQuery, FolderTotal
from lifecycle_sync.model.repository import Repository, RepositoryKind, RepositoryStatus
from lifecycle_sync.report.records import (
    SCHEMA_VERSION,
    below,
    copies,
    duplicates_fields,
    error_fields,
    file_fields,
    flag_names,
    operation_fields,
    past_fields,
    path_fields,
    repository_fields,
    utf8_text,
    version_fields,
    waste,
)

if TYPE_CHECKING:
    # Handed out for annotations only, which cost nothing at run time.
    from lifecycle_sync.config import Settings as Settings  # noqa: PLC0414
    from lifecycle_sync.model.hold import Hold as Hold  # noqa: PLC0414
    from lifecycle_sync.model.past import PastFile as PastFile  # noqa: PLC0414
    from lifecycle_sync.model.plan import Action as Action  # noqa: PLC0414
    from lifecycle_sync.model.plan import Beyond as Beyond  # noqa: PLC0414
    from lifecycle_sync.model.plan import Plan as Plan  # noqa: PLC0414
    from lifecycle_sync.model.plan import RootPlan as RootPlan  # noqa: PLC0414
    from lifecycle_sync.model.policy import LifecyclePolicy as LifecyclePolicy  # noqa: PLC0414
    from lifecycle_sync.report.summary import Sample as Sample  # noqa: PLC0414
    from lifecycle_sync.report.summary import Summary as Summary  # noqa: PLC0414
    from lifecycle_sync.service.decisions import Explanation as Explanation  # noqa: PLC0414
    from lifecycle_sync.service.engine import Engine
    from lifecycle_sync.service.outcome import PassOutcome
    from lifecycle_sync.vault.copying import CopyReport as CopyReport  # noqa: PLC0414


__all__ = [
    "NS_PER_DAY",
    "NS_PER_SECOND",
    "SCHEMA_VERSION",
    "CancelToken",
    "Duplicates",
    "FileFlag",
    "FileQuery",
    "FileRecord",
    "FileType",
    "FolderTotal",
    "Kind",
    "LifecycleState",
    "Operation",
    "Repository",
    "RepositoryKind",
    "RepositoryStatus",
    "Run",
    "RunStatus",
    "RunType",
    "SystemClock",
    "Tracking",
    "Verdict",
    "VersionRow",
    "below",
    "copies",
    "duplicates_fields",
    "error_fields",
    "file_fields",
    "flag_names",
    "from_datetime",
    "import_summaries",
    "operation_fields",
    "past_fields",
    "path_fields",
    "read_settings",
    "repository_fields",
    "summary_fields",
    "summary_of",
    "to_datetime",
    "to_iso",
    "to_text",
    "utf8_text",
    "version_fields",
    "waste",
]


def read_settings(
    config: str | None = None, database: str | None = None, **changes: object
) -> Settings:
    """The settings of a file and the environment, with what an order changes in them.

    Raises `ConfigError` with every fault.
    """
    from lifecycle_sync.config import load_config, with_overrides

    return with_overrides(load_config(config), database=database, **changes)


def summary_of(engine: Engine, outcome: PassOutcome) -> Summary:
    """The summary of a root right after a pass."""
    from lifecycle_sync.report.summary import summarise

    report = outcome.report
    return summarise(
        engine.registry, report.repository, report.run, first=outcome.first, moved=report.moved
    )


def import_summaries() -> None:
    """Import now what summaries and the feed of changes are made with, not when the first is."""
    import lifecycle_sync.report.summary
    import lifecycle_sync.service.feed  # noqa: F401


def summary_fields(summary: Summary) -> dict[str, Any]:
    """A summary as a part of a JSON document."""
    from lifecycle_sync.report import summary as module

    return module.summary_fields(summary)
