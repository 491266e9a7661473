"""Records outlive the store that wrote them; what cannot be used is refused by name."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from msgspec import Struct

from inferd.errors import StartError
from inferd.store import Store, StoreError


class Point(Struct, frozen=True):
    x: int
    name: str = ""


class Other(Struct, frozen=True):
    y: int


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'state.db'}"


def test_records_outlive_the_store(tmp_path: Path) -> None:
    store = Store(url(tmp_path))
    points = store.table("points", Point)
    points.put("b", Point(1, "ä"))
    points.put("a", Point(2))
    points.put("b", Point(3))
    points.put("gone", Point(4))
    points.delete("gone")
    points.delete("never")
    store.close()
    again = Store(url(tmp_path)).table("points", Point)
    assert again.all() == {"a": Point(2), "b": Point(3)}
    assert again.get("b") == Point(3)
    assert again.get("gone") is None


def test_tables_do_not_see_each_other() -> None:
    store = Store("sqlite://")
    store.table("points", Point).put("k", Point(1))
    others = store.table("others", Other)
    assert others.all() == {}
    others.put("k", Other(2))
    others.delete("k")
    assert store.table("points", Point).get("k") == Point(1)


def test_what_is_committed_is_there_without_a_close(tmp_path: Path) -> None:
    """As after a kill: another connection sees it, and SQLite syncs every commit."""
    store = Store(url(tmp_path))
    store.table("points", Point).put("k", Point(1))
    with sqlite3.connect(tmp_path / "state.db") as beside:
        assert beside.execute("select value from inferd_records").fetchall() == [
            ('{"x":1,"name":""}',)
        ]
        assert beside.execute("pragma journal_mode").fetchone() == ("wal",)
    beside.close()
    store.close()


def test_many_threads_write_at_once(tmp_path: Path) -> None:
    store = Store(url(tmp_path))
    points = store.table("points", Point)

    def write(first: int) -> None:
        for x in range(first, first + 10):
            points.put(f"{x:02}", Point(x))

    threads = [threading.Thread(target=write, args=(first,)) for first in range(0, 40, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [point.x for point in points.all().values()] == list(range(40))


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    store = Store(url(tmp_path))
    store.table("points", Point).put("k", Point(1))
    with pytest.raises(StoreError, match="points k"):
        store.table("points", Other).all()


def test_a_newer_layout_is_refused(tmp_path: Path) -> None:
    Store(url(tmp_path)).close()
    with sqlite3.connect(tmp_path / "state.db") as beside:
        beside.execute("update inferd_layout set version = version + 1")
    beside.close()
    with pytest.raises(StartError, match="newer inferd"):
        Store(url(tmp_path))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("nonsense", "URL"),
        ("mysql://host/name", "mysql is no database"),
        ("sqlite+nothing:///x", "no driver"),
        ("sqlite:////no/such/folder/x.db", "unable to open"),
        ("postgresql+psycopg2://u:secret@127.0.0.1:1/x", "psycopg2"),
    ],
)
def test_an_unusable_database_is_told(bad: str, words: str) -> None:
    with pytest.raises(StartError, match=words) as caught:
        Store(bad)
    assert caught.value.code == "bad_option"
    assert "secret" not in str(caught.value)


def test_a_failing_database_is_an_error_of_ours(tmp_path: Path) -> None:
    store = Store(url(tmp_path))
    with sqlite3.connect(tmp_path / "state.db") as beside:
        beside.execute("drop table inferd_records")
    beside.close()
    with pytest.raises(StoreError) as caught:
        store.table("points", Point).put("k", Point(1))
    assert "inferd_records" not in caught.value.message
    assert "inferd_records" in str(caught.value)
