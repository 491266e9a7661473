"""Permits: how many sequences may be in flight, and draining before the daemon ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from inferd.errors import BusyError, Unavailable


class Admission:
    """Counts what is in flight; refuses at once rather than letting callers wait.

    Args:
        limit: sequences in flight, over all models; a request for n choices counts n.
    """

    def __init__(self, limit: int = 1024) -> None:
        if limit < 1:
            raise ValueError("limit must be at least 1")
        self.limit = limit
        self._in_flight = 0
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def in_flight(self) -> int:
        """Sequences that hold a permit."""
        return self._in_flight

    @property
    def draining(self) -> bool:
        return self._draining

    @contextmanager
    def permit(self, sequences: int = 1) -> Iterator[None]:
        """Hold `sequences` permits; returned on leaving, without awaiting anything.

        Raises:
            Unavailable: draining (503).
            BusyError: the limit is reached (429).
        """
        if self._draining:
            raise Unavailable("The server is shutting down", retry_after=5.0)
        if self._in_flight and self._in_flight + sequences > self.limit:
            raise BusyError(log=f"{self._in_flight} sequences in flight, limit {self.limit}")
        self._in_flight += sequences
        self._idle.clear()
        try:
            yield
        finally:
            self._in_flight -= sequences
            if self._in_flight == 0:
                self._idle.set()

    def begin_drain(self) -> None:
        """Refuse everything new from now on; what is in flight goes on. Cannot be undone."""
        self._draining = True

    async def drained(self, deadline: float) -> bool:
        """Wait at most `deadline` seconds until nothing is in flight; whether that came true."""
        try:
            async with asyncio.timeout(deadline):
                await self._idle.wait()
        except TimeoutError:
            pass
        return self._idle.is_set()
