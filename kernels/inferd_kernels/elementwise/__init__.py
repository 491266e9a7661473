"""Adding to and scaling rows in place, where no other operation does it on the way."""

from __future__ import annotations

import torch

from inferd_kernels.dispatch import Op
from inferd_kernels.elementwise import reference

_MODULES = {"cpu": "inferd_kernels.elementwise.cpu", "gpu": "inferd_kernels.elementwise.gpu"}
ADD = Op("add", reference.add, **_MODULES)
SCALE = Op("scale", reference.scale, **_MODULES)


def add(out: torch.Tensor, x: torch.Tensor, alpha: float = 1.0) -> None:
    """Add rows in place.

    Args:
        out: [T, D], fp32, bf16 or fp16.
        x: [T, D] of out's dtype.

    Semantics: out += alpha * x, computed in fp32 and rounded once.
    """
    ADD.on(out.device.type)(out, x, alpha)


def scale(x: torch.Tensor, factor: float) -> None:
    """Multiply in place.

    Args:
        x: [T, D], fp32, bf16 or fp16.

    Semantics: x *= factor, computed in fp32.
    """
    SCALE.on(x.device.type)(x, factor)
