"""The adapters of one model, the same in all its replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from weakref import WeakValueDictionary

from inferd.errors import InvalidRequest
from inferd.messages import AdapterInfo, LoadAdapter
from inferd.replicas.replica import Replica


class Adapters:
    """What is held, and who holds it.

    Args:
        wanted: by id, what every replica is to hold; kept up to date here, read by all.
    """

    def __init__(self, wanted: dict[str, LoadAdapter]) -> None:
        self._wanted = wanted
        self._infos: dict[str, AdapterInfo] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def turn(self, adapter: str) -> asyncio.Lock:
        """One load or drop of an adapter at a time."""
        return self._turns.setdefault(adapter, asyncio.Lock())

    def find(self, adapter: str) -> AdapterInfo | None:
        return self._infos.get(adapter)

    async def load(self, replicas: Sequence[Replica], load: LoadAdapter) -> AdapterInfo:
        """Have `replicas` hold it, and those that come from now on. In its turn.

        Raises what `Engine.load_adapter` raises; nothing is held then.
        """
        self._wanted[load.adapter] = load
        try:
            loads = (replica.load(load) for replica in replicas)
            info = _agreed(await asyncio.gather(*loads, return_exceptions=True))
        except BaseException:
            del self._wanted[load.adapter]  # who holds it nevertheless drops it soon
            raise
        self._infos[load.adapter] = info
        return info

    async def drop(self, replicas: Sequence[Replica], adapter: str) -> None:
        """Have nobody hold it. In its turn."""
        self._infos.pop(adapter, None)
        self._wanted.pop(adapter, None)
        holders = [each for each in replicas if adapter in each.held]
        await asyncio.gather(*(each.drop(adapter) for each in holders))


def _agreed(results: Sequence[AdapterInfo | BaseException]) -> AdapterInfo:
    """Of replicas that differ, those that have it count, but for a refusal of the adapter."""
    infos = [each for each in results if isinstance(each, AdapterInfo)]
    errors = [each for each in results if isinstance(each, BaseException)]
    refusals = [each for each in errors if isinstance(each, InvalidRequest)]
    if refusals or not infos:
        raise [*refusals, *errors][0]
    return infos[0]
