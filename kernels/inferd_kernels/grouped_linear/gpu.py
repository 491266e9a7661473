"""`group_rows`, `grouped_linear` and `grouped_sum` in Triton. Grids are known from shapes alone."""

from __future__ import annotations

import torch
import triton

from inferd_kernels.grouped_linear import reference
from inferd_kernels.grouped_linear.gpu_kernels import count_before, grouped_product, sum_rows
from inferd_kernels.linear.gpu_tiles import choose, row_tiles
from inferd_kernels.linear.weight import PackedWeight

COUNTED_ROWS = 8192
"""Up to how many rows each is compared with all; more are sorted by torch."""


def group_rows(groups: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rows = len(groups)
    if rows > COUNTED_ROWS:
        return reference.group_rows(groups, count)
    order, places = torch.empty_like(groups), torch.empty_like(groups)
    offsets = groups.new_empty(count + 1, dtype=torch.int32)
    count_before[(triton.cdiv(rows + count + 1, 32),)](
        groups, order, places, offsets, rows, count, BLOCK=32, CHUNK=128, num_warps=4
    )
    return order, places, offsets


def grouped_linear(
    x: torch.Tensor, weight: torch.Tensor | tuple[PackedWeight, ...], offsets: torch.Tensor
) -> torch.Tensor:
    assert isinstance(weight, torch.Tensor), "weights are packed for the CPU's kernels only"
    groups, outputs, width = weight.shape
    assert x.shape == (len(x), width)
    assert x.dtype == weight.dtype
    assert weight.is_contiguous()
    out = x.new_empty(len(x), outputs)
    if not len(x):
        return out
    tile = choose(len(x), outputs, x.dtype, x.device, groups)
    tiles = row_tiles(len(x), groups, tile)
    grouped_product[(tiles * tile.count(outputs),)](
        x.contiguous(),
        weight,
        offsets,
        out,
        tiles,
        groups,
        outputs,
        width,
        GROUPS=triton.next_power_of_2(groups),
        BLOCK_M=tile.rows,
        BLOCK_N=tile.columns,
        BLOCK_K=tile.inputs(x.dtype),
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    return out


def grouped_sum(x: torch.Tensor, places: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    tokens, count = places.shape
    size = x.shape[1]
    out = x.new_empty(tokens, size)
    if not tokens:
        return out
    block = min(1024, triton.next_power_of_2(size))
    sum_rows[(tokens, triton.cdiv(size, block))](
        x.contiguous(),
        places.contiguous(),
        shares.contiguous(),
        out,
        size,
        COUNT=count,
        BLOCK=block,
        num_warps=max(1, block // 256),
    )
    return out


IMPLEMENTATIONS = {
    "group_rows": group_rows,
    "grouped_linear": grouped_linear,
    "grouped_sum": grouped_sum,
}
