"""One tree of errors. Each names the operation, the thing it was about, the cause and the remedy.

Doors show all four; `exit_code` is the stable number the command ends with (0 done, 1 failed,
2 usage, 3 finished with failed files, 4 stopped by a guard, 5 busy or offline).
"""

from __future__ import annotations

import os


class LifecycleError(Exception):
    """Root of the tree.

    `operation` is what was being done ("add root"), `subject` the thing it was done to (a path,
    a setting, an id), `cause` why it failed and `remedy` what the reader can do about it.
    """

    exit_code = 1
    code = "failed"

    def __init__(
        self,
        cause: str,
        *,
        operation: str = "",
        subject: str | bytes | os.PathLike[str] = "",
        remedy: str = "",
    ) -> None:
        self.cause = cause
        self.operation = operation
        self.subject = subject if isinstance(subject, str) else os.fsdecode(subject)
        self.remedy = remedy
        super().__init__(cause)

    def __str__(self) -> str:
        head = ": ".join(part for part in (self.operation, self.subject, self.cause) if part)
        return f"{head} ({self.remedy})" if self.remedy else head

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default pickling, and hash workers raise.
        return (_restore, (type(self), self.cause, dict(self.__dict__)))


def _restore(kind: type[LifecycleError], cause: str, state: dict[str, object]) -> LifecycleError:
    error = kind(cause)
    error.__dict__.update(state)
    return error


class UsageError(LifecycleError):
    """The order itself is wrong: an argument, a path, a name that does not exist."""

    exit_code = 2
    code = "usage"


class ConfigError(UsageError):
    """The configuration has faults; all of them are in `faults`, one line each."""

    code = "config"

    def __init__(self, faults: list[str], *, subject: str = "", remedy: str = "") -> None:
        self.faults = list(faults)
        count = len(self.faults)
        cause = f"{count} fault{'s' if count != 1 else ''}: " + "; ".join(self.faults)
        super().__init__(cause, operation="read configuration", subject=subject, remedy=remedy)

    def __reduce__(self) -> tuple[object, ...]:
        return (_restore_config, (self.faults, self.subject, self.remedy))


def _restore_config(faults: list[str], subject: str, remedy: str) -> ConfigError:
    return ConfigError(faults, subject=subject, remedy=remedy)


class RootError(UsageError):
    """A folder cannot be a root: missing, a file, unreadable, nested, `/`."""

    code = "root"


class NotFoundError(UsageError):
    """No such file, repository or policy in the registry."""

    code = "not_found"


class TransitionError(UsageError):
    """A change of state that is not in the transition table."""

    code = "transition"


class GuardError(LifecycleError):
    """A guard stopped an order and nothing was done. `guard` is its name."""

    exit_code = 4
    code = "guard"

    def __init__(
        self,
        cause: str,
        *,
        guard: str = "",
        operation: str = "",
        subject: str | bytes | os.PathLike[str] = "",
        remedy: str = "",
    ) -> None:
        super().__init__(cause, operation=operation, subject=subject, remedy=remedy)
        self.guard = guard


class BusyError(LifecycleError):
    """Somebody else holds what is needed: the database, a root. Try again later."""

    exit_code = 5
    code = "busy"


class OfflineError(LifecycleError):
    """A root or a storage is not there now (unmounted, unplugged, unreachable)."""

    exit_code = 5
    code = "offline"


class CancelledError(LifecycleError):
    """The work was asked to stop and did so at a safe point."""

    code = "cancelled"


class StorageFullError(LifecycleError):
    """No space or inodes left, or over quota; what was committed stays."""

    code = "disk_full"


class RegistryError(LifecycleError):
    """The database cannot be used."""

    code = "registry"


class RegistryCorruptError(RegistryError):
    """The database is damaged, or is not a database at all."""

    code = "registry_corrupt"


class RegistryForeignError(RegistryError):
    """The file is a database of another program."""

    code = "registry_foreign"


class RegistryNewerError(RegistryError):
    """The database, or a marker, was written by a newer version of this program."""

    code = "registry_newer"


class StorageError(LifecycleError):
    """A place that stores bytes refused or failed."""

    code = "storage"


class StorageMissingError(StorageError):
    """There is nothing of that name in the storage."""

    code = "storage_missing"


class StorageReadOnlyError(StorageError):
    """The storage may be read but not written to."""

    code = "storage_read_only"


class VaultError(LifecycleError):
    """A vault, or an archive, cannot be used."""

    code = "vault"


class VaultMissingError(VaultError):
    """There is no vault, nor anything else, where one was expected."""

    code = "vault_missing"


class VaultCorruptError(VaultError):
    """Bytes in a vault are not what their name or their manifest says, or are missing."""

    code = "vault_corrupt"


class VaultForeignError(VaultError):
    """The folder is no vault, or one of another kind or another store than was expected."""

    code = "vault_foreign"


class VaultReadOnlyError(VaultError):
    """The vault may be read but not written to."""

    code = "vault_read_only"


class VaultNewerError(VaultError):
    """The vault was written by a newer version of this program."""

    code = "vault_newer"


class VaultKeyError(VaultError):
    """An encrypted vault cannot be read or written to with the keys that are at hand."""

    code = "vault_key"


class TrashError(LifecycleError):
    """The trash of a root, or a batch in it, cannot be used."""

    code = "trash"


class TrashNewerError(TrashError):
    """A batch in the trash was written by a newer version of this program."""

    code = "trash_newer"


class KeyFileError(UsageError):
    """A public key, or a file with secret ones, cannot be used."""

    code = "key_file"


class PlanError(UsageError):
    """A plan cannot be used: it is none, was changed, is of another registry or of other rules."""

    code = "plan"


class FilesFailedError(LifecycleError):
    """The work finished, but some files failed. `failed` counts them."""

    exit_code = 3
    code = "files_failed"

    def __init__(
        self, cause: str, *, failed: int = 0, operation: str = "", remedy: str = ""
    ) -> None:
        super().__init__(cause, operation=operation, remedy=remedy)
        self.failed = failed
