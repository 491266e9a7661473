"""What the store keeps of a deployment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec import Struct

from inferd.deployments.spec import DeploySpec
from inferd.lifecycle import Failure, State
from inferd.offload import in_thread
from inferd.store import Table


class Record(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A deployment as a later daemon finds it. Access tokens are never in it.

    Args:
        state: what it is to be: `running`, `stopped`, `failed` or `deleted`.
        folder, commit: what was fetched from a hub: a restart serves the same, network or not.
    """

    deploy_id: str
    spec: DeploySpec
    state: State
    created_at: float
    updated_at: float
    failure: Failure | None = None
    version: str = ""
    folder: str = ""
    commit: str | None = None


class Records:
    """A table whose writes happen on a thread, in order, and are durable when awaited."""

    def __init__(self, table: Table[Record]) -> None:
        self._table = table
        self._turn = asyncio.Lock()

    def all(self) -> dict[str, Record]:
        return self._table.all()

    async def put(self, latest: Callable[[], Record]) -> None:
        """Store what `latest` says when its turn has come."""
        async with self._turn:
            record = latest()
            await in_thread(lambda: self._table.put(record.deploy_id, record))

    async def delete(self, deploy_id: str) -> None:
        async with self._turn:
            await in_thread(lambda: self._table.delete(deploy_id))
