"""The meaning of `rmsnorm` and `add_rmsnorm`, in plain torch."""

from __future__ import annotations

import torch

from inferd_kernels.elementwise.reference import add


def rmsnorm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    wide = x.float()
    scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (wide * scale * weight).to(x.dtype)


def add_rmsnorm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float, alpha: float
) -> torch.Tensor:
    add(residual, x, alpha)
    return rmsnorm(residual, weight, eps)
