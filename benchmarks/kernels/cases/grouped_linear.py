"""grouped_linear with experts of Qwen3-30B-A3B's shape, as many as fit a small machine: one row,
and batches whose rows are spread over all of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.kernels.case import Case
from inferd_kernels.grouped_linear import grouped_linear
from inferd_kernels.linear import PackedWeight

TESTS = ("tests/kernels/test_grouped_linear.py",)
EXPERTS, TOP_K = 32, 8
SHAPES = {"gate_up": (2048, 1536), "down": (768, 2048)}
TOKENS = (1, 8, 64)


def cases() -> Iterator[Case]:
    for name, (width, outputs) in SHAPES.items():
        weight = torch.randn(EXPERTS, outputs, width).mul_(0.02).to(torch.bfloat16)
        packed = tuple(PackedWeight.of(each) for each in weight)
        for tokens in TOKENS:
            yield _case(name, tokens, packed)


def _case(name: str, tokens: int, packed: tuple[PackedWeight, ...]) -> Case:
    outputs, width = packed[0].shape
    experts = torch.stack([torch.randperm(EXPERTS)[:TOP_K] for _ in range(tokens)])
    counts = experts.flatten().bincount(minlength=EXPERTS)
    offsets = torch.cat((torch.zeros(1), counts.cumsum(0))).int()
    x = torch.randn(tokens * TOP_K, width).to(torch.bfloat16)
    read = int(counts.count_nonzero()) * outputs * width * 2
    return Case(
        f"{name} {tokens} x {TOP_K} of {EXPERTS} x {width} x {outputs} {x.dtype}",
        partial(grouped_linear, x, packed, offsets),
        bytes=read + x.nbytes + len(x) * outputs * 2,
        operations=2 * len(x) * outputs * width,
        peak="bf16",
        reference=False,
    )
