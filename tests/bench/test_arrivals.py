"""The plan of an open loop."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import mean, pstdev

import pytest

from inferd.bench.arrivals import arrival_times


def test_all_at_once() -> None:
    assert arrival_times(3, math.inf, 1.0, 0) == [0.0, 0.0, 0.0]


def test_the_seed_makes_the_plan() -> None:
    plan = arrival_times(50, 10, 1.0, 7)
    assert plan == arrival_times(50, 10, 1.0, 7) != arrival_times(50, 10, 1.0, 8)
    assert plan[0] == 0.0
    assert plan == sorted(plan)


@pytest.mark.parametrize(
    ("burstiness", "variation"), [(1.0, 1.0), (0.25, 2.0), (4.0, 0.5)], ids=str
)
def test_intervals_have_their_mean_and_variation(burstiness: float, variation: float) -> None:
    """A gamma distribution varies by 1/sqrt(shape) of its mean; Poisson's intervals by 1."""
    gaps = [later - sooner for sooner, later in pairwise(arrival_times(20_000, 8, burstiness, 1))]
    assert mean(gaps) == pytest.approx(1 / 8, rel=0.05)
    assert pstdev(gaps) / mean(gaps) == pytest.approx(variation, rel=0.05)
