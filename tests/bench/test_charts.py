"""Charts are XML, hold their points, and show nothing that is not there."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferd.bench.plots import cumulative, plot, throughput
from inferd.bench.svg import HEIGHT, WIDTH, Chart, draw, ticks
from tests.bench.records import record


@settings(deadline=None)
@given(st.floats(1e-6, 1e9))
def test_ticks_are_few_and_reach_over_all(most: float) -> None:
    marks = ticks(most)
    assert marks[0] == 0
    assert 3 <= len(marks) <= 8
    assert marks[-1] >= most * (1 - 1e-9)
    assert marks[-2] < most


def test_nothing_has_ticks_too() -> None:
    assert ticks(0) == [0.0, 1.0]


def test_a_distribution() -> None:
    assert cumulative([0.3, 0.1, 0.2, 0.2]) == [
        (100.0, 25.0),
        (200.0, 50.0),
        (200.0, 75.0),
        (300.0, 100.0),
    ]
    assert cumulative([]) == []


def test_a_long_distribution_is_thinned_but_keeps_its_ends() -> None:
    points = cumulative(value / 1000 for value in range(100_000))
    assert len(points) <= 401
    assert points[0][0] == 0.0
    assert points[-1] == pytest.approx((99_999, 100))


def test_throughput_keeps_every_event() -> None:
    arrivals = [0.01 * i for i in range(1, 101)]
    points = throughput([record(arrivals=arrivals[:50]), record(arrivals=arrivals[50:])])
    width = points[1][0] - points[0][0]
    assert sum(rate for _, rate in points) * width == pytest.approx(100)
    assert throughput([record(arrivals=(), error="timeout")]) == []


@pytest.mark.parametrize("open_loop", [True, False])
def test_a_plot_is_xml(open_loop: bool) -> None:
    records = [record(i, scheduled=i, arrivals=(i + 0.5, i + 1.0)) for i in range(20)]
    svg = plot(records, "model <m> & server", open_loop=open_loop)
    root = ElementTree.fromstring(svg)
    assert root.get("viewBox") == f"0 0 {2 * WIDTH} {2 * HEIGHT + 24}"
    assert "model <m> & server" in "".join(root.itertext())
    assert ("from schedule" in svg) is open_loop


def test_lines_stay_inside_their_panel() -> None:
    svg = draw([Chart("t", "x", "y", {"a": [(0.0, 0.0), (7.3, 913.0)], "none": []})], "")
    path = re.search(r'<path d="([^"]+)" fill="none"', svg)
    assert path is not None
    numbers = [float(each) for each in re.findall(r"-?\d+\.\d", path[1])]
    assert all(0 <= x <= WIDTH for x in numbers[::2])
    assert all(0 <= y <= HEIGHT and math.isfinite(y) for y in numbers[1::2])


def test_a_run_without_any_success() -> None:
    ElementTree.fromstring(plot([record(arrivals=(), error="connect")], "none", open_loop=True))
