"""What the device can do: bytes copied, and products of random matrices, per second."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import torch

ROUNDS = 5
PRODUCTS = 20


def seconds(call: Callable[[], object], device: torch.device, rounds: int = ROUNDS) -> float:
    """Median of single calls, on a GPU by its own clock, after two that are not counted."""
    timed = _on_gpu if device.type == "cuda" else _here
    return median([timed(call) for _ in range(rounds + 2)][2:])


def _on_gpu(call: Callable[[], object]) -> float:
    event: Any = torch.cuda.Event
    begin, end = event(enable_timing=True), event(enable_timing=True)
    begin.record()
    call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


def _here(call: Callable[[], object]) -> float:
    begin = perf_counter()
    call()
    return perf_counter() - begin


def measure(device: torch.device, *, num_bytes: int, side: int) -> dict[str, float]:
    """bytes_per_s counts each byte read and each written; flop_per_s additions and multiplications
    of bfloat16 matrices with sides of `side`."""
    return {
        "bytes_per_s": 2 * num_bytes / _copy_s(device, num_bytes),
        "flop_per_s": 2 * side**3 / _product_s(device, side),
    }


def _copy_s(device: torch.device, num_bytes: int) -> float:
    source = torch.empty(num_bytes, dtype=torch.uint8, device=device).random_(0, 255)
    target = torch.empty_like(source)
    return seconds(lambda: target.copy_(source), device)


def _product_s(device: torch.device, side: int) -> float:
    a, b = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
    out = torch.empty_like(a)
    return seconds(lambda: torch.mm(a, b, out=out), device, PRODUCTS)
