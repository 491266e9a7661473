"""Percentiles, as numpy defines them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferd.bench.statistics import Summary, percentile, summarise

FINITE = st.floats(-1e6, 1e6)


@settings(deadline=None)
@given(st.lists(FINITE, min_size=1, max_size=50), st.floats(0, 100))
def test_percentile_is_numpys(values: list[float], percent: float) -> None:
    expected = float(np.percentile(values, percent))
    assert percentile(sorted(values), percent) == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_a_summary() -> None:
    summary = summarise([3.0, 1.0, 2.0, 10.0], (90, 100))
    assert summary.count == 4
    assert (summary.min, summary.max, summary.mean) == (1.0, 10.0, 4.0)
    assert summary.std == pytest.approx(math.sqrt(12.5))
    assert dict(summary.percentiles) == pytest.approx({50.0: 2.5, 90.0: 7.9, 100.0: 10.0})
    assert summary.median == 2.5


def test_nothing() -> None:
    assert summarise([]) == Summary()
    assert summarise([]).median == 0.0
