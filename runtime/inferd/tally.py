"""What each model did, minute by minute, for the last day; in memory."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

MINUTE = 60  # seconds
KEPT = 24 * 60  # minutes


@dataclass(slots=True)
class Counts:
    """Of one minute."""

    requests: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Tally:
    """Counts by model.

    Args:
        now: Unix time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._minutes: dict[str, deque[tuple[int, Counts]]] = {}

    def of(self, model: str) -> Counts:
        """The present minute's counts of `model`, to be added to at once."""
        minute = int(self._now()) // MINUTE * MINUTE
        minutes = self._minutes.setdefault(model, deque(maxlen=KEPT))
        if not minutes or minutes[-1][0] < minute:
            minutes.append((minute, Counts()))
        return minutes[-1][1]

    def read(self, model: str, since: float, until: float) -> Iterator[tuple[int, Counts]]:
        """The minutes of `model` that began in [since, until), by the Unix time in seconds at
        which they began; those in which nothing happened are left out."""
        oldest = max(since, self._now() - (KEPT + 1) * MINUTE)
        minutes = self._minutes.get(model, ())
        return ((minute, c) for minute, c in minutes if oldest <= minute < until)
