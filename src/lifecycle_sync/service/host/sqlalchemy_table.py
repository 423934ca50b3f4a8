"""A SQLAlchemy model as the table of files of a host application."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import inspect, select
from sqlalchemy.orm import Session

from lifecycle_sync.service.host.columns import Columns, is_before

_PAGE = 1000


class SqlAlchemyFiles:
    """Reads pages of a model's rows, and changes one row a transaction.

    `session` is called for a session (a `sessionmaker`, or `lambda: db.session()`), which is closed
    after each use. `columns` names those that are called otherwise than `id`, `path`, `status`,
    `expiry_at` and `downloaded_at`; `expired` is the status of a file whose time was over, and
    `inactive` are those of rows that are no longer looked at, that one included.
    """

    def __init__(
        self,
        session: Callable[[], Session],
        model: type,
        columns: Mapping[str, str | None] | None = None,
        *,
        expired: Any = "expired",
        inactive: tuple[Any, ...] = ("expired", "deleted"),
    ) -> None:
        self._session = session
        self._model: Any = model
        mapper: Any = inspect(model)
        attributes = {it.key for it in mapper.column_attrs}
        self._columns = Columns(columns, attributes.__contains__)
        self._expired = expired
        self._inactive = {expired, *inactive}

    def _column(self, meaning: str) -> Any:
        name = self._columns[meaning]
        return None if name is None else getattr(self._model, name)

    def _rows(self, *conditions: Any) -> Iterator[dict[str, Any]]:
        """By pages, each in a session of its own: nothing stays open while files are deleted."""
        identity = self._column("id")
        last: Any = None
        while True:
            with self._session() as session:
                query = select(self._model).where(*conditions).order_by(identity).limit(_PAGE)
                if last is not None:
                    query = query.where(identity > last)
                page = [self._columns.row(record) for record in session.scalars(query)]
            yield from page
            if len(page) < _PAGE:
                return
            last = page[-1]["id"]

    def get_all_active(self) -> Iterator[dict[str, Any]]:
        """Rows with an expiry whose status is not one of the inactive ones."""
        expiry, status = self._column("expiry_at"), self._column("status")
        if expiry is None:
            return iter(())
        conditions = [expiry.is_not(None)]
        if status is not None:
            conditions.append(status.is_(None) | status.not_in(self._inactive))
        return self._rows(*conditions)

    def get_all(self) -> Iterator[dict[str, Any]]:
        return self._rows()

    def get_downloaded_before(self, cutoff: datetime) -> Iterator[dict[str, Any]]:
        column = self._column("downloaded_at")
        if column is None:
            return iter(())
        # Compared here: a column may hold text, and a zone or none.
        rows = self._rows(column.is_not(None))
        return (row for row in rows if is_before(row["downloaded_at"], cutoff))

    def mark_expired(self, file_id: Any) -> None:
        name = self._columns["status"]
        with self._session() as session, session.begin():
            record = session.get(self._model, file_id)
            if record is not None and name is not None:
                setattr(record, name, self._expired)
            elif record is not None:
                # Without a status the expiry is what says that it has still to go.
                setattr(record, str(self._columns["expiry_at"]), None)

    def delete(self, file_id: Any) -> None:
        with self._session() as session, session.begin():
            record = session.get(self._model, file_id)
            if record is not None:
                session.delete(record)
