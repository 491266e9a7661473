"""What callers may ask of a name, and their turns in changing one."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from inferd.errors import InvalidRequest

_NAME = re.compile(r"[\w.-]+(/[\w.-]+)*", re.ASCII)
_MAX_NAME = 128


def check_name(name: str) -> None:
    """Raises `InvalidRequest` unless `name` can stand in a path and, with a generation behind
    it, in `model`."""
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME or name.split("/")[0] in (".", ".."):
        raise InvalidRequest(
            f"name: letters, digits, `_`, `-`, `.`, and `/` between them; at most {_MAX_NAME}",
            "name",
        )


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
