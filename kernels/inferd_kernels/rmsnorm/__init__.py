"""Root-mean-square normalisation (Zhang & Sennrich 2019, arXiv:1910.07467)."""

from __future__ import annotations

import torch

from inferd_kernels.dispatch import Op
from inferd_kernels.rmsnorm import reference

_MODULES = {"cpu": "inferd_kernels.rmsnorm.cpu", "gpu": "inferd_kernels.rmsnorm.gpu"}
RMSNORM = Op("rmsnorm", reference.rmsnorm, **_MODULES)
ADD_RMSNORM = Op("add_rmsnorm", reference.add_rmsnorm, **_MODULES)


def rmsnorm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Normalise over the last dimension.

    Args:
        x: [..., D], fp32, bf16 or fp16; any strides before the last dimension.
        weight: [D] float32, whatever x's dtype ("1 + w" styles are folded in by the loader).

    Returns: [..., D] of x's dtype, computed in fp32 and rounded once.

    Semantics: y[d] = x[d] / sqrt(mean_j x[j]^2 + eps) * weight[d]
    """
    return RMSNORM.on(x.device.type)(x, weight, eps)


def add_rmsnorm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float, alpha: float = 1.0
) -> torch.Tensor:
    """Add to the residual stream in place, and normalise the sum.

    Args:
        x: [T, D], fp32, bf16 or fp16.
        residual: [T, D] of x's dtype; changed in place.
        weight: [D] float32.

    Returns: [T, D] of x's dtype.

    Semantics: residual += alpha * x (in fp32, rounded once); y = rmsnorm(residual, weight, eps)
    """
    return ADD_RMSNORM.on(x.device.type)(x, residual, weight, eps, alpha)
