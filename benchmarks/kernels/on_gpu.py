"""Times operations on a GPU beside torch's own, by the device's events, with cold caches.

Before each call as much memory is overwritten as makes the caches forget, which also gives the host
the time to launch the call: what is measured is the device's time, plus about a microsecond of the
events' own. `host_us`, where it is more than `FLUSH_BYTES` take, says that it was not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from importlib import import_module
from statistics import median
from time import perf_counter
from typing import Any

import torch

from benchmarks.kernels.case import Case, Place
from inferd_kernels.dispatch import only

FLUSH_BYTES = 1 << 30
ROUNDS = 20
WARM_UPS = 2  # the first compiles
NAMES = (
    "activation",
    "attention",
    "embedding",
    "grouped_linear",
    "linear",
    "lora",
    "rmsnorm",
    "rope",
    "sampling",
)

Timer = Callable[[Callable[[], object]], float]
"""Seconds of one call on the device, caches cold."""


def figures(
    place: Place, peaks: dict[str, float], names: Iterable[str] = NAMES
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Of each case of these operations, as it is measured.

    Args:
        peaks: what the device can do: `bytes_per_s`, `flop_per_s`; empty: no shares of them.

    Yields: the operation's name; and of a case: its `case`, `bytes`, `operations`, `ours_us`,
        `host_us`, `gb_per_s`, `tflop_per_s`, their shares `of_copy` and `of_matmul`, `torch_us`
        and `times_torch`, each where there is one.
    """
    timer = _by_events(place.device) if place.device.type == "cuda" else _by_clock
    with torch.inference_mode():
        for name in names:
            for case in import_module(f"benchmarks.kernels.cases.{name}").cases(place):
                yield name, _measured(case, timer, peaks)


def _measured(case: Case, timer: Timer, peaks: dict[str, float]) -> dict[str, Any]:
    ours, host = _seconds(case.run, "gpu", timer)
    found: dict[str, Any] = {
        "case": case.name,
        "bytes": case.bytes,
        "ours_us": round(ours * 1e6, 2),
        "host_us": round(host * 1e6, 2),
        "gb_per_s": round(case.bytes / ours / 1e9, 1),
    }
    if peaks:
        found["of_copy"] = round(case.bytes / ours / peaks["bytes_per_s"], 3)
    if case.operations:
        found["operations"] = case.operations
        found["tflop_per_s"] = round(case.operations / ours / 1e12, 2)
        if peaks:
            found["of_matmul"] = round(case.operations / ours / peaks["flop_per_s"], 3)
    if case.torch is not None:
        theirs, _ = _seconds(case.torch, "", timer)
        found |= {"torch_us": round(theirs * 1e6, 2), "times_torch": round(theirs / ours, 2)}
    return found


def _seconds(run: Callable[[], object], implementation: str, timer: Timer) -> tuple[float, float]:
    """Medians of a call on the device, and of the host's share in it: until it has returned."""
    with only(implementation) if implementation else nullcontext():
        for _ in range(WARM_UPS):
            run()
        host = []

        def timed() -> None:
            begin = perf_counter()
            run()
            host.append(perf_counter() - begin)

        return median(timer(timed) for _ in range(ROUNDS)), median(host)


def _by_events(device: torch.device) -> Timer:
    flushed = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device=device)

    def seconds(run: Callable[[], object]) -> float:
        begin, end = (torch.Event("cuda", enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        flushed.zero_()
        begin.record()
        run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3

    return seconds


def _by_clock(run: Callable[[], object]) -> float:
    """Where there is no device: a rehearsal, whose figures mean nothing."""
    begin = perf_counter()
    run()
    return perf_counter() - begin
