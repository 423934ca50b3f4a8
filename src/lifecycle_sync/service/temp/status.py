"""Where the temporary storage stands, as a person asks for it once."""

from __future__ import annotations

from typing import Any

from lifecycle_sync.fileops import FileOps
from lifecycle_sync.service.temp.jobs import JobSource
from lifecycle_sync.service.temp.leases import survey
from lifecycle_sync.service.temp.orders import temp_cleanup
from lifecycle_sync.service.temp.sweep import Held


def temp_status(
    folder: str | None = None,
    jobs_url: str | None = None,
    jobs: JobSource | None = None,
    held: Held | None = None,
) -> dict[str, Any]:
    """`folder`, `health`, `stats` (the documented keys), watermarks, what is free, and `leases`:
    how many processes track how many files, living and dead."""
    with temp_cleanup(folder, jobs_url, jobs=jobs, held=held) as cleanup:
        leases = survey(FileOps(), cleanup.base)
        usage = cleanup.usage()
        return {
            "folder": cleanup.base,
            "health": cleanup.health().value,
            "stats": cleanup.stats(),
            "warning_threshold": cleanup.settings.warning_threshold,
            "min_free_space_gb": cleanup.settings.min_free_space_gb,
            "available_bytes": usage.available_bytes,
            "bytes_percent": round(usage.bytes_percent, 2),
            "inodes_percent": round(usage.inodes_percent, 2),
            "leases": {
                "living_processes": sum(it.alive for it in leases),
                "living_files": sum(len(it.entries) for it in leases if it.alive),
                "dead_processes": sum(not it.alive for it in leases),
                "dead_files": sum(len(it.entries) for it in leases if not it.alive),
            },
        }
