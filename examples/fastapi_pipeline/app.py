"""A media pipeline: each request works in a folder of its own, which is gone afterwards, also when
the process is killed in the middle.

    pip install 'lifecycle-sync[web]' uvicorn
    uvicorn --app-dir examples/fastapi_pipeline app:app

    curl --data-binary @talk.mp4 http://localhost:8000/transcriptions
    curl http://localhost:8000/temp

TEMP_FOLDER is where it keeps its temporary files.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request

from lifecycle_sync import FileCleanupManager, temp_file_async

manager = FileCleanupManager(
    base_temp_dir=Path(os.environ.get("TEMP_FOLDER", "temp")),
    default_ttl_hours=24,
    cleanup_interval_minutes=30,
)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """What a process before left is removed at the start, what this one has at the end."""
    await manager.cleanup_old_files()
    manager.start_periodic_cleanup()
    yield
    await manager.stop_periodic_cleanup()
    await manager.cleanup_all_tracked()


app = FastAPI(lifespan=lifespan)


async def receive(request: Request, path: Path) -> int:
    """Write the body of a request to a file as it comes."""
    size = 0
    with path.open("wb") as file:
        async for piece in request.stream():
            size += len(piece)
            await asyncio.to_thread(file.write, piece)
    return size


async def extract_audio(video: Path, audio: Path) -> None:
    """Stands for ffmpeg."""
    digest = await asyncio.to_thread(lambda: hashlib.sha256(video.read_bytes()).hexdigest())
    await asyncio.to_thread(audio.write_text, digest)


@app.post("/transcriptions")
async def transcribe(request: Request, seconds: float = 0) -> dict[str, Any]:
    """Receive a video, extract its audio, answer; `seconds` is how long that takes."""
    folder = manager.base_temp_dir / uuid.uuid4().hex
    folder.mkdir()
    manager.track_file(folder)
    try:
        video = folder / "video.mp4"
        size = await receive(request, video)
        async with temp_file_async(folder / "audio.wav") as audio:
            await extract_audio(video, audio)
            await asyncio.sleep(seconds)
            return {"bytes": size, "transcript": audio.read_text()}
    finally:
        await manager.cleanup_directory(folder)


@app.get("/temp")
def temp() -> dict[str, Any]:
    """What is there now."""
    return manager.get_stats()
