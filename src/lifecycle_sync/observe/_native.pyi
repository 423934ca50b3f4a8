"""The extension in C; `native/module.c`."""

from collections.abc import Callable
from typing import Any

INTERFACE: int
MOUNT_POINT: int
SWAPPED: int

class Walk:
    def __new__(
        cls,
        root: bytes,
        rules_hash: bytes,
        private_name: bytes,
        margin_ns: int,
        own: list[tuple[int, int]],
        default_rules: bool,
        stable_inodes: bool,
        sift: Callable[[bytes, bytes], bytes | None] | None,
        check: Callable[[], object],
        now: Callable[[], int] | None,
        fs: object | None,
    ) -> Walk: ...
    def next(self, most: int, /) -> list[tuple[Any, ...]] | None: ...
    def work(self) -> None: ...
    def close(self) -> None: ...

def digest(data: bytes, /) -> bytes: ...
def refusal() -> int: ...
