"""`linear` and `linear_f32` on a GPU: torch's (cuBLAS), and kernels for few rows in Triton."""

from __future__ import annotations

import torch
from torch.nn import functional

from inferd_kernels.linear.gpu_kernels import add_splits, product
from inferd_kernels.linear.gpu_tiles import SKINNY, Tile, choose, multiprocessors
from inferd_kernels.linear.weight import PackedWeight

SKINNY_ROWS = 0
"""Up to how many rows `skinny` runs in cuBLAS's place. Not measured: 0, until it was seen to be
faster on a GPU. At most 16."""

# cuBLAS may cut a sum in parts; they are added in float32, not in the numbers' own dtype.
torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False


def linear(
    x: torch.Tensor, weight: torch.Tensor | PackedWeight, bias: torch.Tensor | None
) -> torch.Tensor:
    assert isinstance(weight, torch.Tensor), "weights are packed for the CPU's kernels only"
    if 0 < len(x) <= SKINNY_ROWS:
        return skinny(x, weight, bias)
    return functional.linear(x, weight, bias)


def linear_f32(
    x: torch.Tensor, weight: torch.Tensor | PackedWeight, out: torch.Tensor | None = None
) -> torch.Tensor:
    assert isinstance(weight, torch.Tensor), "weights are packed for the CPU's kernels only"
    if out is None:
        out = x.new_empty(len(x), len(weight), dtype=torch.float32)
    if not len(x):
        return out
    if x.dtype == torch.float32:
        return torch.mm(x, weight.t(), out=out)
    if x.is_cuda:
        return torch.mm(x, weight.t(), out_dtype=torch.float32, out=out)
    return multiply(x, weight, None, out)


def multiply(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, out: torch.Tensor
) -> torch.Tensor:
    """The product in Triton, whose result for a row depends on that row alone."""
    if not len(x):
        return out
    tile = choose(len(x), len(weight), x.dtype, x.device)
    return launch(x, weight, bias, out, tile, 1)


def skinny(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """The product of a few rows. Where there are few outputs, several programs share a row's
    inputs; how many depends on the weight's shape alone."""
    columns, parts = SKINNY.count(len(weight)), -(-x.shape[1] // SKINNY.inputs(x.dtype))
    wanted = -(-2 * multiprocessors(x.device)[0] // columns)
    return shared_out(x, weight, bias, min(wanted, max(1, parts // 4)))


def shared_out(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, splits: int
) -> torch.Tensor:
    """The product by `splits` programs for each tile, whose sums are added in their order."""
    rows, outputs = len(x), len(weight)
    out = x.new_empty(rows, outputs)
    if splits == 1:
        return launch(x, weight, bias, out, SKINNY, 1)
    parts = x.new_empty(splits * rows, outputs, dtype=torch.float32)
    launch(x, weight, None, parts, SKINNY, splits)
    add_splits[(rows, -(-outputs // 256))](
        parts,
        out if bias is None else bias,
        out,
        rows,
        outputs,
        splits,
        BIAS=bias is not None,
        BLOCK=256,
        num_warps=2,
    )
    return out


def launch(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    out: torch.Tensor,
    tile: Tile,
    splits: int,
) -> torch.Tensor:
    """out is [T, out], or [splits * T, out] where several programs share a row's inputs."""
    assert x.shape == (len(x), weight.shape[1])
    assert x.dtype == weight.dtype
    assert weight.is_contiguous()
    assert 0 < splits <= -(-x.shape[1] // tile.inputs(x.dtype))
    x = x if x.stride(1) == 1 or x.shape[1] == 1 else x.contiguous()
    row_tiles = -(-len(x) // tile.rows)
    product[(row_tiles * tile.count(len(weight)), splits)](
        x,
        weight,
        out if bias is None else bias,
        out,
        len(x),
        *weight.shape,
        x.stride(0),
        out.stride(0),
        splits,
        BIAS=bias is not None,
        BLOCK_M=tile.rows,
        BLOCK_N=tile.columns,
        BLOCK_K=tile.inputs(x.dtype),
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    return out


IMPLEMENTATIONS = {"linear": linear, "linear_f32": linear_f32}
