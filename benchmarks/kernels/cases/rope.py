"""rope, kv_write and both as one, on a fused projection's heads."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.kernels.case import Case, Place, short
from inferd_kernels import layout
from inferd_kernels.kv_write import kv_write
from inferd_kernels.rope import rope, rope_kv_write

TESTS = ("tests/kernels/test_pointwise.py",)
GPU_TESTS = ("tests/kernels/test_rope_gpu.py",)
BLOCK_SIZE = 16


def cases(place: Place) -> Iterator[Case]:
    for rows in place.rows:
        yield from _cases(place, rows, place.dtypes[0])


def _cases(place: Place, rows: int, dtype: torch.dtype) -> Iterator[Case]:
    shape, device = place.shape, place.device
    heads = [shape.heads, shape.kv_heads, shape.kv_heads]
    fused = torch.randn(rows, sum(heads), shape.head_dim, device=device).to(dtype)
    q, k, v = torch.split(fused, heads, dim=1)
    positions = torch.arange(rows, device=device)
    blocks = -(-2 * rows // BLOCK_SIZE)
    slots = torch.randperm(blocks * BLOCK_SIZE, device=device)[:rows]
    angles = torch.rand(rows, shape.head_dim // 2, device=device)
    table = angles.cos(), angles.sin()
    cache = layout.allocate(
        blocks, BLOCK_SIZE, shape.kv_heads, shape.head_dim, dtype=dtype, device=device
    )
    turned = 2 * (q.numel() + k.numel()) * fused.element_size() + 2 * angles.nbytes
    written = 4 * k.numel() * fused.element_size()
    name = f"{rows} rows {short(dtype)}"
    yield Case(f"rope {name}", lambda: rope(q, k, positions, *table), bytes=turned)
    yield Case(f"kv_write {name}", lambda: kv_write(k, v, *cache, slots), bytes=written)
    yield Case(
        f"rope_kv_write {name}",
        lambda: rope_kv_write(q, k, v, positions, *table, *cache, slots),
        bytes=turned + written,
    )
