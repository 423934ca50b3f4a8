"""Several actors on one storage, of whom one at a time makes one operation, in an order by a seed.

Every operation of the storage is a moment at which another actor may go on. Orders are of three
kinds: each time anybody; by rank, where who has the highest goes on until it is moved to the end,
at a few moments, most of them before something is published, deleted, or looked for; and with one
who sleeps at such a moment until all others have ended.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Self

from lifecycle_sync.storage.protocol import Storage, Upload

_MOMENTS = {"names", "publish", "remove"}


class KilledError(BaseException):
    """An actor ends here, as a killed process does: nobody may catch it."""


class Inline:
    """An executor that works at once, so that an actor is one thread."""

    def __init__(self, *_: object) -> None:
        pass

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(work(*arguments))
        except KilledError:
            raise
        except BaseException as error:
            future.set_exception(error)
        return future

    def shutdown(self, *, wait: bool = True) -> None:
        pass


class Actor:
    """One of them: a thread that waits for its turn before each operation."""

    def __init__(self, name: str, work: Callable[[], None], schedule: Schedule) -> None:
        self.name = name
        self.error: BaseException | None = None
        self.over = False
        self.killed = False
        # What it does next.
        self.next = ""
        self._work = work
        self._schedule = schedule
        self._turn = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._turn.acquire()
        try:
            if not self.killed:
                self._work()
        except KilledError:
            pass
        except BaseException as error:
            self.error = error
        self.over = True
        self._schedule.back.release()

    def step(self) -> None:
        """Let it go on until its next operation, or its end."""
        self._turn.release()
        self._schedule.back.acquire()

    def wait(self, operation: str) -> None:
        """In the actor's own thread: let the others go on."""
        if threading.current_thread() is not self._thread:
            return
        self.next = operation
        if self.killed:
            raise KilledError
        self._schedule.back.release()
        self._turn.acquire()
        if self.killed:
            raise KilledError

    def end(self) -> None:
        self.killed = True
        if not self.over:
            self.step()
        self._thread.join()


class Schedule:
    """Actors, and who comes next."""

    def __init__(self, chosen: random.Random) -> None:
        self._chosen = chosen
        self.back = threading.Semaphore(0)
        self.actors: list[Actor] = []
        self.steps = 0

    def add(self, name: str, work: Callable[[], None]) -> Actor:
        actor = Actor(name, work, self)
        self.actors.append(actor)
        return actor

    def run(self, steps_max: int = 200_000) -> None:
        """Until all have ended. Raises what an actor raised."""
        order = self._chosen.choice(
            [self._anybody, self._by_rank, self._with_a_sleeper, self._with_a_sleeper]
        )()
        try:
            for actor in order:
                actor.step()
                self.steps += 1
                assert self.steps < steps_max, "they never end"
                if actor.error is not None:
                    raise actor.error
        finally:
            for it in self.actors:
                it.end()

    def _alive(self) -> list[Actor]:
        return [it for it in self.actors if not it.over]

    def _anybody(self) -> Iterator[Actor]:
        while alive := self._alive():
            yield self._chosen.choice(alive)

    def _by_rank(self) -> Iterator[Actor]:
        chosen = self._chosen
        ranks = chosen.sample(self.actors, len(self.actors))
        # How many steps one has before it is moved behind the others.
        turns = chosen.choice([3, 10, 40, 150])
        left = chosen.randrange(1, 2 * turns)
        odds = chosen.choice([0, 0.1, 0.3])
        while self._alive():
            actor = next(it for it in ranks if not it.over)
            left -= 1
            if left <= 0 or (actor.next in _MOMENTS and chosen.random() < odds):
                ranks.remove(actor)
                ranks.append(actor)
                left = chosen.randrange(1, 2 * turns)
            yield actor

    def _with_a_sleeper(self) -> Iterator[Actor]:
        """Before one of its operations one sleeps until all others have ended; then it goes on, or
        is killed."""
        chosen = self._chosen
        # The first of the actors are those who have most to lose.
        sleeper = self.actors[min(chosen.randrange(8), chosen.randrange(len(self.actors)))]
        moment = chosen.choice(["names", "publish", "publish", "publish", "remove"])
        left = chosen.randrange(1, 5)
        dies = chosen.random() < 0.5
        while alive := self._alive():
            if left <= 0:
                others = [it for it in alive if it is not sleeper]
                sleeper.killed = dies and not others
                alive = others or alive
            actor = chosen.choice(alive)
            yield actor
            left -= actor is sleeper and actor.next == moment


class TurnedStorage:
    """A storage whose every operation waits for the turn of whoever asks."""

    def __init__(self, storage: Storage, wait: Callable[[str], None]) -> None:
        self._storage = storage
        self._wait = wait

    def names(self, folder: str) -> list[str]:
        self._wait("names")
        return self._storage.names(folder)

    def size(self, name: str) -> int | None:
        self._wait("size")
        return self._storage.size(name)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        self._wait("read")
        return self._storage.read(name, offset, length)

    def pieces(
        self, name: str, offset: int = 0, length: int | None = None, piece: int = 1 << 20
    ) -> Iterator[bytes]:
        self._wait("pieces")
        # A file that is open may be deleted, and is read on.
        return self._storage.pieces(name, offset, length, piece)

    def drop_cache(self, name: str) -> None:
        self._storage.drop_cache(name)

    def upload(self, folder: str) -> Upload:
        self._wait("upload")
        return TurnedUpload(self._storage.upload(folder), self._wait)

    def remove(self, name: str) -> None:
        self._wait("remove")
        self._storage.remove(name)

    def move(self, name: str, to: str) -> bool:
        self._wait("move")
        return self._storage.move(name, to)

    def sweep(self, folders: tuple[str, ...]) -> list[str]:
        self._wait("sweep")
        return self._storage.sweep(folders)

    def litter(self, folders: tuple[str, ...]) -> list[str]:
        self._wait("litter")
        return self._storage.litter(folders)

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class TurnedUpload:
    """What it writes nobody sees, so only its end is a moment."""

    def __init__(self, upload: Upload, wait: Callable[[str], None]) -> None:
        self._upload = upload
        self._wait = wait

    def write(self, data: bytes | memoryview) -> None:
        self._upload.write(data)

    def publish(self, name: str, sha256: bytes, *, replace: bool = True) -> bool:
        self._wait("publish")
        return self._upload.publish(name, sha256, replace=replace)

    def discard(self) -> None:
        self._upload.discard()
