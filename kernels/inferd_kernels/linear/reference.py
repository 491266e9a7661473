"""The meaning of `linear` and `linear_f32`, in plain torch."""

from __future__ import annotations

import torch
from torch.nn import functional

from inferd_kernels.linear import int8_reference
from inferd_kernels.linear.int8 import Int8Weight
from inferd_kernels.linear.weight import PackedWeight

WIDENED_ROWS = (
    1024  # rows of a weight that are made float32 at a time: they stay in the CPU's cache
)


def linear(
    x: torch.Tensor, weight: torch.Tensor | PackedWeight, bias: torch.Tensor | None
) -> torch.Tensor:
    if isinstance(weight, Int8Weight):
        y = linear_f32(x, weight)
        return (y if bias is None else y + bias.float()).to(x.dtype)
    if isinstance(weight, PackedWeight):
        weight = weight.unpack()
    return functional.linear(x, weight, bias)


def linear_f32(
    x: torch.Tensor, weight: torch.Tensor | PackedWeight, out: torch.Tensor | None = None
) -> torch.Tensor:
    y = _linear_f32(x, weight)
    return y if out is None else out.copy_(y)


def _linear_f32(x: torch.Tensor, weight: torch.Tensor | PackedWeight) -> torch.Tensor:
    if isinstance(weight, Int8Weight):
        return int8_reference.linear(x, *weight.quantized(), weight.group)
    if isinstance(weight, PackedWeight):
        weight = weight.unpack()
    if x.dtype == torch.float32:
        return functional.linear(x, weight)
    if x.is_cuda:
        return torch.mm(x, weight.t(), out_dtype=torch.float32)
    wide = x.float()
    parts = [functional.linear(wide, part.float()) for part in torch.split(weight, WIDENED_ROWS)]
    return torch.cat(parts, dim=-1)
