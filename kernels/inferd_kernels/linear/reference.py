"""The meaning of `linear` and `linear_f32`, in plain torch."""

from __future__ import annotations

import torch
from torch.nn import functional

WIDENED_ROWS = (
    1024  # rows of a weight that are made float32 at a time: they stay in the CPU's cache
)


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return functional.linear(x, weight, bias)


def linear_f32(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    if x.dtype == torch.float32:
        return functional.linear(x, weight)
    if x.is_cuda:
        return torch.mm(x, weight.t(), out_dtype=torch.float32)
    wide = x.float()
    parts = [functional.linear(wide, part.float()) for part in torch.split(weight, WIDENED_ROWS)]
    return torch.cat(parts, dim=-1)
