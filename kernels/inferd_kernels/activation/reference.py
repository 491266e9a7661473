"""The meaning of `gated`, in plain torch."""

from __future__ import annotations

import torch
from torch.nn import functional


def gated(gate_up: torch.Tensor, kind: str) -> torch.Tensor:
    gate, up = gate_up.float().chunk(2, dim=-1)
    if kind == "silu":
        gate = functional.silu(gate)
    else:
        gate = functional.gelu(gate, approximate="tanh" if kind == "gelu_tanh" else "none")
    return (gate * up).to(gate_up.dtype)
