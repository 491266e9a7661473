"""The meaning of `group_rows`, `grouped_linear` and `grouped_sum`, in plain torch."""

from __future__ import annotations

from itertools import pairwise

import torch

from inferd_kernels.linear import PackedWeight, linear

PIECE = 1 << 17  # numbers that are made float32 at a time: they stay in the CPU's cache


def group_rows(groups: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rows = len(groups)
    numbers = torch.arange(max(rows, count + 1), device=groups.device)
    ascending, order = groups.sort(stable=True)
    places = torch.empty_like(order).scatter_(0, order, numbers[:rows])
    return order, places, torch.searchsorted(ascending, numbers[: count + 1], out_int32=True)


def grouped_linear(
    x: torch.Tensor, weight: torch.Tensor | tuple[PackedWeight, ...], offsets: torch.Tensor
) -> torch.Tensor:
    if not len(x):
        return x.new_empty(0, weight[0].shape[0])
    groups = enumerate(pairwise(offsets.tolist()))
    return torch.cat([linear(x[i:j], weight[group]) for group, (i, j) in groups if i < j])


def grouped_sum(x: torch.Tensor, places: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    y = torch.zeros(len(places), x.shape[1], dtype=torch.float32, device=x.device)
    count = max(1, PIECE // max(1, places.shape[1] * x.shape[1]))
    for begin in range(0, len(places), count):
        part = slice(begin, begin + count)
        scaled = x[places[part]].float() * shares[part].unsqueeze(2)
        total = y[part]
        for row in scaled.unbind(1):
            total += row
    return y.to(x.dtype)
