"""Where the listings of a root come from: a walk in C, one in Python, here or in a process of its
own, or by name."""

from __future__ import annotations

from collections.abc import Iterable

from lifecycle_sync.cancel import CancelToken
from lifecycle_sync.clock import Clock, SystemClock
from lifecycle_sync.errors import LifecycleError
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.observation import Listing
from lifecycle_sync.model.record import DirectoryTotals
from lifecycle_sync.model.repository import Repository, RepositoryKind
from lifecycle_sync.observe.ignore import IgnoreRules
from lifecycle_sync.observe.native_walker import unavailable, walk_native
from lifecycle_sync.observe.walk_process import walk_in_process
from lifecycle_sync.observe.walker import walk
from lifecycle_sync.registry.protocol import ScanStore
from lifecycle_sync.service.loose import loose_listings

LOCAL_MARGIN_NS = 20_000_000
# Network filesystems and FAT keep times of up to two seconds' grain, by another machine's clock.
COARSE_MARGIN_NS = 3_000_000_000
_COARSE_TYPES = {"vfat", "msdos", "exfat"}
# A smaller tree is walked sooner than another interpreter has started.
_SMALL_FILES = 10_000
# The signatures of more directories are not sent to the walking process but compared here.
_KNOWN_DIRECTORIES = 200_000


def is_native(walker: str) -> bool:
    """Whether a setting of `walker` means the one in C, here. Raises `LifecycleError` where only
    that one will do and it cannot be used."""
    if walker == "python":
        return False
    cause = unavailable()
    if cause is not None and walker == "native":
        raise LifecycleError(
            f"the native walker cannot be used: {cause}",
            operation="walk root",
            subject="walker",
            remedy="install again where there is a C compiler, or set walker to auto",
        )
    return cause is None


def margin_ns_of(repository: Repository) -> int:
    """How far back of a look a change may hide behind an equal tuple, in nanoseconds."""
    identity = repository.identity
    coarse = identity.network or identity.filesystem_type in _COARSE_TYPES
    return COARSE_MARGIN_NS if coarse else LOCAL_MARGIN_NS


def listings_of(
    store: ScanStore,
    repository: Repository,
    rules: IgnoreRules,
    *,
    known: DirectoryTotals,
    own: frozenset[tuple[int, int]],
    fs: FileOps,
    clock: Clock,
    cancel: CancelToken,
    walker: str = "auto",
) -> Iterable[Listing]:
    """All listings of a repository as it is now; `known` are its sums as last recorded, `walker` as
    the settings have it."""
    margin_ns = margin_ns_of(repository)
    if repository.kind is RepositoryKind.LOOSE:
        return loose_listings(store, repository, fs, clock, margin_ns)
    stable_inodes = repository.identity.stable_inodes
    # File operations and a clock that a test has made are for the walk in Python, unless it says.
    made = type(fs) is not FileOps or type(clock) is not SystemClock
    native = is_native(walker) and (not made or walker == "native")
    here = (walk_native if native else walk)(
        repository.path,
        rules,
        fs=fs,
        clock=clock,
        cancel=cancel,
        margin_ns=margin_ns,
        own=own,
        stable_inodes=stable_inodes,
    )
    if native or made:
        return here
    if known.directories:
        if known.files < _SMALL_FILES:
            return here
    else:
        # Nothing is known of the size: a small tree is done before it is certain that it is not.
        listings: list[Listing] = []
        files = 0
        for listing in here:
            listings.append(listing)
            files += listing.file_count
            if files >= _SMALL_FILES:
                break
        else:
            return listings
        here.close()
    few = known.directories <= _KNOWN_DIRECTORIES
    return walk_in_process(
        repository.path,
        rules,
        cancel=cancel,
        margin_ns=margin_ns,
        own=own,
        stable_inodes=stable_inodes,
        known=dict(store.signatures(repository.repository_id)) if few else {},
    )
