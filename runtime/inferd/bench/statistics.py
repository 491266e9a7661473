"""Distributions in a few numbers, defined exactly."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from msgspec import Struct

PERCENTILES = (50.0, 90.0, 95.0, 99.0)


class Summary(Struct, frozen=True):
    """A distribution. Where there is nothing to describe, `count` is 0 and so is all else.

    Attributes:
        std: of the population (divided by `count`).
        percentiles: (percent, value), see `percentile`.
    """

    count: int = 0
    mean: float = 0.0
    std: float = 0.0
    min: float = 0.0
    max: float = 0.0
    percentiles: tuple[tuple[float, float], ...] = ()

    @property
    def median(self) -> float:
        return dict(self.percentiles).get(50.0, 0.0)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The value below which `percent` of a sorted, non-empty sequence lies.

    Interpolated between neighbours: it stands at index `(n - 1) * percent / 100`, counted from 0
    (Hyndman and Fan's type 7, numpy's default). So 0 is the minimum and 100 the maximum.
    """
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def summarise(values: Iterable[float], percents: Iterable[float] = PERCENTILES) -> Summary:
    """`percents` are given beside the median, which is always there."""
    ordered = sorted(values)
    if not ordered:
        return Summary()
    mean = math.fsum(ordered) / len(ordered)
    return Summary(
        count=len(ordered),
        mean=mean,
        std=math.sqrt(math.fsum((value - mean) ** 2 for value in ordered) / len(ordered)),
        min=ordered[0],
        max=ordered[-1],
        percentiles=tuple((p, percentile(ordered, p)) for p in sorted({50.0, *percents})),
    )
