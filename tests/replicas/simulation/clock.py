"""Virtual time: an event loop in which nothing is waited for, and a clock that shows its time."""

from __future__ import annotations

import asyncio
import selectors

from inferd.residency import SystemClock

_TURN_S = 1e-7  # what a turn of the loop takes
_MAX_TURNS = 200_000  # in a row that nobody waits in


class _Selector(selectors.SelectSelector):
    """Instead of waiting for a timer it lets as much time pass."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._turns += 1
        if timeout:
            self.now += timeout
            self._turns = 0
        elif timeout is None:
            raise RuntimeError("everyone waits for someone else: there is no timer")
        elif self._turns > _MAX_TURNS:
            self._turns = 0
            raise RuntimeError("someone spins: time stands still")
        self.now += _TURN_S
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Whoever sleeps for an hour is back at once, in the order of the timers."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def now() -> float:
    """Seconds, by the loop that runs."""
    return asyncio.get_running_loop().time()


class LoopClock(SystemClock):
    """Residency's clock, by the loop that runs."""

    def now(self) -> float:
        return now()
