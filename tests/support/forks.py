"""Work in a forked child: it may be killed, and its parent looks at what is left."""

from __future__ import annotations

import gc
import os
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn, Self

_SECONDS_MAX = 60


def _too_long(_signal: int, _frame: object) -> None:
    raise TimeoutError(f"it hangs, for over {_SECONDS_MAX} s")


def in_child(work: Callable[[], None], base: Path) -> int:
    """Run `work` in a forked child; its wait status. What it raises is in `base/error`."""
    return end_child(begin_child(work, base))


def end_child(child: int) -> int:
    """Wait for a child; its wait status."""
    return os.waitpid(child, 0)[1]


def begin_child(work: Callable[[], None], base: Path) -> int:
    """`in_child` for one who does not wait yet; the child's process id."""
    with warnings.catch_warnings():
        # The parent holds nothing that a child would miss: its engines are closed.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGALRM, _too_long)
            signal.alarm(_SECONDS_MAX)
            work()
        except BaseException:
            (base / "error").write_text(traceback.format_exc())
            os._exit(1)
        os._exit(0)
    return child


@contextmanager
def frozen() -> Iterator[None]:
    """What there is now is looked through no more by the collector of garbage: neither here nor,
    page by page a copy of its own, by each child."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class Forker:
    """A process that forks for another one: `in_child` again and again, for less. Whoever forks
    pays for each page that it touches afterwards; this one touches few, its children theirs, and
    whoever looks at what they leave pays nothing.

    `work` gets what `run` is given, and must not need anything that came to be after the making.
    """

    def __init__(self, work: Callable[[Path, int], None]) -> None:
        asked, self._asks = os.pipe()
        self._answers, answer = os.pipe()
        # No `in_child`: it may live for hours.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process = os.fork()
        if self._process == 0:
            os.close(self._asks)
            os.close(self._answers)
            _fork_when_asked(work, asked, answer)
        os.close(asked)
        os.close(answer)

    def run(self, base: Path, number: int) -> int:
        """As `in_child(lambda: work(base, number), base)`."""
        os.write(self._asks, f"{number:8}{base}\n".encode())
        answer = os.read(self._answers, 8)
        if len(answer) < 8:
            raise AssertionError("who forks has died")
        return int(answer)

    def close(self) -> None:
        os.close(self._asks)
        os.close(self._answers)
        os.waitpid(self._process, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _fork_when_asked(work: Callable[[Path, int], None], asked: int, answer: int) -> NoReturn:
    try:
        with open(asked, "rb") as questions:
            for line in questions:
                base, number = Path(line[8:-1].decode()), int(line[:8])
                status = in_child(partial(work, base, number), base)
                os.write(answer, f"{status:8}".encode())
    finally:
        os._exit(0)
