"""What this GPU can do: bytes copied, and products of random bfloat16 matrices, per second."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import torch

COPY_BYTES = 4 << 30
SIDE = 8192
ROUNDS = 5


def seconds(call: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median of single calls on the device, after two that are not counted."""
    taken = []
    for _ in range(rounds + 2):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        taken.append(begin.elapsed_time(end) / 1e3)
    return median(taken[2:])


def measure(device: torch.device) -> dict[str, float]:
    """bytes_per_s counts each byte read and each written; flop_per_s additions and
    multiplications."""
    return {
        "bytes_per_s": 2 * COPY_BYTES / _copy_s(device),
        "flop_per_s": 2 * SIDE**3 / _product_s(device),
    }


def _copy_s(device: torch.device) -> float:
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device=device).random_(0, 255)
    target = torch.empty_like(source)
    return seconds(lambda: target.copy_(source))


def _product_s(device: torch.device) -> float:
    a, b = (torch.randn(SIDE, SIDE, device=device).bfloat16() for _ in range(2))
    out = torch.empty_like(a)
    return seconds(lambda: torch.mm(a, b, out=out), 20)
