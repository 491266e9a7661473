"""Seeded choices, and the rule that keeps held-out items away from training."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

HELD_OUT_PERCENT = 8
TRIES = 2000


class NothingHeldOut(Exception):
    """An earlier choice (a colour, a first number) left no held-out item to draw."""


def is_held_out(key: str) -> bool:
    """Whether the item named by `key` belongs to the test split (fixed for all time)."""
    return zlib.crc32(key.encode()) % 100 < HELD_OUT_PERCENT


class Draw:
    """Random choices from one seed, for the training or for the held-out split."""

    def __init__(self, seed: int, held_out: bool = False) -> None:
        self.rng = random.Random(seed)
        self.held_out = held_out

    def one(self, items: Sequence[T]) -> T:
        return items[int(self.rng.random() * len(items))]

    def some(self, items: Sequence[T], count: int) -> list[T]:
        """`count` different items, in random order."""
        return self.rng.sample(items, count)

    def number(self, low: int, high: int) -> int:
        """A whole number in [low, high]."""
        return self.rng.randint(low, high)

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def weighted(self, items: Sequence[T], weights: Sequence[float]) -> T:
        return self.rng.choices(items, weights)[0]

    def item(self, skill: str, make: Callable[[], T]) -> T:
        """The first value of `make` that lies in this draw's split for `skill`."""
        for _ in range(TRIES):
            value = make()
            if is_held_out(f"{skill}:{value!r}") == self.held_out:
                return value
        raise NothingHeldOut(skill)

    def example(self, skill: Callable[[Draw], T]) -> T:
        """An example of `skill`, drawn again where an earlier choice left nothing held out."""
        while True:
            try:
                return skill(self)
            except NothingHeldOut:
                continue
