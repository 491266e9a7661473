"""Getting a generation from where it is to an engine that holds it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from msgspec import structs

from inferd.adapters.holdings import Holdings
from inferd.adapters.library import Library
from inferd.adapters.records import GenerationRecord
from inferd.adapters.source import Source, Stager
from inferd.errors import Unavailable
from inferd.hub import Hub


class Bringer:
    """Brings generations, for as long as somebody needs them for a change of a name.

    Args:
        clock: Unix time in seconds.
    """

    def __init__(self, library: Library, hub: Hub, clock: Callable[[], float]) -> None:
        self._library = library
        self._stager = Stager(library, hub)
        self._clock = clock

    @asynccontextmanager
    async def brought(
        self, source: Source, choose: Callable[[str], Holdings]
    ) -> AsyncIterator[tuple[GenerationRecord, Holdings]]:
        """The generation in `source`, in the library, and held while entered by the engine that
        `choose` says. Raises what staging and loading raise; nothing is left of it then.

        Args:
            choose: is told the base that the adapter's config names; "": none.
        """
        staged, commit = await self._stager.stage(source)
        try:
            holdings = choose(staged.base)
        except BaseException:
            self._library.discard(staged.folder)
            raise
        self._library.adopt(staged)
        async with self.held(holdings, staged.generation) as known:
            yield structs.replace(known, source=source.text, revision=commit), holdings

    async def settled(self) -> None:
        """Wait until nothing is copied for anybody, also for those who have left."""
        await self._stager.settled()

    @asynccontextmanager
    async def held(self, holdings: Holdings, generation: str) -> AsyncIterator[GenerationRecord]:
        """A generation of the library, held by the engine while entered."""
        holdings.hold(generation)
        try:
            info = await holdings.load(generation)
            if holdings.closed:
                raise Unavailable("The model was stopped while the adapter was being loaded")
            yield GenerationRecord(
                generation,
                source="",
                created=int(self._clock()),
                rank=info.rank,
                num_bytes=info.num_bytes,
                modules=info.modules,
            )
        finally:
            holdings.release(generation)
