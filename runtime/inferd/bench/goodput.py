"""Goodput: the requests per second that ended well and met every objective (DistServe,
arXiv 2401.09670). A request that failed met none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from inferd.bench.errors import BenchError
from inferd.bench.record import Record

OBJECTIVES = ("ttft", "tpot", "itl", "e2el")


def parse_objectives(texts: Iterable[str]) -> dict[str, float]:
    """`ttft:200` is {"ttft": 0.2}: milliseconds, given as seconds. Raises BenchError."""
    objectives: dict[str, float] = {}
    for text in " ".join(texts).split():
        name, _, limit = text.partition(":")
        if name not in OBJECTIVES:
            known = ", ".join(OBJECTIVES)
            raise BenchError(f"{text!r}: there is no metric {name!r}; there are {known}")
        try:
            objectives[name] = float(limit) / 1000
        except ValueError:
            raise BenchError(f"{text!r} is not a metric and milliseconds, as ttft:200") from None
        if not objectives[name] > 0:
            raise BenchError(f"{text!r}: the limit must be above 0")
    return objectives


def meets(record: Record, objectives: Mapping[str, float]) -> bool:
    """Whether a request ended well within all limits (seconds).

    ttft and e2el count from when the request was to be sent: a late client makes them worse, never
    better. tpot is the request's mean; itl its longest gap, so every gap is within the limit. A
    reply of a single token has neither, and meets them.
    """
    if not record.ok:
        return False
    reached = {
        "ttft": record.wait + record.ttft,
        "e2el": record.wait + record.e2el,
        "tpot": record.tpot or 0.0,
        "itl": max(record.itl, default=0.0) if "itl" in objectives else 0.0,
    }
    return all(reached[name] <= limit for name, limit in objectives.items())
