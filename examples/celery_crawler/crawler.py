"""A crawler: jobs in a table, chunks of them in Celery tasks, each with its temporary files.

    pip install 'lifecycle-sync[celery]' redis
    cd examples/celery_crawler
    celery -A crawler worker -Q celery,maintenance &
    celery -A crawler beat &
    python crawler.py 3        # a job of three chunks

CRAWLER_FOLDER is where it keeps its files and its database, CRAWLER_BROKER the URL of Redis.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from celery import Celery
from sqlalchemy import DateTime, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from lifecycle_sync import TempStorageCleanupService, TempStorageCleanupSettings
from lifecycle_sync.tasks.temp_storage_cleanup import configure_cleanup, task_cleanup_after_chunk

BASE = Path(os.environ.get("CRAWLER_FOLDER", "crawler-data")).resolve()
TEMP, IMAGES = BASE / "temp", BASE / "images"
for folder in (TEMP, IMAGES):
    folder.mkdir(parents=True, exist_ok=True)


class Base(DeclarativeBase):
    """The crawler's tables."""


class CrawlJob(Base):
    """One job."""

    __tablename__ = "crawl_jobs"
    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str]
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


engine = create_engine(f"sqlite:///{BASE}/app.db", connect_args={"timeout": 30})
Base.metadata.create_all(engine)
sessions = sessionmaker(engine)

broker = os.environ.get("CRAWLER_BROKER", "redis://localhost/0")
app = Celery("crawler", broker=broker, backend=broker)
app.conf.broker_connection_retry_on_startup = True


def make_service() -> TempStorageCleanupService:
    """Made once in each worker process; the table `crawl_jobs` says which jobs are alive."""
    settings = TempStorageCleanupSettings(temp_storage_path=TEMP)
    return TempStorageCleanupService(None, engine, settings)


configure_cleanup(app, make_service)


def set_status(job_id: int, status: str) -> None:
    """Say where a job stands, and since when."""
    with sessions.begin() as session:
        now = datetime.now(UTC)  # noqa: TID251
        session.merge(CrawlJob(id=job_id, status=status, updated_at=now))


@app.task(name="crawler.crawl_chunk")
def crawl_chunk(job_id: int, chunk_id: str, names: list[str]) -> int:
    """Download some images: into temporary files, then to their place."""
    for name in names:
        temporary = TEMP / f"job_{job_id}_chunk_{chunk_id}_{name}"
        temporary.write_bytes(b"image " + name.encode())
        if name == "broken.jpg":
            set_status(job_id, "failed")
            raise ValueError(f"{name} is no image")
        (IMAGES / f"{job_id}-{name}").write_bytes(temporary.read_bytes())
    # What was done is not needed any more; what other chunks have stays.
    task_cleanup_after_chunk.delay(job_id, chunk_id, names)
    return len(names)


def start_job(job_id: int, chunks: dict[str, list[str]]) -> list[object]:
    """Begin a job: a task a chunk."""
    set_status(job_id, "running")
    return [crawl_chunk.delay(job_id, chunk_id, names) for chunk_id, names in chunks.items()]


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    start_job(1, {str(n): [f"image{n}-{m}.jpg" for m in range(10)] for n in range(count)})
