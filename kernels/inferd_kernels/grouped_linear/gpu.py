"""`grouped_linear` and `grouped_sum` in Triton. Grids are known from shapes alone."""

from __future__ import annotations

import torch
import triton

from inferd_kernels.grouped_linear import reference
from inferd_kernels.grouped_linear.gpu_kernels import grouped_product, sum_rows
from inferd_kernels.linear.gpu_tiles import choose, row_tiles
from inferd_kernels.linear.weight import PackedWeight


def grouped_linear(
    x: torch.Tensor, weight: torch.Tensor | tuple[PackedWeight, ...], offsets: torch.Tensor
) -> torch.Tensor:
    if isinstance(weight, tuple):
        return reference.grouped_linear(x, weight, offsets)  # in the CPU's memory
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


IMPLEMENTATIONS = {"grouped_linear": grouped_linear, "grouped_sum": grouped_sum}
