"""Choosing a share of what comes, exactly and without chance."""

from __future__ import annotations

_PARTS = 10**8  # a percentage has six decimals


class Share:
    """Picks `percent` of what it is asked about: after n questions, n · percent / 100 of them,
    rounded down, and spread as evenly as that allows."""

    def __init__(self, percent: float) -> None:
        self._step = round(percent * (_PARTS // 100))
        self._sum = 0

    def next(self) -> bool:
        """Whether the next one is picked."""
        self._sum += self._step
        if self._sum < _PARTS:
            return False
        self._sum -= _PARTS
        return True
