"""Encryption: the keys that files of a vault are encrypted to, and those that open them.

The format is that of the `age` command (age-encryption.org/v1), so that it opens what lies in a
vault. This is the only module that knows the library, which is asked for when it is first needed.
It holds the interpreter while it works: about 600 MB a second.
"""

from __future__ import annotations

import os
import queue
import stat
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import cache
from typing import Any

from lifecycle_sync.errors import KeyFileError, LifecycleError, VaultKeyError
from lifecycle_sync.vault.frames import FrameError

_KEY_FILE_SIZE_MAX = 1 << 20
_AGE_FILE = (b"age-encryption.org/v1", b"-----BEGIN AGE ENCRYPTED FILE-----")
_SECRET = "AGE-SECRET-KEY-1"  # noqa: S105 - how such a key begins
_SSH_FILE = b"-----BEGIN "
_NO_MATCH = "No matching keys"
_QUEUE_MAX = 4
_WAIT_SECONDS = 0.1
_BLOCK = 1 << 20


class NoMatchError(FrameError):
    """None of the keys opens a file; or it is damaged where it says which do."""


class Recipients:
    """Public keys: what is sealed for them each of their secret keys opens by itself."""

    def __init__(self, texts: Sequence[str]) -> None:
        """`texts` are public keys as `age -r` takes them: `age1...`, `ssh-ed25519 ...`,
        `ssh-rsa ...`. Raises `KeyFileError` for one that is none."""
        self.texts = tuple(dict.fromkeys(" ".join(text.split()) for text in texts))
        self._keys = [_recipient(text) for text in self.texts]

    def seal(self, data: bytes) -> bytes:
        """The data, encrypted. Never the same twice."""
        sealed: bytes = _library().encrypt(data, self._keys)
        return sealed

    def seal_stream(self, sink: Callable[[bytes], object]) -> SealStream:
        """The same piece by piece, for what is large; what comes of it goes to `sink`, in a thread
        of its own."""
        return SealStream(self._keys, sink)


class Identities:
    """The secret keys of a file, which are held in memory and told to nobody."""

    def __init__(self, path: str) -> None:
        """Raises `KeyFileError` for a file that cannot be read or has no key in it."""
        self.path = path
        data = _read(path)
        if data.startswith(_AGE_FILE):
            raise _no_key_file(
                path,
                "is protected by a passphrase",
                "`age -d` it into a file on a memory disk for as long as it is needed, and name"
                " that one",
            )
        self._keys = _ssh_key(path, data) if data.startswith(_SSH_FILE) else _age_keys(path, data)

    def public(self) -> list[str]:
        """The public keys of those that can be told (not of ssh keys)."""
        return [str(key.to_public()) for key in self._keys if hasattr(key, "to_public")]

    def open(self, sealed: bytes) -> bytes:
        """What was sealed. Raises `NoMatchError`, and `FrameError` for bytes that were changed."""
        try:
            data: bytes = _library().decrypt(sealed, self._keys)
        except _library().DecryptError as error:
            raise _at_opening(error) from error
        return data

    def open_stream(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The same piece by piece; each comes only when it was found to be authentic."""
        return _open_stream(self._keys, pieces)


def generate() -> tuple[str, str]:
    """A new key: its public half, and the text of a file that has the secret one."""
    key = _library().x25519.Identity.generate()
    public = str(key.to_public())
    return public, f"# public key: {public}\n{key}\n"


def _at_opening(error: Exception) -> FrameError:
    if _NO_MATCH in str(error):
        return NoMatchError(str(error))
    return FrameError(f"it was changed since it was encrypted ({error})")


@cache
def _library() -> Any:
    try:
        import pyrage
    except ImportError as error:
        raise VaultKeyError(
            "encryption needs the library pyrage, which is not installed",
            operation="open vault",
            remedy="pip install 'lifecycle-sync[encryption]'",
        ) from error
    return pyrage


# -- reading keys --------------------------------------------------------------------------


def _recipient(text: str) -> Any:
    library = _library()
    kind = library.ssh if text.startswith("ssh-") else library.x25519
    try:
        return kind.Recipient.from_str(text)
    except library.RecipientError as error:
        raise KeyFileError(
            "is no public key that files can be encrypted to",
            operation="encrypt",
            subject=text[:100],
            remedy="name keys as `age-keygen` shows them (age1...), or of ssh-ed25519 or ssh-rsa",
        ) from error


def _read(path: str) -> bytes:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise _no_key_file(path, "is no regular file", "name the file with the secret key")
        with open(path, "rb") as file:
            return file.read(_KEY_FILE_SIZE_MAX)
    except OSError as error:
        remedy = "name the file with the secret key in identity_path or with --identity"
        raise _no_key_file(path, (error.strerror or str(error)).lower(), remedy) from error


def others_may_read(path: str) -> bool:
    """Whether a key file can be read by others than its owner."""
    try:
        return bool(os.stat(path).st_mode & 0o077)
    except OSError:
        return False


def _ssh_key(path: str, data: bytes) -> list[Any]:
    library = _library()
    try:
        return [library.ssh.Identity.from_buffer(data)]
    except library.IdentityError as error:
        remedy = "name an age key, or a key of ssh-ed25519 or ssh-rsa without a passphrase"
        raise _no_key_file(path, f"holds no key that can be used ({error})", remedy) from error


def _age_keys(path: str, data: bytes) -> list[Any]:
    library = _library()
    keys = []
    try:
        for number, line in enumerate(data.decode("ascii").splitlines(), 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            if not text.startswith(_SECRET):
                # The line itself may be a secret.
                raise ValueError(f"line {number} is no secret key of age")
            keys.append(library.x25519.Identity.from_str(text))
    except (ValueError, library.IdentityError) as error:
        cause = "is no text" if isinstance(error, UnicodeDecodeError) else str(error)
        remedy = "name a file as `age-keygen` or `lifecycle vault keygen` makes it"
        raise _no_key_file(path, f"holds no key that can be used ({cause})", remedy) from None
    if not keys:
        raise _no_key_file(path, "has no secret key in it", f"name a file with a line {_SECRET}...")
    return keys


def _no_key_file(path: str, cause: str, remedy: str) -> KeyFileError:
    return KeyFileError(cause, operation="read key file", subject=path, remedy=remedy)


# -- streams -------------------------------------------------------------------------------
# The library asks for its input and hands out what it made, so it gets a thread of its own. Queues
# are short: memory stays at some mebibytes.


class _Pieces:
    """A file to read from, of what comes piece by piece."""

    def __init__(self, take: Callable[[], bytes]) -> None:
        self._take = take
        self._rest = memoryview(b"")
        self._over = False

    def read(self, size: int = -1) -> bytes:
        while not self._rest and not self._over:
            piece = self._take()
            self._over = not piece
            self._rest = memoryview(piece)
        data = bytes(self._rest[:size])
        self._rest = self._rest[len(data) :]
        return data


class _Blocks:
    """A file to write to, which passes on what it gets in blocks, and keeps the first error."""

    def __init__(self, sink: Callable[[bytes], object]) -> None:
        self._sink = sink
        self._block = bytearray()
        self.error: BaseException | None = None

    def write(self, data: bytes) -> int:
        self._block += data
        if len(self._block) >= _BLOCK:
            self.flush()
        return len(data)

    def flush(self) -> None:
        block, self._block = bytes(self._block), bytearray()
        if block:
            try:
                self._sink(block)
            except BaseException as error:
                self.error = self.error or error
                raise


class SealStream:
    """Bytes on their way through encryption. For one thread, beside its own."""

    def __init__(self, keys: list[Any], sink: Callable[[bytes], object]) -> None:
        self._keys = keys
        self._queue: queue.Queue[bytes] = queue.Queue(_QUEUE_MAX)
        self._blocks = _Blocks(sink)
        self._error: BaseException | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="vault-seal", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Append. Raises what `sink` raised."""
        if self._error is not None:
            raise self._error
        if data:
            self._queue.put(data)

    def end(self) -> None:
        """No more to come; returns when `sink` has all of it, or raises what it raised."""
        self._queue.put(b"")
        self._thread.join()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Give up. Nothing goes to `sink` any more. May be called after `end`, and twice."""
        self._stopped = True
        while self._thread.is_alive():
            try:
                self._queue.put(b"", timeout=_WAIT_SECONDS)
            except queue.Full:
                continue
            self._thread.join()

    def _take(self) -> bytes:
        piece = self._queue.get()
        if self._stopped:
            raise _StoppedError
        return piece

    def _run(self) -> None:
        pieces = _Pieces(self._take)
        try:
            _library().encrypt_io(pieces, self._blocks, self._keys)
            self._blocks.flush()
        except BaseException as error:  # noqa: BLE001 - it is raised by whoever writes
            self._error = self._blocks.error or error
            # Whoever writes must not wait for room that nobody makes.
            while not pieces._over and self._queue.get():
                pass


class _StoppedError(Exception):
    pass


def _open_stream(keys: list[Any], pieces: Iterable[bytes]) -> Iterator[bytes]:
    source = iter(pieces)
    made: queue.Queue[bytes] = queue.Queue(_QUEUE_MAX)
    stopped = threading.Event()
    errors: list[BaseException] = []

    def take() -> bytes:
        try:
            return next(source, b"")
        except BaseException as error:
            errors.append(error)
            raise

    def pass_on(block: bytes) -> None:
        while not stopped.is_set():
            try:
                made.put(block, timeout=_WAIT_SECONDS)
            except queue.Full:
                continue
            return
        raise _StoppedError

    def run() -> None:
        blocks = _Blocks(pass_on)
        try:
            try:
                _library().decrypt_io(_Pieces(take), blocks, keys)
            finally:
                # What came before something that was changed is authentic.
                blocks.flush()
        except BaseException as error:  # noqa: BLE001 - it is raised by whoever reads
            errors.append(error)
        try:
            pass_on(b"")
        except _StoppedError:
            pass

    thread = threading.Thread(target=run, name="vault-open", daemon=True)
    thread.start()
    try:
        while block := made.get():
            yield block
    finally:
        stopped.set()
        thread.join()
        if isinstance(source, Generator):
            source.close()
    if errors:
        first = errors[0]
        if isinstance(first, LifecycleError) or not isinstance(first, Exception):
            raise first
        raise _at_opening(first) from first
