"""Content and what belongs to it: the key that names it, and the metadata it had."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from lifecycle_sync.model.file import Kind

# The bytes of a digest, by the algorithm's name. An algorithm that is not in here is not known.
DIGEST_SIZES = {"sha256": 32, "blake3": 32}
DEFAULT_ALGORITHM = "sha256"


class ContentKey(NamedTuple):
    """What names a content: the digest of all its bytes, and with which algorithm."""

    algorithm: str
    digest: bytes

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.digest.hex()}"


def version_id(file_id: bytes, number: int, key: ContentKey | None) -> bytes:
    """The id of a version of a file: the same in every vault that keeps it."""
    text = b"%s %d %s" % (file_id, number, str(key).encode())
    return blake2b(text, digest_size=16).digest()


def key_from_text(text: str) -> ContentKey:
    """The key that `str` gave. Raises `ValueError` for anything that is not exactly one."""
    algorithm, colon, digits = text.partition(":")
    size = DIGEST_SIZES.get(algorithm)
    if not colon or size is None or len(digits) != 2 * size:
        raise ValueError(f"no content key: {text[:100]!r}")
    digest = bytes.fromhex(digits)
    if digest.hex() != digits:
        raise ValueError(f"no content key: {text[:100]!r}")
    return ContentKey(algorithm, digest)


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a filesystem says of a file, symlink or directory, beside its bytes.

    `mode` are the permission bits (0o7777). `user` and `group` are names, empty where not known.
    Times are nanoseconds since 1970 UTC, `btime_ns` None where the filesystem has none. ACLs are
    extended attributes (`system.posix_acl_*`). `extents` are the (offset, length) in bytes of the
    data of a sparse file, None for one that is not. `target` is that of a symlink.
    """

    kind: Kind
    size: int
    mode: int
    uid: int
    gid: int
    user: str = ""
    group: str = ""
    mtime_ns: int = 0
    atime_ns: int = 0
    btime_ns: int | None = None
    ctime_ns: int = 0
    inode: int = 0
    nlink: int = 1
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    extents: tuple[tuple[int, int], ...] | None = None
    target: bytes | None = None
