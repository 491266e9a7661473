"""The meaning of int8 weights, in plain torch: what `linear/__init__.py` says of them."""

from __future__ import annotations

import torch

TINY = 2.0**-100  # smaller groups are zero: 127 / them would be no float


def quantize(x: torch.Tensor, group: int) -> tuple[torch.Tensor, torch.Tensor]:
    """[T, in] → int8 [T, in] and float32 scales [T, groups]; the last group may be shorter."""
    rows, width = x.shape
    groups = -(-width // group)
    wide = torch.zeros(rows, groups * group, dtype=torch.float32)
    wide[:, :width] = x.float()
    parts = wide.view(rows, groups, group)
    most = parts.abs().amax(dim=-1)
    finite = parts.isfinite().all(dim=-1)
    usable = finite & (most >= TINY)
    inverse = torch.where(usable, torch.full_like(most, 127.0) / most, 0.0)
    scaled = torch.where(usable[..., None], parts, 0.0).double() * inverse[..., None].double()
    scales = torch.where(usable, most / 127.0, torch.where(finite, 0.0, torch.nan))
    return scaled.round().to(torch.int8).view(rows, -1)[:, :width], scales.float()


def dequantize(q: torch.Tensor, scales: torch.Tensor, group: int) -> torch.Tensor:
    """int8 [T, in] and scales [T, groups] → float32 [T, in]."""
    return q.float() * scales.repeat_interleave(group, dim=1)[:, : q.shape[1]]


def linear(x: torch.Tensor, q: torch.Tensor, scales: torch.Tensor, group: int) -> torch.Tensor:
    """[T, in], int8 [out, in] and scales [out, groups] → float32 [T, out]."""
    xq, x_scales = quantize(x, group)
    y = torch.zeros(len(x), len(q))
    for g, begin in enumerate(range(0, x.shape[1], group)):
        part = slice(begin, begin + group)
        dots = xq[:, part].double() @ q[:, part].double().t()  # whole numbers: exact
        y += dots.float() * (x_scales[:, g, None] * scales[None, :, g])
    return y
