"""A table of files that is known by its name and a database's URL alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from sqlalchemy import MetaData, Table, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import registry, sessionmaker

from lifecycle_sync.errors import UsageError
from lifecycle_sync.service.host.sqlalchemy_table import SqlAlchemyFiles


@contextmanager
def files_of(
    url: str, table: str, columns: Mapping[str, str | None] | None = None
) -> Iterator[SqlAlchemyFiles]:
    """The table, for as long as the block lasts. Raises `UsageError` for what cannot be reached,
    does not exist, or has no primary key."""
    try:
        engine = create_engine(url)
    except (SQLAlchemyError, ImportError) as error:
        raise _unusable(str(error), "the database") from error
    try:
        mapped = type("HostFile", (), {})
        reflected = Table(table, MetaData(), autoload_with=engine)
        registry().map_imperatively(mapped, reflected)
        yield SqlAlchemyFiles(sessionmaker(engine), mapped, columns)
    except SQLAlchemyError as error:
        raise _unusable(f"{type(error).__name__}: {error}", f"the table {table}") from error
    finally:
        engine.dispose()


def _unusable(cause: str, subject: str) -> UsageError:
    return UsageError(
        f"it cannot be used: {cause.splitlines()[0]}",
        operation="clean up",
        subject=subject,
        remedy="a URL is like postgresql://user:password@host/name or sqlite:///file.db",
    )
