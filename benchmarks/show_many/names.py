"""Which generation a name meant when: what a request may have been answered by, and what not."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

BARE = ""
"""No adapter: the base itself."""


@dataclass
class Change:
    """`name` comes to mean `value` at some moment between `begin` and `end`; None: nothing."""

    begin: float
    end: float
    value: str | None


class Names:
    """The history of each name.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._changes: dict[str, list[Change]] = {}

    def begin(self, name: str, value: str | None) -> None:
        """From the first on, `name` means `value`."""
        self._changes[name] = [Change(-math.inf, -math.inf, value)]

    @contextmanager
    def changing(self, name: str, value: str | None) -> Iterator[None]:
        """While `name` comes to mean `value`; it must, once this is left."""
        change = Change(self.clock(), math.inf, value)
        self._changes[name].append(change)
        yield
        change.end = self.clock()

    def now(self, name: str) -> str | None:
        """What it meant after the last change that is over."""
        return next(each.value for each in reversed(self._changes[name]) if each.end < math.inf)

    def possible(self, name: str, sent: float, answered: float) -> set[str | None]:
        """All that it may have meant to a request that was sent and answered then."""
        changes = self._changes[name]
        before = [each for each in changes if each.end <= sent]
        during = [each for each in changes if each.end > sent and each.begin <= answered]
        return {before[-1].value, *(each.value for each in during)}
