"""Records of one type by key; each call is one durable transaction."""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

import msgspec
import sqlalchemy as sql

from inferd.store.schema import records

T = TypeVar("T")


class Database(Protocol):
    """What a table needs of its store."""

    dialect: str

    def read(self, statement: sql.Select[Any]) -> list[tuple[str, str]]: ...

    def write(self, statement: sql.Executable) -> None: ...

    def damaged(self, what: str, why: Exception) -> Exception: ...


class Table(Generic[T]):
    """A mapping that outlives the daemon. Calls block while the disk works: milliseconds, so an
    event loop that serves others leaves them to a thread. They may come from any thread.

    Every call raises `StoreError` where the database fails, or holds what is no `T`.
    """

    def __init__(self, database: Database, name: str, of: type[T]) -> None:
        self._database = database
        self._name = name
        self._decoder = msgspec.json.Decoder(of)

    def all(self) -> dict[str, T]:
        """Every record, by key in the order of keys."""
        found = self._database.read(self._select().order_by(records.c.key))
        return {key: self._decoded(key, value) for key, value in found}

    def get(self, key: str) -> T | None:
        found = self._database.read(self._select().where(records.c.key == key))
        return self._decoded(*found[0]) if found else None

    def put(self, key: str, value: T) -> None:
        """Store `value`, in place of what `key` held."""
        text = msgspec.json.encode(value).decode()
        new = _insert(self._database.dialect).values(table_name=self._name, key=key, value=text)
        where = [records.c.table_name, records.c.key]
        self._database.write(new.on_conflict_do_update(index_elements=where, set_={"value": text}))

    def delete(self, key: str) -> None:
        """Forget `key`; it need not be there."""
        self._database.write(
            sql.delete(records).where(records.c.table_name == self._name, records.c.key == key)
        )

    def _select(self) -> sql.Select[Any]:
        return sql.select(records.c.key, records.c.value).where(records.c.table_name == self._name)

    def _decoded(self, key: str, value: str) -> T:
        try:
            return self._decoder.decode(value)
        except msgspec.DecodeError as error:  # ValidationError is one
            raise self._database.damaged(f"{self._name} {key}", error) from error


def _insert(dialect: str) -> Any:
    """That of the dialect, which has a clause for conflicts; importing both takes its time."""
    if dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as into_postgresql

        return into_postgresql(records)
    from sqlalchemy.dialects.sqlite import insert as into_sqlite

    return into_sqlite(records)
