"""How many instances of a model there are."""

from __future__ import annotations

from msgspec import Struct


class Instances(Struct, frozen=True):
    """`running` take requests; `pending` start or wake; those `asleep` wake on demand."""

    running: int = 0
    pending: int = 0
    asleep: int = 0
