"""A Celery application as a crawler has it: jobs in SQLite, temporary files in a folder.

Run by workers in tests; CRAWLER_BASE is where its files are, CRAWLER_BROKER its broker. While a
file `slow` is there, an unlink waits, after it has left its process's number in `reached`. Its own
task, `count_files`, tells how many temporary files there are when its turn comes.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import sqlalchemy as sa
from celery import Celery

from lifecycle_sync.fileops import FileOps
from lifecycle_sync.service.temp.cleanup import TempStorageCleanupService
from lifecycle_sync.service.temp.settings import TempStorageCleanupSettings
from lifecycle_sync.tasks.temp_storage_cleanup import configure_cleanup
from lifecycle_sync.testing.fileops import FileOpsWrapper
from tests.support.brokers import backend_of

BASE = Path(os.environ.get("CRAWLER_BASE", "/nonexistent"))
BROKER = os.environ.get("CRAWLER_BROKER", "memory://")

app = Celery("crawler", broker=BROKER)
app.conf.update(
    # A worker on Redis delivers again what nobody has acknowledged for so many seconds, and looks
    # for it this often (but for these two, every 100 seconds).
    broker_transport_options={
        "visibility_timeout": float(os.environ.get("CRAWLER_VISIBILITY", "3600")),
        "unacked_restore_interval": 0.5,
        "unacked_restore_throttle": 1,
    },
    broker_connection_retry_on_startup=True,
    result_backend=backend_of(BROKER),
    worker_prefetch_multiplier=1,
)


class Slow(FileOpsWrapper):
    def around(self, method, proceed, args, kwargs):
        if method == "unlink" and (BASE / "slow").exists():
            (BASE / "reached").write_text(str(os.getpid()))
            while (BASE / "slow").exists():
                time.sleep(0.01)
        return proceed(*args, **kwargs)


def make_service() -> TempStorageCleanupService:
    settings = TempStorageCleanupSettings(
        temp_storage_path=BASE / "temp", min_free_space_gb=0, max_cleanup_workers=1
    )
    engine = sa.create_engine(f"sqlite:///{BASE}/app.db")
    return TempStorageCleanupService(None, engine, settings, fs=Slow(FileOps()))


configure_cleanup(app, make_service)


@app.task(name="crawler.count_files")
def count_files() -> int:
    """How many temporary files there are now."""
    return len(list((BASE / "temp").glob("job_*")))
