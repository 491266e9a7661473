"""`rmsnorm` and `add_rmsnorm` in Triton: a program for each row."""

from __future__ import annotations

import torch
import triton
import triton.language as tl


def rmsnorm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    rows = x.reshape(-1, x.shape[-1]) if x.dim() == 2 else x
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    _launch(rows, None, weight, out, eps, 0.0)
    return out


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
    """x is [T, D] or [T, H, D], whose first two strides are free."""
    size = x.shape[-1]
    heads = x.shape[1] if x.dim() == 3 else 1
    count = x.numel() // size if size else 0
    if not count:
        return
    block = triton.next_power_of_2(size)
    _rmsnorm[(count,)](
        x,
        out if residual is None else residual,
        weight,
        out,
        x.stride(0),
        x.stride(1) if x.dim() == 3 else 0,
        heads,
        size,
        eps,
        alpha,
        ADD=residual is not None,
        BLOCK=block,
        num_warps=max(1, min(16, block // 256)),
    )


@triton.jit
def _rmsnorm(
    x,
    residual,
    weight,
    out,
    token_stride,
    head_stride,
    heads,
    size,
    eps,
    alpha,
    ADD: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < size
    place = row // heads * token_stride + row % heads * head_stride
    value = tl.load(x + place + columns, inside, 0.0).to(tl.float32)
    if ADD:
        before = tl.load(residual + row * size + columns, inside, 0.0).to(tl.float32)
        value = (before + alpha * value).to(residual.dtype.element_ty)
        tl.store(residual + row * size + columns, value, inside)
        value = value.to(tl.float32)
    scale = tl.rsqrt(tl.sum(value * value, 0) / size + eps)
    scaled = value * scale * tl.load(weight + columns, inside, 0.0)
    tl.store(out + row * size + columns, scaled.to(out.dtype.element_ty), inside)


IMPLEMENTATIONS = {"rmsnorm": rmsnorm, "add_rmsnorm": add_rmsnorm}
