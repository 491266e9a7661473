"""`add` and `scale` in Triton: a program for a piece of a row."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

_BLOCK, _WARPS = 1024, 4
"""8 elements per thread: an access is 16 bytes wide."""


def add(out: torch.Tensor, x: torch.Tensor, alpha: float) -> None:
    assert out.stride(1) == x.stride(1) == 1
    if out.numel():
        width, strides = out.shape[1], (out.stride(0), x.stride(0))
        _add[_grid(out)](out, x, *strides, width, alpha, BLOCK=_BLOCK, num_warps=_WARPS)


def scale(x: torch.Tensor, factor: float) -> None:
    assert x.stride(1) == 1
    if x.numel():
        _scale[_grid(x)](x, x.stride(0), x.shape[1], factor, BLOCK=_BLOCK, num_warps=_WARPS)


def _grid(x: torch.Tensor) -> tuple[int, int]:
    return len(x), triton.cdiv(x.shape[1], _BLOCK)


@triton.jit
def _add(out, x, out_stride, x_stride, width, alpha, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    more = tl.load(x + row * x_stride + columns, inside, 0.0).to(tl.float32)
    places = out + row * out_stride + columns
    total = tl.load(places, inside, 0.0).to(tl.float32) + alpha * more
    tl.store(places, total.to(out.dtype.element_ty), inside)


@triton.jit
def _scale(x, stride, width, factor, BLOCK: tl.constexpr):
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    places = x + tl.program_id(0).to(tl.int64) * stride + columns
    value = tl.load(places, inside, 0.0).to(tl.float32) * factor
    tl.store(places, value.to(x.dtype.element_ty), inside)


IMPLEMENTATIONS = {"add": add, "scale": scale}
