"""What outlives the daemon: typed records in SQLite, or in PostgreSQL where a URL names one."""

from inferd.store.store import Store, StoreError
from inferd.store.table import Table

__all__ = ["Store", "StoreError", "Table"]
