"""Times an operation's implementations, turn by turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from statistics import median
from time import perf_counter
from typing import Any

import torch

from benchmarks.kernels.case import Case
from inferd_kernels.dispatch import only

ROUNDS = 7
ROUND_S = 0.03


def measure(case: Case, ceilings: dict[str, float]) -> dict[str, Any]:
    """Figures of one case: microseconds of each implementation, rates of ours, and their shares of
    the ceilings."""
    seconds = _seconds(dict(_subjects(case)))
    ours = seconds["cpu"]
    figures: dict[str, Any] = {"case": case.name, "bytes": case.bytes}
    figures |= {f"{name}_us": round(taken * 1e6, 2) for name, taken in seconds.items()}
    figures["gb_per_s"] = round(case.bytes / ours / 1e9, 2)
    figures["of_read"] = round(case.bytes / ours / 1e9 / ceilings["read"], 3)
    if case.operations:
        figures["operations"] = case.operations
        figures["gflop_per_s"] = round(case.operations / ours / 1e9, 2)
        for name in dict.fromkeys((case.peak, "sgemm")):
            figures[f"of_{name}"] = round(case.operations / ours / 1e9 / ceilings[name], 3)
    for name in ("reference", "torch"):
        if name in seconds:
            figures[f"times_{name}"] = round(seconds[name] / ours, 2)
    return figures


def _subjects(case: Case) -> Iterator[tuple[str, tuple[Callable[[], object], str]]]:
    yield "cpu", (case.run, "cpu")
    if case.torch is not None:
        yield "torch", (case.torch, "")
    if case.reference:
        yield "reference", (case.run, "reference")


@torch.inference_mode()
def _seconds(subjects: dict[str, tuple[Callable[[], object], str]]) -> dict[str, float]:
    """Each subject's median over rounds, in which they take turns, of the mean of a round."""
    counts = {name: _how_often(*subject) for name, subject in subjects.items()}
    taken: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(ROUNDS):
        for name, (run, implementation) in subjects.items():
            taken[name].append(_mean(run, implementation, counts[name]))
    return {name: median(each) for name, each in taken.items()}


def _how_often(run: Callable[[], object], implementation: str) -> int:
    """Calls that fill a round; the first of them has warmed up."""
    _mean(run, implementation, 1)
    return max(1, int(ROUND_S / _mean(run, implementation, 2)))


def _mean(run: Callable[[], object], implementation: str, count: int) -> float:
    with only(implementation) if implementation else nullcontext():
        run()  # finds its implementation
        begin = perf_counter()
        for _ in range(count):
            run()
        return (perf_counter() - begin) / count
