"""rope, kv_write and both as one, on a fused projection of Qwen3-0.6B's heads."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.kernels.case import Case
from inferd_kernels import layout
from inferd_kernels.kv_write import kv_write
from inferd_kernels.rope import rope, rope_kv_write

TESTS = ("tests/kernels/test_pointwise.py",)
Q_HEADS, KV_HEADS, HEAD_DIM = 16, 8, 128
BLOCKS, BLOCK_SIZE = 64, 16


def cases() -> Iterator[Case]:
    for rows in (1, 32, 512):
        yield from _cases(rows, torch.bfloat16)


def _cases(rows: int, dtype: torch.dtype) -> Iterator[Case]:
    fused = torch.randn(rows, Q_HEADS + 2 * KV_HEADS, HEAD_DIM).to(dtype)
    q, k, v = torch.split(fused, [Q_HEADS, KV_HEADS, KV_HEADS], dim=1)
    positions, slots = torch.arange(rows), torch.randperm(BLOCKS * BLOCK_SIZE)[:rows]
    angles = torch.rand(rows, HEAD_DIM // 2)
    table = angles.cos(), angles.sin()
    shape = (BLOCKS, BLOCK_SIZE, KV_HEADS, HEAD_DIM)
    cache = layout.allocate(*shape, dtype=dtype, device=torch.device("cpu"))
    turned = 2 * (q.numel() + k.numel()) * fused.element_size() + 2 * angles.nbytes
    written = 4 * k.numel() * fused.element_size()
    name = f"{rows} rows {dtype}"
    yield Case(f"rope {name}", lambda: rope(q, k, positions, *table), bytes=turned)
    yield Case(f"kv_write {name}", lambda: kv_write(k, v, *cache, slots), bytes=written)
    yield Case(
        f"rope_kv_write {name}",
        lambda: rope_kv_write(q, k, v, positions, *table, *cache, slots),
        bytes=turned + written,
    )
