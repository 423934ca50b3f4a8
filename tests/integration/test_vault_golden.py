"""The golden vaults, made by the first program of each format, are read for ever."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from lifecycle_sync.clock import FixedClock
from lifecycle_sync.fileops import FileOps
from lifecycle_sync.model.event import VersionEvent
from lifecycle_sync.vault.vault import Vault, VaultKind
from tests.support.golden import CONTENTS, LARGE, events_of
from tests.support.vaults import REPOSITORY, START_NS, STORE, key_of, read

GOLDEN = Path(__file__).parent.parent / "golden"
# Of the names and bytes of all their files: whoever changes one has broken a promise.
FINGERPRINTS = {
    "vault-1": "647a425a5178a4e116eb26951c18f0b000b48b0bcbc877c4640868e7f9f12ea0",
    # Encrypted, to the key beside it.
    "vault-2": "2d7cd7ad6d304936a43db9d5d3d13537a4d0db9d843fdb054ce4c72b6ae61f9e",
}


@pytest.fixture(params=FINGERPRINTS)
def golden(request) -> Path:
    return GOLDEN / str(request.param)


@pytest.fixture
def vault(golden):
    key = golden.with_suffix(".key")
    with Vault.open(
        os.fspath(golden),
        VaultKind.BACKUP,
        index_path="",
        fs=FileOps(),
        clock=FixedClock(START_NS),
        read_only=True,
        store_id=STORE,
        identity_path=os.fspath(key) if key.exists() else "",
    ) as vault:
        yield vault


def fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(it for it in folder.rglob("*") if it.is_file()):
        data = path.read_bytes()
        digest.update(f"{path.relative_to(folder)} {len(data)}\n".encode() + data)
    return digest.hexdigest()


def test_nobody_has_changed_it(golden):
    assert fingerprint(golden) == FINGERPRINTS[golden.name]


def test_every_event_is_read(vault):
    assert list(vault.events(vault.manifests())) == events_of()
    versions = [event for event in events_of() if isinstance(event, VersionEvent)]
    assert list(vault.all_versions(REPOSITORY)) == versions


def test_every_content_is_read(vault):
    for key, data in CONTENTS.items():
        assert vault.read_small(key) == data
    assert read(vault, key_of(LARGE)) == LARGE


def test_nothing_in_it_is_damaged(vault):
    report = vault.verify(contents=True)
    assert report.ok, report.findings
    assert not report.unreferenced
    assert report.manifests == 3
    assert report.unknown == 1
