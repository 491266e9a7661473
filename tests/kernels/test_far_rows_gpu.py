"""Rows whose places do not fit 32 bits, for the GPU's pointwise operations.

The memory is asked for, but only the pages of these rows are ever taken.
"""

from __future__ import annotations

import pytest
import torch

from inferd_kernels import layout
from inferd_kernels.activation import gated
from inferd_kernels.activation.reference import gated as gated_reference
from inferd_kernels.elementwise import add, scale
from inferd_kernels.embedding import embedding
from inferd_kernels.kv_write import kv_write
from inferd_kernels.rmsnorm import add_rmsnorm, reference, rmsnorm
from inferd_kernels.rope import rope_kv_write
from inferd_kernels.rope.reference import rope

WIDTH = 16
FAR = (1 << 31) + 32  # elements between two rows


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)


@pytest.fixture
def rows(gpu: torch.device) -> torch.Tensor:
    """[2, WIDTH], far from each other."""
    memory = torch.empty(FAR + WIDTH, dtype=torch.float16, device=gpu)
    found = memory.as_strided((2, WIDTH), (FAR, 1))
    found.copy_(torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(0)))
    return found


def test_norms(rows: torch.Tensor) -> None:
    weight, near = torch.rand(WIDTH, device=rows.device), rows.clone()
    expected = reference.rmsnorm(near, weight, 1e-6)
    close(rmsnorm(rows, weight, 1e-6), expected)
    found = add_rmsnorm(near.clone(), rows, weight, 1e-6)
    close(found, expected)
    assert torch.equal(rows, near + near)


def test_the_rest(rows: torch.Tensor) -> None:
    near = rows.clone()
    close(gated(rows, "silu"), gated_reference(near, "silu"))
    ids = torch.tensor([1, 0, 1], device=rows.device)
    assert torch.equal(embedding(ids, rows), near[ids])
    add(rows, near)
    scale(rows, 0.5)
    assert torch.equal(rows, near)


def test_a_large_table_and_narrow_ids(rows: torch.Tensor) -> None:
    table = rows.as_strided((FAR // WIDTH + 1, WIDTH), (WIDTH, 1))
    ids = torch.tensor([FAR // WIDTH, 0], dtype=torch.int32, device=rows.device)
    assert torch.equal(embedding(ids, table), rows.flip(0))


def test_queries_keys_values_and_the_cache(gpu: torch.device, rows: torch.Tensor) -> None:
    size = WIDTH // 4  # of two heads of queries, one of keys, one of values
    heads = rows.view(2, 4, size)
    q, k, v = torch.split(heads.clone(), [2, 1, 1], 1)
    cos, sin = torch.rand(2, 3, size // 2, device=gpu)
    positions = torch.tensor([2, 0], device=gpu)
    blocks = FAR // (16 * size)
    keys, values = layout.allocate(blocks, 16, 1, size, dtype=torch.float16, device=gpu)
    slots = torch.tensor([16 * blocks - 1, 3], device=gpu)
    far_q, far_k, far_v = torch.split(heads, [2, 1, 1], 1)
    rope_kv_write(far_q, far_k, far_v, positions, cos, sin, keys, values, slots)
    rope(q, k, positions, cos, sin)
    for found, expected in ((far_q, q), (far_k, k), (far_v, v)):
        close(found, expected)
    for kept, expected in ((keys, far_k), (values, far_v)):
        assert torch.equal(layout.flat(kept)[slots], expected)
        layout.flat(kept)[slots] = 0
    kv_write(far_k, far_v, keys, values, slots)
    assert torch.equal(layout.flat(values)[slots], far_v)
