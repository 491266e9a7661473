"""linear with a model's weights: one row, small batches and a prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch.nn import functional

from benchmarks.kernels.case import ON_CPU, Case, Place, rotate, short
from inferd_kernels.linear import PackedWeight, linear, linear_f32

TESTS = ("tests/kernels/test_linear.py",)
GPU_TESTS = ("tests/kernels/test_linear_gpu.py",)


def cases(place: Place) -> Iterator[Case]:
    shape = place.shape
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    layers = {
        "qkv": (shape.hidden, queries + 2 * keys),
        "o": (queries, shape.hidden),
        "gate_up": (shape.hidden, 2 * shape.mlp),
        "down": (shape.mlp, shape.hidden),
    }
    many = sorted({*place.few, *place.rows})
    for dtype in place.dtypes:
        for name, size in layers.items():
            weights = _weights(place, *size, dtype)
            for rows in many:
                yield _case(place, name, rows, weights, head=False)
        weights = _weights(place, shape.hidden, shape.vocabulary, dtype)
        for rows in place.few:
            yield _case(place, "head", rows, weights, head=True)


def _weights(place: Place, width: int, outputs: int, dtype: torch.dtype) -> list[torch.Tensor]:
    weight = torch.randn(outputs, width, device=place.device).mul_(0.02).to(dtype)
    return [weight, *(weight.clone() for _ in range(place.copies(weight.nbytes) - 1))]


def _case(place: Place, name: str, rows: int, weights: list[torch.Tensor], *, head: bool) -> Case:
    weight = weights[0]
    outputs, width = weight.shape
    x = torch.randn(rows, width, device=place.device).to(weight.dtype)
    packed = [PackedWeight.of(each) for each in weights] if place is ON_CPU else weights
    product: Callable[..., object] = linear_f32 if head else linear
    written = rows * outputs * (4 if head else weight.element_size())
    return Case(
        f"{name} {rows} x {width} x {outputs} {short(weight.dtype)}",
        rotate([partial(product, x, each) for each in packed]),
        bytes=weight.nbytes + x.nbytes + written,
        operations=2 * rows * outputs * width,
        torch=rotate([partial(functional.linear, x, each) for each in weights]),
        peak="bf16" if weight.dtype == torch.bfloat16 else "fma",
        reference=False,
    )
