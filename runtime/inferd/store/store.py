"""The database behind the tables: opened, checked, locked against a second daemon, closed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import sqlalchemy as sql
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from inferd.errors import InferdError, StartError
from inferd.store import schema
from inferd.store.table import Table

T = TypeVar("T")

DIALECTS = ("sqlite", "postgresql")
_BUSY_MS = 5000  # SQLite waits so long for another process's transaction
_IN_MEMORY: dict[str, Any] = {  # such a database is its one connection
    "poolclass": QueuePool,
    "pool_size": 1,
    "max_overflow": 0,
    "connect_args": {"check_same_thread": False},
}
_LOCK = 0x696E66657264  # PostgreSQL's advisory lock: one daemon per database


class StoreError(InferdError):
    """The database failed, or a record in it is damaged."""

    code = "store_failed"


class Store:
    """Typed tables of records in one database.

    Args:
        url: SQLAlchemy's: `sqlite:///FILE`, `sqlite://` (in memory), `postgresql+psycopg://…`.

    Raises:
        StartError: `bad_option`: the database cannot be had, is newer than this inferd, or serves
            another daemon.
    """

    def __init__(self, url: str) -> None:
        parsed = _parsed(url)
        self.dialect = parsed.get_backend_name()
        self.shown = parsed.render_as_string(hide_password=True)
        self._engine = self._opened(parsed)
        self._guard: Connection | None = None
        try:
            self._begin()
        except SQLAlchemyError as error:
            self.close()
            raise self._unusable(str(error.__cause__ or error)) from error
        except StartError:
            self.close()
            raise

    def table(self, name: str, of: type[T]) -> Table[T]:
        """The records of `name`, which are of type `of`; msgspec must know how to write it."""
        return Table(self, name, of)

    def close(self) -> None:
        """Give up all connections. What was stored stays. Idempotent."""
        if self._guard is not None:
            self._guard.close()
            self._guard = None
        self._engine.dispose()

    # ------------------------------------------------------------ for tables

    def read(self, statement: sql.Select[Any]) -> list[tuple[str, str]]:
        with self._told(), self._engine.connect() as connection:
            return [(row[0], row[1]) for row in connection.execute(statement)]

    def write(self, statement: sql.Executable) -> None:
        with self._told(), self._engine.begin() as connection:
            connection.execute(statement)

    def damaged(self, what: str, why: Exception) -> StoreError:
        return StoreError(
            f"The daemon's state holds a damaged record: {what}", log=f"{self.shown}: {what}: {why}"
        )

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise StoreError(
                "The daemon's state cannot be read or stored",
                log=f"{self.shown}: {error.__cause__ or error}",
            ) from error

    # ------------------------------------------------------------ the start

    def _opened(self, url: URL) -> Engine:
        in_memory = self.dialect == "sqlite" and url.database in (None, "", ":memory:")
        try:
            engine = sql.create_engine(url, **(_IN_MEMORY if in_memory else {}))
        except NoSuchModuleError as error:
            raise self._unusable(f"there is no driver {url.drivername}") from error
        except ModuleNotFoundError as error:
            raise StartError(
                "bad_option",
                f"The database {self.shown} needs the Python package {error.name}",
                hint=f"Install it: pip install {error.name}",
            ) from error
        if self.dialect == "sqlite":
            sql.event.listen(engine, "connect", _durable)
        return engine

    def _begin(self) -> None:
        if self.dialect == "postgresql":
            self._guard = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            if not self._guard.scalar(sql.select(sql.func.pg_try_advisory_lock(_LOCK))):
                raise self._unusable("another inferd uses it")
        schema.metadata.create_all(self._engine)
        with self._engine.begin() as connection:
            found = connection.scalar(sql.select(schema.layout.c.version))
            if found is None:
                connection.execute(sql.insert(schema.layout).values(version=schema.VERSION))
            elif found > schema.VERSION:
                raise self._unusable("it was written by a newer inferd")

    def _unusable(self, why: str) -> StartError:
        return StartError("bad_option", f"The database {self.shown} cannot be used: {why}")


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError) as error:
        raise StartError(
            "bad_option",
            "The database's URL is none",
            hint="Like sqlite:////var/lib/inferd/state.db, or postgresql+psycopg://user@host/name.",
        ) from error
    if backend not in DIALECTS:
        raise StartError(
            "bad_option",
            f"{backend} is no database that inferd can use",
            hint=f"It knows {' and '.join(DIALECTS)}.",
        )
    return parsed


def _durable(connection: object, record: object) -> None:
    """SQLite as we need it: readers beside the writer, and a commit that survives a power cut."""
    cursor = connection.cursor()  # type: ignore[attr-defined]
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={_BUSY_MS}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
