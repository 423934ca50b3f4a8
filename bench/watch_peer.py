"""A watcher of the field beside ours: which files of a root it mentions, and when the last of them.

`python -m bench.watch_peer watchdog|watchfiles ROOT`. Says "ready" once it watches, and when its
standard input ends, as JSON: the paths that were mentioned, and when the last new one was
(`CLOCK_MONOTONIC`, which all processes share).
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable

Mention = Callable[[str], None]


class _Mentioned:
    def __init__(self) -> None:
        self.paths: set[str] = set()
        self.last = 0.0

    def add(self, path: str) -> None:
        if path not in self.paths:
            self.paths.add(path)
            self.last = time.monotonic()


def _watchdog(root: str, mention: Mention) -> None:
    from watchdog.events import FileSystemEvent, FileSystemEventHandler
    from watchdog.observers import Observer

    class Handler(FileSystemEventHandler):
        def on_any_event(self, event: FileSystemEvent) -> None:
            mention(os.fsdecode(event.src_path))
            if event.dest_path:
                mention(os.fsdecode(event.dest_path))

    observer = Observer()
    observer.schedule(Handler(), root, recursive=True)
    observer.start()


def _watchfiles(root: str, mention: Mention) -> None:
    from watchfiles import watch

    def follow() -> None:
        # As it comes: filters, where somebody wants them, are his.
        for changes in watch(root, watch_filter=None, debounce=100, step=50):
            for _, path in changes:
                mention(path)

    threading.Thread(target=follow, daemon=True).start()
    # It does not say when it watches.
    time.sleep(1.0)


PEERS: dict[str, Callable[[str, Mention], None]] = {
    "watchdog": _watchdog,
    "watchfiles": _watchfiles,
}


def main(name: str, root: str) -> None:
    mentioned = _Mentioned()
    PEERS[name](root, mentioned.add)
    print("ready", flush=True)
    sys.stdin.read()
    json.dump({"paths": sorted(mentioned.paths), "last": mentioned.last}, sys.stdout)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
