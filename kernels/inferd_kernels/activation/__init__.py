"""The gated activation of an MLP whose gate and up projections are one matrix."""

from __future__ import annotations

from typing import Literal

import torch

from inferd_kernels.activation import reference
from inferd_kernels.dispatch import Op

Kind = Literal["silu", "gelu", "gelu_tanh"]

_MODULES = {"cpu": "inferd_kernels.activation.cpu", "gpu": "inferd_kernels.activation.gpu"}
GATED = Op("gated", reference.gated, **_MODULES)


def gated(gate_up: torch.Tensor, kind: Kind) -> torch.Tensor:
    """Gate and multiply.

    Args:
        gate_up: [T, 2 * I]: the gate's columns, then the up projection's; fp32, bf16 or fp16.
        kind: `silu`; `gelu`, by erf; `gelu_tanh`, by the tanh approximation.

    Returns: [T, I] of gate_up's dtype, computed in fp32.

    Semantics: y[t, i] = act(gate_up[t, i]) * gate_up[t, I + i]
    """
    return GATED.on(gate_up.device.type)(gate_up, kind)
