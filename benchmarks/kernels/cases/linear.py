"""linear with the weights of Qwen3-0.6B: one row, small batches and a prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch.nn import functional

from benchmarks.kernels.case import Case, copies, rotate
from inferd_kernels.linear import PackedWeight, linear, linear_f32

TESTS = ("tests/kernels/test_linear.py",)
SHAPES = {
    "qkv": (1024, 4096),
    "o": (2048, 1024),
    "gate_up": (1024, 6144),
    "down": (3072, 1024),
}
HEAD = (1024, 151_936)
ROWS = (1, 8, 32, 128, 512)


def cases() -> Iterator[Case]:
    for dtype in (torch.bfloat16, torch.float32):
        for name, (width, outputs) in SHAPES.items():
            weights = _weights(width, outputs, dtype)
            for rows in ROWS:
                yield _case(name, rows, weights, head=False)
        weights = _weights(*HEAD, dtype)
        for rows in (1, 8, 32):
            yield _case("head", rows, weights, head=True)


def _weights(width: int, outputs: int, dtype: torch.dtype) -> list[torch.Tensor]:
    weight = torch.randn(outputs, width).mul_(0.02).to(dtype)
    return [weight.clone() for _ in range(copies(weight.nbytes))]


def _case(name: str, rows: int, weights: list[torch.Tensor], *, head: bool) -> Case:
    weight = weights[0]
    outputs, width = weight.shape
    x = torch.randn(rows, width).to(weight.dtype)
    packed = [PackedWeight.of(each) for each in weights]
    product: Callable[..., object] = linear_f32 if head else linear
    written = rows * outputs * (4 if head else weight.element_size())
    return Case(
        f"{name} {rows} x {width} x {outputs} {weight.dtype}",
        rotate([partial(product, x, each) for each in packed]),
        bytes=weight.nbytes + x.nbytes + written,
        operations=2 * rows * outputs * width,
        torch=rotate([partial(functional.linear, x, each) for each in weights]),
        peak="bf16" if weight.dtype == torch.bfloat16 else "fma",
        reference=False,
    )
