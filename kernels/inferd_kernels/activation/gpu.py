"""`gated` in Triton: a program for a piece of a row."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

_BLOCK, _WARPS = 512, 2
"""8 elements per thread: an access is 16 bytes wide."""


def gated(gate_up: torch.Tensor, kind: str) -> torch.Tensor:
    count, both = gate_up.shape
    width = both // 2
    assert gate_up.stride(1) == 1
    out = torch.empty((count, width), dtype=gate_up.dtype, device=gate_up.device)
    if out.numel():
        grid = (count, triton.cdiv(width, _BLOCK))
        stride = gate_up.stride(0)
        _gated[grid](gate_up, out, stride, width, KIND=kind, BLOCK=_BLOCK, num_warps=_WARPS)
    return out


@triton.jit
def _gated(gate_up, out, stride, width, KIND: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    gate = tl.load(gate_up + row * stride + columns, inside, 0.0).to(tl.float32)
    up = tl.load(gate_up + row * stride + width + columns, inside, 0.0).to(tl.float32)
    if KIND == "silu":
        gate = gate * _sigmoid(gate)
    elif KIND == "gelu":
        gate = gate * 0.5 * (1 + tl.erf(gate * 0.7071067811865476))
    else:  # (1 + tanh(y)) / 2 = sigmoid(2 * y)
        inner = 1.5957691216057308 * (gate + 0.044715 * gate * gate * gate)
        gate = gate * _sigmoid(inner)
    tl.store(out + row * width + columns, (gate * up).to(out.dtype.element_ty), inside)


@triton.jit
def _sigmoid(x):
    return 1 / (1 + tl.exp(tl.minimum(-x, 88.0)))  # where exp would overflow, 6e-39 instead of 0


IMPLEMENTATIONS = {"gated": gated}
