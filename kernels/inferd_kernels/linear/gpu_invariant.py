"""`linear` and `linear_f32` on a GPU, where a row's result depends on that row alone."""

from __future__ import annotations

import torch

from inferd_kernels.linear.gpu import multiply
from inferd_kernels.linear.weight import PackedWeight


def linear(
    x: torch.Tensor, weight: torch.Tensor | PackedWeight, bias: torch.Tensor | None
) -> torch.Tensor:
    assert isinstance(weight, torch.Tensor), "weights are packed for the CPU's kernels only"
    return multiply(x, weight, bias, x.new_empty(len(x), len(weight)))


def linear_f32(
    x: torch.Tensor, weight: torch.Tensor | PackedWeight, out: torch.Tensor | None = None
) -> torch.Tensor:
    assert isinstance(weight, torch.Tensor), "weights are packed for the CPU's kernels only"
    if out is None:
        out = x.new_empty(len(x), len(weight), dtype=torch.float32)
    return multiply(x, weight, None, out)


IMPLEMENTATIONS = {"linear": linear, "linear_f32": linear_f32}
