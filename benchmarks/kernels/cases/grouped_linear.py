"""grouped_linear with the experts of a mixture: one token, and batches spread over all of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.kernels.case import ON_CPU, Case, Place, rotate, short
from inferd_kernels.grouped_linear import grouped_linear
from inferd_kernels.linear import PackedWeight

TESTS = ("tests/kernels/test_grouped_linear.py",)
GPU_TESTS = ("tests/kernels/test_grouped_linear_gpu.py",)
EXPERTS, TOP_K = 16, 4


def cases(place: Place) -> Iterator[Case]:
    hidden, inner = place.shape.hidden, place.shape.mlp // 4
    for name, (width, outputs) in {"gate_up": (hidden, 2 * inner), "down": (inner, hidden)}.items():
        weight = torch.randn(EXPERTS, outputs, width, device=place.device).mul_(0.02)
        weight = weight.to(place.dtypes[0])
        for tokens in place.few:
            yield _case(place, name, tokens, weight)


def _case(place: Place, name: str, tokens: int, weight: torch.Tensor) -> Case:
    _, outputs, width = weight.shape
    kept = tuple(map(PackedWeight.of, weight)) if place is ON_CPU else weight
    x = torch.randn(tokens * TOP_K, width, device=place.device).to(weight.dtype)
    chosen = torch.stack([torch.randperm(EXPERTS)[:TOP_K] for _ in range(tokens)])
    turns = [(chosen + first) % EXPERTS for first in range(0, EXPERTS, TOP_K)]
    counts = [turn.flatten().bincount(minlength=EXPERTS) for turn in turns]
    bounds = [torch.cat((torch.zeros(1), each.cumsum(0))).int().to(place.device) for each in counts]
    read = int(counts[0].count_nonzero()) * weight[0].nbytes
    return Case(
        f"{name} {tokens} x {TOP_K} of {EXPERTS} x {width} x {outputs} {short(weight.dtype)}",
        rotate([partial(grouped_linear, x, kept, offsets) for offsets in bounds]),
        bytes=read + x.nbytes + len(x) * outputs * weight.element_size(),
        operations=2 * len(x) * outputs * width,
        peak="bf16" if weight.dtype == torch.bfloat16 else "fma",
        reference=False,
    )
