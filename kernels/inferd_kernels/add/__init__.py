"""Addition to the residual stream, where no norm follows."""

from __future__ import annotations

import torch

from inferd_kernels.add import reference
from inferd_kernels.dispatch import Op

ADD = Op("add", reference.add, cpu="inferd_kernels.add.cpu")


def add(x: torch.Tensor, residual: torch.Tensor, alpha: float = 1.0) -> None:
    """Add to the residual stream in place.

    Args:
        x: [T, D], fp32, bf16 or fp16.
        residual: [T, D] of x's dtype; changed in place.

    Semantics: residual += alpha * x, in fp32 and rounded once: as `add_rmsnorm` does.
    """
    ADD.on(x.device.type)(x, residual, alpha)
