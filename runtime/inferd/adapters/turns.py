"""What callers may ask of a change, and the turns of those who change one name."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from inferd.errors import InvalidRequest


def check_percent(percent: float, param: str) -> None:
    """Raises `InvalidRequest` unless it is a percentage above 0."""
    if not 0 < percent <= 100:
        raise InvalidRequest(f"{param} must be above 0 and at most 100", param)


def check_deadline(seconds: float) -> None:
    """Raises `InvalidRequest` unless that is a time from now."""
    if not 0 <= seconds < math.inf:
        raise InvalidRequest("deadline must be a number of seconds, 0 or more", "deadline")


class Turns:
    """One at a time for each name, in the order they came."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def of(self, name: str) -> AsyncIterator[None]:
        lock, users = self._locks.get(name, (asyncio.Lock(), 0))
        self._locks[name] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(name)
            if users > 1:
                self._locks[name] = (lock, users - 1)
