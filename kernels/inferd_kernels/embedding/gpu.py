"""`embedding` in Triton: a program for a piece of a row."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from inferd_kernels.linear.weight import PackedWeight

_BLOCK, _WARPS = 1024, 4
"""8 elements per thread: an access is 16 bytes wide."""


def embedding(ids: torch.Tensor, weight: torch.Tensor | PackedWeight, scale: float) -> torch.Tensor:
    assert isinstance(weight, torch.Tensor), "weights are packed for the CPU's kernels only"
    assert weight.stride(1) == 1
    ids = ids.contiguous()
    width = weight.shape[1]
    out = torch.empty((len(ids), width), dtype=weight.dtype, device=weight.device)
    if out.numel():
        grid = (len(ids), triton.cdiv(width, _BLOCK))
        stride = weight.stride(0)
        _embedding[grid](ids, weight, out, stride, width, scale, BLOCK=_BLOCK, num_warps=_WARPS)
    return out


@triton.jit
def _embedding(ids, weight, out, stride, width, scale, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    found = tl.load(ids + row).to(tl.int64)
    value = tl.load(weight + found * stride + columns, inside, 0.0).to(tl.float32) * scale
    tl.store(out + row * width + columns, value.to(out.dtype.element_ty), inside)


IMPLEMENTATIONS = {"embedding": embedding}
