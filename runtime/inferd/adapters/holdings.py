"""Which generations one engine holds, and for how many names and requests.

A generation that someone holds stays in the engine; when the last one lets go it is dropped.
Loads and drops of one generation follow each other, so that the engine's state is the newest
that was asked for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from inferd.engines.base import Engine
from inferd.errors import InferdError, InvalidRequest
from inferd.messages import AdapterInfo, LoadAdapter

_log = logging.getLogger("inferd.adapters")


class _Held:
    """One generation."""

    def __init__(self) -> None:
        self.count = 0
        self.info: AdapterInfo | None = None
        self.asked = False  # the engine was told to load it, and may hold it
        self.turn = asyncio.Lock()


class Holdings:
    """What one engine holds.

    Args:
        base: the deployment's name.
        folder: a generation's folder.
        on_gone: called when nothing holds a generation any more, here.
    """

    def __init__(
        self,
        base: str,
        engine: Engine,
        folder: Callable[[str], Path],
        on_gone: Callable[[str], None],
    ) -> None:
        self.base = base
        self.engine = engine
        self._folder = folder
        self._on_gone = on_gone
        self._held: dict[str, _Held] = {}
        self._drops: set[asyncio.Task[None]] = set()
        self.closed = False

    def hold(self, generation: str) -> None:
        """Keep a generation from being dropped; `release` undoes it, once."""
        self._held.setdefault(generation, _Held()).count += 1

    def info(self, generation: str) -> AdapterInfo | None:
        """What the engine said of a generation that it holds; None: it does not."""
        held = self._held.get(generation)
        return held.info if held is not None else None

    def holds(self, generation: str) -> bool:
        """Whether anyone holds it, or the engine may still."""
        return generation in self._held

    @property
    def counts(self) -> dict[str, int]:
        """Generation → holders; 0 while it is being dropped."""
        return {name: held.count for name, held in self._held.items()}

    async def load(self, generation: str) -> AdapterInfo:
        """Have the engine hold a generation that the caller has a `hold` on.

        Raises:
            InvalidRequest: it does not fit the model; names `source`.
            Unavailable, EngineError, EngineDead: not now.
        """
        held = self._held[generation]
        async with held.turn:
            if held.info is not None:
                return held.info
            held.asked = True
            folder = str(self._folder(generation))
            try:
                held.info = await self.engine.load_adapter(LoadAdapter(generation, folder))
            except InvalidRequest as error:
                error.param = "source"
                raise
            return held.info

    def release(self, generation: str) -> None:
        """Undo one `hold`."""
        held = self._held[generation]
        assert held.count > 0, generation
        held.count -= 1
        if held.count:
            return
        if self.closed or not held.asked:
            self._gone(generation)
            return
        task = asyncio.get_running_loop().create_task(self._drop(generation, held))
        self._drops.add(task)
        task.add_done_callback(self._drops.discard)

    async def settled(self) -> None:
        """Wait until what nobody holds now has been dropped."""
        if self._drops:
            await asyncio.wait(set(self._drops))

    def close(self) -> None:
        """The engine is gone, and all that it held with it; holders may still let go."""
        self.closed = True
        for each in self._held.values():
            each.info = None
        for generation in [name for name, each in self._held.items() if not each.count]:
            self._gone(generation)

    async def _drop(self, generation: str, held: _Held) -> None:
        async with held.turn:
            if held.count or self._held.get(generation) is not held:
                return  # wanted again meanwhile, or dropped by another turn
            held.info = None
            if not self.closed and held.asked:
                try:
                    await self.engine.drop_adapter(generation)
                except InferdError as error:  # it is down, and starts without this one
                    _log.warning("dropping adapter %s: %s", generation, error)
            held.asked = False
            if not held.count:
                self._gone(generation)

    def _gone(self, generation: str) -> None:
        if self._held.pop(generation, None) is not None:
            self._on_gone(generation)
