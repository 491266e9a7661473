"""A run against a server as charts: how latencies are distributed, and throughput over time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from inferd.bench.record import Record
from inferd.bench.svg import Chart, Points, draw

_POINTS = 400  # of a line at most


def plot(records: Sequence[Record], caption: str, *, open_loop: bool) -> str:
    """SVG. The distributions are of requests that ended well; throughput is of all that arrived.

    Args:
        open_loop: there was a schedule, from which latencies are shown as well.
    """
    good = [record for record in records if record.ok]
    waits = {"from sending": 0, "from schedule": 1} if open_loop else {"from sending": 0}
    ttft = {
        name: cumulative(record.ttft + counts * record.wait for record in good)
        for name, counts in waits.items()
    }
    e2el = {
        name: cumulative(record.e2el + counts * record.wait for record in good)
        for name, counts in waits.items()
    }
    itl = cumulative(gap for record in good for gap in record.itl)
    charts = [
        Chart("Time to first token", "ms", "% of requests", ttft),
        Chart("Inter-token latency", "ms", "% of gaps", {"itl": itl}),
        Chart("End-to-end latency", "ms", "% of requests", e2el),
        Chart("Throughput", "s", "events/s", {"events": throughput(records)}),
    ]
    return draw(charts, caption)


def cumulative(values: Iterable[float]) -> Points:
    """(milliseconds, percent of the values that are no larger), thinned to what a line shows."""
    ordered = sorted(values)
    count = len(ordered)
    places = {round(i * (count - 1) / _POINTS) for i in range(_POINTS + 1)} if count else set()
    return [(1000 * ordered[at], 100 * (at + 1) / count) for at in sorted(places)]


def throughput(records: Sequence[Record]) -> Points:
    """(seconds since the first request was due, events with text per second), evenly spaced."""
    times = [time for record in records for time in record.arrivals]
    if not times:
        return []
    began = min(record.scheduled for record in records)
    width = max(max(times) - began, 1e-9) / min(60, max(1, len(times) // 8))
    counts = Counter(int((time - began) / width) for time in times)
    last = max(counts)
    return [((slot + 0.5) * width, counts[slot] / width) for slot in range(last + 1)]
