"""A Django model as the table of files of a host application."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db import models

from lifecycle_sync.service.host.columns import Columns, is_before

_PAGE = 1000


class DjangoFiles:
    """Reads pages of a model's rows, and changes one row at a time. The arguments are those of
    `SqlAlchemyFiles`, without a session: connections are Django's."""

    def __init__(
        self,
        model: type[models.Model],
        columns: Mapping[str, str | None] | None = None,
        *,
        expired: Any = "expired",
        inactive: tuple[Any, ...] = ("expired", "deleted"),
    ) -> None:
        self._model: Any = model
        self._columns = Columns(columns, self._has)
        self._expired = expired
        self._inactive = {expired, *inactive}

    def _has(self, name: str) -> bool:
        try:
            self._model._meta.get_field(name)
        except FieldDoesNotExist:
            return False
        return True

    def _rows(self, query: Any) -> Iterator[dict[str, Any]]:
        """By pages: no cursor stays open while files are deleted."""
        identity = self._columns["id"]
        last: Any = None
        while True:
            page = query.order_by(identity)
            if last is not None:
                page = page.filter(**{f"{identity}__gt": last})
            rows = [self._columns.row(record) for record in page[:_PAGE]]
            yield from rows
            if len(rows) < _PAGE:
                return
            last = rows[-1]["id"]

    def get_all_active(self) -> Iterator[dict[str, Any]]:
        """Rows with an expiry whose status is not one of the inactive ones."""
        expiry, status = self._columns["expiry_at"], self._columns["status"]
        if expiry is None:
            return iter(())
        query = self._model.objects.filter(**{f"{expiry}__isnull": False})
        if status is not None:
            gone = models.Q(**{f"{status}__in": list(self._inactive)})
            nothing = models.Q(**{f"{status}__isnull": True})
            query = query.filter(nothing | ~gone)
        return self._rows(query)

    def get_all(self) -> Iterator[dict[str, Any]]:
        return self._rows(self._model.objects.all())

    def get_downloaded_before(self, cutoff: datetime) -> Iterator[dict[str, Any]]:
        name = self._columns["downloaded_at"]
        if name is None:
            return iter(())
        rows = self._rows(self._model.objects.filter(**{f"{name}__isnull": False}))
        return (row for row in rows if is_before(row["downloaded_at"], cutoff))

    def mark_expired(self, file_id: Any) -> None:
        name = self._columns["status"]
        change = {str(self._columns["expiry_at"]): None} if name is None else {name: self._expired}
        self._model.objects.filter(**{str(self._columns["id"]): file_id}).update(**change)

    def delete(self, file_id: Any) -> None:
        self._model.objects.filter(**{str(self._columns["id"]): file_id}).delete()
