"""`rmsnorm` and `add_rmsnorm` in Triton: a program for each row, or for several narrow ones."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

_ELEMENTS = 1024
"""Of the rows of one program, as long as they are narrow: with 8 per thread, an access is 16 bytes
wide and a program 4 warps."""


def rmsnorm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    rows = x if x.dim() in (2, 3) else x.reshape(-1, x.shape[-1])
    out = torch.empty(rows.shape, dtype=x.dtype, device=x.device)
    _launch(rows, None, weight, out, eps, 0.0)
    return out.view(x.shape)


def add_rmsnorm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float, alpha: float = 1.0
) -> torch.Tensor:
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    _launch(x, residual, weight, out, eps, alpha)
    return out


def _launch(
    x: torch.Tensor,
    residual: torch.Tensor | None,
    weight: torch.Tensor,
    out: torch.Tensor,
    eps: float,
    alpha: float,
) -> None:
    """x is [T, D] or [T, H, D], whose first two strides are free; out is contiguous."""
    size = x.shape[-1]
    assert x.stride(-1) == 1 or size == 1
    assert residual is None or residual.stride(-1) == 1 or size == 1
    assert weight.dtype == torch.float32
    count = x.numel() // size if size else 0
    if not count:
        return
    block = triton.next_power_of_2(size)
    rows = max(1, _ELEMENTS // block)
    _rmsnorm[(triton.cdiv(count, rows),)](
        x,
        out if residual is None else residual,
        weight,
        out,
        count,
        x.stride(0),
        x.stride(1) if x.dim() == 3 else 0,
        0 if residual is None else residual.stride(0),
        size,
        eps,
        alpha,
        HEADS=x.shape[1] if x.dim() == 3 else 1,
        ADD=residual is not None,
        ROWS=rows,
        BLOCK=block,
        num_warps=min(16, rows * block // 256) or 1,
    )


@triton.jit(do_not_specialize=["count"])
def _rmsnorm(
    x,
    residual,
    weight,
    out,
    count,
    token_stride,
    head_stride,
    residual_stride,
    size,
    eps,
    alpha,
    HEADS: tl.constexpr,
    ADD: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, BLOCK)
    inside = (row < count)[:, None] & (columns < size)[None, :]
    token, head = (row // HEADS).to(tl.int64), row % HEADS
    places = (token * token_stride + head * head_stride)[:, None] + columns[None, :]
    value = tl.load(x + places, inside, 0.0).to(tl.float32)
    if ADD:
        kept = residual + token[:, None] * residual_stride + columns[None, :]
        total = tl.load(kept, inside, 0.0).to(tl.float32) + alpha * value
        rounded = total.to(residual.dtype.element_ty)
        tl.store(kept, rounded, inside)
        value = rounded.to(tl.float32)
    scale = tl.rsqrt(tl.sum(value * value, 1) / size + eps)
    # By each row anew, so that each thread loads what it needs, and no shared memory is in between.
    factor = tl.load(weight + tl.broadcast_to(columns[None, :], ROWS, BLOCK), inside, 0.0)
    scaled = value * scale[:, None] * factor
    places = row.to(tl.int64)[:, None] * size + columns[None, :]
    tl.store(out + places, scaled.to(out.dtype.element_ty), inside)


IMPLEMENTATIONS = {"rmsnorm": rmsnorm, "add_rmsnorm": add_rmsnorm}
