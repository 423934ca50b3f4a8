"""What the index of a vault takes up of the lines of a manifest: where contents lie, and what is
kept no longer."""

from __future__ import annotations

from collections.abc import Iterator

from lifecycle_sync.errors import VaultCorruptError
from lifecycle_sync.model.event import CondemnedEvent, GivenUpEvent, PrunedEvent
from lifecycle_sync.vault.content_lines import ObjectLine, PackLine, decode_content_line
from lifecycle_sync.vault.events import decode_event
from lifecycle_sync.vault.manifest import ManifestReader

Taken = PackLine | ObjectLine | PrunedEvent | CondemnedEvent | GivenUpEvent


def taken_lines(reader: ManifestReader) -> Iterator[Taken]:
    """Those of the lines of a manifest that are for the index. Raises `VaultCorruptError` for one
    that cannot be right."""
    for line in reader.lines():
        if line.is_about_pruning:
            event = decode_event(line.raw)
            if not isinstance(event, PrunedEvent | CondemnedEvent | GivenUpEvent):
                raise _wrong(reader, "it does not say what is kept no longer")
            yield event
        if line.is_event:
            continue
        try:
            found = decode_content_line(line.raw)
        except ValueError as error:
            raise _wrong(reader, str(error)) from error
        if found is not None:
            yield found


def _wrong(reader: ManifestReader, cause: str) -> VaultCorruptError:
    return VaultCorruptError(
        f"has a line that cannot be right ({cause})",
        operation="read manifest",
        subject=reader.name,
    )
