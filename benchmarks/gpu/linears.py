"""One matrix product of the 8B model at few rows: cuBLAS beside our kernels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from benchmarks.gpu.ceilings import seconds
from benchmarks.gpu.report import Report
from benchmarks.gpu.shapes import FULL, Sizes
from inferd_kernels.linear.gpu import multiply, skinny

ROWS = (1, 4, 16, 64)
SKINNY_MOST = 16  # rows that the kernel for few of them takes
COPIES_BYTES = 256 << 20  # of weights that take turns: more than the second-level cache holds

TURNS = 9


def measure(report: Report, sizes: Sizes, device: torch.device) -> None:
    """Microseconds of each; `bytes` are the weight's, which all of them must read."""
    config = sizes.llama
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    dtype = getattr(torch, config["dtype"])
    for name, (outputs, inputs) in {
        "gate_up": (2 * inner, hidden),
        "down": (hidden, inner),
        "o": (hidden, hidden),
    }.items():
        size = outputs * inputs * dtype.itemsize
        copies = 1 if device.type == "cpu" else -(-COPIES_BYTES // size)
        weights = [
            torch.randn(outputs, inputs, device=device).mul_(inputs**-0.5).to(dtype)
            for _ in range(copies)
        ]
        for rows in ROWS if sizes is FULL else ROWS[:1]:
            x = torch.randn(rows, inputs, device=device).to(dtype)
            with report.attempt(f"linear_{name}_{rows}"):
                report.figure(f"linear_{name}_{rows}", _figures(x, weights, size))


def _figures(x: torch.Tensor, weights: list[torch.Tensor], size: int) -> dict[str, float]:
    subjects: dict[str, Callable[[torch.Tensor], object]] = {
        "cublas": lambda weight: functional.linear(x, weight),
        "invariant": lambda weight: multiply(x, weight, None, x.new_empty(len(x), len(weight))),
    }
    if len(x) <= SKINNY_MOST:
        subjects["skinny"] = lambda weight: skinny(x, weight, None)
    taken = {f"{name}_us": round(_time(run, weights) * 1e6, 2) for name, run in subjects.items()}
    return {"rows": len(x), "bytes": size, **taken}


def _time(run: Callable[[torch.Tensor], object], weights: list[torch.Tensor]) -> float:
    """Of one product; all weights take a turn, so that none is found in a cache."""

    def turn() -> None:
        for weight in weights:
            run(weight)

    return seconds(turn, weights[0].device, TURNS) / len(weights)
